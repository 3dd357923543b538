//go:build iisreal && windows

package iis_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

// releaseIn reads the mark of a release's folder.
func releaseIn(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(os.ExpandEnv(strings.ReplaceAll(dir, "%SystemDrive%", "${SystemDrive}")), "release.txt"))
	return strings.TrimSpace(string(data)), err
}

// Which attributes does a REQUEST have in XML, and does the parser find them?
func TestRealAnswerRequestAttributes(t *testing.T) {
	b, port := openReal(t), freePort(t)
	b.site("a", b.release("v1"), port)
	s := b.begin(port, 20*time.Second)
	defer s.end()
	b.say("list", "requests", "/xml")
	b.say("list", "requests")
	got, err := (&appcmd.Client{}).Requests(t.Context(), appcmd.RequestFilter{})
	require.NoError(t, err)
	for _, r := range got {
		b.answer("read as %+v", r)
		assert.NotEmpty(t, r.URL)
		assert.NotEmpty(t, r.Pool)
		assert.NotZero(t, r.PID)
	}
	assert.Len(t, got, 2, "the held request, and the upload")
}

// Does list end with 0 or with 1 when there is nothing to list, and what is printed?
func TestRealAnswerEmptyLists(t *testing.T) {
	b := openReal(t)
	b.say("list", "requests", "/apppool.name:"+b.prefix, "/xml")
	b.say("list", "site", b.prefix)
	b.say("list", "site", b.prefix, "/xml")
	b.say("list", "site", "/state:Stopping", "/xml")
}

// What do start and stop say of what is in that state already? And when does exit code 42 come?
func TestRealAnswerAlreadyInState(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	for _, kind := range []string{"site", "apppool"} {
		b.say("start", kind, name)
		b.must("stop", kind, name)
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
			if out, _ := b.run("list", kind, name, "/text:state"); strings.TrimSpace(out) == "Stopped" {
				break
			}
		}
		b.say("stop", kind, name)
		b.must("start", kind, name)
	}
	b.answer("changes that change nothing:")
	b.say("set", "app", name+"/", "/applicationPool:"+name)
	b.say("set", "site", "/site.name:"+name, "/serverAutoStart:true")
	b.say("add", "apppool", "/name:"+name)
}

// Which attributes has an ERROR in XML?
func TestRealAnswerErrorElement(t *testing.T) {
	b := openReal(t)
	b.say("delete", "site", b.prefix, "/xml")
	b.say("start", "apppool", b.prefix, "/xml")
	b.say("set", "config", "/section:system.applicationHost/sites", "/[name='"+b.prefix+"'].serverAutoStart:true", "/commit:apphost", "/xml")
	b.say("fly", "site", "/xml")
}

// How is a single quote written inside an indexer?
func TestRealAnswerSingleQuote(t *testing.T) {
	b := openReal(t)
	name := b.prefix + "-o'clock"
	if _, exit := b.say("add", "site", "/name:"+name, "/physicalPath:"+b.dir); exit != 0 {
		return
	}
	for _, written := range []string{name, strings.ReplaceAll(name, "'", "''"), strings.ReplaceAll(name, "'", `\'`)} {
		b.say("set", "config", "/section:system.applicationHost/sites", "/[name='"+written+"'].serverAutoStart:false", "/commit:apphost")
	}
}

// What state does a pool have right after it was added, before the service has read the commit?
func TestRealAnswerStateAfterAdd(t *testing.T) {
	b := openReal(t)
	name := b.prefix + "-pool"
	b.must("add", "apppool", "/name:"+name)
	began := time.Now()
	last := ""
	for time.Since(began) < 10*time.Second {
		if out, exit := b.run("list", "apppool", name); out != last {
			b.answer("after %s: exit %d: %s", time.Since(began).Round(time.Millisecond), exit, out)
			last = out
		}
	}
	b.say("start", "apppool", name)
}

