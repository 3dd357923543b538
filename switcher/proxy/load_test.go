package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

// TestS1S2S3UnderLoad switches again and again under posts on kept connections, uploads, streams and upgraded connections: no answer of the old
// slot to a request that began after the switch had returned, none lost, none cut, none answered twice, and counts of zero in the end.
func TestS1S2S3UnderLoad(t *testing.T) {
	var delivered atomic.Int64
	app := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			upgrader("", echo)(w, r)
		case r.URL.Path == "/stream":
			for range 5 {
				io.WriteString(w, "event\n")
				http.NewResponseController(w).Flush()
			}
		default:
			b, err := io.ReadAll(r.Body)
			if err == nil && r.URL.Path == "/post" {
				delivered.Add(1)
			}
			w.Write(b)
		}
	}
	f, b, g := pair(t, app, app)

	// epoch counts switches: blue is on for sure at even values, green at odd ones; while a switch runs it is negative.
	var epoch, late, posted atomic.Int64
	stop := make(chan bool)
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	names := []string{"blue", "green"}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			c := newClient(t)
			for n := 0; !stopped(); n++ {
				body := fmt.Appendf(nil, "%d/%d", i, n)
				before := epoch.Load()
				resp, err := c.Post(f.url+"/post", "", struct{ io.Reader }{bytes.NewReader(body)}) // cannot be sent again
				if !assert.NoError(t, err) {
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !assert.NoError(t, err) || !assert.Equal(t, string(body), string(got)) {
					return
				}
				posted.Add(1)
				if by := resp.Header.Get("Slot"); before >= 0 && before == epoch.Load() && by != names[before%2] {
					late.Add(1)
				}
			}
		})
	}
	all.Go(func() { // uploads that last over several switches
		c := newClient(t)
		for !stopped() {
			pr, pw := io.Pipe()
			go func() {
				for at := epoch.Load(); ; {
					if _, err := pw.Write(make([]byte, 10_000)); err != nil {
						return
					}
					if now := epoch.Load(); stopped() || now > at+3 {
						pw.Close()
						return
					}
					time.Sleep(time.Millisecond) // a slow client
				}
			}()
			resp, err := c.Post(f.url+"/upload", "", pr)
			if !assert.NoError(t, err) {
				return
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			assert.NoError(t, err)
		}
	})
	all.Go(func() {
		c := newClient(t)
		for !stopped() {
			resp, err := c.Get(f.url + "/stream")
			if !assert.NoError(t, err) {
				return
			}
			got, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Len(t, got, 30)
		}
	})
	ws := f.raw(t)
	ws.send(upgradeHead)
	ws.head()

	for i := range int64(120) {
		epoch.Store(-1)
		require.NoError(t, f.Activate(t.Context(), plain(names[(i+1)%2])))
		epoch.Store(i + 1)
		at := posted.Load()
		soon(t, "load between switches", func() bool { return posted.Load() >= at+5 || t.Failed() })
		if i%20 == 0 {
			ws.send("alive")
			assert.Equal(t, "alive", ws.read(5))
		}
	}
	close(stop)
	all.Wait()
	assert.Zero(t, late.Load(), "answered by the old slot")
	assert.Equal(t, posted.Load(), delivered.Load(), "each POST once")
	assert.Equal(t, proxy.Stats{}, f.Stats())
	assert.Equal(t, 1, f.load(t, "blue").Upgraded, "the first slot still has its connection")
	ws.Close()
	f.idle(t, "blue")
	f.idle(t, "green")
	soon(t, "no sockets to blue", func() bool { return b.conns.Load() == int64(f.IdleConns("blue")) })
	soon(t, "no sockets to green but idle ones", func() bool { return g.conns.Load() == int64(f.IdleConns("green")) })
}

// pipeListener is a listener without a network, for bubbles.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestTwoHourUploadDrains switches while an upload of two hours runs, quiet for half an hour at a time. The old slot drains when it ends, not
// before, and no timer of ours ends it.
func TestTwoHourUploadDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apps := map[string]*pipeListener{"h:1": newPipeListener(), "h:2": newPipeListener()}
		var servers sync.WaitGroup
		for _, l := range apps {
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, err)
			})}
			servers.Go(func() { srv.Serve(l) })
			defer srv.Close()
		}
		p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "h:1", "green": "h:2"}, Active: "blue",
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return apps[addr].dial(ctx, network, addr)
			}})
		require.NoError(t, err)
		l := newPipeListener()
		servers.Go(func() { p.Serve(l) })

		client := &http.Client{Transport: &http.Transport{DialContext: l.dial}}
		defer client.CloseIdleConnections()
		pr, pw := io.Pipe()
		go func() {
			for range 4 {
				time.Sleep(30 * time.Minute)
				io.WriteString(pw, "piece")
			}
			pw.Close()
		}()
		answer := make(chan string, 1)
		go func() {
			resp, err := client.Post("http://app/", "", pr)
			if assert.NoError(t, err) {
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				answer <- string(b)
			}
		}()
		synctest.Wait()
		begun := time.Now()
		require.NoError(t, p.Activate(t.Context(), plain("green")))
		res, err := abswap.Drain(t.Context(), p, plain("blue"), abswap.DrainOptions{})
		require.NoError(t, err)
		assert.True(t, res.Drained)
		assert.Equal(t, 2*time.Hour, time.Since(begun).Round(time.Second))
		assert.Equal(t, "20 <nil>", <-answer)
		require.NoError(t, p.Shutdown(t.Context()))
		for _, l := range apps {
			l.Close()
		}
		servers.Wait()
	})
}

// BenchmarkGET compares one proxied GET on a kept connection with httputil.ReverseProxy, and with no proxy at all.
func BenchmarkGET(b *testing.B) {
	app := newBackend(b, "blue", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	target, err := url.Parse(app.URL)
	require.NoError(b, err)
	std := httputil.NewSingleHostReverseProxy(target)
	std.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	other := httptest.NewServer(std)
	defer other.Close()
	ours := serve(b, proxy.Config{Slots: map[string]string{"blue": address(app.Server)}, Active: "blue"})
	for _, bc := range []struct{ name, url string }{{"direct", app.URL}, {"httputil", other.URL}, {"proxy", ours.url}} {
		b.Run(bc.name, func(b *testing.B) {
			c := newClient(b)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := c.Get(bc.url)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
