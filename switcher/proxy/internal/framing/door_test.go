package framing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// door is the smallest front door that is right about every vector: it reads strictly, one request at a time, and writes anew what it has
// understood. The fields make it wrong, each in one way.
type door struct {
	tunnel      bool // passes on bytes unseen
	refuseAll   bool // but what shows that it lives
	keepOpen    bool // goes on behind a refusal
	goOn        bool // serves what stands behind a close
	silent      bool // ends the connection in place of a refusal
	hang        bool // neither ends nor answers what is wrong
	partial     bool // sends what it has read of a wrong request
	twice       bool // sends every request twice
	answerItes  bool // answers itself, without asking
	cutBody     bool // loses the body's last byte
	badTarget   bool // normalises targets
	fieldHost   bool // believes the field more than the target
	dropFields  bool // drops the fields that Connection names, whatever they are
	mergeTrails bool // makes trailers fields
	swap        bool // answers two requests at a time, in the wrong order
}

func (d door) serve(t *testing.T, upstream string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				up, err := net.Dial("tcp", upstream)
				if err != nil {
					return
				}
				defer up.Close()
				if d.tunnel {
					passOn(c.(*net.TCPConn), up.(*net.TCPConn))
				} else {
					d.converse(c.(*net.TCPConn), up)
				}
			})
		}
	})
	return l.Addr().String()
}

func passOn(c, up *net.TCPConn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(up, c)
		up.CloseWrite()
	})
	io.Copy(c, up)
	linger(c)
	wg.Wait()
}

func (d door) converse(c *net.TCPConn, up net.Conn) {
	br, ubr := bufio.NewReader(c), bufio.NewReader(up)
	defer linger(c)
	var kept []byte
	for {
		if b, _ := br.Peek(2); string(b) == "\r\n" {
			br.Discard(2)
		}
		if _, err := br.Peek(1); err != nil {
			return
		}
		m, err := (&strict{br: br}).read()
		if d.refuseAll && err == nil && m.Target != fenceTarget {
			err = fault("refused")
		}
		var f *Fault
		if errors.As(err, &f) {
			if d.partial {
				io.WriteString(up, m.Raw[:len(m.Raw)/2])
			}
			switch {
			case d.silent:
				return
			case d.hang:
				io.Copy(io.Discard, br)
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n", f.Status, http.StatusText(f.Status))
			if d.keepOpen {
				continue
			}
		}
		if err != nil {
			return
		}
		head := d.headOf(m)
		if d.answerItes {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		for range map[bool]int{false: 1, true: 2}[d.twice] {
			io.WriteString(up, head)
			answer := readRaw(ubr, m.Method)
			if d.swap && kept == nil && strings.HasPrefix(m.Target, "/page") && br.Buffered() > 0 {
				kept = answer
				continue
			}
			c.Write(answer)
			if kept != nil {
				c.Write(kept)
				kept = nil
			}
		}
		last := m.Version == "HTTP/1.0" || slices.ContainsFunc(options(m), func(o string) bool { return strings.EqualFold(o, "close") })
		if last && !d.goOn {
			return
		}
	}
}

// readRaw reads the bytes of one answer of a Recorder.
func readRaw(br *bufio.Reader, method string) []byte {
	var raw []byte
	length := 0
	for {
		l, err := br.ReadSlice('\n')
		raw = append(raw, l...)
		if err != nil {
			return raw
		}
		fmt.Sscanf(string(l), "Content-Length: %d", &length)
		if string(l) == "\r\n" {
			break
		}
	}
	if method == "HEAD" {
		return raw
	}
	body := make([]byte, length)
	io.ReadFull(br, body)
	return append(raw, body...)
}

func options(m *Message) []string {
	var out []string
	for o := range strings.SplitSeq(strings.Join(m.Values("Connection"), ","), ",") {
		out = append(out, strings.Trim(o, " \t"))
	}
	return out
}

// headOf writes the request anew.
func (d door) headOf(m *Message) string {
	host, target := m.Host(), m.Target
	if h, rest, ok := absolute(m.Target); ok {
		target = rest
		if !d.fieldHost {
			host = h
		}
	}
	if d.badTarget {
		target = strings.ReplaceAll(target, "/../", "/")
		target = strings.ReplaceAll(target, "//", "/")
	}
	body := m.Body
	if d.cutBody && body != "" {
		body = body[:len(body)-1]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", m.Method, target, host)
	drop := append(options(m), "Connection", "Upgrade", "Host", "Content-Length", "Transfer-Encoding", "Expect")
	fields := m.Fields
	if d.mergeTrails {
		fields = append(fields, m.Trailers...)
	}
	for _, f := range fields {
		if !slices.ContainsFunc(drop, func(n string) bool { return strings.EqualFold(n, f.Name) }) {
			b.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	named := func(n string) bool {
		return d.dropFields && slices.ContainsFunc(options(m), func(o string) bool { return strings.EqualFold(o, n) })
	}
	switch {
	case m.Chunked && !named("Transfer-Encoding"):
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(body), body)
		}
		b.WriteString("0\r\n\r\n")
		return b.String()
	case len(m.Values("Content-Length")) > 0 && !named("Content-Length"):
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

// linger ends the connection so that what was written arrives, although the client still sends.
func linger(c *net.TCPConn) {
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.Copy(io.Discard, c)
	c.Close()
}
