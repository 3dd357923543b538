package iistest_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

const (
	public  = "http://www.example.test"
	private = "http://www.example.test:81"
)

// TestRoutingIsPerRequest keeps one connection through all that moves a URL, and finds each request at the owner of the moment.
func TestRoutingIsPerRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	conn, err := w.DialContext(t.Context(), "tcp", "www.example.test:80")
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	ask := func() (int, string) {
		_, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode, resp.Header.Get("X-Release") + " " + resp.Header.Get("X-Pool") + " " + resp.Header.Get("X-Site")
	}
	expect := func(want string) {
		t.Helper()
		status, got := ask()
		assert.Equal(t, "200 "+want, fmt.Sprint(status, " ", got))
	}
	expect("v1 A Public")
	w.rootSwap("B", "v2")
	expect("v2 B Public")
	w.must("recycle", "apppool", "B")
	expect("v2 B Public")
	_, exit := w.moveBinding()
	require.Zero(t, exit)
	status, _ := ask()
	assert.Equal(t, http.StatusNotFound, status, "nobody has the binding; the connection lives")
	w.must("start", "site", "Private")
	expect("v2 B Private")
	w.must("stop", "site", "Private")
	status, _ = ask()
	assert.Equal(t, http.StatusNotFound, status)
	w.must("start", "site", "Private")
	expect("v2 B Private")
}

// TestMatchingOrder: a host beats a wildcard host, that beats the address, that beats anything; the longest application path wins.
func TestMatchingOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	for i, binding := range []string{"http/*:8000:", "http/10.1.1.1:8000:", "http/*:8000:*.example.test", "http/*:8000:www.example.test", "http/10.1.1.1:8000:www.example.test", "http/[::1]:8001:"} {
		w.must("add", "site", "/name:S"+strconv.Itoa(i), "/bindings:"+binding, "/physicalPath:"+w.folder+"/v1", "/applicationDefaults.applicationPool:A")
	}
	w.must("add", "app", "/site.name:S0", "/path:/app", "/physicalPath:"+w.folder+"/v2", "/applicationPool:B")
	w.must("add", "app", "/site.name:S0", "/path:/app/deep", "/physicalPath:"+w.folder+"/v3", "/applicationPool:B")
	get := func(addr, host, path string) answer {
		real, err := w.Addr(addr)
		require.NoError(t, err)
		req, err := http.NewRequest(http.MethodGet, "http://"+real+path, nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return answer{status: resp.StatusCode, site: resp.Header.Get("X-Site"), release: resp.Header.Get("X-Release")}
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for _, c := range []struct{ addr, host, site string }{
		{"127.0.0.1:8000", "other", "S0"}, {"10.1.1.1:8000", "other", "S1"}, {"127.0.0.1:8000", "a.example.test:8000", "S2"}, {"127.0.0.1:8000", "a.b.example.test", "S0"},
		{"127.0.0.1:8000", "WWW.example.test", "S3"}, {"10.1.1.1:8000", "www.example.test", "S4"}, {"10.1.1.1:8000", "a.example.test", "S2"},
	} {
		assert.Equal(t, c.site, get(c.addr, c.host, "/").site, "%+v", c)
	}
	for path, release := range map[string]string{"/": "v1", "/ap": "v1", "/application": "v1", "/app": "v2", "/APP/x": "v2", "/app/deeper": "v2", "/app/deep/": "v3"} {
		assert.Equal(t, release, get("127.0.0.1:8000", "other", path).release, path)
	}
}

// TestWASFollowsLater: a commit is in the file at once and in force after the delay; what WAS has not seen cannot be started.
func TestWASFollowsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.WASDelay = 4 * time.Minute })
	get := func(args ...string) (string, uint32) {
		out, exit := w.Appcmd(t.Context(), args, nil)
		return string(out), exit
	}
	_, exit := get("add", "site", "/name:New", "/bindings:http/*:90:", "/physicalPath:"+w.folder+"/v1")
	require.Zero(t, exit)
	_, exit = get("add", "apppool", "/name:P")
	require.Zero(t, exit)
	out, _ := get("list", "site", "New")
	assert.Equal(t, "SITE \"New\" (id:3,bindings:http/*:90:,state:Unknown)\r\n", out)
	for _, args := range [][]string{{"start", "site", "New"}, {"start", "apppool", "P"}} {
		out, exit = get(args...)
		assert.Equal(t, uint32(4312), exit)
		assert.Equal(t, "ERROR ( hresult:800710d8, message:Command execution failed.\r\nThe object identifier does not represent a valid object.\r\n )\r\n", out)
	}
	_, exit = get("set", "app", "Public/", "/applicationPool:B")
	require.Zero(t, exit)
	assert.Equal(t, "A", w.get(public).pool, "not in force yet")
	require.NoError(t, w.Settle(t.Context()))
	assert.Equal(t, "B", w.get(public).pool)
	out, _ = get("list", "site", "New")
	assert.Contains(t, out, "state:Started")
}

