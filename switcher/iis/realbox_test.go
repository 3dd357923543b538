//go:build iisreal && windows

package iis_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

// These tests work on the IIS of this very machine. They need an elevated process, the features IIS-ManagementScriptingTools,
// IIS-RequestMonitor, IIS-StaticContent and IIS-ASPNET45, and free ports. They make pools, sites and folders whose names begin with
// realPrefix, touch no others, and remove them again, also what a run that was killed has left.
//
//	go test -tags iisreal -run 'TestReal' -v -timeout 30m ./switcher/iis
//
// Those named TestRealAnswer settle what documentation leaves open: they fail only if they cannot ask, and print what the box answered in
// lines that begin with "ANSWER".
const realPrefix = "abswap-real-"

// realBox is the machine's IIS, with what one test has made on it.
type realBox struct {
	t      *testing.T
	prefix string // of all names that this test makes
	dir    string // of the releases
	tool   *appcmd.Exec
}

func openReal(t *testing.T) *realBox {
	t.Helper()
	b := &realBox{t: t, prefix: realPrefix + strings.ToLower(rand.Text()[:6]), tool: &appcmd.Exec{}}
	_, exit := b.run("list", "site")
	require.LessOrEqual(t, exit, uint32(1), "appcmd list site: is IIS installed, and this process elevated?")
	b.sweep()
	b.dir = filepath.Join(os.Getenv("SystemDrive")+`\inetpub`, b.prefix) // worker processes may read what is below inetpub
	require.NoError(t, os.MkdirAll(b.dir, 0o755))
	t.Cleanup(b.sweep)
	return b
}

// sweep removes all sites, pools and folders of these tests.
func (b *realBox) sweep() {
	for _, kind := range []string{"site", "apppool"} {
		out, _ := b.run("list", kind, "/text:name")
		for line := range strings.Lines(out) {
			name := strings.TrimSpace(line)
			if !strings.HasPrefix(name, realPrefix) {
				continue
			}
			b.run("stop", kind, name)
			if out, exit := b.run("delete", kind, name); exit != 0 {
				b.t.Logf("%s %q is left: exit %d: %s", kind, name, exit, out)
			}
		}
	}
	left, _ := filepath.Glob(filepath.Join(os.Getenv("SystemDrive")+`\inetpub`, realPrefix+"*"))
	for _, dir := range left {
		err := os.RemoveAll(dir)
		for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); err = os.RemoveAll(dir) {
			<-time.After(time.Second) // a worker process still has it
		}
		if err != nil {
			b.t.Logf("folder %q is left: %v", dir, err)
		}
	}
}

// run runs appcmd.exe as it is, without anything that this module puts around it.
func (b *realBox) run(args ...string) (text string, exit uint32) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, exit, err := b.tool.Run(ctx, args, nil)
	require.NoError(b.t, err)
	return strings.ReplaceAll(appcmd.Decode(out, 0), "\r", ""), exit
}

// must is run that has to end with 0. What is not in force yet is tried again.
func (b *realBox) must(args ...string) string {
	b.t.Helper()
	var text string
	var exit uint32
	for end := time.Now().Add(30 * time.Second); ; {
		if text, exit = b.run(args...); exit == 0 || time.Now().After(end) {
			break
		}
		<-time.After(500 * time.Millisecond)
	}
	require.Zero(b.t, exit, "appcmd %q: %s", args, text)
	return text
}

// answer prints what the box said.
func (b *realBox) answer(format string, args ...any) {
	b.t.Helper()
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		b.t.Logf("ANSWER %s: %s", b.t.Name(), strings.TrimRight(line, "\n"))
	}
}

// say prints how a command ended.
func (b *realBox) say(args ...string) (string, uint32) {
	b.t.Helper()
	text, exit := b.run(args...)
	b.answer("appcmd %q: exit %d (%#x)\n%s", args, exit, exit, text)
	return text, exit
}

// page is an ASP.NET page that tells who answers, waits ?ms= milliseconds first, and takes bodies of any length.
const page = `<%@ Page Language="C#" EnableSessionState="False" %><script runat="server">
static readonly string release = System.IO.File.ReadAllText(System.Web.HttpRuntime.AppDomainAppPath + "release.txt").Trim();
void Page_Load(object sender, EventArgs e) {
  long n = 0;
  if (Request.HttpMethod == "POST") {
    var buffer = new byte[8192];
    var body = Request.GetBufferlessInputStream();
    for (int k; (k = body.Read(buffer, 0, buffer.Length)) > 0; ) n += k;
  }
  int ms;
  if (int.TryParse(Request.QueryString["ms"], out ms)) System.Threading.Thread.Sleep(ms);
  Response.ContentType = "text/plain";
  Response.Cache.SetCacheability(HttpCacheability.NoCache);
  Response.AddHeader("X-Release", release);
  Response.AddHeader("X-Pool", Environment.GetEnvironmentVariable("APP_POOL_ID"));
  Response.AddHeader("X-PID", System.Diagnostics.Process.GetCurrentProcess().Id.ToString());
  Response.Write(n);
}
</script>`

