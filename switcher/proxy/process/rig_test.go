package process_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/internal/retry"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// patience bounds what must happen, on a machine that may be busy.
const patience = 30 * time.Second

// config returns a Config for this test binary as the application, in these modes. What it starts is ended with the test.
func config(t *testing.T, modes string) process.Config {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	cfg := process.Config{
		Name:    "blue",
		Dir:     filepath.Join(dir, "blue"),
		Command: []string{exe},
		Env:     []string{envApp + "=" + modes, envNotify + "=" + filepath.Join(dir, "pids"), "GORACE=atexit_sleep_ms=0"},
		Grace:   patience,
	}
	if runtime.GOOS == "windows" { // a signal needs a console there
		cfg.StopPath = "/stop"
	}
	t.Cleanup(func() {
		cfg.Grace = -1
		s, err := process.New(cfg)
		require.NoError(t, err)
		require.NoError(t, s.Stop(context.Background()))
	})
	return cfg
}

func newSlot(t *testing.T, cfg process.Config) *process.Slot {
	t.Helper()
	s, err := process.New(cfg)
	require.NoError(t, err)
	return s
}

// release makes a folder and returns a release of it.
func release(t *testing.T, id string) abswap.Release {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return abswap.Release{ID: id, Path: dir}
}

// started returns a slot of cfg with release v1 started.
func started(t *testing.T, cfg process.Config) *process.Slot {
	t.Helper()
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	require.NoError(t, s.Start(t.Context()))
	return s
}

// eventually calls f until it returns nil.
func eventually(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, retry.Do(ctx, retry.Policy{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, f))
}

func ready(t *testing.T, s *process.Slot) {
	t.Helper()
	eventually(t, s.Ready)
}

func inspect(t *testing.T, s *process.Slot) abswap.SlotState {
	t.Helper()
	st, err := s.Inspect(t.Context())
	require.NoError(t, err)
	return st
}

func url(t *testing.T, s *process.Slot, path string) string {
	t.Helper()
	st := inspect(t, s)
	require.True(t, st.Running)
	return "http://" + st.Address + path
}

// post asks the application; it may end before it answers.
func post(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	if err == nil {
		require.NoError(t, resp.Body.Close())
	}
}

// recorded is the part of the slot's record that tests look at, and forge.
type recorded struct {
	fields map[string]any
	path   string
}

func readRecord(t *testing.T, cfg process.Config) recorded {
	t.Helper()
	r := recorded{path: filepath.Join(cfg.Dir, "slot.json")}
	data, err := atomicfile.Read(r.path) // the slot may be replacing it
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &r.fields))
	return r
}

func (r recorded) write(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(r.fields)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.path, data, 0o600))
}

func (r recorded) run() map[string]any { return r.fields["run"].(map[string]any) }

func (r recorded) process(t *testing.T) proc.ID {
	t.Helper()
	data, err := json.Marshal(r.run()["process"])
	require.NoError(t, err)
	var id proc.ID
	require.NoError(t, json.Unmarshal(data, &id))
	return id
}

func runs(t *testing.T, id proc.ID) bool {
	t.Helper()
	require.NotZero(t, id.PID)
	ok, err := proc.Running(id)
	require.NoError(t, err)
	return ok
}

func logOf(t *testing.T, s *process.Slot) string {
	t.Helper()
	data, err := os.ReadFile(s.Log())
	require.NoError(t, err)
	return string(data)
}

// childPIDs waits until n children of the application have told their pids.
func childPIDs(t *testing.T, cfg process.Config, n int) (ids []proc.ID) {
	t.Helper()
	var lines []string
	eventually(t, func(context.Context) error {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(cfg.Dir), "pids"))
		if lines = strings.Fields(string(data)); err == nil && len(lines) < n {
			err = os.ErrNotExist
		}
		return err
	})
	for _, l := range lines {
		pid, err := strconv.Atoi(l)
		require.NoError(t, err)
		id, err := proc.Identify(pid)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return ids
}

// freeAddress returns an address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
