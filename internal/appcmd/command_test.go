package appcmd_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
)

var web = appcmd.Binding{Protocol: "http", Information: "*:80:"}

// Each command that is built, as an administrator would type it: testdata/commands.txt.
func TestCommands(t *testing.T) {
	pool := appcmd.Path{appcmd.Elem("processModel")}
	variable := appcmd.Path{appcmd.Elem("environmentVariables")}
	commands := []appcmd.Command{
		appcmd.ListSites("").WithConfig().XML(),
		appcmd.ListSites("Default Web Site").Text("state"),
		appcmd.ListSites("").With("state", "Started"),
		appcmd.ListPools("").WithConfig().XML(),
		appcmd.ListPools("A").Text("*"),
		appcmd.ListApps("").XML(),
		appcmd.ListApps("My Site").XML(),
		appcmd.ListVDirs("").XML(),
		appcmd.ListVDirs("My Site/").Text("physicalPath"),
		appcmd.ListVDirs("My Site/app").XML(),
		appcmd.ListWPs("").XML(),
		appcmd.ListWPs("Pool#1").XML(),
		appcmd.ListRequests(appcmd.RequestFilter{}).XML(),
		appcmd.ListRequests(appcmd.RequestFilter{Site: "My Site", SiteID: 2, Pool: "P", PID: 4711, Elapsed: 1500 * time.Millisecond}).XML(),
		appcmd.AddSite("My Site", 2, `C:\inetpub\MySite.v1085`, web, appcmd.Binding{Protocol: "https", Information: "*:443:www.example.test"}),
		appcmd.AddSite("Empty", 0, ""),
		appcmd.SetSite("A").With("serverAutoStart", "false"),
		appcmd.SetSite("A").Set(appcmd.Path{appcmd.Item("path", "/")}, "applicationPool", "P").
			Set(appcmd.Path{appcmd.Item("path", "/"), appcmd.Item("path", "/")}, "physicalPath", `C:\inetpub\x`),
		appcmd.SetBindings("A", web),
		appcmd.SetSite("A").Append(appcmd.Path{appcmd.Elem("bindings")}, appcmd.BindingItem(web)),
		appcmd.SetSite("A").Remove(appcmd.Path{appcmd.Elem("bindings")}, appcmd.BindingItem(web)),
		appcmd.StartSite("-odd (one) & two"),
		appcmd.StopSite("A"),
		appcmd.DeleteSite("A"),
		appcmd.AddPool("P").With("startMode", "AlwaysRunning"),
		appcmd.SetPool("P").Set(pool, "shutdownTimeLimit", appcmd.FormatTimeSpan(time.Hour)).With("queueLength", "5000"),
		appcmd.SetPool("P").Set(pool, "userName", `CORP\deploy`).Set(pool, "password", "s3cret&sound"),
		appcmd.SetPool("P").With("processModel.password", "s3cret&sound"),
		appcmd.SetPool("P").Append(variable, appcmd.Item("name", "DB", "value", "Server=x;Password=y")),
		appcmd.SetPool("P").Set(appcmd.Path{appcmd.Elem("environmentVariables"), appcmd.Item("name", "DB")}, "value", "Server=x;Password=y"),
		appcmd.SetPool("P").With("debug", "x").With("Config", "y").With("inner", "z"),
		appcmd.StartPool("P").Wait(30 * time.Second),
		appcmd.StopPool("P").Wait(0),
		appcmd.RecyclePool("P"),
		appcmd.DeletePool("P"),
		appcmd.AddApp("My Site", "/app", "P", `C:\inetpub\app`),
		appcmd.AddApp("My Site", "/", "", ""),
		appcmd.SetApp("My Site", "/").With("applicationPool", "P"),
		appcmd.DeleteApp("My Site", "/app"),
		appcmd.AddVDir("My Site", "/", "/files", `\\server\share\files`),
		appcmd.SetVDir("My Site", "/", "/").With("physicalPath", `C:\inetpub\with blank\`),
		appcmd.SetVDir("My Site", "/app", "/").With("physicalPath", `%SystemDrive%\inetpub`),
		appcmd.DeleteVDir("My Site", "/app", "/files"),
		appcmd.ListConfig("", appcmd.SectionSites).WithConfig(),
		appcmd.ListConfig("My Site/app", "system.webServer/proxy"),
		appcmd.SetConfig("", appcmd.SectionPools).Append(nil, appcmd.Item("name", "P")),
		appcmd.SetConfig("", "system.webServer/rewrite/globalRules").Append(nil, appcmd.ItemAt(0, "name", "first")).
			Append(nil, appcmd.ItemAt(-1, "name", "last")).Append(nil, appcmd.ItemAt(3, "name", "fourth")),
		appcmd.SetConfig("My Site", "system.webServer/httpErrors").With("errorMode", "Detailed").Commit("site"),
		appcmd.SetConfig("", "system.webServer/proxy").With("enabled", "true").Commit(""),
		appcmd.ClearConfig("My Site", "system.webServer/proxy"),
		appcmd.LockConfig("system.webServer/handlers"),
		appcmd.UnlockConfig("system.webServer/handlers"),
		appcmd.ListBackups().XML(),
		appcmd.AddBackup("before deploy"),
		appcmd.RestoreBackup("before deploy"),
		appcmd.DeleteBackup("before deploy"),
		appcmd.RecyclePool("P").In([]byte("<appcmd/>")),
	}
	var b strings.Builder
	for _, c := range commands {
		argv, err := c.Argv()
		require.NoError(t, err)
		assert.Equal(t, []string{string(c.Verb()), string(c.Object())}, argv[:2])
		b.WriteString(c.String() + "\n")
		assert.NotContains(t, c.String(), "s3cret")
		assert.NotContains(t, c.String(), "Server=x")
	}
	const path = "testdata/commands.txt"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), b.String())
}

func TestCommandIsAValue(t *testing.T) {
	base := appcmd.SetPool("P").With("a", "1")
	x, y := base.With("b", "2"), base.With("c", "3")
	assert.Equal(t, "appcmd set apppool /apppool.name:P /a:1", base.String())
	assert.Equal(t, "appcmd set apppool /apppool.name:P /a:1 /b:2", x.String())
	assert.Equal(t, "appcmd set apppool /apppool.name:P /a:1 /c:3", y.String())
	path := make(appcmd.Path, 1, 4)
	path[0] = appcmd.Elem("bindings")
	first := appcmd.SetSite("A").Append(path, appcmd.BindingItem(web))
	second := appcmd.SetSite("A").Append(path, appcmd.Item("protocol", "x", "bindingInformation", "y"))
	assert.Contains(t, first.String(), "*:80:")
	assert.NotContains(t, second.String(), "*:80:")
}

func TestCommandKinds(t *testing.T) {
	for _, c := range []appcmd.Command{appcmd.StartSite("A"), appcmd.StopPool("P"), appcmd.RecyclePool("P")} {
		assert.True(t, c.Changes(), c)
		assert.True(t, c.Runtime(), c)
	}
	for _, c := range []appcmd.Command{appcmd.SetSite("A"), appcmd.AddPool("P"), appcmd.DeleteSite("A"), appcmd.RestoreBackup("b"),
		appcmd.ClearConfig("", "asp")} {
		assert.True(t, c.Changes(), c)
		assert.False(t, c.Runtime(), c)
	}
	assert.False(t, appcmd.ListSites("A").Changes())
	assert.Equal(t, "A", appcmd.StopSite("A").Target())
	assert.Equal(t, "A/app/files", appcmd.SetVDir("A", "/app", "/files").Target())
	assert.Equal(t, "asp", appcmd.SetConfig("", "asp").Target())
}

// A refused command tells all mistakes, and never runs.
func TestRefused(t *testing.T) {
	site := func(name string) appcmd.Command { return appcmd.SetSite(name) }
	for name, c := range map[string]appcmd.Command{
		"zero":                        {},
		"site without name":           appcmd.StartSite(""),
		"site with slash":             site("a/b"),
		"site with question mark":     site("a?"),
		"site with line break":        site("a\nb"),
		"site with zero":              site("a\x00b"),
		"site with tab":               site("a\tb"),
		"site with blank at the end":  site("a "),
		"site, blank at the begin":    site(" a"),
		"site, invalid UTF-8":         site("a\xff"),
		"site, undecoded":             site("a\uF7FF"),
		"site, replacement":           site("a\uFFFD"),
		"site, turned text":           site("a\u202Eb"),
		"site, line separator":        site("a\u2028b"),
		"pool with colon":             appcmd.StartPool("a:b"),
		"pool with quote":             appcmd.StartPool(`a"b`),
		"pool with comma":             appcmd.SetPool("a,b"),
		"pool with star":              appcmd.RecyclePool("*"),
		"pool of an application":      appcmd.AddApp("A", "/", "p|q", ""),
		"quote in an index":           appcmd.SetConfig("", appcmd.SectionSites).Set(appcmd.RootApp("O'Brien"), "applicationPool", "P"),
		"escape out of an index":      appcmd.SetConfig("", appcmd.SectionSites).Set(appcmd.RootApp("x'].[name='y"), "applicationPool", "P"),
		"double quote in an index":    appcmd.SetConfig("", appcmd.SectionSites).Append(nil, appcmd.Item("name", `a"b`)),
		"odd item":                    appcmd.SetConfig("", appcmd.SectionSites).Append(nil, appcmd.Item("name")),
		"empty item":                  appcmd.SetConfig("", appcmd.SectionSites).Append(nil, appcmd.Item()),
		"element without keys":        appcmd.SetSite("A").Append(nil, appcmd.Elem("bindings")),
		"item with a hostile key":     appcmd.SetSite("A").Append(nil, appcmd.Item("a='b',c", "d")),
		"position":                    appcmd.SetSite("A").Append(nil, appcmd.ItemAt(-2, "a", "b")),
		"property with colon":         appcmd.SetSite("A").With("a:b", "c"),
		"property without name":       appcmd.SetSite("A").With("", "c"),
		"property with blank":         appcmd.SetSite("A").With("a b", "c"),
		"property with exclamation":   appcmd.SetSite("A").With("!a", "c"),
		"property with two dots":      appcmd.SetSite("A").With("a..b", "c"),
		"value with line break":       appcmd.SetSite("A").With("a", "b\r\nc"),
		"section as property":         appcmd.SetConfig("", "asp").With("section", "x"),
		"element with bracket":        appcmd.SetSite("A").Set(appcmd.Path{appcmd.Elem("a[b")}, "c", "d"),
		"application without slash":   appcmd.SetApp("A", "app"),
		"application, slash at end":   appcmd.SetApp("A", "/app/"),
		"application, two slashes":    appcmd.SetApp("A", "/a//b"),
		"application, backslash":      appcmd.SetApp("A", `/a\b`),
		"list of vdirs":               appcmd.ListVDirs("A"),
		"relative folder":             appcmd.AddSite("A", 0, `inetpub\x`),
		"folder of a drive":           appcmd.AddSite("A", 0, `C:inetpub`),
		"folder with quote":           appcmd.AddSite("A", 0, `C:\a"b`),
		"folder with stream":          appcmd.AddSite("A", 0, `C:\a:b`),
		"binding with comma":          appcmd.SetBindings("A", appcmd.Binding{Protocol: "http", Information: "*:80:,ftp/*:21:"}),
		"binding with quote":          appcmd.SetSite("A").Append(appcmd.Path{appcmd.Elem("bindings")}, appcmd.BindingItem(appcmd.Binding{Protocol: "http", Information: "*:80:'"})),
		"binding without protocol":    appcmd.SetBindings("A", appcmd.Binding{Information: "*:80:"}),
		"section with blank":          appcmd.ListConfig("", "a b"),
		"section that is none":        appcmd.ListConfig("", "/x"),
		"location, a parameter":       appcmd.ListConfig("-x", "asp"),
		"location, another parameter": appcmd.ListConfig("/x", "asp"),
		"location, file":              appcmd.ListConfig("@x", "asp"),
		"commit":                      appcmd.SetConfig("", "asp").Commit("a\nb"),
		"backup, path":                appcmd.AddBackup(`..\x`),
		"backup, parameter":           appcmd.AddBackup("/in"),
		"backup without name":         appcmd.RestoreBackup(""),
		"text":                        appcmd.ListSites("").Text("a b"),
		"too long":                    appcmd.SetPool("P").With("x", strings.Repeat("y", 33000)),
	} {
		argv, err := c.Argv()
		assert.Error(t, err, name)
		assert.Nil(t, argv, name)
	}
	_, err := appcmd.AddApp("a/b", "app", "p:q", "rel").Argv()
	for _, want := range []string{`"a/b"`, `"app"`, `"p:q"`, `"rel"`} {
		assert.ErrorContains(t, err, want, "all mistakes at once")
	}
	_, err = appcmd.SetPool("P").Set(appcmd.Path{appcmd.Elem("processModel")}, "password", "top\nsecret").Argv()
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "secret")

	c := &appcmd.Client{Runner: appcmd.RunnerFunc(func(context.Context, []string, []byte) ([]byte, uint32, error) {
		t.Error("a refused command runs")
		return nil, 0, errors.New("no")
	}), LockFile: t.TempDir() + "/lock"}
	_, err = c.Run(t.Context(), appcmd.StartSite(""))
	assert.ErrorContains(t, err, "without a name")
}

