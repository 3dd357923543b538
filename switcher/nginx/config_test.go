package nginx_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/nginx"
)

func good(t *testing.T) nginx.Config {
	return nginx.Config{Name: "mysite", Slots: map[string]string{"blue": "127.0.0.1:5001", "green": "[::1]:5002"},
		Include: filepath.Join(t.TempDir(), "mysite.conf"), Door: "http://127.0.0.1/.abswap-mysite"}
}

func TestNewTellsAllMistakes(t *testing.T) {
	_, err := nginx.New(good(t))
	require.NoError(t, err)
	_, err = nginx.New(nginx.Config{Name: "My Site", Slots: map[string]string{"a b": "localhost:80"}, Include: "site.conf", Door: "ftp://x", Key: "a;b", Probes: -1,
		Reload: []string{""}})
	for _, want := range []string{`Name "My Site"`, "at least two", `slot "a b": a name is`, `"localhost:80" is not of the form`, `Include "site.conf" is not an absolute`,
		`Door "ftp://x"`, `Key "a;b"`, "none may be negative", "has no program"} {
		assert.ErrorContains(t, err, want)
	}
	for name, slots := range map[string]map[string]string{
		"one address":  {"a": "127.0.0.1:5001", "b": "[::ffff:127.0.0.1]:5001"},
		"no port":      {"a": "127.0.0.1:0", "b": "127.0.0.1:5002"},
		"any address":  {"a": "0.0.0.0:5001", "b": "127.0.0.1:5002"},
		"name as host": {"a": "app.example:5001", "b": "127.0.0.1:5002"},
	} {
		cfg := good(t)
		cfg.Slots = slots
		_, err := nginx.New(cfg)
		assert.Error(t, err, name)
	}
}

func TestSnippet(t *testing.T) {
	cfg := good(t)
	sw, err := nginx.New(cfg)
	require.NoError(t, err)
	for _, want := range []string{"include " + cfg.Include + ";", "location = /.abswap-mysite { default_type text/plain; return 200 $abswap_mysite_mark; }",
		"proxy_pass http://$abswap_mysite;"} {
		assert.Contains(t, sw.Snippet(), want)
	}
}

// The lines that the package's documentation shows are those of its Config.
func TestTheLinesOfTheDocumentation(t *testing.T) {
	cfg := good(t)
	cfg.Include = "/etc/nginx/abswap-mysite.conf"
	if !filepath.IsAbs(cfg.Include) {
		t.Skip("paths within a configuration are those of Unix")
	}
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	doc := strings.ReplaceAll(string(text), "\r", "")
	sw, err := nginx.New(cfg)
	require.NoError(t, err)
	lines := 0
	for line := range strings.Lines(sw.Snippet()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines++
			assert.Contains(t, doc, "//\t"+line+"\n")
		}
	}
	assert.Equal(t, 5, lines)
}

func TestMark(t *testing.T) {
	m := nginx.Mark{Name: "mysite", Generation: 17, Digest: "3f2a90c1", Weights: map[string]int{"green": 0, "blue": 100}, Route: "abswap_mysite_blue"}
	assert.Equal(t, "abswap/1 mysite 17 3f2a90c1 blue:100,green:0 abswap_mysite_blue", m.String())
	got, err := nginx.ParseMark(m.String())
	require.NoError(t, err)
	assert.Equal(t, m, got)
	for _, bad := range []string{"", "ok", "abswap/2 mysite 17 3f2a90c1 blue:100 x", "abswap/1 mysite -1 3f2a90c1 blue:100 x", "abswap/1 mysite 17 3f2a90c1 blue:99 x",
		"abswap/1 mysite 17 3f2a90c1 blue:50,blue:50 x", "abswap/1 mysite 17 xyz blue:100 x", "abswap/1 My 17 3f2a90c1 blue:100 x",
		"abswap/1 mysite 17 3f2a90c1 blue:100 a;b", "abswap/1 mysite 017 3f2a90c1 blue:100 x", "<html>404</html>"} {
		_, err := nginx.ParseMark(bad)
		assert.Error(t, err, bad)
	}
}
