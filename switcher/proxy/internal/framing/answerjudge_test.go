package framing

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answerDoor is a door that reads an answer to its end before it gives it on. The fields make it wrong, each in one way.
type answerDoor struct {
	blind  bool // passes on bytes unseen
	pool   bool // uses the slot's connection again, whatever is left on it
	mend   bool // gives on what it got of a broken body as if it was whole
	noHead bool // forgets that an answer to HEAD has no body
}

func (d answerDoor) serve(t *testing.T, app string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	var mu sync.Mutex
	var kept []*bufio.Reader // of connections with nothing under way
	conns := map[*bufio.Reader]net.Conn{}
	take := func() (*bufio.Reader, net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(kept); n > 0 {
			br := kept[n-1]
			kept = kept[:n-1]
			return br, conns[br]
		}
		c, err := net.Dial("tcp", app)
		if err != nil {
			return nil, nil
		}
		br := bufio.NewReader(io.LimitReader(c, 2<<20))
		conns[br] = c
		return br, c
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer linger(c.(*net.TCPConn))
				br := bufio.NewReader(c)
				for {
					m, err := (&strict{br: br}).read()
					if err != nil {
						return
					}
					from, to := take()
					if to == nil {
						return
					}
					io.WriteString(to, m.Raw)
					if d.blind {
						io.Copy(c, from)
						return
					}
					if !d.answer(c, from, m) {
						return
					}
					if d.pool {
						mu.Lock()
						kept = append(kept, from)
						mu.Unlock()
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// answer gives on one answer; false: the client's connection ends.
func (d answerDoor) answer(c net.Conn, br *bufio.Reader, m *Message) bool {
	req := &http.Request{Method: m.Method}
	if d.noHead {
		req.Method = "GET"
	}
	resp, err := http.ReadResponse(br, req)
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != 101 {
		resp, err = http.ReadResponse(br, req)
	}
	var body []byte
	if err == nil && resp.StatusCode == 101 {
		err = fmt.Errorf("nobody asked for it")
	}
	if err == nil {
		for name := range resp.Header { // net/http lets blanks before a colon be part of a name
			if !token(name) {
				err = fault("field %q", name)
			}
		}
	}
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		if d.mend {
			err = nil
		}
	}
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		return false
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", resp.StatusCode, http.StatusText(resp.StatusCode))
	drop := append(strings.Split(resp.Header.Get("Connection"), ","), "Connection", "Transfer-Encoding", "Content-Length")
	for name, values := range resp.Header {
		if !slices.ContainsFunc(drop, func(n string) bool { return strings.EqualFold(n, name) }) {
			b.WriteString(name + ": " + values[0] + "\r\n")
		}
	}
	switch {
	case m.Method == "HEAD" && resp.ContentLength >= 0:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", resp.ContentLength)
	case m.Method != "HEAD" && resp.StatusCode != 204 && resp.StatusCode != 304:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	io.WriteString(c, b.String()+"\r\n"+string(body))
	return true
}

func newAnswerJudge(t *testing.T, d answerDoor) *AnswerJudge {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	app := NewApplication(l)
	j := &AnswerJudge{Address: d.serve(t, app.Addr()), App: app}
	t.Cleanup(app.Close)
	return j
}

func TestTheTableOfAnswersIsInOrder(t *testing.T) {
	names := map[string]bool{}
	for _, v := range AnswerVectors() {
		assert.False(t, names[v.Name], "%q twice", v.Name)
		names[v.Name] = true
		assert.NotEmpty(t, v.Why, v.Name)
		assert.Equal(t, v.Want == Passed, v.Status != 0, v.Name)
	}
	assert.GreaterOrEqual(t, len(names), 80)
}

func TestAStrictDoorPassesAnswers(t *testing.T) {
	for name, pace := range map[string]Pace{"whole": Whole, "byte by byte": ByteByByte} {
		t.Run(name, func(t *testing.T) {
			j := newAnswerJudge(t, answerDoor{})
			for _, v := range AnswerVectors() {
				assert.NoError(t, j.Check(t.Context(), v, pace))
			}
		})
	}
}

func TestADoorThatIsWrongAboutAnswersFailsThere(t *testing.T) {
	some := map[string]AnswerVector{}
	for _, v := range AnswerVectors() {
		some[v.Name] = v
	}
	for name, tc := range map[string]struct {
		door  answerDoor
		fails []string
	}{
		"passes on what it does not understand":  {answerDoor{blind: true}, []string{"half a head", "of another protocol", "CL twice, differing", "of version 2", "two answers", "HEAD with a body"}},
		"keeps a connection that is out of step": {answerDoor{pool: true}, []string{"two answers", "one byte too many", "304 with an answer as its body", "HEAD with an answer as its body", "a 408 behind it"}},
		"mends what is broken":                   {answerDoor{mend: true}, []string{"CL with less behind it", "chunk size with a minus", "chunks that stop in the data"}},
		"forgets about HEAD":                     {answerDoor{noHead: true}, []string{"HEAD with a length"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newAnswerJudge(t, tc.door)
			j.Patience = 200 * time.Millisecond // it is to fail: what is missing need not be waited for
			for _, n := range tc.fails {
				require.Contains(t, some, n)
				assert.Error(t, j.Check(t.Context(), some[n], Whole), n)
			}
		})
	}
}
