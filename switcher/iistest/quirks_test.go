package iistest_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

// scenario builds a world with a quirk in one position, lets traffic run, and tells whether what the quirk says has happened.
type scenario struct {
	webConfig string
	with      func(*iistest.Config)
	happens   func(t *testing.T, w *world) bool
}

// cut ends a held request after what was done to it: true if it was cut within the patience, false if it could finish.
func (w *world) cut(end <-chan answer, key string, after time.Duration) bool {
	select {
	case a := <-end:
		return a.err != nil
	case <-time.After(after): // long enough for any limit that may have been set
	}
	w.letGo(key)
	return w.ended(end).err != nil
}

var scenarios = map[string]scenario{
	"OldWorkerSeesPathChange": {happens: func(t *testing.T, w *world) bool {
		end := w.hold(public, "old")
		w.rootSwap("B", "v2")
		assert.Equal(t, "v2 B", w.get(public).release+" "+w.get(public).pool)
		return w.cut(end, "old", 2*time.Second) // twice HostingShutdown
	}},
	"OneInProcessAppPerWorker": {webConfig: inProcess, happens: func(t *testing.T, w *world) bool {
		assert.Equal(t, http.StatusOK, w.get(private).status)
		w.must("add", "app", "/site.name:Private", "/path:/second", "/physicalPath:"+w.folder+"/v3", "/applicationPool:B")
		w.eventually("first one again", func() bool { return w.get(private).status == http.StatusOK })
		// The commit restarts the worker: in the new one, whichever comes first is the one that is served.
		return w.get(private+"/second").status == http.StatusInternalServerError || w.get(private).status == http.StatusInternalServerError
	}},
	"WarmPerWorker": {with: func(c *iistest.Config) { c.AppStart = 100 * time.Second }, happens: func(t *testing.T, w *world) bool {
		assert.Equal(t, "v2", w.get(private).release)
		w.rootSwap("B", "v2")
		a := w.get(public)
		assert.Equal(t, "v2", a.release)
		return a.took < 800*time.Millisecond
	}},
	"MovedBindingStopsNewOwner": {happens: func(t *testing.T, w *world) bool {
		assert.Equal(t, "Public", w.get(public).site)
		_, exit := w.moveBinding()
		require.Zero(t, exit)
		if w.siteState("Private") == "Started" {
			assert.Equal(t, "Private", w.get(public).site)
			return false
		}
		assert.ErrorContains(t, w.get(public).err, "refused")
		w.must("start", "site", "Private")
		assert.Equal(t, "Private", w.get(public).site)
		return true
	}},
	"MovedBindingLosesCertificate": {with: func(c *iistest.Config) {
		c.Quirks.MovedBindingStopsNewOwner = iistest.Off
		c.ApplicationHost = strings.ReplaceAll(c.ApplicationHost, `protocol="http" bindingInformation="*:80:"`, `protocol="https" bindingInformation="*:443:www.example.test" sslFlags="1"`)
	}, happens: func(t *testing.T, w *world) bool {
		assert.Equal(t, "Public", w.get("https://www.example.test").site)
		w.must("set", "config", "-section:sites", "/-[name='Public'].bindings.[protocol='https',bindingInformation='*:443:www.example.test']",
			"/+[name='Private'].bindings.[protocol='https',bindingInformation='*:443:www.example.test',sslFlags='1']", "/commit:apphost")
		a := w.get("https://www.example.test")
		if a.err == nil {
			assert.Equal(t, "Private", a.site)
			return false
		}
		require.NoError(t, w.AddCertificate("*:443:www.example.test", 1))
		assert.Equal(t, "Private", w.get("https://www.example.test").site)
		return true
	}},
	"PoolChangeCuts": {happens: func(t *testing.T, w *world) bool {
		end := w.hold(public, "old")
		w.must("set", "app", "Public/", "/applicationPool:B")
		return w.cut(end, "old", 200*time.Millisecond)
	}},
	"AlreadyInStateFails": {with: func(c *iistest.Config) { c.Quirks.AlreadyStoppedExit = 42 }, happens: func(t *testing.T, w *world) bool {
		_, exit := w.run("start", "apppool", "A")
		_, site := w.run("start", "site", "Public")
		assert.Equal(t, exit, site)
		assert.Contains(t, []uint32{0, 1056}, exit)
		w.must("stop", "apppool", "A")
		w.must("stop", "site", "Public")
		_, exit = w.run("stop", "apppool", "A")
		_, site = w.run("stop", "site", "Public")
		assert.Equal(t, exit, site)
		assert.Contains(t, []uint32{0, 42}, exit)
		return exit == 42
	}},
	"AddAndRemoveRefused": {happens: func(t *testing.T, w *world) bool {
		before := w.config()
		_, exit := w.moveBinding()
		if exit != 0 {
			assert.Equal(t, uint32(87), exit)
			assert.Equal(t, before, w.config())
		}
		return exit != 0
	}},
	"SeveralPathsRefused": {happens: func(t *testing.T, w *world) bool {
		before := w.config()
		_, exit := w.run("set", "config", "-section:system.applicationHost/sites", "/[name='Public'].[path='/'].applicationPool:B",
			"/[name='Public'].[path='/'].[path='/'].physicalPath:"+w.folder+"/v2", "/commit:apphost")
		if exit != 0 {
			assert.Equal(t, uint32(87), exit)
			assert.Equal(t, before, w.config())
			w.must("set", "app", "Public/", "/applicationPool:B")
			w.must("set", "vdir", "Public/", "/physicalPath:"+w.folder+"/v2")
		}
		assert.Equal(t, "v2", w.get(public).release)
		return exit != 0
	}},
	"SuccessLineBeforeCommit": {happens: func(t *testing.T, w *world) bool {
		w.Inject(iistest.Fault{Kind: iistest.SharingViolation})
		out, exit := w.run("set", "app", "Public/", "/applicationPool:B")
		assert.Equal(t, uint32(32), exit)
		return strings.HasPrefix(out, "APP object \"Public/\" changed\r\nERROR ( hresult:80070020, message:")
	}},
	"EmptyListFails": {happens: func(t *testing.T, w *world) bool {
		out, exit := w.run("list", "requests")
		assert.Empty(t, out)
		xml, same := w.run("list", "requests", "/xml")
		assert.Equal(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<appcmd>\r\n</appcmd>\r\n", xml)
		assert.Equal(t, exit, same)
		_, exit = w.run("list", "site", "Missing")
		assert.Equal(t, uint32(1), exit, "with a name it always fails")
		return same == 1
	}},
	"SiteStopShutsCoreApps": {webConfig: outProcess, happens: func(t *testing.T, w *world) bool {
		conn, err := w.DialContext(t.Context(), "tcp", "x:80")
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprint(conn, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		in := bufio.NewReader(conn)
		_, err = http.ReadResponse(in, nil)
		require.NoError(t, err)
		w.must("stop", "site", "Public")
		_, werr := fmt.Fprintln(conn, "x")
		_, rerr := in.ReadString('\n')
		return werr != nil || rerr != nil
	}},
	"CommitRestartsCoreApps": {webConfig: outProcess, happens: func(t *testing.T, w *world) bool {
		w.get(public)
		w.get(public)
		assert.Equal(t, 1, w.started("v1"))
		end := w.hold(public, "old")
		w.must("add", "apppool", "/name:Unrelated")
		w.get(public)
		w.letGo("old")
		assert.NoError(t, w.ended(end).err)
		return w.started("v1") == 2
	}},
	"OwnSiteCommitRotates": {webConfig: keptCore, happens: func(t *testing.T, w *world) bool {
		w.get(public)
		w.must("set", "site", "Private", "/serverAutoStart:false")
		w.get(public)
		assert.Equal(t, 1, w.started("v1"), "another site's commit")
		w.must("set", "site", "Public", "/serverAutoStart:false")
		w.get(public)
		return w.started("v1") == 2
	}},
	"NoRotationEnds503": {webConfig: keptCore, happens: func(t *testing.T, w *world) bool {
		w.get(public)
		w.must("add", "apppool", "/name:Unrelated")
		a := w.get(public)
		if a.status == http.StatusOK {
			return false
		}
		w.must("recycle", "apppool", "A")
		w.eventually("well after a recycle", func() bool { return w.get(public).status == http.StatusOK })
		return a.status == http.StatusServiceUnavailable
	}},
	"RecycleAnswers503": {webConfig: inProcess, with: func(c *iistest.Config) { c.WorkerStart = 100 * time.Second }, happens: func(t *testing.T, w *world) bool {
		first := w.get(public).pid
		w.must("recycle", "apppool", "A")
		status := w.get(public).status
		w.eventually("new process", func() bool { a := w.get(public); return a.status == http.StatusOK && a.pid != first })
		return status == http.StatusServiceUnavailable
	}},
	"ConnectionsStick": {with: func(c *iistest.Config) { c.Quirks.MovedBindingStopsNewOwner = iistest.Off }, happens: func(t *testing.T, w *world) bool {
		c := w.Client()
		defer c.CloseIdleConnections()
		assert.Equal(t, "A", ask(c, http.MethodGet, public, nil).pool)
		w.rootSwap("B", "v2")
		assert.Equal(t, "v2 B", w.get(public).release+" "+w.get(public).pool, "a new connection goes to the new pool")
		pool := askReused(t, c)
		w.rootSwap("A", "v1")
		_, exit := w.moveBinding()
		require.Zero(t, exit)
		assert.Equal(t, "Private", w.get(public).site)
		site := ask(c, http.MethodGet, public, nil).site
		assert.Equal(t, pool == "A", site == "Public")
		return pool == "A"
	}},
	"StopPoolBlocks": {happens: func(t *testing.T, w *world) bool {
		end := w.hold(public, "old")
		begin := time.Now()
		time.AfterFunc(300*time.Millisecond, func() { w.letGo("old") })
		w.must("stop", "apppool", "A")
		took := time.Since(begin)
		assert.NoError(t, w.ended(end).err)
		w.must("set", "apppool", "A", "/autoStart:true")
		w.eventually("stopped", func() bool { return w.pool("A").State == "Stopped" })
		w.must("start", "apppool", "A")
		end = w.hold(public, "older")
		begin = time.Now()
		w.must("stop", "apppool", "A", "/wait", "/timeout:20000")
		assert.GreaterOrEqual(t, time.Since(begin), 190*time.Millisecond, "with /wait it always waits, at most its timeout")
		w.letGo("older")
		w.ended(end)
		return took >= 290*time.Millisecond
	}},
	"XMLErrors": {happens: func(t *testing.T, w *world) bool {
		out, exit := w.run("start", "site", "Missing", "/xml")
		assert.Equal(t, uint32(1168), exit)
		if out == "ERROR ( message:Cannot find SITE object with identifier \"Missing\". )\r\n" {
			return false
		}
		assert.Contains(t, out, `<ERROR message="Cannot find SITE object with identifier &quot;Missing&quot;." />`)
		return true
	}},
	"XMLErrorHResult": {happens: func(t *testing.T, w *world) bool {
		w.SetRequestMonitor(false)
		out, exit := w.run("list", "requests", "/xml")
		assert.Equal(t, uint32(0x80004001), exit)
		return strings.Contains(out, `<ERROR hresult="80004001" message=`)
	}},
	"XMLDeclaration": {happens: func(t *testing.T, w *world) bool {
		return strings.HasPrefix(w.must("list", "site", "/xml"), "<?xml")
	}},
	"DoubledQuotes": {happens: func(t *testing.T, w *world) bool {
		out, exit := w.run("set", "config", "-section:applicationPools", "/+[name='it''s']")
		if exit == 0 {
			assert.Contains(t, w.must("list", "apppool"), `APPPOOL "it's"`)
			return true
		}
		assert.Equal(t, uint32(13), exit)
		assert.Contains(t, out, "Malformed collection indexer")
		return false
	}},
	"RPCErrorAfterPoolChange": {happens: func(t *testing.T, w *world) bool {
		w.must("recycle", "apppool", "A")
		_, first := w.run("list", "wp")
		_, second := w.run("list", "wp")
		assert.Contains(t, []uint32{0, 1}, second)
		return first == 1726
	}},
	"PreloadsMovedApps": {happens: func(t *testing.T, w *world) bool {
		w.must("set", "apppool", "B", "/startMode:AlwaysRunning")
		w.must("set", "site", "Public", "/[path='/'].preloadEnabled:true")
		w.eventually("pool B runs", func() bool { p := w.pool("B"); return len(p.Workers) == 1 && p.Workers[0].State == "Running" })
		w.rootSwap("B", "v2")
		loaded := false
		for _, a := range w.pool("B").Workers[0].Applications {
			loaded = loaded || a.SiteID == 1
		}
		assert.Equal(t, "v2", w.get(public).release)
		return loaded
	}},
	"SetBindingsKeepsFlags": {with: func(c *iistest.Config) {
		c.ApplicationHost = strings.ReplaceAll(c.ApplicationHost, `protocol="http" bindingInformation="*:80:"`, `protocol="https" bindingInformation="*:443:h" sslFlags="1"`)
	}, happens: func(t *testing.T, w *world) bool {
		w.must("set", "site", "Public", "/bindings:http/*:80:,https/*:443:h")
		return strings.Contains(w.must("list", "site", "Public", "/config:*"), `bindingInformation="*:443:h" sslFlags="1"`)
	}},
	"StoppedSiteRefuses": {happens: func(t *testing.T, w *world) bool {
		w.must("stop", "site", "Public")
		a := w.get(public)
		if a.err != nil {
			assert.ErrorContains(t, a.err, "refused")
			return true
		}
		assert.Equal(t, http.StatusNotFound, a.status)
		return false
	}},
}

// askReused asks on a connection that must be an old one.
func askReused(t *testing.T, c *http.Client) (pool string) {
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, public, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.True(t, reused)
	return resp.Header.Get("X-Pool")
}

func (w *world) config() string {
	data, err := os.ReadFile(w.ConfigPath())
	require.NoError(w.t, err)
	return string(data)
}

// TestQuirks plays each quirk's scenario in all three positions.
func TestQuirks(t *testing.T) {
	t.Parallel()
	for _, q := range iistest.Table() {
		sc, ok := scenarios[q.Name]
		if !assert.True(t, ok, "quirk %s has no scenario", q.Name) {
			continue
		}
		for position, want := range map[iistest.Switch]bool{iistest.On: true, iistest.Off: false, iistest.Best: q.Best} {
			t.Run(fmt.Sprint(q.Name, map[iistest.Switch]string{iistest.On: "/on", iistest.Off: "/off", iistest.Best: "/best"}[position]), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, sc.webConfig, func(c *iistest.Config) {
					if sc.with != nil {
						sc.with(c)
					}
					*q.Field(&c.Quirks) = position
				})
				assert.Equal(t, want, sc.happens(t, w))
			})
		}
	}
}

