package nginx_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/nginx"
	"github.com/abswap/abswap/switcher/switchertest"
)

// file returns what the file of the site holds.
func (e *engine) file(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(e.cfg.Include)
	require.NoError(t, err)
	return string(text)
}

// answers checks who answers at the front door, and that the Switcher says so.
func (e *engine) answers(t *testing.T, slot string) {
	t.Helper()
	probe := e.site.Rig().Probe
	for range 6 {
		got, err := probe(t.Context())
		require.NoError(t, err)
		assert.Equal(t, slot, got)
	}
	name, err := e.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, slot, name)
}

// second returns another Switcher for the same nginx, as another process has one.
func (e *engine) second(t *testing.T, change func(*nginx.Config)) *nginx.Switcher {
	t.Helper()
	cfg := e.cfg
	if change != nil {
		change(&cfg)
	}
	sw, err := nginx.New(cfg)
	require.NoError(t, err)
	return sw
}

// A configuration that nginx -t refuses, whoever broke it, is not loaded, and our part of it is put back.
func TestRefusedByTheTest(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	conf, err := os.ReadFile(e.conf())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.conf(), append(conf, "nonsense on;\n"...), 0o644))
	before := e.file(t)
	pids, _, err := e.sw.Workers()
	require.NoError(t, err)
	err = e.sw.Activate(t.Context(), e.green)
	require.ErrorIs(t, err, nginx.ErrRefused)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorContains(t, err, `unknown directive "nonsense"`)
	assert.Equal(t, before, e.file(t))
	now, _, err := e.sw.Workers()
	require.NoError(t, err)
	assert.ElementsMatch(t, pids, now, "it was not reloaded")
	e.answers(t, "blue")
	require.NoError(t, os.WriteFile(e.conf(), conf, 0o644))
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.answers(t, "green")
}

// An address that cannot be bound passes nginx -t, and the signal answers nothing: only the error log and the workers tell. nginx goes on
// trying for two seconds and a half.
func TestRefusedByTheReload(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*nginx.Config)
		is     error
		says   string
	}{
		{"error log", nil, nginx.ErrRefused, "Address already in use"},
		{"no error log", func(c *nginx.Config) { c.ErrorLog, c.Patience = "/nowhere/error.log", 4*time.Second }, abswap.ErrUnknownOutcome,
			"not in force after 4s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, shape{config: c.change})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			conf, err := os.ReadFile(e.conf())
			require.NoError(t, err)
			broken := strings.Replace(string(conf), "    server {\n", fmt.Sprintf("    server {\n        listen %s;\n", l.Addr()), 1)
			require.NoError(t, os.WriteFile(e.conf(), []byte(broken), 0o644))
			before := e.file(t)
			err = e.sw.Activate(t.Context(), e.green)
			require.ErrorIs(t, err, c.is)
			assert.Equal(t, c.is == abswap.ErrUnknownOutcome, errors.Is(err, abswap.ErrUnknownOutcome))
			assert.ErrorContains(t, err, c.says)
			assert.Equal(t, before, e.file(t))
			e.answers(t, "blue")
			require.NoError(t, os.WriteFile(e.conf(), conf, 0o644))
			require.Eventually(t, func() bool { return e.sw.Activate(t.Context(), e.green) == nil }, 30*time.Second, 100*time.Millisecond)
			e.answers(t, "green")
		})
	}
}

// What nginx refused once, and what still stands in its log, says nothing of a configuration that runs already.
func TestAnOldRefusalIsNotTakenForANewOne(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	conf, err := os.ReadFile(e.conf())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.conf(), append(conf, "nonsense on;\n"...), 0o644))
	require.NoError(t, e.cmd.Process.Signal(syscall.SIGHUP))
	log := filepath.Join(e.dir, "error.log")
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "nonsense")
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(e.conf(), conf, 0o644))

	taking, _, err := e.sw.Workers()
	require.NoError(t, err)
	stuck := taking[0] // it does not hear that it is to shut down
	require.NoError(t, syscall.Kill(stuck, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(stuck, syscall.SIGCONT) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.sw.Activate(ctx, e.green) }()
	require.Eventually(t, func() bool {
		m, err := e.sw.Ask(t.Context())
		return err == nil && m.Weights["green"] == 100
	}, 30*time.Second, 10*time.Millisecond)
	cancel() // who has switched does not wait
	require.ErrorIs(t, <-done, abswap.ErrUnknownOutcome)

	impatient := e.second(t, func(c *nginx.Config) { c.ErrorLog, c.Patience = log, 300*time.Millisecond })
	err = impatient.Activate(t.Context(), e.green)
	assert.ErrorContains(t, err, "still takes connections")
	assert.NotErrorIs(t, err, nginx.ErrRefused)
	require.NoError(t, syscall.Kill(stuck, syscall.SIGCONT))
	require.NoError(t, e.second(t, func(c *nginx.Config) { c.ErrorLog = log }).Activate(t.Context(), e.green))
	e.answers(t, "green")
}

