package folder_test

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis/folder"
)

func FuzzParseWebConfig(f *testing.F) {
	for _, s := range []string{published, classic, "", "<configuration/>", "\xff\xfe<\x00", `<?xml version="1.0" encoding="latin1"?><configuration a="` + "\xe4" + `"/>`,
		`<configuration><location path="."><location path="x"><system.web/></location></location></configuration>`,
		`<configuration><system.web><httpRuntime executionTimeout="10675199.02:48:05" maxRequestLength="999999999999"/></system.web></configuration>`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := folder.ParseWebConfig(data)
		if c == nil {
			t.Fatal("no value beside the error")
		}
		if err == nil && len(strings.TrimSpace(string(data))) == 0 {
			t.Fatal("nothing is no web.config")
		}
		for n, l := range c.Limits {
			if l.Path == "" && n > 0 {
				t.Fatal("what holds for the whole comes first")
			}
			for _, v := range []*int64{l.MaxAllowedContentLength, l.MaxRequestLength} {
				if v != nil && *v < 0 {
					t.Fatalf("a negative bound %d", *v)
				}
			}
			if l.ExecutionTimeout != nil && *l.ExecutionTimeout < 0 {
				t.Fatalf("a negative time %s", *l.ExecutionTimeout)
			}
		}
		if a := c.AspNetCore; a != nil && (a.RequestTimeout < 0 || a.ShutdownTimeLimit < 0 || a.StartupTimeLimit < 0 ||
			a.HostingModel != folder.InProcess && a.HostingModel != folder.OutOfProcess) {
			t.Fatalf("%+v", a)
		}
		again, err2 := folder.ParseWebConfig(data)
		assert.Equal(t, c, again)
		assert.Equal(t, err == nil, err2 == nil)
	})
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{"", "{}", `{"format":1}`, `{"format":1,"name":"MySite","release":"v1","number":1,"complete":false,"installed":"2026-01-02T03:04:05Z",` +
		`"source":"/b","sum":"00"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := folder.ParseManifest(data)
		if err != nil {
			assert.ErrorIs(t, err, folder.ErrManifest)
			assert.Nil(t, m)
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Path)) || file.Size < 0 {
				t.Fatalf("%+v", file)
			}
		}
	})
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"", "a", "CON", "con.txt", "Com1 .x", "LPT¹", "a.", "a ", "..", "a/b", `a\b`, "a:b", "\x00", "nul ", "ä", "\xff", "MySite.v1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if folder.CheckName(name) != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.Base(name) != name || !utf8.ValidString(name) || strings.ContainsAny(name, `\/:*?"<>|`) ||
			strings.TrimRight(name, ". ") != name || len(name) > 255 {
			t.Fatalf("%q is let through", name)
		}
		assert.NoError(t, folder.CheckName("x"+string([]rune(name)[0])+"x"), "nothing in it is refused elsewhere")
	})
}

func FuzzReleaseFolder(f *testing.F) {
	in, err := folder.New(folder.Config{Parent: filepath.Join(f.TempDir(), "inetpub"), Name: "MySite"})
	require.NoError(f, err)
	for _, s := range []string{"", "v1", "..", "../x", `..\x`, "v1~part", "nul", "v1."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		path, err := in.Path(id)
		if err == nil && (filepath.Base(path) != "MySite."+id || strings.Contains(id, "~") || (abswap.Release{ID: id}).Check() != nil) {
			t.Fatalf("%q makes %q", id, path)
		}
	})
}

func FuzzToolOutput(f *testing.F) {
	for _, s := range []string{"", "Error Code: ERROR_FILE_IN_USE\r\nMore Information: x", "error code: ERROR_CONNECTION_TERMINATED", "Error Code: x", "Error Code: ERROR_A ERROR_B",
		"Info: Adding file (x).\r\nTotal changes: 1 (1 added, 0 deleted)", "Error Code: ERROR_DESTINATION_NOT_REACHABLE."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, output string) {
		seen := map[string]bool{}
		for _, c := range folder.WebDeployCodes(output) {
			if c == "" || seen[c] || !strings.Contains(output, c) {
				t.Fatalf("%q", c)
			}
			seen[c] = true
		}
	})
}

func TestWebDeployCodes(t *testing.T) {
	assert.Equal(t, []string{"ERROR_FILE_IN_USE", "ERROR_USER_NOT_ADMIN"}, folder.WebDeployCodes("Info: x\r\n"+
		"Error Code: ERROR_FILE_IN_USE\r\nMore Information: ... Learn more at: http://go.microsoft.com/fwlink/?LinkId=221672#ERROR_FILE_IN_USE.\r\n"+
		"Error: (1/2/2026) error code: ERROR_USER_NOT_ADMIN, ERROR CODE: ERROR_FILE_IN_USE\r\nError count: 1."))
	assert.Empty(t, folder.WebDeployCodes("Total changes: 3 (3 added, 0 deleted, 0 updated, 0 parameters changed, 12 bytes copied)"))
}
