package folder_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// child is an installer in a process of its own.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

// start begins to install id from the site's source in another process, which stops for good at a step.
func (s *site) start(t *testing.T, id string, stopAt folder.Step, files int) *child {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	c := &child{cmd: exec.Command(exe), lines: make(chan string, 10)}
	c.cmd.Env = append(os.Environ(), envAs+"=install", "GORACE=atexit_sleep_ms=0", fmt.Sprintf("%s=%s|%s|%s|%s|%d", envArgs, s.parent, id, s.source, stopAt, files))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			c.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-done
		_ = c.cmd.Wait()
	})
	return c
}

// line waits for what the child says next.
func (c *child) line(t *testing.T) string {
	t.Helper()
	select {
	case l, ok := <-c.lines:
		require.True(t, ok, "it ended without a word")
		return l
	case <-time.After(patience):
		require.Fail(t, "the child says nothing")
		return ""
	}
}

// kill ends the child at once and waits until it has ended.
func (c *child) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Kill())
	for range c.lines {
	}
}

func TestKilledAnywhereTheNextRunInstalls(t *testing.T) {
	type moment struct {
		step  folder.Step
		files int
	}
	moments := []moment{{folder.StepScan, 0}, {folder.StepCopy, 1}, {folder.StepCopy, 4}, {folder.StepCopy, len(content)},
		{folder.StepVerify, 1}, {folder.StepVerify, len(content)}, {folder.StepFinish, 0}}
	for _, m := range moments {
		t.Run(fmt.Sprintf("%s %d", m.step, m.files), func(t *testing.T) {
			s := newSite(t)
			c := s.start(t, "v1", m.step, m.files)
			require.Equal(t, "stopped", c.line(t))
			c.kill(t)
			assert.NoDirExists(t, filepath.Join(s.parent, "MySite.v1"), "a half copy never has the release's name")
			if m.step == folder.StepCopy || m.step == folder.StepVerify {
				assert.Contains(t, s.names(t), "MySite.v1~part")
			}
			assert.ErrorIs(t, s.installer(t).Verify(t.Context(), "v1"), folder.ErrNotInstalled)
			list, err := s.installer(t).List(t.Context())
			require.NoError(t, err)
			assert.Empty(t, list)

			path := s.install(t, "v1")
			assert.Equal(t, tree(t, s.source), tree(t, path))
			assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json"}, s.names(t))
		})
	}
	t.Run("of another release", func(t *testing.T) {
		s := newSite(t)
		c := s.start(t, "v1", folder.StepCopy, 2)
		require.Equal(t, "stopped", c.line(t))
		c.kill(t)
		s.install(t, "v2")
		assert.Equal(t, []string{"MySite.v2", "MySite.v2~manifest.json"}, s.names(t), "what the killed run left is gone")
	})
	t.Run("many times", func(t *testing.T) {
		s := newSite(t)
		for n := range 3 {
			c := s.start(t, "v1", folder.StepCopy, n+1)
			require.Equal(t, "stopped", c.line(t))
			c.kill(t)
		}
		s.install(t, "v1")
		assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json"}, s.names(t))
	})
}

// TestWhatTheLastMovesMayLeave makes the states between two moves by hand: no step is told in between.
func TestWhatTheLastMovesMayLeave(t *testing.T) {
	for name, half := range map[string]func(t *testing.T, path string){
		"before the folder got its name": func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+"~part")) },
		"moved aside":                    func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+"~gone")) },
		"half removed": func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+"~gone"))
			require.NoError(t, os.RemoveAll(filepath.Join(path+"~gone", "wwwroot")))
		},
		"removed but for the manifest": func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			half(t, s.install(t, "v1"))
			assert.ErrorIs(t, s.installer(t).Verify(t.Context(), "v1"), folder.ErrNotInstalled)
			path := s.install(t, "v1")
			assert.Equal(t, tree(t, s.source), tree(t, path))
			half(t, path)
			_, err := s.installer(t).Prune(t.Context(), folder.PruneOptions{InUse: []string{}})
			require.NoError(t, err)
			assert.Empty(t, s.names(t))
		})
	}
}

func TestTwoProcessesInstallTheSameRelease(t *testing.T) {
	s := newSite(t)
	first := s.start(t, "v1", folder.StepCopy, 3)
	require.Equal(t, "stopped", first.line(t))
	second := s.start(t, "v1", folder.StepWait, 0)
	require.Equal(t, "stopped", second.line(t), "it waits, and says so")
	second.kill(t)

	t.Run("who does not wait is told", func(t *testing.T) {
		s.cfg.Wait = -1
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, abswap.ErrBusy)
		s.cfg.Wait = 50 * time.Millisecond
		_, err = s.installer(t).Install(t.Context(), s.release("v2"))
		assert.ErrorIs(t, err, abswap.ErrBusy)
		s.cfg.Wait = 0
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = s.installer(t).Prune(ctx, folder.PruneOptions{InUse: []string{}})
		assert.ErrorIs(t, err, abswap.ErrBusy)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})

	waits := make(chan struct{})
	s.cfg.OnProgress = func(p folder.Progress) {
		if p.Step == folder.StepWait {
			close(waits)
		}
	}
	result := make(chan error, 1)
	go func() {
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		result <- err
	}()
	<-waits
	first.kill(t) // its lock dies with it
	select {
	case err := <-result:
		require.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "the lock of the dead is still there")
	}
	assert.Equal(t, tree(t, s.source), tree(t, filepath.Join(s.parent, "MySite.v1")))
	assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json"}, s.names(t))
}

func TestManyProcessesAtOnce(t *testing.T) {
	s := newSite(t)
	var all []*child
	for range 4 {
		all = append(all, s.start(t, "v1", "never", 0))
	}
	for _, c := range all {
		line := c.line(t)
		assert.True(t, strings.HasPrefix(line, "installed "), line)
	}
	assert.NoError(t, s.installer(t).Verify(t.Context(), "v1"))
	list, err := s.installer(t).List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, 1, list[0].Number, "one of them installed, the others found it")
}
