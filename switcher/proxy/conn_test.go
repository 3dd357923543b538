package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// What becomes of a client's connection: how long it lives, and what ends it.

// TestRequestsInOnePiece sends several at once: they are answered one after the other, in their order.
func TestRequestsInOnePiece(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s\n", r.URL.Path, b)
	}, hello)
	c := f.raw(t)
	var text, want strings.Builder
	for i := range 100 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&text, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			fmt.Fprintf(&want, "/%d \n", i)
		case 1:
			fmt.Fprintf(&text, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", i)
			fmt.Fprintf(&want, "/%d hello\n", i)
		default:
			fmt.Fprintf(&text, "POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n\r\n", i)
			fmt.Fprintf(&want, "/%d hello\n", i)
		}
	}
	go io.WriteString(c.TCPConn, text.String())
	var got strings.Builder
	for range 100 {
		resp, err := http.ReadResponse(c.br, nil)
		require.NoError(t, err)
		_, err = io.Copy(&got, resp.Body)
		require.NoError(t, err)
	}
	assert.Equal(t, want.String(), got.String())
	f.idle(t, "blue")
}

// bubble runs a proxy in front of one application, which gives each of its connections to app, without a network. talk is a client's
// connection to it.
func bubble(t *testing.T, cfg proxy.Config, app func(c net.Conn, br *bufio.Reader), talk func(p *proxy.Switcher, c net.Conn, br *bufio.Reader)) {
	synctest.Test(t, func(t *testing.T) {
		slot, door := newPipeListener(), newPipeListener()
		var all sync.WaitGroup
		all.Go(func() {
			for {
				c, err := slot.Accept()
				if err != nil {
					return
				}
				all.Go(func() {
					defer c.Close()
					app(c, bufio.NewReader(c))
				})
			}
		})
		cfg.Slots, cfg.Active, cfg.Dial = map[string]string{"blue": "h:1"}, "blue", slot.dial
		p, err := proxy.New(cfg)
		require.NoError(t, err)
		all.Go(func() { p.Serve(door) })
		c, err := door.dial(t.Context(), "", "")
		require.NoError(t, err)
		talk(p, c, bufio.NewReader(c))
		c.Close()
		require.NoError(t, p.Close())
		slot.Close()
		all.Wait()
	})
}