// TestColdStart: the first request pays the starts of the worker process and the application; the second nothing; and warmth belongs to the
// site too.
func TestColdStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.WorkerStart, c.AppStart = 10*time.Second, 20*time.Second })
	assert.GreaterOrEqual(t, w.get(public).took, 300*time.Millisecond)
	client := w.Client()
	defer client.CloseIdleConnections()
	ask(client, http.MethodGet, public, nil)
	fastest := time.Hour
	for range 20 {
		fastest = min(fastest, ask(client, http.MethodGet, public, nil).took)
	}
	assert.Less(t, fastest, 200*time.Millisecond)
	w.get(private)
	w.rootSwap("B", "v2")
	assert.GreaterOrEqual(t, w.get(public).took, 200*time.Millisecond, "pool B runs, its application for the other site does not help")
}

func TestOverlappedRecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.WorkerStart = 100 * time.Second })
	end := w.hold(public, "old")
	first := w.get(public).pid
	w.must("recycle", "apppool", "A")
	assert.Equal(t, first, w.get(public).pid, "the old process pulls until the new one is ready")
	w.eventually("new process", func() bool { return w.get(public).pid != first })
	assert.Len(t, w.pool("A").Workers, 2)
	w.letGo("old")
	a := w.ended(end)
	assert.NoError(t, a.err)
	assert.Equal(t, first, a.pid)
	w.eventually("old process gone", func() bool { return len(w.pool("A").Workers) == 1 })
}

// TestShutdownTimeLimitCuts: what outlives the limit in the old process is cut, really.
func TestShutdownTimeLimitCuts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "apppool", "A", "/processModel.shutdownTimeLimit:00:00:40")
	end := w.hold(public, "old")
	begin := time.Now()
	w.must("recycle", "apppool", "A")
	a := w.ended(end)
	assert.Error(t, a.err, "the connection is closed")
	assert.GreaterOrEqual(t, time.Since(begin), 400*time.Millisecond)
	assert.Less(t, time.Since(begin), patience/2)
}

func TestRotationWithoutOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "apppool", "A", "/recycling.disallowOverlappingRotation:true")
	end := w.hold(public, "old")
	old := w.pool("A").Workers[0].PID
	w.must("recycle", "apppool", "A")
	waiting := make(chan answer, 1)
	go func() { waiting <- w.get(public) }()
	w.eventually("request queued", func() bool { return w.pool("A").Queued == 1 })
	assert.Len(t, w.pool("A").Workers, 1, "the new process is not started before the old one has gone")
	w.letGo("old")
	assert.NoError(t, w.ended(end).err)
	a := w.ended(waiting)
	assert.Equal(t, http.StatusOK, a.status)
	assert.NotEqual(t, strconv.Itoa(old), a.pid)
}

func TestStopPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	end := w.hold(public, "old")
	done := make(chan uint32, 1)
	go func() {
		_, exit := w.Appcmd(t.Context(), []string{"stop", "apppool", "A"}, nil)
		done <- exit
	}()
	w.eventually("stopping", func() bool { return w.pool("A").State == "Stopping" })
	assert.Contains(t, w.must("list", "apppool", "A"), "state:Stopping")
	a := w.get(public)
	assert.Equal(t, http.StatusServiceUnavailable, a.status)
	assert.Contains(t, a.body, "HTTP Error 503. The service is unavailable.")
	_, exit := w.run("start", "apppool", "A")
	assert.Equal(t, uint32(1061), exit, "it cannot be started while it stops")
	select {
	case <-done:
		assert.Fail(t, "stop returned while a request runs")
	default:
	}
	w.letGo("old")
	assert.NoError(t, w.ended(end).err)
	assert.Zero(t, <-done)
	assert.Equal(t, "Stopped", w.pool("A").State)
	w.must("start", "apppool", "A")
	assert.Equal(t, http.StatusOK, w.get(public).status)
}

func TestQueueLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.WorkerStart = 2 * time.Hour })
	w.must("set", "apppool", "A", "/queueLength:10")
	waiting := make(chan answer, 10)
	for range 10 {
		go func() { waiting <- w.get(public) }()
	}
	w.eventually("queue is full", func() bool { return w.pool("A").Queued == 10 })
	assert.Equal(t, http.StatusServiceUnavailable, w.get(public).status)
	out, exit := w.run("list", "requests")
	assert.Empty(t, out, "what waits in the queue is in no list")
	assert.Equal(t, uint32(1), exit)
	w.must("stop", "apppool", "A")
	for range 10 {
		assert.Equal(t, http.StatusServiceUnavailable, w.ended(waiting).status)
	}
}

// TestQueueDwell: with dwell a request is on its way and in nobody's list.
func TestQueueDwell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.Quirks.QueueDwell = 150 * time.Second })
	w.get(public) // warm
	end := make(chan answer, 1)
	go func() { end <- w.get(public + "/hold/q") }()
	w.eventually("in the queue", func() bool { return w.pool("A").Queued == 1 })
	_, exit := w.run("list", "requests")
	assert.Equal(t, uint32(1), exit)
	entered, _ := w.gate("q")
	<-entered
	assert.Contains(t, w.must("list", "requests"), "url:GET /hold/q")
	w.letGo("q")
	assert.GreaterOrEqual(t, w.ended(end).took, 1500*time.Millisecond)
}

func TestRequestMonitor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	first := w.hold(public, "one")
	w.eventually("a while", func() bool { _, exit := w.run("list", "requests", "/elapsed:2000"); return exit == 0 })
	second := w.hold(private, "two")
	assert.Equal(t, 2, strings.Count(w.must("list", "requests"), "\r\n"))
	pid := w.pool("A").Workers[0].PID
	assert.Regexp(t, `^REQUEST "[0-9a-f]{16}" \(url:GET /hold/one, time:\d+ msec, client:localhost, stage:ExecuteRequestHandler, module:ManagedPipelineHandler\)\r\n$`,
		w.must("list", "requests", "/apppool.name:A"))
	for _, filter := range []string{"/site.name:Public", "/site.id:1", "/wp.name:" + strconv.Itoa(pid), "/url:/hold/one"} {
		out := w.must("list", "requests", filter)
		assert.Contains(t, out, "/hold/one", filter)
		assert.NotContains(t, out, "/hold/two", filter)
	}
	assert.Regexp(t, `^<\?xml version="1.0" encoding="UTF-8"\?>\r\n<appcmd>\r\n    <REQUEST REQUEST.NAME="[0-9a-f]+" SITE.ID="1" WP.NAME="\d+" APPPOOL.NAME="A" Url="/hold/one" `+
		`Verb="GET" ClientIp="127.0.0.1" Stage="ExecuteRequestHandler" Module="ManagedPipelineHandler" Time="\d+" />\r\n</appcmd>\r\n$`, w.must("list", "requests", "/apppool.name:A", "/xml"))
	assert.Equal(t, fmt.Sprintf("WP \"%d\" (applicationPool:A)\r\n", pid), w.must("list", "wp", "/apppool.name:A"))
	assert.Equal(t, fmt.Sprintf("WP \"%d\" (applicationPool:A)\r\n", pid), w.must("list", "wps", strconv.Itoa(pid)))
	w.letGo("one")
	w.letGo("two")
	assert.NoError(t, w.ended(first).err)
	assert.NoError(t, w.ended(second).err)
	w.eventually("none left", func() bool { _, exit := w.run("list", "requests"); return exit == 1 })
	w.SetRequestMonitor(false)
	out, exit := w.run("list", "requests")
	assert.Equal(t, uint32(0x80004001), exit)
	assert.Equal(t, "ERROR ( hresult:80004001, message:Command execution failed.\r\nNot implemented\r\n )\r\n", out)
}