// What the file says is not what nginx runs until somebody reloads it.
func TestAFileThatIsNotLoaded(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	require.NoError(t, e.edit("* abswap_site_green;", "* abswap_site_blue;"))
	st, err := e.sw.Observe(t.Context())
	require.NoError(t, err)
	assert.True(t, st.Pending)
	assert.True(t, st.Edited)
	assert.Equal(t, map[string]int{"green": 100}, st.Weights)
	e.answers(t, "green")
	assert.ErrorIs(t, e.sw.Check(t.Context(), abswap.CheckRequest{}), nginx.ErrPending)
	require.NoError(t, e.hup(t.Context()))
	e.answers(t, "blue")
	err = e.sw.Check(t.Context(), abswap.CheckRequest{})
	assert.NotErrorIs(t, err, nginx.ErrPending)
	assert.ErrorContains(t, err, "changed by hand: the next switch replaces it")
	require.NoError(t, e.sw.Activate(t.Context(), e.blue))
	st, err = e.sw.Observe(t.Context())
	require.NoError(t, err)
	assert.False(t, st.Edited || st.Pending)
	e.answers(t, "blue")
}

// Weights changed by hand, and addresses.
func TestEditedByHand(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	weights := func() map[string]int {
		w, err := e.sw.Weights(t.Context())
		require.NoError(t, err)
		return w
	}
	require.NoError(t, e.edit("* abswap_site_blue;", "25% abswap_site_green; * abswap_site_blue;"))
	require.NoError(t, e.hup(t.Context()))
	assert.Equal(t, map[string]int{"blue": 75, "green": 25}, weights())
	name, err := e.sw.Active(t.Context())
	assert.Equal(t, "blue", name)
	assert.ErrorIs(t, err, abswap.ErrMixed)

	require.NoError(t, e.sw.Activate(t.Context(), e.blue))
	require.NoError(t, e.edit(e.cfg.Slots["blue"], e.cfg.Slots["green"])) // blue's group leads to green now
	require.NoError(t, e.hup(t.Context()))
	assert.Equal(t, map[string]int{"green": 100}, weights())
	e.answers(t, "green")

	require.NoError(t, e.edit(e.cfg.Slots["green"], "127.0.0.1:9"))
	require.NoError(t, e.hup(t.Context()))
	_, err = e.sw.Weights(t.Context())
	assert.ErrorContains(t, err, "the address of no slot")
	require.NoError(t, e.sw.Activate(t.Context(), e.blue), "a switch makes it right")
	e.answers(t, "blue")
}

// The file of an earlier generation, put back by hand, is what runs once it is loaded.
func TestAnOlderFileIsBack(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	old := e.file(t)
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	require.NoError(t, os.WriteFile(e.cfg.Include, []byte(old), 0o644))
	require.NoError(t, e.hup(t.Context()))
	e.answers(t, "blue")
	before, err := os.ReadFile(filepath.Join(filepath.Dir(e.cfg.Include), ".site.conf.before"))
	require.NoError(t, err)
	assert.Equal(t, old, string(before), "what was there before the switch is kept")
	require.NoError(t, os.Remove(e.cfg.Include))
	st, err := e.sw.Observe(t.Context())
	require.NoError(t, err)
	assert.True(t, st.Pending, "without the file nginx would not even start")
	require.NoError(t, e.sw.Activate(t.Context(), e.blue))
	e.answers(t, "blue")
}

// Another hand reloads nginx while something is in the old slot: it stays there, and counts, also for another process that has seen nothing.
func TestForeignReload(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	work, err := e.site.Begin(t.Context(), switchertest.KindUpload)
	require.NoError(t, err)
	defer work.Abort()
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	for range 3 {
		require.NoError(t, e.hup(t.Context()))
		e.answers(t, "green")
	}
	other := e.second(t, nil)
	for _, sw := range []*nginx.Switcher{e.sw, other} {
		countsBy(t, sw, e.blue, 1)
	}
	require.NoError(t, work.Step(t.Context()))
	require.NoError(t, work.End(t.Context()))
	e.counts(t, e.blue, 0)
}

