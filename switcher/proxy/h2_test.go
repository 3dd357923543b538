package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
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

// h2Protocols are HTTP/2 alone, with TLS or without.
func h2Protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// h2Client is a client that speaks HTTP/2 only.
func h2Client(t testing.TB, cfg *tls.Config) *http.Client {
	tr := &http.Transport{Protocols: h2Protocols(), TLSClientConfig: cfg, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// serveH2 serves over TLS, and offers HTTP/2.
func serveH2(t testing.TB, cfg proxy.Config) (*front, *tls.Config) {
	cert, pool := loopbackCertificate(t)
	p, err := proxy.New(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- p.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}))
	}()
	t.Cleanup(func() {
		p.Close()
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return &front{p, l.Addr().String(), "https://" + l.Addr().String()}, &tls.Config{RootCAs: pool}
}

// h2Each runs f with a client over TLS and one in plaintext.
func h2Each(t *testing.T, slots map[string]string, f func(t *testing.T, f *front, c *http.Client)) {
	cfg := proxy.Config{Slots: slots, Active: "blue", ReleaseHeader: "X-Release"}
	t.Run("tls", func(t *testing.T) {
		front, tlsCfg := serveH2(t, cfg)
		f(t, front, h2Client(t, tlsCfg))
	})
	t.Run("plaintext", func(t *testing.T) {
		front := serve(t, cfg)
		f(t, front, h2Client(t, nil))
	})
}

// TestH2CarriesWhatH1Carries sends requests by HTTP/2 to a slot that speaks HTTP/1.1.
func TestH2CarriesWhatH1Carries(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			fmt.Fprintf(w, "%s %s %s %s %s", r.Proto, r.Method, r.Host, r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"))
		case "/sum":
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%v %d %x %v", r.TransferEncoding, n, h.Sum(nil), err)
		case "/trailers":
			w.Header().Set("Trailer", "Sum")
			io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%s %s", r.Trailer.Get("Check"), r.Header.Get("Te"))
			w.Header().Set("Sum", "42")
			w.Header().Set(http.TrailerPrefix+"Late", "yes")
		case "/hints":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			io.WriteString(w, "hello")
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/large":
			w.Header().Set("Content-Length", "1234")
			w.Write(make([]byte, 1234))
		}
	})
	h2Each(t, map[string]string{"blue": address(b.Server)}, func(t *testing.T, f *front, c *http.Client) {
		proto := "http"
		if strings.HasPrefix(f.url, "https") {
			proto = "https"
		}
		resp, err := c.Get(f.url + "/head")
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		assert.Equal(t, 2, resp.ProtoMajor)
		assert.Equal(t, "blue/", resp.Header.Get("X-Release"))
		assert.Equal(t, "HTTP/1.1 GET "+f.addr+" "+proto+" 127.0.0.1", string(body))

		for _, size := range []int{0, 1, 70_000, 3 << 20} {
			data := make([]byte, size)
			rand.Read(data)
			for _, chunked := range []bool{false, true} {
				req, err := http.NewRequestWithContext(t.Context(), "POST", f.url+"/sum", bytes.NewReader(data))
				require.NoError(t, err)
				want := fmt.Sprintf("[] %d %x <nil>", size, sha256.Sum256(data))
				if chunked {
					req.Body, req.ContentLength, req.GetBody = io.NopCloser(io.MultiReader(bytes.NewReader(data))), -1, nil
					want = strings.Replace(want, "[]", "[chunked]", 1)
				}
				resp, err := c.Do(req)
				require.NoError(t, err)
				got, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, want, string(got))
			}
		}

		req, _ := http.NewRequestWithContext(t.Context(), "POST", f.url+"/trailers", io.MultiReader(strings.NewReader("x")))
		req.Trailer = http.Header{"Check": {"abc"}}
		req.Header.Set("TE", "trailers")
		resp, err = c.Do(req)
		require.NoError(t, err)
		body, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "abc trailers", string(body))
		assert.Equal(t, http.Header{"Sum": {"42"}, "Late": {"yes"}}, resp.Trailer)

		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h.Get("Link")))
			return nil
		}})
		req, _ = http.NewRequestWithContext(ctx, "GET", f.url+"/hints", nil)
		resp, err = c.Do(req)
		require.NoError(t, err)
		body, _ = io.ReadAll(resp.Body)
		assert.Equal(t, "hello", string(body))
		assert.Equal(t, []string{"103</a.css>"}, hints)

		for path, status := range map[string]int{"/204": 204, "/304": 304} {
			resp, err = c.Get(f.url + path)
			require.NoError(t, err)
			body, _ = io.ReadAll(resp.Body)
			assert.Empty(t, body)
			assert.Equal(t, status, resp.StatusCode)
		}
		resp, err = c.Head(f.url + "/large")
		require.NoError(t, err)
		assert.EqualValues(t, 1234, resp.ContentLength)
		f.idle(t, "blue")
		assert.LessOrEqual(t, f.IdleConns("blue"), 2, "connections to the slot are kept and used again")
	})
}

