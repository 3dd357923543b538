package iistest_test

import (
	"context"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

// TestExecutable runs real processes: output, whole exit codes, arguments with blanks and quotes, standard input.
func TestExecutable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	p := w.Process()
	out, exit, err := p.Run(t.Context(), []string{"list", "site", "Public"}, nil)
	require.NoError(t, err)
	assert.Zero(t, exit)
	assert.Equal(t, "SITE \"Public\" (id:1,bindings:http/*:80:,state:Started)\r\n", string(out))
	for _, c := range []struct {
		args []string
		exit uint32
	}{
		{[]string{"start", "site", "No Site"}, 1168}, {[]string{"list", "site", "Nothing"}, 1}, {[]string{"bad"}, 87}, {[]string{"add", "apppool", "/name:A"}, 183},
		{[]string{"add", "site", "/name:Two Words", `/physicalPath:C:\a b\`, "/bindings:http/*:90:"}, 0},
	} {
		_, exit, err := p.Run(t.Context(), c.args, nil)
		require.NoError(t, err)
		assert.Equal(t, c.exit, exit, c.args)
	}
	assert.Equal(t, "C:\\a b\\\r\n", w.must("list", "vdir", "Two Words/", "/text:physicalPath"))
	w.SetRequestMonitor(false)
	_, exit, err = p.Run(t.Context(), []string{"list", "requests"}, nil)
	require.NoError(t, err)
	assert.Equal(t, uint32(0x80004001), exit)

	exported := w.must("list", "site", "Private", "/config", "/xml")
	w.must("delete", "site", "Private")
	out, exit, err = p.Run(t.Context(), []string{"add", "site", "/in"}, []byte(exported))
	require.NoError(t, err)
	assert.Zero(t, exit, string(out))

	path, err := w.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, "start", "site", "No Site") // by its path alone
	out, err = cmd.Output()
	exited, ok := err.(*exec.ExitError)
	require.True(t, ok, "%v", err)
	assert.Empty(t, exited.Stderr)
	assert.Contains(t, string(out), "Cannot find SITE object")
	if runtime.GOOS == "windows" {
		assert.Equal(t, 1168, exited.ExitCode())
	} else {
		assert.Equal(t, 1168&255, exited.ExitCode())
	}
}

// TestKilledProcess: a process that is killed before its commit has changed nothing; one that is killed after it has.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", nil)
	_, err := w.Executable()
	require.NoError(t, err)
	for kind, want := range map[iistest.FaultKind]string{iistest.HangBefore: "A", iistest.HangAfter: "B"} {
		hangs := make(chan struct{})
		w.Inject(iistest.Fault{Kind: kind, Match: func([]string) bool { close(hangs); return true }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		before := len(w.Commands())
		go func() {
			_, _, err := w.Process().Run(ctx, []string{"set", "app", "Public/", "/applicationPool:B"}, nil)
			done <- err
		}()
		if kind == iistest.HangAfter {
			w.eventually("commit", func() bool { return w.get(public).pool == "B" })
		} else {
			select {
			case err := <-done:
				require.Fail(t, "it does not hang", "%v", err)
			case <-hangs:
			}
		}
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
		w.eventually("the machine has seen it die", func() bool { return len(w.Commands()) > before })
		require.NoError(t, w.Settle(t.Context()))
		assert.Equal(t, want, w.get(public).pool)
		w.must("set", "app", "Public/", "/applicationPool:A")
	}
}

// TestClosedMachineHasNoProgram: nothing of it runs after Close.
func TestClosedMachineHasNoProgram(t *testing.T) {
	t.Parallel()
	srv, err := iistest.New(iistest.Config{})
	require.NoError(t, err)
	p := srv.Process()
	require.NoError(t, srv.Close())
	_, _, err = p.Run(t.Context(), []string{"list", "site"}, nil)
	assert.ErrorIs(t, err, iistest.ErrClosed)
	_, err = srv.Executable()
	assert.ErrorIs(t, err, iistest.ErrClosed)
}
