package iistest_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

// TestFilesOfTheMachine: without a Host the files in the folders are served, at the paths of their applications; a machine finds its files again.
func TestFilesOfTheMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := iistest.Config{Dir: dir, Scale: 0.001, WASDelay: -1}
	if os.PathSeparator == '\\' {
		cfg.Path = func(p string) string {
			return filepath.Join(dir, "drives", strings.NewReplacer("%SystemDrive%", "C", ":", "").Replace(p))
		}
	}
	w := &world{t: t}
	open := func() {
		srv, err := iistest.New(cfg)
		require.NoError(t, err)
		w.Server = srv
	}
	open()
	for path, text := range map[string]string{`%SystemDrive%\inetpub\wwwroot`: "root", `C:\inetpub\app`: "app"} {
		require.NoError(t, os.MkdirAll(filepath.Join(w.Folder(path), "bin"), 0o755))
		for _, name := range []string{"a.txt", "web.config", "bin/x.dll"} {
			require.NoError(t, os.WriteFile(filepath.Join(w.Folder(path), filepath.FromSlash(name)), []byte(text), 0o644))
		}
	}
	w.must("add", "app", "/site.name:Default Web Site", "/path:/sub", `/physicalPath:C:\inetpub\app`)
	assert.Equal(t, "root", w.get("http://x/a.txt").body)
	assert.Equal(t, "app", w.get("http://x/sub/a.txt").body)
	for _, hidden := range []string{"http://x/web.config", "http://x/sub/WEB.config", "http://x/bin/x.dll", "http://x/none"} {
		assert.Equal(t, http.StatusNotFound, w.get(hidden).status, hidden)
	}
	require.NoError(t, w.Close())
	open()
	assert.Equal(t, "app", w.get("http://x/sub/a.txt").body, "the configuration is on disk")
	assert.NoError(t, w.Close())
}

func TestPorts(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	number := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	w := newWorld(t, "", func(c *iistest.Config) { c.Ports = map[int]int{80: number} })
	url, err := w.URL("http/*:80:www.example.test")
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.1:"+strconv.Itoa(number), url)
	resp, err := http.Get(url)
	require.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	assert.Equal(t, "v1", resp.Header.Get("X-Release"))
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	w.must("stop", "site", "Public")
	_, err = http.Get(url)
	assert.Error(t, err, "a connection to the real port is reset")
	_, err = w.DialContext(t.Context(), "tcp", "nonsense")
	assert.Error(t, err)
	_, err = iistest.New(iistest.Config{Ports: map[int]int{80: number}})
	assert.ErrorContains(t, err, "emulated port 80", "it is taken")
}

// TestPoolChangesRotate: a changed pool is recycled, unless it says disallowRotationOnConfigChange.
func TestPoolChangesRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	first := w.get(public).pid
	w.must("set", "apppool", "A", "/queueLength:2000")
	w.eventually("recycled", func() bool { return w.get(public).pid != first })
	w.must("set", "apppool", "A", "/recycling.disallowRotationOnConfigChange:true")
	first = w.get(public).pid
	w.must("set", "apppool", "A", "/queueLength:3000")
	assert.Equal(t, first, w.get(public).pid)
	assert.Len(t, w.pool("A").Workers, 1)
}

// TestDeletedThings: what runs in a deleted site or pool goes on; nothing new comes in.
func TestDeletedThings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	end := w.hold(public, "x")
	w.must("delete", "site", "Public")
	assert.Error(t, w.get(public).err)
	w.must("delete", "apppool", "A")
	assert.Contains(t, w.must("list", "wp"), "(applicationPool:A)", "it still ends")
	assert.Contains(t, w.must("list", "requests"), "GET /hold/x")
	w.letGo("x")
	assert.NoError(t, w.ended(end).err)
	w.eventually("gone", func() bool { _, exit := w.run("list", "wp"); return exit == 1 })
	w.must("delete", "apppool", "B")
	assert.Equal(t, http.StatusServiceUnavailable, w.get(private).status, "an application without a pool")
}

// TestSiteGetsAnotherID: a running site whose id changes stops.
func TestSiteGetsAnotherID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "site", "Public", "/id:9")
	assert.Equal(t, "Stopped", w.siteState("Public"))
	w.must("start", "site", "Public")
	w.must("set", "site", "Public", "/name:Renamed")
	assert.Equal(t, "Started", w.siteState("Renamed"))
	assert.Equal(t, "Renamed", w.get(public).site)
}