func TestSecretsAreHiddenInMessages(t *testing.T) {
	process := appcmd.Path{appcmd.Elem("processModel")}
	c := appcmd.SetPool("P").Set(process, "password", "hunter22").
		Append(appcmd.Path{appcmd.Elem("environmentVariables")}, appcmd.Item("name", "K", "value", "hunter22-and-more"))
	err := appcmd.Judge(c, "ERROR ( message:Bad value \"hunter22-and-more\" or 'hunter22'. )\n", 87)
	require.ErrorIs(t, err, appcmd.Usage)
	assert.NotContains(t, err.Error(), "hunter22")
	assert.NotContains(t, err.Error(), "and-more")
	assert.Contains(t, err.Error(), appcmd.Masked)
	err = appcmd.Judge(appcmd.SetPool("P").Set(process, "password", "pa"), "ERROR ( message:Bad pattern. )\n", 87)
	assert.NotContains(t, err.Error(), "ttern", "what is left would tell a short secret")

	err = appcmd.Judge(c, "Object '/PROCESSMODEL.PASSWORD:HUNTER22' is not supported.\n", 87)
	assert.NotContains(t, strings.ToLower(err.Error()), "hunter")
	err = appcmd.Judge(c, "ERROR ( message:Object 'HUNTER22' is not supported. )\n", 87)
	assert.NotContains(t, strings.ToLower(err.Error()), "hunter")
	assert.Contains(t, err.Error(), "is not supported")
	err = appcmd.Judge(appcmd.SetPool("P"), "Object 'X' is not supported.\n", 87)
	assert.Contains(t, err.Error(), "'X' is not supported")

	const config = `<add name="P"><processModel userName="u" password="hunter22" /></add>`
	for _, out := range []string{config, "<appcmd><APPPOOL>" + config, "<appcmd>" + config + "</appcmd>", "password=hunter22"} {
		for _, exit := range []uint32{0, 1, 5, 32} {
			for _, c := range []appcmd.Command{appcmd.ListPools("").WithConfig(), appcmd.ListConfig("", appcmd.SectionPools)} {
				if err := appcmd.Judge(c, out, exit); err != nil {
					assert.NotContains(t, err.Error(), "hunter22")
				}
				if _, err := appcmd.Parse(out); err != nil {
					assert.NotContains(t, err.Error(), "hunter22")
				}
			}
		}
	}
	doc, err := appcmd.Parse("<appcmd><APPPOOL APPPOOL.NAME='P' state='Started'>" + config + "</APPPOOL></appcmd>")
	require.NoError(t, err)
	assert.Equal(t, appcmd.Hidden, doc.Entries[0].Children[0].Find("processModel").Get("password"))
	assert.Equal(t, "u", doc.Entries[0].Children[0].Find("processModel").Get("userName"))
}

