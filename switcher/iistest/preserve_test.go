package iistest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

// oddities are what a configuration may hold besides what a command names.
var oddities = []string{
	"<!-- a comment with <site name='x'/> in it -->", "\r\n\r\n\t  ", "\n", "<!-- é -->", "<?pi some=\"thing\" ?>", "<unknown a = 'it&apos;s'\r\n\tb=\"&lt;&#x41;&quot;\"/>",
	"<other><![CDATA[ <raw> & ]]></other >", "   ", "<empty></empty>",
}

func oddity(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(4) {
		b.WriteString(oddities[r.IntN(len(oddities))])
	}
	return b.String()
}

// TestByteForByte runs commands on configurations full of odd but legal things, and finds everything that the command does not name where it
// was: what is new and what is old differ in one place that is as short as the change.
func TestByteForByte(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 11))
	srv, err := iistest.New(iistest.Config{WASDelay: -1})
	require.NoError(t, err)
	defer func() { assert.NoError(t, srv.Close()) }()
	changes := []struct {
		args     []string
		old, new string
	}{
		{[]string{"set", "vdir", "One/", "/physicalPath:C:\\new & \"old\""}, `C:\old`, `C:\new &amp; &quot;old&quot;`},
		{[]string{"set", "app", "One/", "/applicationPool:Q"}, `applicationPool = "P"`, `applicationPool = "Q"`},
		{[]string{"set", "site", "One", "/serverAutoStart:FALSE"}, `serverAutoStart='true'`, `serverAutoStart='false'`},
		{[]string{"set", "site", "One", "/[path='/'].preloadEnabled:true"}, `applicationPool = "P"`, `applicationPool = "P" preloadEnabled="true"`},
		{[]string{"set", "apppool", "P", "/processModel.shutdownTimeLimit:00:10:00"}, `shutdownTimeLimit="00:01:30"`, `shutdownTimeLimit="00:10:00"`},
		{[]string{"set", "site", "One", "/-bindings.[protocol='http',bindingInformation='*:80:']"}, `<binding   protocol="http" bindingInformation='*:80:'/>`, ``},
	}
	for i := range 120 {
		c := changes[i%len(changes)]
		odd := func() string { return oddity(r) }
		doc := "\ufeff<?xml version='1.0' encoding=\"utf-8\"?>\r\n<!-- head -->\n<configuration>" + odd() + "<configSections>" + odd() + "</configSections>" + odd() +
			"<system.applicationHost>" + odd() + "<applicationPools>" + odd() + "<add  name='P'>" + odd() + `<processModel idleTimeout="00:00:00" shutdownTimeLimit="00:01:30"  />` +
			odd() + "</add>" + odd() + "<add name='Q' />" + odd() + "</applicationPools>" + odd() + "<sites>" + odd() + "<site name=\"One\"   id='1'\tserverAutoStart='true'>" + odd() +
			"<application path='/' applicationPool = \"P\">" + odd() + "<virtualDirectory path=\"/\" physicalPath=\"C:\\old\" />" + odd() + "</application>" + odd() +
			"<bindings>" + odd() + `<binding   protocol="http" bindingInformation='*:80:'/>` + `<!-- x --><binding protocol="https" bindingInformation="*:443:h" sslFlags="1"/>` + odd() + "</bindings>" +
			odd() + "</site>" + odd() + "</sites>" + odd() + "</system.applicationHost>" + odd() + "<system.webServer>" + odd() + "</system.webServer>" + odd() + "</configuration>\r\n<!-- tail -->\n"
		require.NoError(t, srv.EditConfig(func([]byte) ([]byte, error) { return []byte(doc), nil }))
		out, exit := srv.Appcmd(t.Context(), c.args, nil)
		require.Zero(t, exit, "%q: %s\n%s", c.args, out, doc)
		got, err := os.ReadFile(srv.ConfigPath())
		require.NoError(t, err)
		want := strings.Replace(doc, c.old, c.new, 1)
		if c.new == "" { // the line that a removed element begins goes with it
			head, tail, _ := strings.Cut(doc, c.old)
			require.True(t, bytes.HasSuffix(got, []byte(tail)))
			rest := strings.TrimSuffix(string(got), tail)
			require.True(t, strings.HasPrefix(head, rest))
			require.Empty(t, strings.TrimSpace(head[len(rest):]))
			continue
		}
		require.Equal(t, want, string(got), "%q", c.args)
	}
}

