package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// machine is one installation of the tool: a folder with its config, a serve process, and a service manager that starts it again.
type machine struct {
	dir, listen, config string
	releases            int
	log                 *os.File

	mu      sync.Mutex
	serve   *exec.Cmd     // the one that runs; nil: none
	dead    chan struct{} // closed when it has ended
	killed  time.Time     // when it was; zero: it was not
	outages []outage
	faults  []string // ends of serve that nobody asked for
	ending  bool
}

// outage is a time in which the front door was dead.
type outage struct{ from, to time.Time } // from right before it was killed until its process had ended

// restartAfter is how long the service manager waits before it starts serve again.
const restartAfter = 50 * time.Millisecond

// loopback is where the control plane is that is not at a Unix socket.
const loopback = "127.0.0.1"

// newMachine installs the tool with more in the deploy section of its config.
func newMachine(t *testing.T, more ...string) *machine {
	return newMachineOn(t, controlPlace(), more...)
}

// newMachineOn does so with the control plane on loopback, or, if that is "", where it is by itself.
func newMachineOn(t *testing.T, control string, more ...string) *machine {
	listen, err := freeAddress()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "dt") // a socket's path must be short
	require.NoError(t, err)
	m := &machine{dir: dir, listen: listen, config: filepath.Join(dir, "deploytool.yaml")}
	head, err := baseConfig(listen, control)
	require.NoError(t, err)
	text := head + "deploy:\n"
	if !strings.Contains(strings.Join(more, "\n"), "soak:") {
		text += "  soak: 200ms\n"
	}
	for _, line := range more {
		if line != "" {
			text += "  " + line + "\n"
		}
	}
	require.NoError(t, os.WriteFile(m.config, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, workFile), nil, 0o600))
	m.log, err = os.Create(filepath.Join(dir, "serve.log"))
	require.NoError(t, err)
	supervised := make(chan struct{})
	end := make(chan struct{})
	go func() {
		defer close(supervised)
		m.supervise(end)
	}()
	t.Cleanup(func() {
		m.mu.Lock()
		m.ending = true
		cmd := m.serve
		m.mu.Unlock()
		close(end)
		if cmd != nil {
			cmd.Process.Kill()
		}
		<-supervised
		m.log.Close()
		assert.Empty(t, m.faults, "ends of serve")
		if text, err := os.ReadFile(m.log.Name()); err == nil && t.Failed() {
			t.Logf("serve:\n%s", text)
		}
		assert.NoError(t, stopApps(m.config))
		assert.NoError(t, removeAll(dir))
	})
	m.up(t)
	return m
}

// removeAll removes a folder of which processes have just ended: Windows lets it go a moment later.
func removeAll(dir string) (err error) {
	for range 50 {
		if err = os.RemoveAll(dir); err == nil || runtime.GOOS != "windows" {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// supervise keeps serve running.
func (m *machine) supervise(end <-chan struct{}) {
	for {
		cmd, dead := m.command("serve"), make(chan struct{})
		cmd.Stderr = m.log
		m.mu.Lock()
		if m.ending {
			m.mu.Unlock()
			return
		}
		err := cmd.Start()
		if err != nil {
			m.faults = append(m.faults, err.Error())
			m.mu.Unlock()
			return
		}
		m.serve, m.dead, m.killed = cmd, dead, time.Time{}
		m.mu.Unlock()
		err = cmd.Wait()
		m.mu.Lock()
		switch {
		case m.ending:
		case m.killed.IsZero():
			m.faults = append(m.faults, fmt.Sprint(err))
		default:
			m.outages = append(m.outages, outage{m.killed, time.Now()})
		}
		m.serve = nil
		m.mu.Unlock()
		close(dead)
		select {
		case <-end:
			return
		case <-time.After(restartAfter):
		}
	}
}

// killServe kills the serve process and waits for its end. It is false if none runs just then.
func (m *machine) killServe() bool {
	m.mu.Lock()
	cmd, dead := m.serve, m.dead
	if cmd == nil || !m.killed.IsZero() {
		m.mu.Unlock()
		return false
	}
	m.killed = time.Now()
	m.mu.Unlock()
	cmd.Process.Kill()
	<-dead
	return true
}

// allOutages are those until now.
func (m *machine) allOutages() []outage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]outage(nil), m.outages...)
}

// up waits until serve answers.
func (m *machine) up(t *testing.T) {
	t.Helper()
	c, err := loadConfig(m.config)
	require.NoError(t, err)
	end := time.Now().Add(30 * time.Second)
	for {
		client, err := c.client() // the token may not be there yet
		if err == nil {
			_, err = client.Weights(t.Context())
			client.Close()
		}
		if err == nil {
			return
		}
		require.True(t, time.Now().Before(end), "serve does not come: %v", err)
		time.Sleep(10 * time.Millisecond)
	}
}

// release makes the next release.
func (m *machine) release(t *testing.T, behaviour string) string {
	m.releases++
	id := fmt.Sprintf("r%d", m.releases)
	dir := filepath.Join(m.dir, "releases", id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "behaviour"), []byte(behaviour), 0o600))
	return id
}

// command is a command line of the tool.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("deploytool", args...)
	cmd.Dir = m.dir
	return cmd
}

// run runs the tool with env added to its environment.
func (m *machine) run(t *testing.T, env string, args ...string) (string, error) {
	cmd := m.command(args...)
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	return output(t, cmd)
}

// output runs cmd to its end and returns what it writes.
func output(t *testing.T, cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), hanging)
	defer cancel()
	done := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer done()
	out, err := cmd.CombinedOutput()
	require.NoError(t, ctx.Err(), "%q hangs:\n%s", cmd.Args, out)
	return string(out), err
}

func (m *machine) mustRun(t *testing.T, args ...string) {
	t.Helper()
	out, err := m.run(t, "", args...)
	require.NoError(t, err, "%s", out)
}

func (m *machine) status(t *testing.T) *state {
	t.Helper()
	cmd := m.command("status", "-json")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	st := new(state)
	require.NoError(t, json.Unmarshal(out, st))
	return st
}

// exitOf is the exit code of a command that has ended.
func exitOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

// servingOf is the one slot that gets all new work.
func servingOf(t *testing.T, st *state) string {
	t.Helper()
	require.Len(t, st.Weights, 1)
	for name, part := range st.Weights {
		require.Equal(t, 100, part)
		return name
	}
	return ""
}

// releaseIn is the release that runs in a slot and is fit there.
func releaseIn(t *testing.T, st *state, slot string) string {
	t.Helper()
	for _, s := range st.Slots {
		if s.Name == slot {
			assert.True(t, s.State.Running, "slot %s", slot)
			assert.Empty(t, s.Ready, "slot %s", slot)
			return s.State.Release
		}
	}
	return ""
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