// lex reads the path of an argument by rules of its own: words, and indexes of names and values in single quotes. It returns all values.
func lex(s string) (values []string, rest string, ok bool) {
	s = strings.TrimLeft(s, "/+-")
	for {
		if strings.HasPrefix(s, "[") {
			s = s[1:]
			for {
				eq := strings.Index(s, "='")
				if eq < 0 {
					return nil, "", false
				}
				s = s[eq+2:]
				end := strings.IndexByte(s, '\'')
				if end < 0 || end+1 >= len(s) {
					return nil, "", false
				}
				values, s = append(values, s[:end]), s[end+1:]
				if s[0] == ',' {
					continue
				}
				if s[0] != ']' {
					return nil, "", false
				}
				s = s[1:]
				break
			}
		} else {
			end := strings.IndexAny(s, ".:")
			if end < 0 {
				return values, "", true
			}
			s = s[end:]
		}
		switch {
		case s == "":
			return values, "", true
		case s[0] == ':':
			return values, s[1:], true
		case s[0] == '.':
			s = s[1:]
		default:
			return nil, "", false
		}
	}
}

// checkQuoting asserts that a command which is not refused says exactly what was meant, whatever the names are.
func checkQuoting(t *testing.T, name, key, value string) {
	t.Helper()
	path := appcmd.Path{appcmd.Item("name", name), appcmd.Elem("things"), appcmd.Item("key", key, "name", name)}
	c := appcmd.SetConfig("", appcmd.SectionSites).Set(path, "attr", value).Append(path[:2], path[2])
	argv, err := c.Argv()
	if err != nil {
		return
	}
	require.Len(t, argv, 6)
	values, rest, ok := lex(argv[3])
	require.True(t, ok, argv[3])
	assert.Equal(t, []string{name, key, name}, values)
	assert.Equal(t, value, rest)
	values, _, ok = lex(argv[4])
	require.True(t, ok, argv[4])
	assert.Equal(t, []string{name, key, name}, values)
	for _, a := range argv {
		assert.NotContains(t, a, "\x00")
		assert.NotContains(t, a, "\n")
	}
}

func TestQuotingSaysWhatIsMeant(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ab '\"[]=,.:/\\+-@*%^&|<>()!?;\n\r\tя漢\u00a0\uF780\x7f"
	letters := []rune(alphabet)
	word := func() string {
		w := make([]rune, r.IntN(12))
		for i := range w {
			w[i] = letters[r.IntN(len(letters))]
		}
		return string(w)
	}
	accepted := 0
	for range 5_000 {
		name, key, value := word(), word(), word()
		checkQuoting(t, name, key, value)
		if _, err := appcmd.SetSite("A").Append(nil, appcmd.Item("a", name)).Argv(); err == nil {
			accepted++
		}
		if appcmd.CheckSiteName(name) == nil {
			argv, err := appcmd.StopSite(name).Argv()
			require.NoError(t, err)
			assert.Equal(t, []string{"stop", "site", "/site.name:" + name}, argv)
		}
		if appcmd.CheckPoolName(name) == nil {
			assert.False(t, strings.ContainsAny(name, "|<>&\"/[]+=;:,?*@\\`"), name)
		}
	}
	assert.Greater(t, accepted, 500, "the test must reach commands that are not refused")
}
