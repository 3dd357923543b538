package session_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	k, err := session.LoadKeys(path)
	require.NoError(t, err)
	tab := open(t, func(c *session.Config) { c.Keys = k })
	_, set := visit(tab, http.Header{}, blue)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "# younger\n%x\n\n%s", bytes.Repeat([]byte{7}, 32), text), 0o600))
	k, err = session.LoadKeys(path)
	require.NoError(t, err)
	require.NoError(t, tab.Rotate(k))
	assert.True(t, tab.Pick(with(sent(set))).Known())
	require.NoError(t, tab.Close())
}

func TestBadKeys(t *testing.T) {
	hexKey := strings.Repeat("ab", 32)
	for _, text := range []string{"", "# none\n", "abc", "zz" + hexKey[2:], hexKey[2:], hexKey + "00", hexKey + "\n" + hexKey, strings.Repeat(hexKey+"\n", 20)} {
		_, err := session.ParseKeys([]byte(text))
		require.Error(t, err, text)
		assert.NotContains(t, err.Error(), hexKey[:8])
	}
	_, err := session.LoadKeys(t.TempDir())
	assert.Error(t, err)
}

// FuzzCookie gives the table any Cookie field: only what it has signed itself leads anywhere.
func FuzzCookie(f *testing.F) {
	key, err := session.LoadKeys(filepath.Join(f.TempDir(), "key")) // of this process: others fuzz too, and hand their cookies on
	require.NoError(f, err)
	tab, err := session.Open(session.Config{Cookie: "ab", Keys: key, ARR: map[string]session.Generation{"node": green}})
	require.NoError(f, err)
	f.Cleanup(func() { tab.Close() })
	_, set := visit(tab, http.Header{}, blue)
	good := sent(set)
	for _, seed := range []string{good, "x=" + good, good + "A", "ab=" + good, `ab="` + good[3:] + `"`, "ARRAffinity=" + session.ARRValue("node"), "=;=;;= ;ab", "ab=;ab=;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		p := tab.Pick(with(field))
		switch {
		case p.Known() && !strings.Contains(field, good[3:]), p.Want() == blue && !p.Known():
			t.Fatalf("%q leads to %v", field, p.Want())
		case p.Want() == green && !strings.Contains(strings.ToUpper(field), session.ARRValue("node")):
			t.Fatalf("%q leads to %v", field, p.Want())
		}
	})
}

// FuzzFile gives any text as a file: what is taken is written again as it was.
func FuzzFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "sessions")
	tab, err := session.Open(session.Config{Cookie: "ab", Keys: keys(f, 1), File: path})
	require.NoError(f, err)
	visit(tab, http.Header{}, blue)
	visit(tab, http.Header{}, green)
	require.NoError(f, tab.Close())
	text, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(text)
	f.Add(text[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		again, err := session.DecodeForTest(text)
		if err == nil && !bytes.Equal(text, again) {
			t.Fatalf("%x is read, and written as %x", text, again)
		}
	})
}

// BenchmarkPick is the hot path of a known session.
func BenchmarkPick(b *testing.B) {
	for name, change := range map[string]func(*session.Config){"own": own, "signed": nil} {
		b.Run(name, func(b *testing.B) {
			tab := open(b, change)
			defer tab.Close()
			h := with("a=b; SID=one; c=d")
			if _, set := visit(tab, h, blue); set != "" {
				h = with("a=b; " + sent(set))
			}
			b.ReportAllocs()
			for b.Loop() {
				s, _ := tab.Begin(tab.Pick(h), blue)
				s.Leave()
			}
		})
	}
}
