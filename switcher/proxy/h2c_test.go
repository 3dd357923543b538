package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// newH2Backend is newBackend for an application that speaks HTTP/2 in plaintext, and nothing else.
func newH2Backend(t testing.TB, name string, h http.HandlerFunc) *backend {
	b := &backend{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Slot", name)
		h(w, r)
	}))
	b.Config.Protocols = h2Protocols()
	b.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			b.conns.Add(1)
		case http.StateClosed:
			b.conns.Add(-1)
		}
	}
	b.Start()
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
	})
	return b
}

// eachWay runs f with clients of both protocols, and a slot that speaks HTTP/2.
func eachWay(t *testing.T, b *backend, f func(t *testing.T, f *front, c *http.Client)) {
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Protocols: map[string]proxy.Protocol{"blue": proxy.H2C}, Active: "blue"}
	t.Run("from HTTP/1.1", func(t *testing.T) { f(t, serve(t, cfg), newClient(t)) })
	t.Run("from HTTP/2", func(t *testing.T) { f(t, serve(t, cfg), h2Client(t, nil)) })
}

// TestH2SlotGetsWhatIsSent carries requests of every shape to a slot that speaks HTTP/2.
func TestH2SlotGetsWhatIsSent(t *testing.T) {
	b := newH2Backend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sum":
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%s %d %d %x %v", r.Proto, r.ContentLength, n, h.Sum(nil), err)
		case "/trailers":
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "Sum")
			fmt.Fprintf(w, "%s %s", r.Trailer.Get("Check"), r.Header.Get("Te"))
			w.Header().Set("Sum", "42")
			w.Header().Set(http.TrailerPrefix+"Late", "yes")
		case "/only": // an answer that ends with its head
			w.Header().Set("Grpc-Status", "12")
		case "/204":
			w.WriteHeader(204)
		case "/hints":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			hello(w, r)
		default:
			fmt.Fprintf(w, "%s %s %q %q %q", r.RequestURI, r.Host, r.Header["X-Forwarded-For"], r.Header["User-Agent"], r.Header["Connection"])
		}
	})
	eachWay(t, b, func(t *testing.T, f *front, c *http.Client) {
		for _, target := range []string{"/", "/a%2Fb?c=d&e", "//x//y", "/a|b"} {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", f.url, nil)
			req.URL.Opaque = "//" + f.addr + target
			req.Header["User-Agent"] = nil
			resp, err := c.Do(req)
			require.NoError(t, err)
			body, _ := io.ReadAll(resp.Body)
			assert.Equal(t, fmt.Sprintf(`%s %s ["127.0.0.1"] [] []`, target, f.addr), string(body))
		}
		for _, size := range []int{0, 1, 70_000, 3 << 20} {
			data := make([]byte, size)
			rand.Read(data)
			for _, chunked := range []bool{false, true} {
				req, err := http.NewRequestWithContext(t.Context(), "POST", f.url+"/sum", bytes.NewReader(data))
				require.NoError(t, err)
				length := size
				if chunked {
					req.Body, req.ContentLength, req.GetBody = io.NopCloser(io.MultiReader(bytes.NewReader(data))), -1, nil
					length = -1
				}
				resp, err := c.Do(req)
				require.NoError(t, err)
				got, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, fmt.Sprintf("HTTP/2.0 %d %d %x <nil>", length, size, sha256.Sum256(data)), string(got))
			}
		}
		req, _ := http.NewRequestWithContext(t.Context(), "POST", f.url+"/trailers", io.MultiReader(strings.NewReader("x")))
		req.Trailer = http.Header{"Check": {"abc"}}
		req.Header.Set("TE", "trailers")
		resp, err := c.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "abc trailers", string(body))
		assert.Equal(t, http.Header{"Sum": {"42"}, "Late": {"yes"}}, resp.Trailer)

		for path, status := range map[string]int{"/only": 200, "/204": 204, "/hints": 200} {
			resp, err = c.Get(f.url + path)
			require.NoError(t, err)
			assert.Equal(t, status, resp.StatusCode)
			if path == "/only" {
				assert.Equal(t, "12", resp.Header.Get("Grpc-Status"))
				assert.Zero(t, resp.ContentLength, "it ends with its head")
			}
			io.Copy(io.Discard, resp.Body)
		}
		f.idle(t, "blue")
		assert.EqualValues(t, 1, b.conns.Load(), "one connection carried them all")
	})
}

