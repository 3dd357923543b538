package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// many is a Sites that serves on loopback.
type many struct {
	*proxy.Sites
	addr string
}

func serveSites(t testing.TB, cfg proxy.SitesConfig) *many {
	s, err := proxy.NewSites(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { assert.ErrorIs(t, s.Serve(l), http.ErrServerClosed) })
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		serving.Wait()
	})
	return &many{s, l.Addr().String()}
}

// site is a site with the slots blue and green; blue has the work.
func (m *many) site(t testing.TB, blue, green string, hosts ...string) *proxy.Switcher {
	p, err := m.New(proxy.Config{Slots: map[string]string{"blue": blue, "green": green}, Active: "blue"})
	require.NoError(t, err)
	if len(hosts) > 0 {
		require.NoError(t, m.Add(p, hosts...))
	}
	return p
}

// named is the address of an application that says its name.
func named(t testing.TB, name string) string {
	return address(newBackend(t, name, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, name)
	}).Server)
}

// ask asks on a connection of its own, by the request line and fields given, and returns what was answered.
func (m *many) ask(t testing.TB, head string) (status int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", m.addr)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, head+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// through asks by ServeHTTP.
func through(h http.Handler, host string) (int, string) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestSitesAreToldByTheirHosts(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	none := "127.0.0.1:1"
	for name, hosts := range map[string][]string{"one": {"One.test.", "alias.test"}, "wild": {"*.one.test"}, "deep": {"x.y.one.test"}, "six": {"[0:0::1]"},
		"four": {"127.0.0.1"}, "idn": {"xn--bcher-kva.test"}} {
		m.site(t, named(t, name), none, hosts...)
	}
	hosts := map[string]string{
		"one.test": "one", "ONE.test": "one", "one.test.": "one", "one.test:8080": "one", "one.test.:80": "one", "one.test:": "one", "alias.test": "one",
		"a.one.test": "wild", "A.One.Test.:443": "wild", "xone.test": "", "y.one.test": "wild", "x.y.one.test": "deep", "z.y.one.test": "", ".one.test": "",
		"[::1]": "six", "[::1]:8080": "six", "[::2]": "", "127.0.0.1": "four", "127.0.0.1:9": "four", "127.0.0.2": "",
		"xn--bcher-kva.test": "idn", "XN--Bcher-Kva.TEST": "idn", "test": "", "one.test.one.test": "", strings.Repeat("a", 300) + ".test": "",
	}
	for _, all := range []string{"", "all"} {
		if all != "" {
			m.site(t, named(t, all), none, "*")
		}
		for host, want := range hosts {
			status := http.StatusOK
			if want == "" {
				if want = all; want == "" {
					status, want = http.StatusMisdirectedRequest, "421 Misdirected Request: no site has this host\n"
				}
			}
			got, body := m.ask(t, "GET / HTTP/1.1\r\nHost: "+host)
			assert.Equal(t, status, got, host)
			assert.Equal(t, want, body, host)
			got, body = m.ask(t, "GET http://"+host+"/x?y HTTP/1.1\r\nHost: alias.test")
			assert.Equal(t, status, got, "absolute: %s", host)
			assert.Equal(t, want, body, "absolute: %s", host)
			got, body = through(m, host)
			assert.Equal(t, status, got, "handler: %s", host)
			assert.Equal(t, want, body, "handler: %s", host)
		}
		status, _ := m.ask(t, "GET / HTTP/1.0")
		assert.Equal(t, all != "", status == http.StatusOK, "no host")
		status, _ = m.ask(t, "GET / HTTP/1.1\r\nHost: one.test\r\nHost: alias.test")
		assert.Equal(t, http.StatusBadRequest, status, "two hosts")
	}
	seen := map[string]bool{}
	for host, p := range m.All() {
		q, ok := m.Lookup(host)
		assert.True(t, ok && p == q, host)
		seen[host] = true
	}
	assert.Len(t, seen, 8)
}

// TestNoSiteEndsNoConnection refuses requests for hosts without a site, with bodies and without, and answers others on the same connection.
func TestNoSiteEndsNoConnection(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	m.site(t, named(t, "one"), "127.0.0.1:1", "one.test")
	c, err := net.Dial("tcp", m.addr)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	br := bufio.NewReader(c)
	for i, tc := range []struct {
		host, body string
		status     int
		last       bool
	}{{"one.test", "", 200, false}, {"two.test", "", 421, false}, {"one.test", "hello", 200, false}, {"two.test", "hello", 421, true}} {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", tc.host, len(tc.body), tc.body)
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err, i)
		io.Copy(io.Discard, resp.Body)
		assert.Equal(t, tc.status, resp.StatusCode, i)
		assert.Equal(t, tc.last, resp.Close, i)
	}
}