// TestQuirkTable: every switch of Quirks is in the table, under its own name.
func TestQuirkTable(t *testing.T) {
	t.Parallel()
	var fields []string
	typ := reflect.TypeFor[iistest.Quirks]()
	for i := range typ.NumField() {
		if f := typ.Field(i); f.Type == reflect.TypeFor[iistest.Switch]() {
			fields = append(fields, f.Name)
		}
	}
	table := iistest.Table()
	require.Len(t, table, len(fields))
	for i, q := range table {
		assert.Equal(t, fields[i], q.Name)
		assert.NotEmpty(t, q.Source)
		var quirks iistest.Quirks
		*q.Field(&quirks) = iistest.Off
		assert.Equal(t, iistest.Off, reflect.ValueOf(quirks).FieldByName(q.Name).Interface())
	}
}

func TestRequestSpellings(t *testing.T) {
	t.Parallel()
	for spelling, want := range map[iistest.RequestSpelling]string{
		iistest.SpellingShort: `Module="ManagedPipelineHandler" Time="`, iistest.SpellingModule: `ModuleName="ManagedPipelineHandler" Time="`,
		iistest.SpellingRuntime: `clientIpAddress="127.0.0.1" pipeLineState="ExecuteRequestHandler" currentModule="ManagedPipelineHandler" timeElapsed="`,
	} {
		w := newWorld(t, "", func(c *iistest.Config) { c.Quirks.RequestSpelling = spelling })
		end := w.hold(public, "x")
		assert.Contains(t, w.must("list", "requests", "/xml"), want)
		w.letGo("x")
		w.ended(end)
	}
}

func TestQuirkNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) {
		c.Quirks = iistest.Quirks{NoChangeExit: 42, UnmatchedStatus: 503, WorkerLingers: 100 * time.Second, PoolRestartPause: 100 * time.Second}
	})
	_, exit := w.run("set", "app", "Public/", "/applicationPool:A")
	assert.Equal(t, uint32(42), exit)
	w.must("set", "config", "-section:sites", "/[name='Public'].bindings.[protocol='http',bindingInformation='*:80:'].bindingInformation:*:80:only.test", "/commit:apphost")
	assert.Equal(t, http.StatusServiceUnavailable, w.get(public).status)
	assert.Equal(t, http.StatusOK, w.get("http://only.test").status)
	w.must("stop", "apppool", "A")
	assert.Contains(t, w.must("list", "wp"), "(applicationPool:A)", "it outlives its pool's stop")
	_, exit = w.run("start", "apppool", "A")
	assert.Equal(t, uint32(1061), exit)
	w.eventually("later it starts", func() bool { _, exit := w.run("start", "apppool", "A"); return exit == 0 })
	w.eventually("gone", func() bool { _, exit := w.run("list", "wp"); return exit == 1 })
}

// TestCoreRestarts: an in-process application is restarted by an overlapped recycle; old requests have the application's own limit. One with
// disallowRotationOnConfigChange stays, also when webFarms change, unless its own location element does.
func TestCoreRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(inProcess, `"60"`, `"20"`, 1), nil)
	first := w.get(public).pid
	end := w.hold(public, "old")
	begin := time.Now()
	w.must("add", "apppool", "/name:Unrelated")
	w.eventually("new process", func() bool { return w.get(public).pid != first })
	assert.Error(t, w.ended(end).err)
	assert.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond)
	assert.Less(t, time.Since(begin), 5*time.Second, "not the pool's limit")

	kept := newWorld(t, keptCore, nil)
	kept.get(public)
	kept.must("set", "config", "-section:webFarms", "/+[name='F']", "/commit:apphost")
	kept.get(public)
	assert.Equal(t, 1, kept.started("v1"))
	kept.must("set", "config", "Public", "-section:system.webServer/caching", "/enabled:false", "/commit:apphost")
	kept.get(public)
	assert.Equal(t, 2, kept.started("v1"))

	farm := newWorld(t, outProcess, func(c *iistest.Config) { c.Quirks.CommitRestartsCoreApps = iistest.Off })
	farm.get(public)
	farm.must("set", "config", "-section:webFarms", "/+[name='F']", "/commit:apphost")
	farm.get(public)
	assert.Equal(t, 2, farm.started("v1"), "webFarms restart in any case")
}

// TestMixedHostingModels: one worker process holds no in-process and out-of-process application at once.
func TestMixedHostingModels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, outProcess, nil)
	require.NoError(t, os.WriteFile(filepath.Join(w.folder, "v3", "web.config"), []byte(inProcess), 0o644))
	w.must("add", "app", "/site.name:Private", "/path:/second", "/physicalPath:"+w.folder+"/v3", "/applicationPool:B")
	assert.Equal(t, http.StatusOK, w.get(private).status)
	assert.Equal(t, http.StatusInternalServerError, w.get(private+"/second").status)
}