// TestAddAndDeleteLeaveNoTrace: what is added and deleted again leaves the file as it was.
func TestAddAndDeleteLeaveNoTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	before := w.config()
	w.must("add", "apppool", "/name:C", "/startMode:AlwaysRunning", "/processModel.idleTimeout:00:00:00")
	w.must("add", "site", "/name:New", "/bindings:http/*:90:,https/*:443:h", "/physicalPath:/x", "/[path='/'].applicationPool:C")
	w.must("add", "app", "/site.name:Public", "/path:/a", "/physicalPath:/y")
	w.must("add", "vdir", "/app.name:Public/a", "/path:/v", "/physicalPath:/z")
	assert.NotEqual(t, before, w.config())
	w.must("delete", "vdir", "Public/a/v")
	w.must("delete", "app", "Public/a")
	w.must("delete", "site", "New")
	w.must("delete", "apppool", "C")
	assert.Equal(t, before, w.config())
}

// TestManyWriters: commands and another program write at once. A command that lost has exit 32 and changed nothing; the work of those that
// succeeded is all there.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := map[string]bool{}
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("W%d-%d", i, j)
				for {
					_, exit := w.Appcmd(t.Context(), []string{"add", "apppool", "/name:" + name}, nil)
					if exit == 0 {
						break
					}
					assert.Equal(t, uint32(32), exit)
				}
				mu.Lock()
				added[name] = true
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for i := range 20 {
			assert.NoError(t, w.EditConfig(func(data []byte) ([]byte, error) {
				return bytes.Replace(data, []byte("</configuration>"), fmt.Appendf(nil, "<!-- %d --></configuration>", i), 1), nil
			}))
		}
	})
	wg.Wait()
	require.NoError(t, w.Settle(t.Context()))
	for name := range added {
		assert.Equal(t, "Started", w.pool(name).State, name)
	}
	for i := range 20 {
		assert.Contains(t, w.config(), fmt.Sprintf("<!-- %d -->", i))
	}
}

// FuzzAppcmd: no arguments and no input make it fall over or write a file that cannot be read.
func FuzzAppcmd(f *testing.F) {
	srv, err := iistest.New(iistest.Config{WASDelay: -1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = srv.Close() })
	fresh, err := os.ReadFile(srv.ConfigPath())
	if err != nil {
		f.Fatal(err)
	}
	errKeep := errors.New("keep")
	for _, seed := range []string{
		"set\x00site\x00Default Web Site\x00/+bindings.[protocol='http',bindingInformation='*:81:']", "list\x00site\x00/xml\x00/config:*", "set\x00config\x00-section:sites\x00/[name='Default Web Site'].[path='/'].[path='/'].physicalPath:x",
		"add\x00site\x00/name:a\x00/bindings:http/*:1:,https/[::1]:2:h", "list\x00app\x00http://x:80/\x00/text:*", "add\x00apppool\x00/in", "set\x00config\x00Default Web Site\x00-section:a/b\x00/~c\x00/commit:apphost", "/?", "-", "list\x00requests\x00/in",
		"set\x00apppool\x00DefaultAppPool\x00/recycling.periodicRestart.schedule.[value='1']:", "search\x00config\x00/section:sites\x00/[@0]", "set\x00site\x00Default Web Site\x00/bindings:net.tcp/808:*",
	} {
		f.Add(seed, []byte("<appcmd><SITE SITE.NAME='Default Web Site'/></appcmd>"))
	}
	f.Fuzz(func(t *testing.T, args string, stdin []byte) {
		list := strings.Split(args, "\x00")
		for _, a := range list { // these look outside the world, or take long
			low := strings.ToLower(a)
			if strings.Contains(low, "apphostconfig") || strings.Contains(low, "physicalpath") || low == "restore" || low == "backup" || low == "backups" {
				t.Skip()
			}
		}
		if len(list) > 2 && !strings.Contains(strings.ToLower(args), "apphost") && strings.EqualFold(list[1], "config") && strings.EqualFold(list[0], "set") {
			list = append(list, "/commit:apphost")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		srv.Appcmd(ctx, list, stdin)
		if ctx.Err() != nil {
			t.Fatalf("%q hangs", list)
		}
		if err := srv.EditConfig(func(data []byte) ([]byte, error) {
			if len(data) > 20000 { // else it grows and grows
				return fresh, nil
			}
			return nil, errKeep
		}); err != nil && !errors.Is(err, errKeep) {
			t.Fatal(err)
		}
		if out, exit := srv.Appcmd(t.Context(), []string{"list", "apppool"}, nil); exit > 1 {
			t.Fatalf("%q broke the configuration: %s", list, out)
		}
	})
}
