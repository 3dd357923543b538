package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainBackend answers every request with two bytes, and allocates nothing for it.
func plainBackend(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				b := make([]byte, 4096)
				for n := 0; ; {
					k, err := c.Read(b[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
						n = 0
						c.Write(answer)
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// getter asks over one connection, and allocates nothing for it.
type getter struct {
	c      net.Conn
	ask    []byte
	answer []byte
}

func newGetter(t testing.TB, addr string) *getter {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	g := &getter{c: c, ask: []byte("GET /page?a=b HTTP/1.1\r\nHost: site.test\r\nUser-Agent: getter/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: session=0123456789abcdef\r\n\r\n")}
	_, err = c.Write(g.ask)
	require.NoError(t, err)
	br := bufio.NewReader(c)
	head, err := readHead(br)
	require.NoError(t, err)
	require.Contains(t, head, "200 OK")
	_, err = io.ReadFull(br, make([]byte, 2))
	require.NoError(t, err)
	g.answer = make([]byte, len(head)+2)
	return g
}

func (g *getter) get(t testing.TB) {
	if _, err := g.c.Write(g.ask); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(g.c, g.answer); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsAllocatedForAGET counts what the whole process allocates for requests on a kept connection.
func TestNothingIsAllocatedForAGET(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	if runtime.GOOS != "linux" {
		t.Skip("connections are read by their own methods here")
	}
	f := single(t, plainBackend(t))
	g := newGetter(t, f.addr)
	const many = 2000
	least := 1e9
	for range 5 { // a collection empties the pools once
		least = min(least, testing.AllocsPerRun(many, func() { g.get(t) }))
	}
	require.Zero(t, least)
}

// BenchmarkExchange is one proxied GET on a kept connection, with client and application that cost as little as they can.
func BenchmarkExchange(b *testing.B) {
	f := single(b, plainBackend(b))
	g := newGetter(b, f.addr)
	b.ReportAllocs()
	for b.Loop() {
		g.get(b)
	}
}