// Can one command take a binding from one running site and give it to another? Is the new owner stopped then, and how long is the gap? Does a
// kept-alive connection follow, and do old requests live on?
func TestRealAnswerBindingMove(t *testing.T) {
	b, port := openReal(t), freePort(t)
	first := b.site("a", b.release("v1"), port)
	second := b.site("b", b.release("v2"), freePort(t))
	conn := b.dial(port)
	b.answer("kept connection before: %s", conn.get())
	s := b.begin(port, 20*time.Second)
	item := fmt.Sprintf("bindings.[protocol='http',bindingInformation='*:%d:']", port)
	began := time.Now()
	_, exit := b.say("set", "config", "/section:system.applicationHost/sites", "/-[name='"+first+"']."+item, "/+[name='"+second+"']."+item, "/commit:apphost")
	if exit != 0 {
		b.answer("add and remove are refused in one command")
		s.end()
		return
	}
	b.say("list", "site", second)
	b.watchGap(port, "v2", began, 5*time.Second)
	b.say("list", "site", second)
	b.answer("kept connection after: %s", conn.get())
	if got := get(port, ""); got.status != 200 {
		b.say("start", "site", second)
		b.awaitRelease(port, "v2")
	}
	s.end()
	b.answer("held request: %s\nupload: %s", s.held, s.upload)
}

// Does a change of the root's pool drop anything? Does a kept-alive connection follow it?
func TestRealAnswerPoolChange(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	other := b.site("b", b.release("v1"), freePort(t))
	b.change(port, 20*time.Second, func() { b.say("set", "app", name+"/", "/applicationPool:"+other) })
}

// Does the old worker process unload an application whose pool and folder are changed in one commit? Work that outlives the shutdown times of
// ASP.NET (30 s and 90 s) tells.
func TestRealAnswerRootSwap(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	other := b.site("b", b.release("v2"), freePort(t))
	b.change(port, 120*time.Second, func() {
		b.say("set", "config", "/section:system.applicationHost/sites", "/[name='"+name+"'].[path='/'].applicationPool:"+other,
			"/[name='"+name+"'].[path='/'].[path='/'].physicalPath:"+filepath.Join(b.dir, "build", "v2"), "/commit:apphost")
	})
}

// HTTP.sys answers for static files out of a cache of its own. Does it go on with the old release's file after a root swap?
func TestRealAnswerKernelCache(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	other := b.site("b", b.release("v2"), freePort(t))
	ask := func(path string) string {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%s %q %v", resp.Status, body, err)
	}
	for range 20 {
		ask("/release.txt")
	}
	b.say("set", "config", "/section:system.applicationHost/sites", "/[name='"+name+"'].[path='/'].applicationPool:"+other,
		"/[name='"+name+"'].[path='/'].[path='/'].physicalPath:"+filepath.Join(b.dir, "build", "v2"), "/commit:apphost")
	b.awaitRelease(port, "v2")
	for range 5 {
		b.answer("cached file: %s; with a query: %s", ask("/release.txt"), ask("/release.txt?now"))
		<-time.After(time.Second)
	}
}

// A change of the folder alone: what does the worker process that goes on do to its old requests?
func TestRealAnswerFolderChange(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	b.release("v2")
	b.change(port, 120*time.Second, func() { b.say("set", "vdir", name+"/", "/physicalPath:"+filepath.Join(b.dir, "build", "v2")) })
}

// What does a stopped site do to what it had begun, and what do clients get at its port?
func TestRealAnswerSiteStop(t *testing.T) {
	b, port := openReal(t), freePort(t)
	name := b.site("a", b.release("v1"), port)
	b.change(port, 20*time.Second, func() {
		b.say("stop", "site", name)
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), 5*time.Second)
		b.answer("a connection to the port of the stopped site: %v", err)
		if err == nil {
			_ = conn.Close() // it was only tried
		}
	})
}

