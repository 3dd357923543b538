package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
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

// TestASiteGoesBetweenLookAndEnter stops a request that has found its site and picked a slot there, replaces the site, drains the old one, which
// is empty, and closes it: the request goes to the new one. And where the site was removed and nothing came in its place, it is told so.
func TestASiteGoesBetweenLookAndEnter(t *testing.T) {
	for name, serveHTTP := range map[string]bool{"Serve": false, "ServeHTTP": true} {
		t.Run(name, func(t *testing.T) {
			m := serveSites(t, proxy.SitesConfig{})
			front := m.addr
			if serveHTTP {
				s := httptest.NewServer(m.Sites)
				defer s.Close()
				front = address(s)
			}
			for _, replaced := range []bool{true, false} {
				old := m.site(t, named(t, "old"), "127.0.0.1:1", "one.test")
				stall := proxy.NewStaller(old)
				reached, goOn := stall.Stall()
				got := make(chan string)
				go func() {
					status, body := post(t, front, "one.test", "hello")
					got <- fmt.Sprint(status, " ", body)
				}()
				<-reached
				var left []*proxy.Switcher
				var err error
				if replaced {
					left, err = m.Set(m.site(t, named(t, "new"), "127.0.0.1:1"), "one.test")
				} else {
					left, err = m.Remove("one.test")
				}
				require.NoError(t, err)
				require.Equal(t, []*proxy.Switcher{old}, left)
				require.NoError(t, old.Shutdown(t.Context()))
				goOn()
				if replaced {
					assert.Equal(t, "200 new", <-got)
					_, err = m.Remove("one.test")
					require.NoError(t, err)
				} else {
					assert.Equal(t, "421 421 Misdirected Request: no site has this host\n", <-got)
				}
			}
		})
	}
}

// post asks on a connection of its own.
func post(t testing.TB, addr, host, body string) (int, string) {
	req, err := http.NewRequest("POST", "http://"+addr+"/", strings.NewReader(body))
	if !assert.NoError(t, err) {
		return 0, ""
	}
	req.Host = host
	resp, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if !assert.NoError(t, err) {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	return resp.StatusCode, string(b)
}

// TestAHeldRequestGoesToTheNewSite replaces a site that holds requests, some with bodies: they wait for its release, and then go to the new one.
func TestAHeldRequestGoesToTheNewSite(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	s := httptest.NewServer(m.Sites)
	defer s.Close()
	old := m.site(t, named(t, "old"), "127.0.0.1:1", "one.test")
	release, err := old.Hold(t.Context(), abswap.HoldOptions{Each: patience, Total: patience})
	require.NoError(t, err)
	got := make(chan string, 4)
	for _, front := range []string{m.addr, address(s)} {
		for _, body := range []string{"", "hello"} {
			go func() {
				status, text := post(t, front, "one.test", body)
				got <- fmt.Sprint(status, " ", text)
			}()
		}
	}
	require.Eventually(t, func() bool { return old.Held() == 4 }, patience, time.Millisecond)
	_, err = m.Set(m.site(t, named(t, "new"), "127.0.0.1:1"), "one.test")
	require.NoError(t, err)
	release()
	for range 4 {
		assert.Equal(t, "200 new", <-got)
	}
}

// TestTheHoldOfAReplacedSiteRefusesNobody: a request that may wait no longer in the hold of a site that no host leads to goes to the new one.
func TestTheHoldOfAReplacedSiteRefusesNobody(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	s := httptest.NewServer(m.Sites)
	defer s.Close()
	for _, front := range []string{m.addr, address(s)} {
		for _, body := range []string{"", "hello"} {
			old := m.site(t, named(t, "old"), "127.0.0.1:1", "one.test")
			release, err := old.Hold(t.Context(), abswap.HoldOptions{Each: 500 * time.Millisecond, Total: 2 * patience})
			require.NoError(t, err)
			got := make(chan string, 1)
			go func() {
				status, text := post(t, front, "one.test", body)
				got <- fmt.Sprint(status, " ", text)
			}()
			require.Eventually(t, func() bool { return old.Held() == 1 }, patience, time.Millisecond)
			_, err = m.Set(m.site(t, named(t, "new"), "127.0.0.1:1"), "one.test")
			require.NoError(t, err)
			assert.Equal(t, "200 new", within(t, got, "the answer"))
			assert.Zero(t, old.Stats().Refused)
			release()
			_, err = m.Remove("one.test")
			require.NoError(t, err)
		}
	}
}

// TestASessionStaysWithItsSite replaces a site that keeps sessions, and holds a request, by one that keeps none: it begins no session.
func TestASessionStaysWithItsSite(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	s := httptest.NewServer(m.Sites)
	defer s.Close()
	for _, front := range []string{m.addr, address(s)} {
		old, err := m.New(proxy.Config{Slots: map[string]string{"blue": named(t, "old")}, Active: "blue", Sessions: &proxy.SessionConfig{}})
		require.NoError(t, err)
		require.NoError(t, m.Add(old, "one.test"))
		release, err := old.Hold(t.Context(), abswap.HoldOptions{Each: patience, Total: patience})
		require.NoError(t, err)
		got := make(chan *http.Response, 1)
		go func() {
			req, err := http.NewRequest("GET", "http://"+front+"/", nil)
			if assert.NoError(t, err) {
				req.Host = "one.test"
				resp, err := newClient(t).Do(req)
				assert.NoError(t, err)
				got <- resp
			}
		}()
		require.Eventually(t, func() bool { return old.Held() == 1 }, patience, time.Millisecond)
		young := m.site(t, named(t, "new"), "127.0.0.1:1")
		_, err = m.Set(young, "one.test")
		require.NoError(t, err)
		release()
		resp := within(t, got, "the answer")
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, "new", string(b))
		assert.Empty(t, resp.Header["Set-Cookie"])
		require.NoError(t, old.Close())
		require.NoError(t, young.Close())
	}
}

