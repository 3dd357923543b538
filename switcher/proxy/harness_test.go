package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// patience is how long what must happen may take on a busy machine.
const patience = 20 * time.Second

// backend is an application in a slot, over real sockets.
type backend struct {
	*httptest.Server
	conns atomic.Int64 // open connections to it
}

// newBackend starts an application; its answers say who gave them.
func newBackend(t testing.TB, name string, h http.HandlerFunc) *backend {
	b := &backend{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Slot", name)
		h(w, r)
	}))
	b.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			b.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
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

func hello(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "hello\n")
}

// rawBackend accepts connections and gives each to handle, on a goroutine of its own.
func rawBackend(t *testing.T, handle func(n int, c net.Conn, br *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				handle(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// readHead reads a message's head, as it is on the wire.
func readHead(br *bufio.Reader) (head string, err error) {
	for {
		line, err := br.ReadString('\n')
		head += line
		if err != nil || line == "\r\n" {
			return head, err
		}
	}
}

// front is a proxy that serves on loopback.
type front struct {
	*proxy.Switcher
	addr string
	url  string
}

func serve(t testing.TB, cfg proxy.Config) *front {
	p, err := proxy.New(cfg)
	require.NoError(t, err)
	return serveOn(t, p)
}

// pair is a front with two applications behind it, of which blue takes work.
func pair(t testing.TB, blue, green http.HandlerFunc) (f *front, b, g *backend) {
	b, g = newBackend(t, "blue", blue), newBackend(t, "green", green)
	return serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue"}), b, g
}

// single is a front with one slot at an address.
func single(t testing.TB, addr string) *front {
	return serve(t, proxy.Config{Slots: map[string]string{"blue": addr}, Active: "blue"})
}

func (f *front) activate(t testing.TB, slot abswap.Slot) {
	require.NoError(t, f.Activate(t.Context(), slot))
}

func (f *front) load(t testing.TB, slot string) abswap.Load {
	l, err := f.InFlight(context.Background(), plain(slot))
	require.NoError(t, err)
	return l
}

// idle waits until nothing is in flight in the slot.
func (f *front) idle(t testing.TB, slot string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, f.WaitIdle(ctx, plain(slot)))
}

// newClient is a client with connections of its own.
func newClient(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100, ExpectContinueTimeout: patience}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask gets path and returns status, the slot that answered and the body.
func ask(t testing.TB, c *http.Client, url string) (status int, slot, body string) {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("Slot"), string(b)
}

// rawClient is a client that writes and reads bytes.
type rawClient struct {
	*net.TCPConn
	br *bufio.Reader
	t  testing.TB
}

func (f *front) raw(t testing.TB) *rawClient {
	c, err := net.Dial("tcp", f.addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &rawClient{c.(*net.TCPConn), bufio.NewReader(c), t}
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.TCPConn, text)
	require.NoError(c.t, err)
}

func (c *rawClient) head() string {
	c.t.Helper()
	h, err := readHead(c.br)
	require.NoError(c.t, err, h)
	return h
}

func (c *rawClient) read(n int) string {
	c.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c.br, b)
	require.NoError(c.t, err)
	return string(b)
}

// rest reads to the end of the connection.
func (c *rawClient) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.br)
	require.NoError(c.t, err)
	return string(b)
}

// within waits for c, within patience.
func within[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// soon waits until f is true, within patience.
func soon(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// serveOn serves p on loopback.
func serveOn(t testing.TB, p *proxy.Switcher) *front {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(l) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
	return &front{p, l.Addr().String(), "http://" + l.Addr().String()}
}

// dialler is a front whose slot is reached as dial says, which always fails.
func dialler(t testing.TB, dial func(context.Context) error) *front {
	return serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue",
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, dial(ctx) }})
}

// notYet fails if c tells something within a while.
func notYet[T any](t testing.TB, c <-chan T, what string, while time.Duration) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("too early: %s: %v", what, v)
	case <-time.After(while):
	}
}