// TestPathChange: in one pool the old application is unloaded; its requests have HostingShutdown.
func TestPathChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	short, long := w.hold(public, "short"), w.hold(public, "long")
	w.must("set", "vdir", "Public/", "/physicalPath:"+w.folder+"/v3")
	assert.Equal(t, "v3", w.get(public).release)
	w.letGo("short")
	assert.Equal(t, "v1", w.ended(short).release)
	assert.Error(t, w.ended(long).err, "cut after HostingShutdown")

	patient := newWorld(t, `<configuration><system.web><hostingEnvironment shutdownTimeout="100000" /></system.web></configuration>`, nil)
	long = patient.hold(public, "long")
	patient.must("set", "vdir", "Public/", "/physicalPath:"+patient.folder+"/v3")
	assert.False(t, patient.cut(long, "long", 2*time.Second), "it has as long as its web.config says")
}

// TestUpgradedConnections lists a taken-over connection until it ends, and cuts it with its process.
func TestUpgradedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := w.DialContext(t.Context(), "tcp", "x:80")
		require.NoError(t, err)
		_, err = fmt.Fprint(conn, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		return conn, in
	}
	echo := func(c net.Conn, in *bufio.Reader) error {
		if _, err := fmt.Fprintln(c, "hello"); err != nil {
			return err
		}
		_, err := in.ReadString('\n')
		return err
	}
	c, in := dial()
	require.NoError(t, echo(c, in))
	assert.Contains(t, w.must("list", "requests"), "GET /echo")
	w.must("stop", "site", "Public")
	require.NoError(t, echo(c, in), "a classic site's stop leaves it")
	require.NoError(t, c.Close())
	w.eventually("gone from the list", func() bool { _, exit := w.run("list", "requests"); return exit == 1 })

	w.must("start", "site", "Public")
	w.must("set", "apppool", "A", "/processModel.shutdownTimeLimit:00:00:40")
	c, in = dial()
	w.must("stop", "apppool", "A") // holds out to the limit
	assert.Error(t, echo(c, in))
	assert.NoError(t, c.Close())
}

func TestAppOfflineAndWebConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, outProcess, nil)
	assert.Equal(t, http.StatusOK, w.get(public).status)
	end := w.hold(public, "old")
	page := filepath.Join(w.folder, "v1", "app_offline.htm")
	require.NoError(t, os.WriteFile(page, []byte("back soon"), 0o644))
	a := w.get(public)
	assert.Equal(t, http.StatusServiceUnavailable, a.status)
	assert.Equal(t, "back soon", a.body)
	w.letGo("old")
	assert.NoError(t, w.ended(end).err, "it is shut down gracefully")
	require.NoError(t, os.Remove(page))
	assert.Equal(t, http.StatusOK, w.get(public).status)

	end = w.hold(public, "older")
	require.NoError(t, os.WriteFile(filepath.Join(w.folder, "v1", "web.config"), []byte("<configuration />"), 0o644))
	mode := func() iistest.Mode {
		w.get(public)
		for _, p := range w.pool("A").Workers {
			for _, a := range p.Applications {
				return a.Mode
			}
		}
		return 99
	}
	w.eventually("restarted as what it is now", func() bool { return mode() == iistest.Classic })
	w.letGo("older")
	assert.NoError(t, w.ended(end).err)
}

func TestApplicationsThatFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	broken := filepath.Join(w.folder, "v1", "broken")
	require.NoError(t, os.WriteFile(broken, nil, 0o644))
	assert.Equal(t, http.StatusInternalServerError, w.get(public).status)
	require.NoError(t, os.Remove(broken))
	assert.Equal(t, http.StatusOK, w.get(public).status, "the next request tries again")
	assert.Equal(t, http.StatusInternalServerError, w.get(public+"/panic").status)
	assert.Equal(t, http.StatusOK, w.get(public).status)
}

func TestCrashesAndRapidFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	assert.False(t, w.CrashWorker(1))
	for range 5 {
		end := w.hold(public, strconv.Itoa(int(time.Now().UnixNano())))
		require.True(t, w.CrashWorker(w.pool("A").Workers[0].PID))
		assert.Error(t, w.ended(end).err)
	}
	assert.Equal(t, "Stopped", w.pool("A").State)
	assert.Equal(t, http.StatusServiceUnavailable, w.get(public).status)
}

func TestIdleTimeoutAndAlwaysRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "apppool", "A", "/processModel.idleTimeout:00:00:05")
	w.get(public)
	w.eventually("idle process ends", func() bool { return len(w.pool("A").Workers) == 0 })
	assert.Equal(t, http.StatusOK, w.get(public).status)
	w.must("set", "site", "Public", "/[path='/'].preloadEnabled:true")
	w.must("set", "apppool", "A", "/startMode:AlwaysRunning")
	w.eventually("application is up without a request", func() bool {
		p := w.pool("A")
		return len(p.Workers) == 1 && len(p.Workers[0].Applications) == 1 && p.Workers[0].Applications[0].Up
	})
}

func TestRebootAndAutoStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	w.must("set", "site", "Private", "/serverAutoStart:false")
	w.must("stop", "site", "Public")
	assert.Equal(t, "Stopped", w.siteState("Public"))
	assert.Equal(t, "Started", w.siteState("Private"))
	end := w.hold(private, "old")
	addr, err := w.Addr("127.0.0.1:80")
	require.NoError(t, err)
	require.NoError(t, w.Reboot())
	assert.Error(t, w.ended(end).err)
	assert.Equal(t, "Started", w.siteState("Public"), "runtime states are lost")
	assert.Equal(t, "Stopped", w.siteState("Private"))
	assert.Equal(t, http.StatusOK, w.get(public).status)
	again, err := w.Addr("127.0.0.1:80")
	require.NoError(t, err)
	assert.Equal(t, addr, again)
	assert.ErrorContains(t, w.get(private).err, "refused")
}

func TestServicesDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	end := w.hold(public, "old")
	stopped := make(chan error, 1)
	go func() { stopped <- w.StopService(t.Context()) }()
	w.eventually("pool stops", func() bool { return w.pool("A").State == "Stopping" })
	w.letGo("old")
	assert.NoError(t, w.ended(end).err)
	require.NoError(t, <-stopped)
	assert.Error(t, w.get(public).err)
	out, exit := w.run("list", "site", "Public", "/text:state")
	assert.Equal(t, "Unknown\r\n", out)
	assert.Zero(t, exit)
	for _, args := range [][]string{{"list", "wp"}, {"start", "site", "Public"}, {"recycle", "apppool", "A"}, {"list", "requests"}} {
		out, exit = w.run(args...)
		assert.Equal(t, uint32(50), exit)
		assert.Equal(t, "ERROR ( message:The WAS service is not available - try starting the service first. )\r\n", out)
	}
	require.NoError(t, w.StartService())
	assert.Equal(t, http.StatusOK, w.get(public).status)
}

func TestRequestsEndWithTheMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	end := w.hold(public, "old")
	require.NoError(t, w.Close())
	assert.Error(t, w.ended(end).err)
	_, _, err := w.Run(t.Context(), []string{"list", "site"}, nil)
	assert.ErrorIs(t, err, iistest.ErrClosed)
	assert.ErrorIs(t, w.Reboot(), iistest.ErrClosed)
	assert.Error(t, w.get(public).err)
}