// TestH2StreamsAreNotBuffered sends and gets pieces in turn on one stream, counted all the while, and another stream's beside it.
func TestH2StreamsAreNotBuffered(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		p := make([]byte, 100)
		for {
			n, err := r.Body.Read(p)
			if n > 0 {
				w.Write(p[:n])
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})
	h2Each(t, map[string]string{"blue": address(b.Server)}, func(t *testing.T, f *front, c *http.Client) {
		var ends []func()
		for range 3 {
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
			ends = append(ends, func() {
				pw.Close()
				rest, err := io.ReadAll(resp.Body)
				assert.NoError(t, err)
				assert.Empty(t, rest)
			})
		}
		assert.Equal(t, 3, f.load(t, "blue").Requests)
		for _, end := range ends {
			end()
		}
		f.idle(t, "blue")
	})
}

// TestC7EarlyAnswersGetThroughH2 has the slot answer in the midst of an upload, and close.
func TestC7EarlyAnswersGetThroughH2(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "no", http.StatusRequestEntityTooLarge)
	})
	h2Each(t, map[string]string{"blue": address(b.Server)}, func(t *testing.T, f *front, c *http.Client) {
		for range 10 {
			resp, err := c.Post(f.url, "", io.LimitReader(zeros{}, 8<<20))
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, 413, resp.StatusCode)
			assert.Equal(t, "no\n", string(body))
		}
		f.idle(t, "blue")
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestH2ClientGoesAway sees the slot's request end when a client resets its stream, and no other.
func TestH2ClientGoesAway(t *testing.T) {
	ended := make(chan string, 10)
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- r.URL.Path
	})
	h2Each(t, map[string]string{"blue": address(b.Server)}, func(t *testing.T, f *front, c *http.Client) {
		cancels := map[string]context.CancelFunc{}
		for _, path := range []string{"/a", "/b"} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cancels[path] = cancel
			req, _ := http.NewRequestWithContext(ctx, "GET", f.url+path, nil)
			_, err := c.Do(req)
			require.NoError(t, err)
		}
		assert.Equal(t, 2, f.load(t, "blue").Requests)
		cancels["/a"]()
		assert.Equal(t, "/a", within(t, ended, "the first is ended"))
		soon(t, "it leaves the count", func() bool { return f.load(t, "blue").Requests == 1 })
		cancels["/b"]()
		assert.Equal(t, "/b", within(t, ended, "the second is ended"))
		f.idle(t, "blue")
	})
}

// TestH2OrdersReachStreams hands over and cuts what a slot has, on a connection whose other stream is in another slot.
func TestH2OrdersReachStreams(t *testing.T) {
	release := make(chan bool)
	slow := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		<-release
		hello(w, r)
	}
	b, g := newBackend(t, "blue", slow), newBackend(t, "green", slow)
	defer close(release)
	h2Each(t, map[string]string{"blue": address(b.Server), "green": address(g.Server)}, func(t *testing.T, f *front, c *http.Client) {
		var mu sync.Mutex
		dialled := 0
		d := new(net.Dialer)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled++
			return d.DialContext(ctx, network, addr)
		}
		type got struct {
			status int
			slot   string
			err    error
		}
		begin := func(path string) chan got {
			out := make(chan got, 1)
			go func() {
				resp, err := c.Get(f.url + path)
				if err != nil {
					out <- got{err: err}
					return
				}
				if path == "/stream" {
					out <- got{status: resp.StatusCode}
				}
				_, err = io.ReadAll(resp.Body)
				out <- got{resp.StatusCode, resp.Header.Get("Slot"), err}
			}()
			return out
		}
		stream := begin("/stream")
		assert.Equal(t, 200, within(t, stream, "it streams").status)
		plainly := begin("/")
		soon(t, "both are there", func() bool { return f.load(t, "blue").Requests == 2 })
		f.activate(t, plain("green"))
		other := begin("/")
		soon(t, "green has one", func() bool { return f.load(t, "green").Requests == 1 })

		require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceHandOver))
		release <- true
		release <- true
		for _, x := range []chan got{plainly, other} {
			r := within(t, x, "it ends")
			assert.NoError(t, r.err)
			assert.Equal(t, 200, r.status)
		}
		assert.Equal(t, 1, f.load(t, "blue").Requests, "the stream is not told, and goes on")
		before := dialled
		next := begin("/")
		release <- true
		assert.NoError(t, within(t, next, "it ends").err)
		mu.Lock()
		assert.Equal(t, before+1, dialled, "the client has opened another connection")
		mu.Unlock()

		require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
		assert.Error(t, within(t, stream, "the stream breaks off").err)
		f.idle(t, "blue")
		soon(t, "it is counted as cut", func() bool { return f.Stats().Cut == 1 })
	})
}

