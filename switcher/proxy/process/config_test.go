package process_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/process"
)

func TestNewTellsAllMistakesAtOnce(t *testing.T) {
	_, err := process.New(process.Config{})
	assert.ErrorContains(t, err, "no Name")
	assert.ErrorContains(t, err, "no Dir")
	assert.ErrorContains(t, err, "no Command")

	abs := filepath.Join(t.TempDir(), "blue")
	good := process.Config{Name: "blue", Dir: abs, Command: []string{"./server"}}
	for want, spoil := range map[string]func(*process.Config){
		`name "a/b"`:                func(c *process.Config) { c.Name = "a/b" },
		`name ".."`:                 func(c *process.Config) { c.Name = ".." },
		"is not absolute":           func(c *process.Config) { c.Dir = "blue" },
		"holds a zero byte":         func(c *process.Config) { c.Command = []string{"x", "a\x00b"} },
		"no Command":                func(c *process.Config) { c.Command = []string{""} },
		`"FOO" is not of the form`:  func(c *process.Config) { c.Env = []string{"FOO"} },
		`"=x" is not of the form`:   func(c *process.Config) { c.Env = []string{"=x"} },
		`"A" is set twice`:          func(c *process.Config) { c.Env = []string{"A=1", "A=2"} },
		`"PORT" is set by the slot`: func(c *process.Config) { c.Env = []string{"PORT=1"} },
		`"abswap_token" is set by`:  func(c *process.Config) { c.Env = []string{"abswap_token=1"} },
		`"P" is set by the slot`:    func(c *process.Config) { c.PortEnv = "P"; c.Env = []string{"P=1"} },
		"PortEnv":                   func(c *process.Config) { c.PortEnv = "A=B" },
		"is not an IP address":      func(c *process.Config) { c.Address = "example.com:80" },
		"has port 0":                func(c *process.Config) { c.Address = "127.0.0.1:0" },
		"is that of all networks":   func(c *process.Config) { c.Address = "0.0.0.0:80" },
		`path "healthz"`:            func(c *process.Config) { c.Health = "healthz" },
		`path "/a b"`:               func(c *process.Config) { c.Warm = []string{"/", "/a b"} },
		"path 1 is empty":           func(c *process.Config) { c.Warm = []string{"/", ""} },
		`path "http://x/stop"`:      func(c *process.Config) { c.StopPath = "http://x/stop" },
		`Host "a b"`:                func(c *process.Config) { c.Host = "a b" },
		"ReadyTimeout is negative":  func(c *process.Config) { c.ReadyTimeout = -1 },
		"WarmTimeout is negative":   func(c *process.Config) { c.WarmTimeout = -time.Second },
		"WarmRounds is negative":    func(c *process.Config) { c.WarmRounds = -1 },
		"LogSize is negative":       func(c *process.Config) { c.LogSize = -1 },
	} {
		c := good
		spoil(&c)
		s, err := process.New(c)
		assert.ErrorContains(t, err, want)
		assert.Nil(t, s)
		assert.Len(t, multi.All(err), 1)
	}
	s, err := process.New(good)
	require.NoError(t, err)
	assert.Equal(t, "blue", s.Name())
	assert.Equal(t, filepath.Join(abs, "log", "blue.log"), s.Log())
	assert.NoDirExists(t, abs)
}

// findings returns what Check says, warnings and errors apart. The machine's own warning about services is left out.
func findings(t *testing.T, s *process.Slot) (warnings, errs []string) {
	t.Helper()
	for _, err := range multi.All(s.Check(t.Context(), abswap.CheckRequest{})) {
		if _, ok := err.(*abswap.Warning); ok {
			warnings = append(warnings, err.Error())
		} else {
			errs = append(errs, err.Error())
		}
	}
	return warnings, errs
}

