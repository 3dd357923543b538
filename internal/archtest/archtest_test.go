package archtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/abswap/abswap"

// requires is all that the module may require. Test-only needs count: they land in every caller's build list too.
var requires = []string{
	"github.com/cenkalti/backoff/v4", // only internal/retry
	"github.com/hashicorp/errwrap",   // by go-multierror
	"github.com/hashicorp/go-multierror",
	"github.com/stretchr/testify",
	"go.yaml.in/yaml/v3", // by testify
	"golang.org/x/sys",
}

// onlyIn lists libraries that one room wraps.
var onlyIn = map[string]string{
	"github.com/hashicorp/go-multierror": module + "/internal/multi",
	"github.com/cenkalti/backoff/v4":     module + "/internal/retry",
}

type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
	require.NotEmpty(t, all)
	return all
}

// room tells which room of the repository a package lies in.
func room(path string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	parts := strings.Split(rel, "/")
	switch {
	case rel == "":
		return "root"
	case parts[0] == "switcher" && len(parts) > 1:
		return "switcher/" + parts[1]
	}
	return parts[0]
}

// refusal says why a package may not import another; "" if it may.
func refusal(from, to string, test bool) string {
	a, b := room(from), room(to)
	switch {
	case a == b:
		return ""
	case b == "examples":
		return "an example is nobody's library"
	case a == "internal":
		return "internal rooms stand alone"
	case a == "root" && b == "internal", strings.HasPrefix(a, "switcher/") && (b == "root" || b == "internal" && a != "switcher/switchertest"):
		return ""
	case a == "examples" && b != "internal":
		return ""
	case test && b == "switcher/switchertest", test && b == "switcher/fake", test && b == "switcher/iistest":
		return ""
	}
	return fmt.Sprintf("%s may not import %s", a, b)
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		check := func(imports []string, test bool) {
			for _, to := range imports {
				if strings.HasPrefix(to, module) {
					assert.Empty(t, refusal(p.ImportPath, to, test), "%s imports %s", p.ImportPath, to)
				}
				if home, ok := onlyIn[to]; ok {
					assert.Equal(t, home, p.ImportPath, "%s is wrapped by %s alone", to, home)
				}
				if to == "testing" && !test {
					assert.Equal(t, module+"/switcher/switchertest", p.ImportPath, "only the suite ships with package testing")
				}
				if strings.HasPrefix(to, "github.com/stretchr/testify") {
					assert.True(t, test, "%s: testify is for our own tests", p.ImportPath)
				}
			}
		}
		check(p.Imports, false)
		check(append(p.TestImports, p.XTestImports...), true)
	}
}

func TestArrowsAreRefused(t *testing.T) {
	for _, c := range [][2]string{
		{"/internal/retry", ""}, {"/internal/retry", "/switcher/proxy"}, {"/switcher/iis", "/switcher/proxy"}, {"", "/switcher/proxy"},
		{"/examples/quickstart", "/internal/retry"}, {"/switcher/proxy", "/examples/quickstart"}, {"/switcher/switchertest", "/internal/multi"},
	} {
		assert.NotEmpty(t, refusal(module+c[0], module+c[1], false), "%v", c)
	}
}

func TestModuleRequiresNoMore(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.GoMod}}", module)
	path, err := cmd.Output()
	require.NoError(t, err)
	text, err := os.ReadFile(strings.TrimSpace(string(path)))
	require.NoError(t, err)
	var got []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && strings.HasPrefix(f[1], "v") {
			got = append(got, f[0])
		}
	}
	assert.ElementsMatch(t, requires, got)
}