// change begins long work, makes a change in the middle, and prints what became of the work, of a kept connection, and of new requests.
func (b *realBox) change(port int, hold time.Duration, act func()) {
	b.t.Helper()
	conn := b.dial(port)
	b.answer("kept connection before: %s", conn.get())
	s := b.begin(port, hold)
	began := time.Now()
	act()
	b.watchGap(port, "", began, 3*time.Second)
	b.answer("kept connection after: %s", conn.get())
	b.answer("new connection after: %s", get(port, ""))
	b.say("list", "requests")
	b.say("list", "wp")
	if left := hold - time.Since(began); left > 0 {
		<-time.After(left)
	}
	s.end()
	b.answer("held request: %s\nupload: %s", s.held, s.upload)
}

// watchGap asks on fresh connections for some time, and prints who answered from when on, and what failed.
func (b *realBox) watchGap(port int, until string, began time.Time, most time.Duration) {
	b.t.Helper()
	last := ""
	for time.Since(began) < most {
		got := get(port, "")
		text := fmt.Sprintf("status %d release %q pool %q error %v", got.status, got.release, got.pool, got.err != nil)
		if text != last {
			b.answer("from %s on: %s (%s)", time.Since(began).Round(time.Millisecond), text, got)
			last = text
		}
		if until != "" && got.release == until {
			return
		}
	}
}

// Which spellings, values and defaults has the server farm's schema? It is only there where ARR is installed.
func TestRealAnswerFarmSchema(t *testing.T) {
	b := openReal(t)
	file := filepath.Join(os.Getenv("windir"), "System32", "inetsrv", "config", "schema", "arr_schema.xml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("ARR is not installed: %v", err)
	}
	for _, name := range []string{"weight", "algorithm", "statusCodeMatch", "timeout", "newState", "preserveHostHeader", "minResponseBuffer"} {
		for _, m := range regexp.MustCompile(`(?s)<attribute name="`+name+`".*?(/>|</attribute>)`).FindAllString(string(data), -1) {
			b.answer("%s", strings.Join(strings.Fields(m), " "))
		}
	}
}

// Is weight 0 accepted? Does enabled=false on a server of a farm cut what that server has begun? Which timeout has a farm of its own?
func TestRealAnswerFarm(t *testing.T) {
	b := openReal(t)
	if out, exit := b.run("list", "config", "/section:webFarms"); exit != 0 {
		t.Skipf("ARR is not installed: exit %d: %s", exit, out)
	}
	farm, port, front := b.prefix+"-farm", freePort(t), freePort(t)
	b.site("a", b.release("v1"), port)
	set := func(arg string) (string, uint32) {
		return b.say("set", "config", "/section:webFarms", arg, "/commit:apphost")
	}
	t.Cleanup(func() {
		set("/-[name='" + farm + "']")
		b.run("set", "config", "/section:system.webServer/rewrite/globalRules", "/-[name='"+farm+"']", "/commit:apphost")
	})
	set("/+[name='" + farm + "']")
	set("/+[name='" + farm + "'].[address='127.0.0.1']")
	set("/[name='" + farm + "'].[address='127.0.0.1'].applicationRequestRouting.httpPort:" + strconv.Itoa(port))
	set("/[name='" + farm + "'].[address='127.0.0.1'].applicationRequestRouting.weight:0")
	b.say("list", "config", "/section:webFarms", "/config:*")

	b.site("front", b.release("v1"), front) // its requests go to the farm from here on
	rule := "[name='" + farm + "']"
	for _, arg := range []string{
		"/+[name='" + farm + "',patternSyntax='Wildcard',stopProcessing='true']", "/" + rule + ".match.url:*",
		"/+" + rule + ".conditions.[input='{SERVER_PORT}',pattern='" + strconv.Itoa(front) + "']",
		"/" + rule + ".action.type:Rewrite", "/" + rule + ".action.url:http://" + farm + "/{R:0}",
	} {
		b.say("set", "config", "/section:system.webServer/rewrite/globalRules", arg, "/commit:apphost")
	}
	b.answer("through the farm: %s", get(front, ""))
	b.change(front, 100*time.Second, func() { set("/[name='" + farm + "'].[address='127.0.0.1'].enabled:false") })
}
