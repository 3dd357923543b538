package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// TestSitesShareAConnectionOfHTTP2: a client may send the requests of several hosts over one connection. Each reaches its own site and stays in its
// own session there, a switch of one site is none of another, and a host without a site costs the others nothing.
func TestSitesShareAConnectionOfHTTP2(t *testing.T) {
	dir := t.TempDir() // before what writes there to the end
	m := serveSites(t, proxy.SitesConfig{})
	sites := map[string]*proxy.Switcher{}
	for _, name := range []string{"one", "two"} {
		p, err := m.New(proxy.Config{
			Slots: map[string]string{"blue": address(newBackend(t, name+" blue", sessionApp).Server),
				"green": address(newBackend(t, name+" green", sessionApp).Server)},
			Active: "blue", StateFile: filepath.Join(dir, name), Sessions: &proxy.SessionConfig{AppCookie: "APP"},
		})
		require.NoError(t, err)
		require.NoError(t, m.Add(p, name+".test"))
		sites[name] = p
	}
	c := h2Client(t, nil)
	asked := 0
	ask := func(host, path, session string) (status int, slot, cookie string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+m.addr+path, nil)
		require.NoError(t, err)
		r.Host = host
		if session != "" {
			r.AddCookie(&http.Cookie{Name: "APP", Value: session})
		}
		var got httptrace.GotConnInfo
		resp, err := c.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { got = i }})))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 2, resp.ProtoMajor)
		require.Equal(t, asked > 0, got.Reused, "one connection for all")
		asked++
		for _, k := range resp.Cookies() {
			cookie = k.Value
		}
		return resp.StatusCode, resp.Header.Get("Slot"), cookie
	}
	status := func(host string) int {
		s, _, _ := ask(host, "/", "")
		return s
	}
	slot := func(host, session string) string {
		t.Helper()
		s, slot, _ := ask(host, "/", session)
		require.Equal(t, http.StatusOK, s)
		return slot
	}
	_, at, first := ask("one.test", "/login", "")
	assert.Equal(t, "one blue", at)
	_, at, second := ask("two.test", "/login", "")
	assert.Equal(t, "two blue", at)
	require.NotEmpty(t, first)
	require.NotEmpty(t, second)
	assert.Equal(t, http.StatusMisdirectedRequest, status("three.test"))

	require.NoError(t, sites["one"].Activate(t.Context(), plain("green")))
	assert.Equal(t, "one blue", slot("one.test", first), "its session stays")
	assert.Equal(t, "one green", slot("one.test", ""))
	assert.Equal(t, "one green", slot("one.test", second), "a session of the other site is none of this one")
	assert.Equal(t, "two blue", slot("two.test", second))
	assert.Equal(t, "two blue", slot("two.test", ""))

	require.NoError(t, sites["one"].Seal(t.Context(), plain("blue")))
	assert.Equal(t, "one green", slot("one.test", first), "sealed: it begins anew")
	_, err := m.Remove("two.test")
	require.NoError(t, err)
	assert.Equal(t, http.StatusMisdirectedRequest, status("two.test"))
	assert.Equal(t, "one green", slot("one.test", ""))
}