// answerAll answers every request with two bytes.
func answerAll(c net.Conn, br *bufio.Reader) {
	for {
		if _, err := readHead(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

const plainGET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// TestIdleConnectionsEnd after Config.IdleTimeout, also after a request, and not before.
func TestIdleConnectionsEnd(t *testing.T) {
	for _, requests := range []int{0, 3} {
		bubble(t, proxy.Config{IdleTimeout: time.Minute}, answerAll, func(_ *proxy.Switcher, c net.Conn, br *bufio.Reader) {
			for range requests {
				time.Sleep(55 * time.Second)
				io.WriteString(c, plainGET)
				h, err := readHead(br)
				require.NoError(t, err)
				assert.Contains(t, h, "200 OK")
				io.ReadFull(br, make([]byte, 2))
			}
			begun := time.Now()
			_, err := br.ReadByte()
			assert.Error(t, err)
			assert.InDelta(t, time.Minute, time.Since(begun), float64(time.Second))
		})
	}
}

// TestSlowBodiesDoNotEnd: Config.HeadTimeout is for heads, also where one has come in pieces and a body follows.
func TestSlowBodiesDoNotEnd(t *testing.T) {
	const size = 30
	app := func(c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%d", len(got))
		assert.NoError(t, err)
	}
	bubble(t, proxy.Config{HeadTimeout: 10 * time.Second}, app, func(p *proxy.Switcher, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-")
		time.Sleep(time.Second)
		fmt.Fprintf(c, "Length: %d\r\n\r\n", size)
		for range size {
			time.Sleep(time.Second)
			if _, err := io.WriteString(c, "."); !assert.NoError(t, err) {
				return
			}
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		h, err := readHead(br)
		require.NoError(t, err)
		assert.Contains(t, h, "200 OK")
		got := make([]byte, 2)
		io.ReadFull(br, got)
		assert.Equal(t, fmt.Sprint(size), string(got))
		assert.Zero(t, p.Stats())
	})
}

// TestSlowHeadsEnd after Config.HeadTimeout, however they trickle.
func TestSlowHeadsEnd(t *testing.T) {
	bubble(t, proxy.Config{HeadTimeout: 10 * time.Second}, answerAll, func(_ *proxy.Switcher, c net.Conn, br *bufio.Reader) {
		time.Sleep(time.Minute) // that is no head
		begun := time.Now()
		over := make(chan time.Duration, 1)
		go func() {
			br.ReadByte()
			over <- time.Since(begun)
		}()
		for i := 0; len(over) == 0 && i < 100; i++ {
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: y"[i%30:i%30+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		assert.Less(t, <-over, time.Minute)
	})
}

// TestC8NothingQuietIsEnded: a slow report, a silent upgraded connection and a stream without events live for a day.
func TestC8NothingQuietIsEnded(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct{ ask, answer, late string }{
		"report": {plainGET, "", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"},
		"stream": {plainGET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nlate\r\n0\r\n\r\n"},
		"socket": {upgradeHead, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "late"},
		"upload": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "late"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, proxy.Config{}, func(c net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err != nil {
					return
				}
				if name == "upload" {
					br.ReadByte()
				}
				io.WriteString(c, tc.answer)
				time.Sleep(day)
				io.WriteString(c, tc.late)
				io.Copy(io.Discard, br)
			}, func(p *proxy.Switcher, c net.Conn, br *bufio.Reader) {
				io.WriteString(c, tc.ask)
				if name == "upload" {
					time.Sleep(day)
					io.WriteString(c, "x")
				}
				begun := time.Now()
				h, err := readHead(br)
				require.NoError(t, err)
				assert.True(t, strings.Contains(h, "200 OK") || strings.Contains(h, "101 "), h)
				for got := ""; !strings.Contains(got, "late"); {
					b, err := br.ReadByte()
					require.NoError(t, err, got)
					got += string(b)
				}
				assert.GreaterOrEqual(t, time.Since(begun), day)
			})
		})
	}
}

// TestC9CutReachesWhoReadsTheUpload cuts an upload that flows, and one that stands still: neither is read on, and the slot does not take it
// for whole.
func TestC9CutReachesWhoReadsTheUpload(t *testing.T) {
	for _, flows := range []bool{true, false} {
		got, begun := make(chan error, 1), make(chan bool, 1)
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 5))
			begun <- true
			_, err := io.Copy(io.Discard, r.Body)
			got <- err
		}, hello)
		c := f.raw(t)
		c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		within(t, begun, "the upload")
		stop := make(chan bool)
		var sending sync.WaitGroup
		if flows {
			sending.Go(func() {
				chunk := "2710\r\n" + strings.Repeat("x", 10_000) + "\r\n"
				for {
					select {
					case <-stop:
						return
					default:
						if _, err := io.WriteString(c.TCPConn, chunk); err != nil {
							return
						}
					}
				}
			})
		}
		require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
		assert.Error(t, within(t, got, "the slot told"), "not whole")
		f.idle(t, "blue")
		assert.Contains(t, c.head(), "503 ")
		close(stop)
		c.Close()
		sending.Wait()
		assert.EqualValues(t, 1, f.Stats().Cut)
	}
}

// TestE4TheOnlySlotIsNeverGivenUp restarts it: every request is tried, and the first one after it is back is served.
func TestE4TheOnlySlotIsNeverGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	var up atomic.Bool
	app := func() *http.Server {
		s := &http.Server{Handler: http.HandlerFunc(hello)}
		go s.Serve(l)
		up.Store(true)
		return s
	}
	s := app()
	f := single(t, addr)
	c := newClient(t)
	for range 5 {
		status, _, _ := ask(t, c, f.url)
		require.Equal(t, 200, status)
		require.NoError(t, s.Close())
		for range 20 {
			status, _, body := ask(t, c, f.url)
			require.Equal(t, 502, status)
			require.Contains(t, body, "cannot be reached")
		}
		soon(t, "the address is free", func() bool {
			l, err = net.Listen("tcp", addr)
			return err == nil
		})
		s = app()
		status, _, _ = ask(t, c, f.url)
		require.Equal(t, 200, status, "the first one")
	}
	s.Close()
	assert.EqualValues(t, 100, f.Stats().Failed)
}