func TestCheck(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Address = freeAddress(t)
	s := newSlot(t, cfg)
	_, errs := findings(t, s)
	assert.Empty(t, errs)
	assert.NoDirExists(t, cfg.Dir)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)
	_, errs = findings(t, s)
	assert.Empty(t, errs, "its own application may have its address")
	require.NoError(t, s.Stop(t.Context()))

	var l net.Listener
	require.EventuallyWithT(t, func(c *assert.CollectT) { // Wine frees a dead process's port a moment after its death
		var err error
		l, err = net.Listen("tcp", cfg.Address)
		require.NoError(c, err)
	}, 20*time.Second, 10*time.Millisecond)
	defer l.Close()
	bad := cfg
	bad.Command = []string{"no-such-program-anywhere", "{prot}", "{port}"}
	bad.Dir = filepath.Join(t.TempDir(), "absent", "blue")
	warnings, errs := findings(t, newSlot(t, bad))
	require.Len(t, errs, 3, "all at once")
	assert.Contains(t, errs[0], "cannot be made")
	assert.Contains(t, errs[1], "no-such-program-anywhere")
	assert.Contains(t, errs[2], "its address")
	if runtime.GOOS == "linux" {
		assert.Contains(t, errs[2], "process "+strconv.Itoa(os.Getpid())+" (")
	}
	assert.Contains(t, warnings, `warning: slot "blue": Command: "{prot}" in "{prot}" is no placeholder and stays as it is`)
}

func TestCheckOfTwoSlotsInOnePlace(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Address = freeAddress(t)
	blue := newSlot(t, cfg)
	cfg.Name = "green"
	green := newSlot(t, cfg)
	var texts []string
	for _, s := range []*process.Slot{blue, green} {
		for _, err := range multi.All(s.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue, wrapped{green}}})) {
			if _, ok := err.(*abswap.Warning); !ok {
				texts = append(texts, err.Error())
			}
		}
	}
	assert.Equal(t, []string{
		fmt.Sprintf("slot \"blue\": slot \"green\" has the same address, %s", cfg.Address),
		fmt.Sprintf("slot \"blue\": slot \"green\" has the same folder, %q", cfg.Dir),
	}, texts, "each once")
}

type wrapped struct{ abswap.Slot }

func (w wrapped) Unwrap() abswap.Slot { return w.Slot }

func TestCheckOfFolderThatCannotBeWritten(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("this user can write everywhere")
	}
	cfg := config(t, "normal")
	require.NoError(t, os.Mkdir(cfg.Dir, 0o500))
	t.Cleanup(func() { require.NoError(t, os.Chmod(cfg.Dir, 0o700)) })
	_, errs := findings(t, newSlot(t, cfg))
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0], "cannot be written")
}

func TestCheckOfAProgramThatIsGone(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Command = []string{"./server"}
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	warnings, errs := findings(t, s)
	assert.Empty(t, errs, "the next release has a folder of its own")
	require.NotEmpty(t, warnings)
	assert.Contains(t, warnings[0], "server")
}

func TestDamagedAndForeignRecords(t *testing.T) {
	cfg := config(t, "normal")
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	path := filepath.Join(cfg.Dir, "slot.json")
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	other := cfg
	other.Name = "green"
	_, err = newSlot(t, other).Inspect(t.Context())
	assert.ErrorContains(t, err, `belongs to slot "blue"`)
	for _, data := range []string{"", "{", `{"version":99,"slot":"blue"}`, `{"version":1,"slot":"blue","run":{}}`} {
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		assert.Error(t, s.Start(t.Context()), data)
		assert.Error(t, s.Stop(t.Context()), data)
		assert.Error(t, s.Install(t.Context(), release(t, "v2")), data)
		assert.Error(t, s.Ready(t.Context()), data)
		_, errs := findings(t, s)
		assert.NotEmpty(t, errs)
	}
	require.NoError(t, os.WriteFile(path, good, 0o600))
	require.NoError(t, s.Start(t.Context()))
}

func TestFolderIsMadeButNotItsParent(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Dir = filepath.Join(t.TempDir(), "typo", "blue")
	s := newSlot(t, cfg)
	assert.ErrorIs(t, s.Install(context.Background(), release(t, "v1")), os.ErrNotExist)
	assert.NoDirExists(t, filepath.Dir(cfg.Dir))
}