// TestOldWorkOfASiteGoesOn removes a site with an answer half way and a websocket, and others with it: both go on, its Shutdown waits for them,
// and the client's connection goes on with another site.
func TestOldWorkOfASiteGoesOn(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	let := make(chan struct{})
	slow := newBackend(t, "slow", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "slow ")
		http.NewResponseController(w).Flush()
		<-let
		io.WriteString(w, "end")
	})
	echo := rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, br)
		}
	})
	one := m.site(t, address(slow.Server), "127.0.0.1:1", "one.test")
	ws := m.site(t, echo, "127.0.0.1:1", "ws.test")
	m.site(t, named(t, "two"), "127.0.0.1:1", "two.test")

	dial := func(host, more string) (net.Conn, *bufio.Reader, *http.Response) {
		c, err := net.Dial("tcp", m.addr)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, more)
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		return c, br, resp
	}
	c, br, resp := dial("one.test", "")
	w, wbr, up := dial("ws.test", "Connection: Upgrade\r\nUpgrade: echo\r\n")
	require.Equal(t, 101, up.StatusCode)

	left, err := m.Remove("one.test", "ws.test")
	require.NoError(t, err)
	require.ElementsMatch(t, []*proxy.Switcher{one, ws}, left)
	ended := make(chan error, 2)
	for _, p := range left {
		go func() { ended <- p.Shutdown(context.Background()) }()
	}
	status, _ := m.ask(t, "GET / HTTP/1.1\r\nHost: one.test")
	assert.Equal(t, 421, status)
	load, err := one.InFlight(t.Context(), plain("blue"))
	require.NoError(t, err)
	assert.Equal(t, 1, load.Requests)

	close(let)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "slow end", string(b))
	assert.False(t, resp.Close, "the connection is good for other sites")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: two.test\r\n\r\n")
	resp, err = http.ReadResponse(br, nil)
	require.NoError(t, err)
	b, _ = io.ReadAll(resp.Body)
	assert.Equal(t, "two", string(b))
	require.NoError(t, <-ended)

	io.WriteString(w, "hello\n")
	line, err := wbr.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	select {
	case err := <-ended:
		t.Fatalf("its Shutdown has not waited: %v", err)
	default:
	}
	w.Close()
	require.NoError(t, <-ended)
}

