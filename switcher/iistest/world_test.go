package iistest_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	iistest.Main()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait more than they work; the command line goes before this
		panic(err)
	}
	code := m.Run()
	if p := pprof.Lookup("goroutineleak"); p != nil { // with GOEXPERIMENT=goroutineleakprofile
		if p.Count() > 0 {
			_ = p.WriteTo(os.Stdout, 1)
			fmt.Println("goroutines left:", p.Count())
			code = 1
		}
	}
	os.Exit(code)
}

// patience bounds what must happen.
const patience = 20 * time.Second

// world is a machine with a public site in pool A (release v1) and a private one in pool B (release v2).
type world struct {
	*iistest.Server
	t      *testing.T
	folder string // of the releases

	mu      sync.Mutex
	gates   map[string]chan struct{}
	entered map[string]chan struct{}
	starts  map[string]int // of applications, by release
}

const twoPools = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
    <system.applicationHost>
        <applicationPools>
            <add name="A" />
            <add name="B" />
            <applicationPoolDefaults>
                <processModel shutdownTimeLimit="00:10:00" />
            </applicationPoolDefaults>
        </applicationPools>
        <sites>
            <site name="Public" id="1">
                <application path="/" applicationPool="A">
                    <virtualDirectory path="/" physicalPath="FOLDER/v1" />
                </application>
                <bindings>
                    <binding protocol="http" bindingInformation="*:80:" />
                </bindings>
            </site>
            <site name="Private" id="2">
                <application path="/" applicationPool="B">
                    <virtualDirectory path="/" physicalPath="FOLDER/v2" />
                </application>
                <bindings>
                    <binding protocol="http" bindingInformation="*:81:" />
                </bindings>
            </site>
        </sites>
    </system.applicationHost>
