package folder_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// sealed gives a manifest its sum, as somebody would who changed it on purpose; nil if it is none.
func sealed(data []byte) []byte {
	var m folder.Manifest
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	m.Sum = ""
	plain, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(plain)
	m.Sum = hex.EncodeToString(sum[:])
	whole, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return whole
}

const aManifest = `{"format":1,"name":"MySite","release":"v1","number":1,"complete":true,"installed":"2026-01-02T03:04:05Z","source":"/b","files":[` +
	`{"path":"a.dll","size":1,"sha256":"` + aHash + `"},{"path":"b/c.dll","size":2,"sha256":"` + aHash + `"}],"folders":["b"]}`

const aHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestManifestsThatLeadOut(t *testing.T) {
	m, err := folder.ParseManifest(sealed([]byte(aManifest)))
	require.NoError(t, err)
	assert.Equal(t, int64(3), m.Bytes())
	for was, is := range map[string]string{
		`"a.dll"`: `"../a.dll"`, `"b/c.dll"`: `"/c.dll"`, `"folders":["b"]`: `"folders":["b","."]`, `"size":1`: `"size":-1`, aHash: "e3", `"format":1`: `"format":2`,
		`"path":"a.dll"`: `"path":"c.dll"`, `"b/c.dll",`: `"b\\c.dll",`,
	} {
		bad := strings.Replace(aManifest, was, is, 1)
		require.NotEqual(t, aManifest, bad, was)
		_, err := folder.ParseManifest(sealed([]byte(bad)))
		assert.ErrorIs(t, err, folder.ErrManifest, is)
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{"", "{}", `{"format":1}`, aManifest} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = sealed(data)
		}
		m, err := folder.ParseManifest(data)
		if err != nil {
			assert.ErrorIs(t, err, folder.ErrManifest)
			assert.Nil(t, m)
			return
		}
		for n, file := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Path)) || file.Size < 0 || n > 0 && m.Files[n-1].Path > file.Path {
				t.Fatalf("%+v", file)
			}
		}
		for _, d := range m.Folders {
			if !filepath.IsLocal(filepath.FromSlash(d)) || d == "." {
				t.Fatalf("%q", d)
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