// TestSitesShutdown says "Connection: close", and waits for the websocket of a site that was taken out and is being shut down by itself.
func TestSitesShutdown(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{Farewell: -1})
	let := make(chan struct{})
	echo := rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			<-let
			io.Copy(c, br)
		}
	})
	ws := m.site(t, echo, "127.0.0.1:1", "ws.test")
	asked, answer := make(chan struct{}), make(chan struct{})
	m.site(t, address(newBackend(t, "one", func(http.ResponseWriter, *http.Request) { close(asked); <-answer }).Server), "127.0.0.1:1", "one.test")
	w, err := net.Dial("tcp", m.addr)
	require.NoError(t, err)
	defer w.Close()
	io.WriteString(w, "GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	wbr := bufio.NewReader(w)
	_, err = readHead(wbr)
	require.NoError(t, err)
	c, err := net.Dial("tcp", m.addr)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	br := bufio.NewReader(c)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
	<-asked

	short, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, ws.Shutdown(short), context.Canceled)
	ended := make(chan error, 1)
	go func() { ended <- m.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { // until the listener is closed
		x, err := net.Dial("tcp", m.addr)
		if err == nil {
			x.Close()
		}
		return err != nil
	}, patience, time.Millisecond)
	close(answer)
	resp, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	assert.True(t, resp.Close)
	_, err = br.ReadByte()
	assert.Error(t, err)
	w.SetDeadline(time.Now().Add(patience))
	io.WriteString(w, "hello\n")
	close(let)
	line, err := wbr.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	select {
	case err := <-ended:
		t.Fatalf("it has not waited: %v", err)
	default:
	}
	require.NoError(t, m.Close(), "it ends what is left")
	assert.NoError(t, <-ended)
	_, err = wbr.ReadByte()
	assert.Error(t, err)
}

// TestNothingIsLostWhileSitesChange asks on kept connections, each request for another host and with a body, while sites are added, replaced,
// removed and switched. Each answer is one that was right between its request's begin and its end: none is lost, none late.
func TestNothingIsLostWhileSitesChange(t *testing.T) {
	const hosts, clients = 6, 8
	changes := 300
	if testing.Short() {
		changes = 60
	}
	app := address(newBackend(t, "app", hello).Server)
	m := serveSites(t, proxy.SitesConfig{})
	newSite := func(i, version int) *proxy.Switcher {
		p, err := m.New(proxy.Config{Slots: map[string]string{"blue": app}, Active: "blue", ReleaseHeader: "Site"})
		require.NoError(t, err)
		require.NoError(t, p.Activate(t.Context(), released{"blue", app, fmt.Sprintf("%d.%d", i, version)}))
		return p
	}
	// began and current bracket a change: while both are the same, only that version may answer. 0: the site of all others.
	var began, current [hosts]atomic.Int64
	require.NoError(t, m.Add(newSite(99, 0), "*"))
	stop := make(chan struct{})
	var asked atomic.Int64
	var all sync.WaitGroup
	for k := range clients {
		all.Go(func() {
			c, err := net.Dial("tcp", m.addr)
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for n := k; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				i := n % hosts
				from := current[i].Load()
				c.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h%d.test\r\nContent-Length: 5\r\n\r\nhello", i)
				resp, err := http.ReadResponse(br, nil)
				if !assert.NoError(t, err) {
					return
				}
				io.Copy(io.Discard, resp.Body)
				to := began[i].Load()
				got := resp.Header.Get("Site")
				ok := false
				for v := from; v <= to; v++ {
					want := fmt.Sprintf("blue/%d.%d", i, v)
					if v%3 == 0 { // removed, or never there
						want = "blue/99.0"
					}
					ok = ok || got == want
				}
				if resp.StatusCode != 200 || !ok {
					t.Errorf("host %d: %s by %q, between versions %d and %d", i, resp.Status, got, from, to)
					return
				}
				asked.Add(1)
			}
		})
	}
	var draining sync.WaitGroup
	for n := range changes {
		i := n % hosts
		v := began[i].Load() + 1
		host := fmt.Sprintf("h%d.test", i)
		var p *proxy.Switcher
		if v%3 != 0 {
			p = newSite(i, int(v))
		}
		began[i].Store(v)
		var left []*proxy.Switcher
		var err error
		switch v % 3 {
		case 0:
			left, err = m.Remove(host)
		case 1:
			err = m.Add(p, host)
		default:
			left, err = m.Set(p, host)
		}
		current[i].Store(v)
		require.NoError(t, err)
		for _, p := range left {
			draining.Go(func() {
				assert.NoError(t, p.Shutdown(context.Background()))
				assert.Zero(t, p.Stats(), "nothing failed, was refused, retried or cut")
			})
		}
		for a := asked.Load(); asked.Load() < a+5 && !t.Failed(); { // so that requests are on their way at each change
			runtime.Gosched()
		}
	}
	draining.Wait()
	close(stop)
	all.Wait()
	t.Logf("%d requests, %d changes", asked.Load(), changes)
}

// released is a slot that tells what it holds.
type released struct{ name, addr, release string }

func (r released) Name() string                { return r.name }
func (r released) Ready(context.Context) error { return nil }
func (r released) Inspect(context.Context) (abswap.SlotState, error) {
	return abswap.SlotState{Release: r.release, Address: r.addr}, nil
}
