package filelock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/filelock"
)

const holderPath = "FILELOCK_TEST_HOLDER"

// TestHolder is not a test but another process, which locks a file, starts a child of its own, and waits for its end.
func TestHolder(t *testing.T) {
	path := os.Getenv(holderPath)
	if path == "" {
		t.Skip("only for TestLockDiesWithItsProcess")
	}
	if path != "child" {
		_, err := filelock.Try(path, 0o600)
		require.NoError(t, err)
		cmd := exec.Command(os.Args[0], "-test.run=^TestHolder$")
		cmd.Env, cmd.Stdin = append(os.Environ(), holderPath+"=child"), os.Stdin
		require.NoError(t, cmd.Start())
		fmt.Println("held")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestLockDiesWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestHolder$")
	cmd.Env, cmd.Stderr = append(os.Environ(), holderPath+"="+path), os.Stderr
	in, err := cmd.StdinPipe() // open to the end, so that the grandchild lives
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "held")

	_, err = filelock.Try(path, 0o600)
	require.ErrorIs(t, err, filelock.ErrHeld)
	held, err := filelock.Held(path)
	require.NoError(t, err)
	assert.True(t, held)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	f, err := filelock.Try(path, 0o600)
	require.NoError(t, err, "free as soon as it is gone")
	require.NoError(t, f.Close())
}

func TestLockExcludesWithinAProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := filelock.Held(path)
	require.NoError(t, err)
	assert.False(t, held, "no file, no lock")
	assert.NoFileExists(t, path)

	a, err := filelock.Try(path, 0o600)
	require.NoError(t, err)
	_, err = filelock.Try(path, 0o600)
	assert.ErrorIs(t, err, filelock.ErrHeld)
	held, err = filelock.Held(path)
	require.NoError(t, err)
	assert.True(t, held)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "idempotent")
	assert.ErrorIs(t, a.TryLock(), fs.ErrClosed)
	assert.ErrorIs(t, a.Lost(), fs.ErrClosed)
	assert.ErrorIs(t, a.SetContent(nil), fs.ErrClosed)
	held, err = filelock.Held(path)
	require.NoError(t, err)
	assert.False(t, held)
	assert.FileExists(t, path, "it stays")
	b, err := filelock.Try(path, 0o600)
	require.NoError(t, err)
	assert.NoError(t, b.Lost())
	assert.NoError(t, b.Close())
	_, err = filelock.Try(filepath.Join(path, "below"), 0o600)
	assert.Error(t, err)
}

func TestContentIsReadWhileLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := filelock.Open(path, 0o600)
	require.NoError(t, err)
	defer f.Close()
	for _, text := range []string{"a long content", "short", ""} {
		require.NoError(t, f.SetContent([]byte(text)))
		require.NoError(t, f.TryLock())
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
	}
}

func TestLostLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	f, err := filelock.Try(path, 0o600)
	require.NoError(t, err)
	defer f.Close()
	assert.NoError(t, f.Lost())
	if runtime.GOOS == "windows" {
		assert.Error(t, os.Remove(path), "Windows lets nobody remove it")
		return
	}
	require.NoError(t, os.Remove(path))
	assert.ErrorIs(t, f.Lost(), filelock.ErrLost)
	g, err := filelock.Try(path, 0o600)
	require.NoError(t, err, "a new file of the same name")
	defer g.Close()
	assert.ErrorIs(t, f.Lost(), filelock.ErrLost)
	assert.NoError(t, g.Lost())
	require.NoError(t, os.RemoveAll(dir))
	assert.ErrorIs(t, g.Lost(), filelock.ErrLost)
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := filelock.Try(path, 0o600)
	require.NoError(t, err)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	_, err = filelock.Wait(ctx, path, 0o600)
	assert.ErrorIs(t, err, why)
	assert.ErrorIs(t, err, filelock.ErrHeld)

	var freed atomic.Bool
	time.AfterFunc(20*time.Millisecond, func() { freed.Store(true); assert.NoError(t, a.Close()) })
	b, err := filelock.Wait(t.Context(), path, 0o600)
	require.NoError(t, err)
	assert.True(t, freed.Load())
	assert.NoError(t, b.Close())
	_, err = filelock.Wait(t.Context(), filepath.Join(path, "below"), 0o600)
	assert.Error(t, err, "no waiting for what never comes")
}

func TestRemote(t *testing.T) {
	kind, err := filelock.Remote(t.TempDir())
	require.NoError(t, err)
	if kind != "" {
		t.Logf("the folder of this test lies on %s", kind)
	}
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" {
		_, err = filelock.Remote(filepath.Join(t.TempDir(), "absent"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
	}
}