</configuration>
`

// newWorld builds it; with changes Config, and files is what stands in the web.config of the releases.
func newWorld(t *testing.T, webConfig string, with func(*iistest.Config)) *world {
	t.Helper()
	w := &world{t: t, folder: filepath.ToSlash(t.TempDir()), gates: map[string]chan struct{}{}, entered: map[string]chan struct{}{}, starts: map[string]int{}}
	for _, release := range []string{"v1", "v2", "v3"} {
		require.NoError(t, os.Mkdir(filepath.Join(w.folder, release), 0o755))
		if webConfig != "" {
			require.NoError(t, os.WriteFile(filepath.Join(w.folder, release, "web.config"), []byte(webConfig), 0o644))
		}
	}
	cfg := iistest.Config{Dir: t.TempDir(), ApplicationHost: strings.ReplaceAll(twoPools, "FOLDER", w.folder), Scale: 0.01, WASDelay: -1, Host: w.host,
		HostingShutdown: 100 * time.Second}
	if with != nil {
		with(&cfg)
	}
	srv, err := iistest.New(cfg)
	require.NoError(t, err)
	w.Server = srv
	t.Cleanup(func() { assert.NoError(t, srv.Close()) })
	return w
}

const (
	inProcess  = `<configuration><system.webServer><aspNetCore processPath="x" hostingModel="inprocess" shutdownTimeLimit="60" /></system.webServer></configuration>`
	outProcess = `<configuration><system.webServer><aspNetCore processPath="x" hostingModel="OutOfProcess" shutdownTimeLimit="60" /></system.webServer></configuration>`
	keptCore   = `<configuration><system.webServer><aspNetCore hostingModel="outofprocess" shutdownTimeLimit="60"><handlerSettings>` +
		`<handlerSetting name="disallowRotationOnConfigChange" value="true" /></handlerSettings></aspNetCore></system.webServer></configuration>`
)

func (w *world) gate(key string) (entered, open chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gates[key] == nil {
		w.gates[key], w.entered[key] = make(chan struct{}), make(chan struct{})
	}
	return w.entered[key], w.gates[key]
}

// host is the application: it tells where it runs; /hold/KEY waits until KEY is let go; /echo takes the connection over.
func (w *world) host(folder string) (http.Handler, error) {
	if _, err := os.Stat(filepath.Join(folder, "broken")); err == nil {
		return nil, fmt.Errorf("broken")
	}
	w.mu.Lock()
	w.starts[filepath.Base(folder)]++
	w.mu.Unlock()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		o, _ := iistest.From(r.Context())
		h := rw.Header()
		h.Set("X-Release", filepath.Base(folder))
		h.Set("X-PID", strconv.Itoa(o.PID))
		h.Set("X-Pool", o.Pool)
		h.Set("X-Site", o.Site)
		switch {
		case strings.HasPrefix(r.URL.Path, "/hold/"):
			entered, open := w.gate(strings.TrimPrefix(r.URL.Path, "/hold/"))
			close(entered)
			select {
			case <-open:
			case <-r.Context().Done():
			}
		case r.URL.Path == "/echo":
			c, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(c, buf)
			_ = c.Close()
			return
		case r.URL.Path == "/panic":
			panic("application")
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			fmt.Fprintf(rw, "%s %d", filepath.Base(folder), n)
		}
	}), nil
}

// started counts the starts of a release's applications.
func (w *world) started(release string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts[release]
}

// answer is how a request ended.
type answer struct {
	status             int
	release, pool, pid string
	site, body         string
	took               time.Duration
	err                error
}

// get asks on a connection of its own.
func (w *world) get(url string) answer { return w.do(http.MethodGet, url, nil) }

func (w *world) do(method, url string, body io.Reader) answer {
	c := w.Client()
	defer c.CloseIdleConnections()
	return ask(c, method, url, body)
}

func ask(c *http.Client, method, url string, body io.Reader) answer {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{err: err}
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{err: err, took: time.Since(begin)}
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	h := resp.Header
	return answer{resp.StatusCode, h.Get("X-Release"), h.Get("X-Pool"), h.Get("X-PID"), h.Get("X-Site"), string(text), time.Since(begin), err}
}

// hold begins a request that lasts until it is let go, and returns when the application has it.
func (w *world) hold(base, key string) (end <-chan answer) {
	w.t.Helper()
	entered, _ := w.gate(key)
	ch := make(chan answer, 1)
	go func() { ch <- w.get(base + "/hold/" + key) }()
	select {
	case <-entered:
	case a := <-ch:
		require.Fail(w.t, "request ended before it was held", "%+v", a)
	case <-time.After(patience):
		require.Fail(w.t, "request does not reach the application")
	}
	return ch
}

func (w *world) letGo(key string) {
	_, open := w.gate(key)
	close(open)
}

func (w *world) ended(ch <-chan answer) answer {
	w.t.Helper()
	select {
	case a := <-ch:
		return a
	case <-time.After(patience):
		require.Fail(w.t, "request does not end")
		return answer{}
	}
}

// run runs a command and waits until the runtime follows.
func (w *world) run(args ...string) (string, uint32) {
	w.t.Helper()
	out, exit := w.Appcmd(w.t.Context(), args, nil)
	require.NoError(w.t, w.Settle(w.t.Context()))
	return string(out), exit
}

// must runs a command that has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, exit := w.run(args...)
	require.Zero(w.t, exit, "%q: %s", args, out)
	return out
}

// eventually waits until ok.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	require.Eventually(w.t, ok, patience, 5*time.Millisecond, what)
}

func (w *world) pool(name string) iistest.PoolState {
	for _, p := range w.State().Pools {
		if p.Name == name {
			return p
		}
	}
	return iistest.PoolState{}
}

func (w *world) siteState(name string) string {
	for _, s := range w.State().Sites {
		if s.Name == name {
			return s.State
		}
	}
	return ""
}

// rootSwap gives the public site the other pool and folder in one commit.
func (w *world) rootSwap(pool, release string) {
	w.t.Helper()
	w.must("set", "site", "Public", "/[path='/'].applicationPool:"+pool, "/[path='/'].[path='/'].physicalPath:"+w.folder+"/"+release)
}

// moveBinding moves port 80 from the public to the private site in one commit.
func (w *world) moveBinding() (string, uint32) {
	return w.run("set", "config", "-section:system.applicationHost/sites", "/-[name='Public'].bindings.[protocol='http',bindingInformation='*:80:']",
		"/+[name='Private'].bindings.[protocol='http',bindingInformation='*:80:']", "/commit:apphost")
}
