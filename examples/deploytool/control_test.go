package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
)

// askControl makes one call of the control plane by hand: GET /v1/status, or POST body to /v1/activate. change may spoil it.
func (m *machine) askControl(t *testing.T, body string, change func(*http.Request)) (status int, text []byte) {
	c, err := loadConfig(m.config)
	if !assert.NoError(t, err) {
		return 0, nil
	}
	tr := &http.Transport{DisableKeepAlives: true}
	url := "http://" + c.Control
	if path, ok := strings.CutPrefix(c.Control, "unix:"); ok {
		url = "http://abswap"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	req, err := http.NewRequest(http.MethodGet, url+"/v1/status", nil)
	if body != "" {
		req, err = http.NewRequest(http.MethodPost, url+"/v1/activate", strings.NewReader(body))
	}
	if !assert.NoError(t, err) {
		return 0, nil
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "0123456789abcdef")
	}
	if !strings.HasPrefix(c.Control, "unix:") {
		token, err := proxy.ReadToken(c.tokenFile())
		assert.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	change(req)
	resp, err := tr.RoundTrip(req)
	if !assert.NoError(t, err) {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	assert.NoError(t, err)
	return resp.StatusCode, text
}

// TestControlOverLoopback runs the tool with its control plane on a port of this machine, behind a token that serve makes.
func TestControlOverLoopback(t *testing.T) {
	t.Parallel()
	m := newMachineOn(t, loopback)
	c, err := loadConfig(m.config)
	require.NoError(t, err)
	require.NotContains(t, c.Control, "unix:")
	info, err := os.Stat(c.tokenFile())
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which has access lists in their stead, and the state folder's are the user's own
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		dir, err := os.Stat(filepath.Dir(c.tokenFile()))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	}
	token, err := proxy.ReadToken(c.tokenFile())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(token), 22, "128 bits")
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newPatientClients(m.listen)
	defer load.end()
	before := m.status(t)
	serving := servingOf(t, before)

	// Whoever has not the token, or comes from a page in a browser, changes nothing and learns nothing.
	order := `{"revision":1,"slot":{"name":"blue"}}`
	for name, tt := range map[string]struct {
		status int
		change func(*http.Request)
	}{
		"no token":      {http.StatusUnauthorized, func(r *http.Request) { r.Header.Del("Authorization") }},
		"wrong token":   {http.StatusUnauthorized, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.Repeat("x", len(token))) }},
		"half a token":  {http.StatusUnauthorized, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[:len(token)/2]) }},
		"not a bearer":  {http.StatusUnauthorized, func(r *http.Request) { r.SetBasicAuth("deploy", token) }},
		"in the query":  {http.StatusUnauthorized, func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "token=" + token }},
		"another host":  {http.StatusMisdirectedRequest, func(r *http.Request) { r.Host = "example.com" }},
		"cross-site":    {http.StatusForbidden, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		"a page's call": {http.StatusForbidden, func(r *http.Request) { r.Header.Set("Origin", "http://example.com") }},
	} {
		for _, body := range []string{"", order} {
			status, text := m.askControl(t, body, tt.change)
			assert.Equal(t, tt.status, status, "%s: %s", name, text)
			assert.NotContains(t, string(text), "weights", name)
			assert.NotContains(t, string(text), token[:8], name)
		}
	}
	status, text := m.askControl(t, "", func(*http.Request) {})
	require.Equal(t, http.StatusOK, status, "%s", text)
	assert.Equal(t, before.Weights, m.status(t).Weights)

	// A tool with another token is told so, and nothing is deployed.
	right, err := os.ReadFile(c.tokenFile())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.tokenFile(), []byte(strings.Repeat("y", len(token))+"\n"), 0o600))
	out, err := m.run(t, "", "deploy", m.release(t, ""))
	assert.Equal(t, exitFailed, exitOf(err), "%s", out)
	assert.Contains(t, out, "token")
	require.NoError(t, os.WriteFile(c.tokenFile(), right, 0o600))
	if runtime.GOOS != "windows" { // one that others may read is refused
		require.NoError(t, os.Chmod(c.tokenFile(), 0o644))
		out, err := m.run(t, "", "status")
		assert.Equal(t, exitUnreachable, exitOf(err), "%s", out)
		assert.Contains(t, out, "other users may read")
		require.NoError(t, os.Chmod(c.tokenFile(), 0o600))
	}

	// The token lives as long as its file: a serve that was killed has the same one.
	require.True(t, m.killServe())
	m.up(t)
	again, err := proxy.ReadToken(c.tokenFile())
	require.NoError(t, err)
	assert.Equal(t, token, again)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "swap-back")
	assert.Equal(t, serving, servingOf(t, m.status(t)))
	m.judgeLoad(t, load, late)
}
