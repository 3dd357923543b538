package h2c_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/h2c"
)

// slot is an application that speaks HTTP/2, in a bubble.
type slot struct {
	*http.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func startSlot(h http.HandlerFunc) *slot {
	s := &slot{Server: &http.Server{Handler: h, Protocols: new(http.Protocols)}, conns: make(chan net.Conn), done: make(chan struct{})}
	s.Protocols.SetUnencryptedHTTP2(true)
	go s.Serve(s)
	return s
}

func (s *slot) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *slot) Addr() net.Addr { return &net.TCPAddr{} }

// Close ends the listener; the server's own is Server.Close.
func (s *slot) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *slot) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case s.conns <- there:
		return here, nil
	case <-s.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// front is the front door's end of a connection.
type front struct {
	net.Conn
	br *bufio.Reader
}

func reach(t *testing.T, l *h2c.Links) front {
	c, err := l.Dial(t.Context(), "tcp", "h:1")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return front{c, bufio.NewReader(c)}
}

// answer reads the answers up to the final one, and returns the statuses and the body.
func (f front) answer(t *testing.T) (statuses []int, body string) {
	for {
		resp, err := http.ReadResponse(f.br, nil)
		require.NoError(t, err)
		statuses = append(statuses, resp.StatusCode)
		if resp.StatusCode >= 200 {
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return statuses, string(b)
		}
	}
}

// TestInterimAnswersHoldBackNobody: a client that does not read the interim answers to its request does not hold back those whose requests go
// over the same connection to the slot.
func TestInterimAnswersHoldBackNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSlot(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hints" {
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusProcessing)
			}
			io.WriteString(w, r.URL.Path)
		})
		defer s.Server.Close()
		l := h2c.New("h:1", s.dial)
		slow := reach(t, l)
		io.WriteString(slow, "GET /hints HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait() // its answers are there, and nobody reads them
		quick := reach(t, l)
		io.WriteString(quick, "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
		statuses, body := quick.answer(t)
		assert.Equal(t, []int{200}, statuses)
		assert.Equal(t, "/quick", body)
		quick.Close()
		statuses, body = slow.answer(t)
		assert.Equal(t, []int{103, 102, 200}, statuses)
		assert.Equal(t, "/hints", body)
		slow.Close()
	})
}

// TestInterimAnswersEndWithTheirRequest: a client that goes away in the midst of them leaves nobody behind who writes them.
func TestInterimAnswersEndWithTheirRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSlot(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusProcessing)
				time.Sleep(time.Second)
			}
		})
		defer s.Server.Close()
		l := h2c.New("h:1", s.dial)
		for range 20 {
			c := reach(t, l)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(10 * time.Second)
			c.Close()
		}
		time.Sleep(2 * time.Second) // the slot sees the last one's end
		assert.Zero(t, l.Idle())
	})
}

// TestRefusedBeforeItsBodyWasRead: a slot says GOAWAY when a stream was reserved, and the request has not been sent yet. It goes over another
// connection, with its body.
func TestRefusedBeforeItsBodyWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mirror := func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }
		old, young := startSlot(mirror), startSlot(mirror)
		defer young.Server.Close()
		at := old
		l := h2c.New("h:1", func(ctx context.Context, network, addr string) (net.Conn, error) { return at.dial(ctx, network, addr) })
		l.SetOpen(true)
		defer l.SetOpen(false)
		first := reach(t, l)
		io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		statuses, _ := first.answer(t)
		require.Equal(t, []int{200}, statuses)
		first.Close()

		c := reach(t, l)
		at = young
		require.NoError(t, old.Shutdown(t.Context()))
		synctest.Wait()
		for _, part := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n", "in ", "parts"} {
			_, err := io.WriteString(c, part)
			require.NoError(t, err)
		}
		statuses, body := c.answer(t)
		assert.Equal(t, []int{200}, statuses)
		assert.Equal(t, "in parts", body)
		c.Close()
	})
}
