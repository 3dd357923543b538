package folder_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/retry"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// patience bounds what must happen, on a machine that may be busy.
const patience = 30 * time.Second

// What this binary is when it is started by a test.
const (
	envAs   = "FOLDER_TEST_AS" // "install", "tool", "runner", "sleeper"
	envArgs = "FOLDER_TEST_ARGS"
)

func TestMain(m *testing.M) {
	switch os.Getenv(envAs) {
	case "":
		os.Exit(m.Run())
	case "install":
		os.Exit(installer())
	case "tool":
		os.Exit(tool())
	case "runner":
		exe, err := os.Executable()
		if err == nil {
			err = os.Setenv(envAs, "tool")
		}
		if err == nil {
			err = folder.Robocopy{Path: exe}.Copy(context.Background(), "/from", "/to")
		}
		fmt.Println("it came back", err)
	case "sleeper":
		fmt.Println("sleeper", os.Getpid())
		time.Sleep(10 * patience)
	}
}

// installer installs as its arguments say, tells its steps, and stops for good at one of them: parent, id, source, step, files.
func installer() int {
	args := strings.Split(os.Getenv(envArgs), "|")
	stopAt, files := folder.Step(args[3]), number(args[4])
	in, err := folder.New(folder.Config{Parent: args[0], Name: "MySite", OnProgress: func(p folder.Progress) {
		if p.Step == stopAt && p.Files >= files {
			fmt.Println("stopped")
			time.Sleep(10 * patience)
		}
	}})
	if err == nil {
		var path string
		if path, err = in.Install(context.Background(), abswap.Release{ID: args[1], Path: args[2]}); err == nil {
			fmt.Println("installed", path)
			return 0
		}
	}
	fmt.Println("error", errors.Is(err, abswap.ErrBusy), err)
	return 1
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// site is a folder for releases, and one with a source.
type site struct {
	parent, source string
	cfg            folder.Config
}

// content is a small release.
var content = map[string]string{
	"web.config":           `<configuration><system.webServer/></configuration>`,
	"app.dll":              "the application",
	"bin/a/lib.dll":        "a library",
	"wwwroot/index.html":   "<p>hello",
	"wwwroot/empty.txt":    "",
	"wwwroot/größe ä.txt":  "umlauts",
	"wwwroot/css/site.css": strings.Repeat("p { color: black }\n", 40_000),
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	s := &site{parent: filepath.Join(dir, "inetpub"), source: filepath.Join(dir, "build out")}
	require.NoError(t, os.Mkdir(s.parent, 0o755))
	for name, text := range content {
		s.write(t, name, text)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(s.source, "empty folder"), 0o755))
	s.cfg = folder.Config{Parent: s.parent, Name: "MySite", Patience: 300 * time.Millisecond}
	return s
}

// write makes a file of the source, changed long ago.
func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.source, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	put(t, path, text)
	then := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(path, then, then))
}

// put writes a file, which Windows refuses while the file is being copied.
func put(t *testing.T, path, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, retry.Do(ctx, retry.Policy{First: time.Millisecond}, func(context.Context) error {
		return os.WriteFile(path, []byte(text), 0o644)
	}))
}

func (s *site) installer(t *testing.T) *folder.Installer {
	t.Helper()
	in, err := folder.New(s.cfg)
	require.NoError(t, err)
	return in
}

func (s *site) release(id string) abswap.Release { return abswap.Release{ID: id, Path: s.source} }

func (s *site) install(t *testing.T, id string) string {
	t.Helper()
	path, err := s.installer(t).Install(t.Context(), s.release(id))
	require.NoError(t, err)
	return path
}

// names lists what is in the parent, but for the lock.
func (s *site) names(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(s.parent)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		if e.Name() != "MySite~lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// tree reads a folder: paths with slashes, those of folders with one at the end.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			all[rel+"/"] = ""
			return nil
		}
		data, err := os.ReadFile(path)
		all[rel] = string(data)
		return err
	}))
	return all
}

// symlink makes a symbolic link, or skips the test where there is no right to make one.
func symlink(t *testing.T, to, at string) {
	t.Helper()
	err := os.Symlink(to, at)
	if err == nil {
		_, err = os.Lstat(at)
	}
	if err != nil && runtime.GOOS == "windows" {
		t.Skipf("no symbolic links here: %v", err)
	}
	require.NoError(t, err)
}