// TestH2SlotStreamsAreNotBuffered has pieces go back and forth, client and slot ending in turn.
func TestH2SlotStreamsAreNotBuffered(t *testing.T) {
	gone := make(chan bool, 10)
	b := newH2Backend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.Flush()
		p := make([]byte, 100)
		for {
			n, err := r.Body.Read(p)
			if n > 0 {
				w.Write(p[:n])
				rc.Flush()
			}
			if string(p[:n]) == "bye" {
				w.Header().Set(http.TrailerPrefix+"Status", "ended")
				return // in the midst of the request
			}
			if err != nil {
				gone <- r.Context().Err() != nil
				return
			}
		}
	})
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Protocols: map[string]proxy.Protocol{"blue": proxy.H2C}, Active: "blue"}
	f, c := serve(t, cfg), h2Client(t, nil)
	begin := func() (*io.PipeWriter, *http.Response) {
		pr, pw := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", f.url, pr)
		resp, err := c.Do(req)
		require.NoError(t, err)
		for _, p := range []string{"one", "two", "six"} {
			io.WriteString(pw, p)
			got := make([]byte, 3)
			_, err := io.ReadFull(resp.Body, got)
			require.NoError(t, err)
			assert.Equal(t, p, string(got))
		}
		assert.Equal(t, 1, f.load(t, "blue").Requests)
		return pw, resp
	}
	t.Run("client ends", func(t *testing.T) {
		pw, resp := begin()
		pw.Close()
		_, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.False(t, within(t, gone, "the slot sees the end"))
		f.idle(t, "blue")
	})
	t.Run("slot ends", func(t *testing.T) {
		pw, resp := begin()
		io.WriteString(pw, "bye")
		rest, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.Equal(t, "bye", string(rest))
		assert.Equal(t, "ended", resp.Trailer.Get("Status"))
		f.idle(t, "blue")
		pw.Close()
	})
	t.Run("client resets", func(t *testing.T) {
		pw, _ := begin()
		pw.CloseWithError(io.ErrClosedPipe)
		assert.True(t, within(t, gone, "the slot sees the reset"))
		f.idle(t, "blue")
	})
	assert.Zero(t, f.Stats().Failed)
}

// TestB6NoSocketToADrainedH2Slot counts the connections to a slot that speaks HTTP/2 when a drain says that it is done.
func TestB6NoSocketToADrainedH2Slot(t *testing.T) {
	release := make(chan bool)
	slow := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		hello(w, r)
	}
	b, g := newH2Backend(t, "blue", slow), newH2Backend(t, "green", slow)
	var open atomic.Int64
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		Protocols: map[string]proxy.Protocol{"blue": proxy.H2C, "green": proxy.H2C},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil && addr == address(b.Server) {
				open.Add(1)
				c = &countedConn{c, sync.OnceFunc(func() { open.Add(-1) })}
			}
			return c, err
		}})
	for _, c := range []*http.Client{newClient(t), h2Client(t, nil)} {
		f.activate(t, plain("blue"))
		status, slot, _ := ask(t, c, f.url)
		assert.Equal(t, 200, status)
		assert.Equal(t, "blue", slot)
		var slow sync.WaitGroup
		for range 5 {
			slow.Go(func() {
				status, slot, _ := ask(t, c, f.url+"/slow")
				assert.Equal(t, 200, status)
				assert.Equal(t, "blue", slot)
			})
		}
		soon(t, "all are in blue", func() bool { return f.load(t, "blue").Requests == 5 })
		f.activate(t, plain("green"))
		_, slot, _ = ask(t, c, f.url)
		assert.Equal(t, "green", slot)
		assert.Positive(t, open.Load())
		drained := make(chan error, 1)
		go func() {
			_, err := abswap.Drain(context.Background(), f.Switcher, plain("blue"), abswap.DrainOptions{})
			drained <- err
		}()
		notYet(t, drained, "five requests", 20*time.Millisecond)
		for range 5 {
			release <- true
		}
		assert.NoError(t, within(t, drained, "it is drained"))
		assert.Zero(t, open.Load(), "sockets to blue")
		slow.Wait()
		soon(t, "blue sees that too", func() bool { return b.conns.Load() == 0 })
	}
}

// TestH2SlotThatIsAwayIsNotTried has one of two slots out of reach, by a request with a body.
func TestH2SlotThatIsAwayIsNotTried(t *testing.T) {
	g := newH2Backend(t, "green", mirror)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1", "green": address(g.Server)},
		Protocols: map[string]proxy.Protocol{"blue": proxy.H2C, "green": proxy.H2C}})
	require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50}))
	for range 4 {
		resp, err := h2Client(t, nil).Post(f.url, "", io.MultiReader(strings.NewReader("once")))
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		assert.Equal(t, "once", string(body))
	}
	f.activate(t, plain("blue"))
	resp, err := h2Client(t, nil).Get(f.url)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 502, resp.StatusCode)
}

// TestAnswerOfAHeadAloneStaysOne: what gRPC says of a call that it refuses is one header block that ends the stream, and it says so while the
// client still sends. A client of gRPC that gets the end in a frame of its own does not find the status.
func TestAnswerOfAHeadAloneStaysOne(t *testing.T) {
	for name, start := range map[string]func(*testing.T) proxy.Config{
		"slot in HTTP/1.1": func(t *testing.T) proxy.Config {
			// It takes what still comes: the answer is lost with a connection that is closed on unread data.
			addr := rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 12\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				}
				io.Copy(io.Discard, br)
			})
			return proxy.Config{Slots: map[string]string{"blue": addr}, Active: "blue"}
		},
		"slot in HTTP/2": func(t *testing.T) proxy.Config {
			b := newH2Backend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Grpc-Status", "12")
			})
			return proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", Protocols: map[string]proxy.Protocol{"blue": proxy.H2C}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := start(t)
			w := serve(t, cfg).h2watch(t)
			for whole, send := range map[string]func(id uint32){
				"still open":       func(uint32) {},
				"ended behind it":  func(id uint32) { w.send(id, "x", true) },
				"more than a head": func(id uint32) { w.send(id, "x", false) },
			} {
				id := w.begin("/", false, [2]string{"content-type", "application/grpc"}, [2]string{"te", "trailers"})
				send(id)
				s := w.end(id)
				assert.Equal(t, 1, s.heads, whole)
				assert.True(t, s.bare, whole)
			}
		})
	}
}
