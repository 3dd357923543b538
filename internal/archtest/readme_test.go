package archtest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// blocks returns the README's code blocks in one language.
func blocks(t *testing.T, lang string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var all []string
	for _, m := range fenced.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\r\n", "\n"), -1) {
		if m[1] == lang {
			all = append(all, m[2])
		}
	}
	require.NotEmpty(t, all)
	return all
}

func TestReadmeCommandsAreRunByTheGate(t *testing.T) {
	gate, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	lines := strings.Split(strings.ReplaceAll(string(gate), "\r\n", "\n"), "\n")
	for _, block := range blocks(t, "sh") {
		for line := range strings.Lines(block) {
			assert.Contains(t, lines, strings.TrimSpace(line))
		}
	}
}

// shop is the application that the README's program deploys.
const shop = `package main

import ("net/http"; "os")

func main() {
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}
`

func TestReadmeProgramDeploys(t *testing.T) {
	programs := blocks(t, "go")
	require.Len(t, programs, 1)
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	tool := build(t, root, filepath.Join(dir, "tool"), programs[0])
	for _, release := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, release), 0o755))
		build(t, root, filepath.Join(dir, release, "shop"), shop)
	}
	cmd := exec.Command(tool, "127.0.0.1:0", dir)
	cmd.Stdin = strings.NewReader(filepath.Join(dir, "v1") + "\n" + filepath.Join(dir, "v2") + "\n")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "v1 succeeded blue <nil>\nv2 succeeded green <nil>\n", strings.ReplaceAll(string(out), "\r\n", "\n"))
}

// build compiles source as if it were a program of this module, and returns the path of what came out.
func build(t *testing.T, root, out, source string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		out += ".exe"
	}
	file := out + ".go.txt"
	require.NoError(t, os.WriteFile(file, []byte(source), 0o644))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, "examples", "readme", "main.go"): file}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(out+".overlay", overlay, 0o644))
	cmd := exec.Command("go", "build", "-overlay", out+".overlay", "-o", out, "./examples/readme")
	cmd.Dir = root
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}