// release makes a folder with a release, and returns its path.
func (b *realBox) release(id string) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, "build", id)
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	for name, text := range map[string]string{"release.txt": id + "\n", "who.aspx": page, "web.config": `<configuration><system.web>` +
		`<compilation debug="false" targetFramework="4.7.2" /><httpRuntime targetFramework="4.7.2" executionTimeout="3600" maxRequestLength="1048576" />` +
		`</system.web></configuration>`} {
		require.NoError(b.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// site makes a site in a pool of its own, both of the same name, and returns that name when it answers.
func (b *realBox) site(suffix, folder string, port int) string {
	b.t.Helper()
	name := b.prefix + "-" + suffix
	b.must("add", "apppool", "/name:"+name, "/managedRuntimeVersion:v4.0")
	b.must("add", "site", "/name:"+name, fmt.Sprintf("/bindings:http/*:%d:", port), "/physicalPath:"+folder)
	b.must("set", "app", name+"/", "/applicationPool:"+name)
	b.awaitRelease(port, filepath.Base(folder))
	return name
}

// freePort is a port that nobody has at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// seen is what a client got.
type seen struct {
	status        int
	release, pool string
	pid, body     string
	took          time.Duration
	err           error
}

func (s seen) String() string {
	if s.err != nil {
		return fmt.Sprintf("%v, after %s", s.err, s.took.Round(time.Millisecond))
	}
	return fmt.Sprintf("%d by release %q, pool %q, process %s, after %s", s.status, s.release, s.pool, s.pid, s.took.Round(time.Millisecond))
}

func asSeen(resp *http.Response, began time.Time) seen {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end, or broken
	return seen{resp.StatusCode, resp.Header.Get("X-Release"), resp.Header.Get("X-Pool"), resp.Header.Get("X-PID"), string(body), time.Since(began), err}
}

// get asks who answers at a port, on a connection of its own.
func get(port int, query string) seen {
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/who.aspx%s", port, query), nil)
	if err != nil {
		return seen{err: err}
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return seen{took: time.Since(began), err: err}
	}
	return asSeen(resp, began)
}

// awaitRelease waits until a release answers.
func (b *realBox) awaitRelease(port int, id string) {
	b.t.Helper()
	var last seen
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
		if last = get(port, ""); last.status == http.StatusOK && last.release == id {
			return
		}
	}
	require.Fail(b.t, "it does not answer", "port %d, release %q: %s", port, id, last)
}

// kept is a connection that is kept alive by hand, so that nothing dials anew behind our back.
type kept struct {
	conn net.Conn
	in   *bufio.Reader
	port int
}

func (b *realBox) dial(port int) *kept {
	b.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close() })
	return &kept{conn, bufio.NewReader(conn), port}
}

// get sends one more request on the connection.
func (k *kept) get() seen {
	began := time.Now()
	_ = k.conn.SetDeadline(began.Add(time.Minute)) // without it the read takes longer, no more
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/who.aspx", k.port), nil)
	if err == nil {
		err = req.Write(k.conn)
	}
	if err != nil {
		return seen{err: err}
	}
	resp, err := http.ReadResponse(k.in, req)
	if err != nil {
		return seen{took: time.Since(began), err: err}
	}
	return asSeen(resp, began)
}

// slow is a request that is held by the application, and an upload whose body comes slowly.
type slow struct {
	wg           sync.WaitGroup
	held, upload seen
	finish       chan struct{}
}

// begin begins both, and returns when IIS lists the requests.
func (b *realBox) begin(port int, hold time.Duration) *slow {
	b.t.Helper()
	s := &slow{finish: make(chan struct{})}
	begun := make(chan struct{})
	s.wg.Go(func() { s.held = get(port, fmt.Sprintf("?ms=%d", hold.Milliseconds())) })
	s.wg.Go(func() { s.upload = upload(port, begun, s.finish) })
	select {
	case <-begun:
	case <-time.After(time.Minute):
		require.Fail(b.t, "the upload does not begin")
	}
	for end := time.Now().Add(time.Minute); ; <-time.After(200 * time.Millisecond) {
		out, _ := b.run("list", "requests")
		if strings.Contains(out, "ms=") {
			return s
		}
		require.True(b.t, time.Now().Before(end), "the request is not listed: %s", out)
	}
}

// end lets the upload end, and waits for both.
func (s *slow) end() {
	close(s.finish)
	s.wg.Wait()
}

// upload sends a piece of a body every 100 ms until finish is closed.
func upload(port int, begun, finish chan struct{}) seen {
	tr := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}
	defer tr.CloseIdleConnections()
	n, began := 0, time.Now()
	var once sync.Once
	defer once.Do(func() { close(begun) }) // also if it never began: the caller sees how it ended
	body, send := io.Pipe()
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			select {
			case <-finish:
				_ = send.Close() // a pipe's Close does not fail
				return
			case <-time.After(100 * time.Millisecond):
			}
			k, err := send.Write(make([]byte, 1024))
			if n += k; err != nil {
				return
			}
			once.Do(func() { close(begun) })
		}
	})
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/who.aspx", port), body)
	if err != nil {
		return seen{err: err}
	}
	req.Header.Set("Expect", "100-continue")
	resp, err := tr.RoundTrip(req)
	_ = body.Close() // ends the sender if the answer came early
	sending.Wait()
	if err != nil {
		return seen{took: time.Since(began), err: err}
	}
	s := asSeen(resp, began)
	if s.err == nil && s.status == http.StatusOK && s.body != strconv.Itoa(n) {
		s.err = fmt.Errorf("of %d bytes %s arrived", n, s.body)
	}
	return s
}