// Another process knows from the file which slots an old worker leads to.
func TestOldWorkersAreKnownToOthers(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	early, err := net.Dial("tcp", strings.TrimPrefix(e.front, "http://"))
	require.NoError(t, err)
	defer early.Close()
	for range 10 {
		_, err := e.sw.Ask(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	other := e.second(t, nil)
	for slot, want := range map[abswap.Slot]int{e.blue: 1, e.green: 0} {
		countsBy(t, other, slot, want)
	}
}

func TestWhatIsCalledInPlaceOfTheSignal(t *testing.T) {
	t.Parallel()
	var reloads []string
	e := newEngine(t, shape{})
	sw := e.second(t, func(c *nginx.Config) {
		c.Reload = append(append([]string{}, e.cfg.Command...), "-s", "reload")
		c.Run = func(ctx context.Context, program string, args ...string) (nginx.Output, error) {
			if args[len(args)-1] == "reload" {
				reloads = append(reloads, strings.Join(args[len(args)-2:], " "))
			}
			out, err := exec.CommandContext(ctx, program, args...).Output()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return nginx.Output{Stdout: out, Stderr: exit.Stderr, Code: exit.ExitCode()}, nil
			}
			return nginx.Output{Stdout: out}, err
		}
	})
	require.NoError(t, sw.Activate(t.Context(), e.green))
	e.answers(t, "green")
	assert.Equal(t, []string{"-s reload"}, reloads)

	failing := e.second(t, func(c *nginx.Config) { c.Reload = []string{"false"} })
	before := e.file(t)
	err := failing.Activate(t.Context(), e.blue)
	assert.ErrorContains(t, err, "false: exit code 1")
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome, "it may have done something first")
	assert.Equal(t, before, e.file(t))
	e.answers(t, "green")
}

// The context ends while nginx is asked about the new file: nothing has moved.
func TestContextEndsBeforeTheReload(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	ctx, cancel := context.WithCancel(t.Context())
	sw := e.second(t, func(c *nginx.Config) {
		c.Run = func(ctx context.Context, _ string, _ ...string) (nginx.Output, error) {
			cancel()
			return nginx.Output{}, ctx.Err()
		}
	})
	before := e.file(t)
	err := sw.Activate(ctx, e.green)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.Equal(t, before, e.file(t))
	e.answers(t, "blue")
}

func TestALinkStaysALink(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	real := filepath.Join(e.dir, "real.conf")
	require.NoError(t, os.Rename(e.cfg.Include, real))
	require.NoError(t, os.Chmod(real, 0o640))
	require.NoError(t, os.Symlink(real, e.cfg.Include))
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.answers(t, "green")
	info, err := os.Lstat(e.cfg.Include)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&fs.ModeSymlink)
	info, err = os.Stat(real)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
}

// Idle connections to the new slot are no work of the old one.
func TestKeepaliveToSlots(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{config: func(c *nginx.Config) { c.Keepalive = 4 }, location: unbuffered + ` proxy_set_header Connection "";`})
	e.answers(t, "blue")
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.answers(t, "green")
	e.counts(t, e.blue, 0)
}

// A stale PID file may name a process of somebody else, which the signal would end.
func TestThePIDFileNamesAnotherProcess(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	other := exec.Command("sleep", "60")
	require.NoError(t, other.Start())
	defer func() { _ = other.Wait() }()
	defer func() { _ = other.Process.Kill() }()
	stale := filepath.Join(e.dir, "stale.pid")
	require.NoError(t, os.WriteFile(stale, []byte(strconv.Itoa(other.Process.Pid)), 0o644))
	sw := e.second(t, func(c *nginx.Config) { c.PIDFile = stale })
	assert.ErrorIs(t, sw.Activate(t.Context(), e.green), nginx.ErrNotRunning)
	assert.ErrorIs(t, sw.Check(t.Context(), abswap.CheckRequest{}), nginx.ErrNotRunning)
	_, err := sw.InFlight(t.Context(), e.blue)
	assert.ErrorIs(t, err, nginx.ErrNotRunning)
	assert.NoError(t, other.Process.Signal(syscall.Signal(0)))

	require.NoError(t, os.WriteFile(e.cfg.PIDFile+".oldbin", []byte(strconv.Itoa(e.cmd.Process.Pid)), 0o644))
	assert.ErrorContains(t, e.sw.Activate(t.Context(), e.green), "the program of nginx is being replaced")
}

func TestPrepareLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	sw, err := nginx.New(nginx.Config{Name: "site", Slots: map[string]string{"a": "127.0.0.1:1", "b": "127.0.0.1:2"},
		Include: filepath.Join(t.TempDir(), "site.conf"), Door: "http://127.0.0.1/x"})
	require.NoError(t, err)
	assert.ErrorIs(t, sw.Prepare(t.Context(), fake.NewSlot("c")), abswap.ErrUnknownSlot)
	require.NoError(t, sw.Prepare(t.Context(), fake.NewSlot("a")))
	assert.ErrorIs(t, sw.Prepare(t.Context(), fake.NewSlot("b")), fs.ErrExist)
}
