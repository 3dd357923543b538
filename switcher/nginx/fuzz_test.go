package nginx

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

func seed(f *testing.F, names ...string) {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
}

// Whatever a file holds: it is read or refused, and what is read and not edited is what would be written.
func FuzzInclude(f *testing.F) {
	seed(f, "include.conf", "dump-1.22.1.txt")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseInclude("mysite", text)
		if err != nil {
			return
		}
		assert.Equal(t, got.edited, got.in.render() != text)
		if !got.edited {
			assert.True(t, got.mark.same(got.in.mark()))
			assert.Empty(t, got.trouble)
		}
	})
}

// Whatever nginx -T prints: no endless work, no panic, and the findings can be made of it.
func FuzzDump(f *testing.F) {
	seed(f, "dump-1.22.1.txt", "include.conf")
	sw, err := New(Config{Name: "mysite", Slots: map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"}, Include: filepath.Join(f.TempDir(), "mysite.conf"),
		Door: "http://h/"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := expand(parseDump(text))
		if err == nil {
			_ = findingsOf(sw, tree)
		}
	})
}

func FuzzSaid(f *testing.F) {
	seed(f, "error-1.22.1.log")
	f.Fuzz(func(t *testing.T, text string) {
		for _, x := range parseSaid(text) {
			assert.NotEmpty(t, x.Level)
		}
		_ = refusalIn(text, 22643)
		_, _ = parseVersion(text)
		_ = parseTime(text)
		_ = parseTable(text)
		_, _ = parseStat(text)
	})
}

func FuzzMark(f *testing.F) {
	f.Add("abswap/1 mysite 17 3f2a90c1 blue:100,green:0 abswap_mysite_blue")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := ParseMark(text); err == nil {
			again, err := ParseMark(m.String())
			assert.NoError(t, err)
			assert.Equal(t, m, again)
		}
	})
}