// TestLargeBodiesArriveWhole sends bodies large enough to go by splice where there is one, both ways, with the client or the slot standing
// still meanwhile.
func TestLargeBodiesArriveWhole(t *testing.T) {
	const size = 8 << 20
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	pause := make(chan bool)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(body[:size/2])
			http.NewResponseController(w).Flush()
			<-pause
			w.Write(body[size/2:])
			return
		}
		got := make([]byte, 0, size)
		b := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(b)
			got = append(got, b[:n]...)
			if len(got) >= size/3 && len(got)-n < size/3 {
				<-pause
			}
			if err != nil {
				break
			}
		}
		fmt.Fprint(w, len(got), string(got) == string(body))
	}, hello)
	c := f.raw(t)
	for range 2 {
		c.send(plainGET)
		c.head()
		assert.Equal(t, string(body[:size/2]), c.read(size/2))
		pause <- true
		assert.Equal(t, string(body[size/2:]), c.read(size/2))
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(body)
			sent <- err
		}()
		pause <- true
		assert.NoError(t, within(t, sent, "sent"))
		assert.Contains(t, c.head(), "200 OK")
		assert.Equal(t, fmt.Sprint(size, true), c.read(len(fmt.Sprint(size, true))))
	}
	f.idle(t, "blue")
	assert.Equal(t, 1, f.IdleConns("blue"))
}

// TestIdleConnectionsGoOn lets many connections be idle for some looks of the proxy at them, again and again: each carries its next request.
func TestIdleConnectionsGoOn(t *testing.T) {
	t.Parallel()
	f, _, _ := pair(t, hello, hello)
	clients := make([]*rawClient, 100)
	for i := range clients {
		clients[i] = f.raw(t)
	}
	for range 3 {
		<-time.After(500 * time.Millisecond)
		for _, c := range clients {
			c.send(plainGET)
		}
		for _, c := range clients {
			require.Contains(t, c.head(), "200 OK")
			require.Equal(t, "hello\n", c.read(6))
		}
	}
	f.idle(t, "blue")
	assert.Zero(t, f.Stats())
}

// TestNewConnectionsAreNotTakenForIdle opens connections all the time while the proxy looks at them.
func TestNewConnectionsAreNotTakenForIdle(t *testing.T) {
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": plainBackend(t)}, Active: "blue", IdleTimeout: time.Hour, HeadTimeout: 4 * time.Millisecond})
	for range 300 {
		c := f.raw(t)
		c.send(plainGET)
		require.Contains(t, c.head(), "200 OK")
		c.Close()
	}
}

// TestNextRequestDoesNotTouchTheLastUpload sends the next request while the slot has not yet taken the last piece of an upload.
func TestNextRequestDoesNotTouchTheLastUpload(t *testing.T) {
	body := strings.Repeat("a", 5000)
	for name, text := range map[string]string{
		"sized":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n",
		"chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		bubble(t, proxy.Config{}, func(c net.Conn, br *bufio.Reader) {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			time.Sleep(10 * time.Second)
			got, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			assert.Equal(t, body, string(got), name)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			answerAll(c, br)
		}, func(_ *proxy.Switcher, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, text)
			time.Sleep(time.Second)
			rest := body
			if name == "chunked" {
				rest = "1388\r\n" + body + "\r\n0\r\n\r\n"
			}
			io.WriteString(c, rest)
			go io.WriteString(c, plainGET)
			for range 2 {
				h, err := readHead(br)
				require.NoError(t, err)
				assert.Contains(t, h, "200 OK")
				io.ReadFull(br, make([]byte, 2))
			}
		})
	}
}