// TestH2HeldRequestsGoOn holds requests that come by HTTP/2, with bodies and without.
func TestH2HeldRequestsGoOn(t *testing.T) {
	f, _, _ := pair(t, mirror, mirror)
	c := h2Client(t, nil)
	release, err := f.Hold(t.Context(), abswap.HoldOptions{Each: time.Minute, Total: time.Minute})
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			body := ""
			if i%2 == 0 {
				body = strings.Repeat("x", 1000*i)
			}
			resp, err := c.Post(f.url, "", io.MultiReader(strings.NewReader(body)))
			if !assert.NoError(t, err) {
				return
			}
			b, _ := io.ReadAll(resp.Body)
			assert.Equal(t, body, string(b))
			assert.Equal(t, "green", resp.Header.Get("Slot"))
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		req, _ := http.NewRequestWithContext(gone, "POST", f.url, strings.NewReader("never"))
		_, err := c.Do(req)
		assert.Error(t, err)
	})
	soon(t, "all wait", func() bool { return f.Held() == 21 })
	cancel()
	soon(t, "one has gone", func() bool { return f.Held() == 20 })
	f.activate(t, plain("green"))
	release()
	all.Wait()
}

// TestG6ShutdownLosesNoStream shuts a front down while a client has a hundred streams on one connection and goes on sending what cannot be sent
// again; what it opens later goes to the next front. With the fault of akka-http, a GOAWAY and then the end of the connection, streams are lost.
func TestG6ShutdownLosesNoStream(t *testing.T) {
	judge := func(t *testing.T, plant func(*proxy.Switcher), wait time.Duration) (slowLost, quickLost int64) {
		release := make(chan bool)
		b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
			}
			mirror(w, r)
		})
		cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue"}
		first, next := serve(t, cfg), serve(t, cfg)
		plant(first.Switcher)
		c := h2Client(t, nil)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, first.addr)
			if err != nil {
				nc, err = new(net.Dialer).DialContext(ctx, network, next.addr)
			}
			return nc, err
		}
		// The bodies can be read again: net/http's client closes one whose connection was told to go before it sent anything, and cannot go on.
		post := func(path, body string, lost *atomic.Int64) {
			resp, err := c.Post(first.url+path, "", strings.NewReader(body))
			var got []byte
			if err == nil {
				got, err = io.ReadAll(resp.Body)
			}
			if err != nil || string(got) != body {
				if lost.Add(1) == 1 {
					t.Logf("%s is lost: %q, %v", path, got, err)
				}
			}
		}
		var slow, all sync.WaitGroup
		var lost, quick atomic.Int64
		for i := range 100 {
			slow.Go(func() { post("/slow", fmt.Sprint("body ", i), &lost) })
		}
		soon(t, "all are in the slot", func() bool { return first.load(t, "blue").Requests == 100 })
		stop := make(chan struct{})
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						post("/", "quick", &quick)
					}
				}
			})
		}
		ended := make(chan error, 1)
		go func() { ended <- first.Shutdown(context.Background()) }()
		soon(t, "clients have gone to the next front", func() bool { return next.load(t, "blue").Total() > 0 })
		early := false
		select {
		case err := <-ended:
			assert.NoError(t, err)
			early = true
		case <-time.After(wait): // with load, over Farewell and the last GOAWAY
		}
		close(release)
		slow.Wait()
		if !early {
			assert.NoError(t, within(t, ended, "Shutdown returns"))
		}
		close(stop)
		all.Wait()
		assert.Equal(t, lost.Load() > 0, early, "Shutdown waits for what is open, or loses it")
		assert.Zero(t, next.Stats().Failed)
		return lost.Load(), quick.Load()
	}
	slow, quick := judge(t, func(*proxy.Switcher) {}, time.Second)
	assert.Zero(t, slow)
	assert.Zero(t, quick)
	slow, _ = judge(t, proxy.CloseAfterGoAway, patience)
	assert.EqualValues(t, 100, slow, "the fault is seen")
}

// TestH2ClosedFromTwoSides closes a proxy twice at a time while a request by HTTP/2 has not ended yet: both wait for it, and both return.
func TestH2ClosedFromTwoSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan bool)
		p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "h:1"}, Active: "blue",
			Dial: func(context.Context, string, string) (net.Conn, error) {
				<-goOn // it takes its time, whoever has given it up
				return nil, errors.New("refused")
			}})
		require.NoError(t, err)
		l := newPipeListener()
		var all sync.WaitGroup
		all.Go(func() { p.Serve(l) })
		c := &http.Client{Transport: &http.Transport{Protocols: h2Protocols(), DialContext: l.dial}}
		all.Go(func() {
			if resp, err := c.Get("http://site.test/"); err == nil {
				resp.Body.Close()
			}
		})
		synctest.Wait()
		var closed atomic.Int64
		for range 2 {
			go func() {
				assert.NoError(t, p.Close())
				closed.Add(1)
			}()
		}
		synctest.Wait()
		assert.Zero(t, closed.Load(), "the request has not ended")
		close(goOn)
		synctest.Wait()
		assert.EqualValues(t, 2, closed.Load())
		c.CloseIdleConnections()
		all.Wait()
	})
}

// mirror answers with the body.
func mirror(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Write(b)
}