func TestSitesMistakes(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	p := m.site(t, "127.0.0.1:1", "127.0.0.1:2", "one.test", "*.one.test", "*")
	for host, says := range map[string]string{"": "empty", "*.": "wildcard", "a..b": "label", "a.test:80": "without a port", "*.*.test": "wildcard", "a.*.test": "wildcard",
		"bücher.test": "xn--", "a b": "cannot be in it", "a/b": "cannot be in it", strings.Repeat("a.", 130) + "test": "longer", "[fe80::1%eth0]": "zone"} {
		err := m.Add(p, "two.test", host)
		assert.ErrorContains(t, err, says, host)
		_, ok := m.Lookup("two.test.other")
		assert.True(t, ok)
		q, _ := m.Lookup("two.test")
		assert.Same(t, p, q, "by the site of all others, as nothing has changed")
	}
	q := m.site(t, "127.0.0.1:1", "127.0.0.1:2")
	for _, host := range []string{"ONE.test", "*.one.test", "*"} {
		err := m.Add(q, "three.test", host)
		assert.ErrorIs(t, err, proxy.ErrSiteTaken)
	}
	assert.ErrorContains(t, m.Add(q), "no host")
	_, err := m.Remove("none.test", "one.test")
	assert.ErrorContains(t, err, `"none.test" has no site`)
	x, _ := m.Lookup("one.test")
	assert.Same(t, p, x)

	alone, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}})
	require.NoError(t, err)
	defer alone.Close()
	assert.ErrorContains(t, m.Add(alone, "four.test"), "not made by New")
	require.NoError(t, q.Close())
	assert.ErrorContains(t, m.Add(q, "four.test"), "closed")
	for _, cfg := range []proxy.Config{{HeadTimeout: 1}, {IdleTimeout: 1}, {Farewell: 1}, {MaxHead: 1}, {MaxFields: 1}, {MaxConns: 1}, {DisableHTTP2: true}} {
		cfg.Slots = map[string]string{"blue": "127.0.0.1:1"}
		_, err = m.New(cfg)
		assert.ErrorContains(t, err, "SitesConfig")
	}
	_, err = proxy.NewSites(proxy.SitesConfig{MaxConns: -1})
	assert.ErrorContains(t, err, "MaxConns")
	_, err = m.New(proxy.Config{})
	assert.ErrorContains(t, err, "Slots is empty")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	assert.ErrorContains(t, p.Serve(l), "no listener of its own")
	_, err = net.Dial("tcp", l.Addr().String())
	assert.Error(t, err, "it was closed")
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}})
	assert.ErrorIs(t, err, http.ErrServerClosed)
	assert.ErrorIs(t, m.Add(p, "five.test"), http.ErrServerClosed)
}

// newSiteRig is newRig with a site of a Sites, beside others.
func newSiteRig(context.Context) (switchertest.Rig, error) {
	blue, green := httptest.NewServer(switchertest.NewApp("blue")), httptest.NewServer(switchertest.NewApp("green"))
	other := httptest.NewServer(switchertest.NewApp("other"))
	m, err := proxy.NewSites(proxy.SitesConfig{})
	if err != nil {
		return switchertest.Rig{}, err
	}
	var p *proxy.Switcher
	for _, x := range []struct {
		hosts       []string
		blue, green string
	}{{[]string{"*"}, address(other), "127.0.0.1:1"}, {[]string{"other.test", "*.test"}, address(green), address(blue)}, {[]string{"127.0.0.1"}, address(blue), address(green)}} {
		p, err = m.New(proxy.Config{Slots: map[string]string{"blue": x.blue, "green": x.green}, Active: "blue"})
		if err == nil {
			err = m.Add(p, x.hosts...)
		}
		if err != nil {
			return switchertest.Rig{}, err
		}
	}
	stall := proxy.NewStaller(p)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return switchertest.Rig{}, err
	}
	var serving sync.WaitGroup
	serving.Go(func() { m.Serve(l) })
	return frontRig(p, stall, l, blue, green, "", nil, func() error {
		err := m.Close()
		serving.Wait()
		other.Close()
		return err
	})
}

// TestSiteRules is the suite on one site of several, which share their door and their connections to the slots.
func TestSiteRules(t *testing.T) {
	t.Parallel()
	switchertest.Run(t, newSiteRig)
}

// TestASiteIsRemembered has sites with state files, of which one is replaced.
func TestASiteIsRemembered(t *testing.T) {
	dir := t.TempDir()
	blue, green := named(t, "blue"), named(t, "green")
	start := func() (*many, *proxy.Switcher) {
		m := serveSites(t, proxy.SitesConfig{})
		p, err := m.New(proxy.Config{Slots: map[string]string{"blue": blue, "green": green}, Active: "blue", StateFile: filepath.Join(dir, "one")})
		require.NoError(t, err)
		require.NoError(t, m.Add(p, "one.test"))
		return m, p
	}
	m, p := start()
	require.NoError(t, p.Activate(t.Context(), plain("green")))
	require.NoError(t, m.Close())
	m, p = start()
	_, body := m.ask(t, "GET / HTTP/1.1\r\nHost: one.test")
	assert.Equal(t, "green", body)
	_, err := m.New(proxy.Config{Slots: map[string]string{"blue": blue}, StateFile: filepath.Join(dir, "one")})
	assert.ErrorContains(t, err, "another proxy uses")
	require.NoError(t, p.Shutdown(t.Context()))
	_, err = m.New(proxy.Config{Slots: map[string]string{"blue": blue, "green": green}, StateFile: filepath.Join(dir, "one")})
	require.NoError(t, err, "it was let go")
}

// TestASiteIsSteered by its own control plane.
func TestASiteIsSteered(t *testing.T) {
	m := serveSites(t, proxy.SitesConfig{})
	one := m.site(t, named(t, "one blue"), named(t, "one green"), "one.test")
	m.site(t, named(t, "two blue"), named(t, "two green"), "two.test")
	h, err := proxy.ControlHandler(one, proxy.ControlOptions{Token: "0123456789abcdef0123456789abcdef"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := proxy.ControlServer(h)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	defer func() { server.Close(); serving.Wait() }()
	c, err := proxy.NewClient(proxy.ClientConfig{Address: l.Addr().String(), Token: "0123456789abcdef0123456789abcdef"})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Activate(t.Context(), plain("green")))
	for host, want := range map[string]string{"one.test": "one green", "two.test": "two blue"} {
		_, body := m.ask(t, "GET / HTTP/1.1\r\nHost: "+host)
		assert.Equal(t, want, body)
	}
	load, err := c.InFlight(t.Context(), plain("green"))
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceExact, load.Evidence)
}
