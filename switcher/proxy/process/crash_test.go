package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/switcher/proxy/process"
)

func jsonStart(id proc.ID) string { return strconv.FormatUint(id.Start, 10) }

// toolFor returns this test binary as a tool that installs r, unless that is nil, and starts the slot.
func toolFor(t *testing.T, cfg process.Config, r *abswap.Release) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	data, err := json.Marshal(cfg)
	require.NoError(t, err)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), envTool+"="+string(data), "GORACE=atexit_sleep_ms=0")
	if r != nil {
		c.Env = append(c.Env, envRelay+"="+r.Path)
	}
	return c
}

func TestTheApplicationOutlivesItsStarter(t *testing.T) {
	cfg := config(t, "normal")
	r := release(t, "v1")
	out, err := toolFor(t, cfg, &r).CombinedOutput() // ends only when nobody holds the tool's output any more
	require.NoError(t, err, string(out))
	assert.Equal(t, "starting\nstarted\n", strings.ReplaceAll(string(out), "\r", ""), "no output of the application comes through the tool")

	s := newSlot(t, cfg)
	ready(t, s)
	st := inspect(t, s)
	assert.Equal(t, "v1", st.Release)
	assert.True(t, st.Running)
	id := readRecord(t, cfg).process(t)
	require.NoError(t, s.Start(t.Context()), "it runs already")
	assert.Equal(t, id, readRecord(t, cfg).process(t))
	assert.Equal(t, 1, strings.Count(logOf(t, s), "starts release"))
	assert.Contains(t, logOf(t, s), "app begins with PORT")

	post(t, url(t, s, "/exit")) // it crashes
	eventually(t, func(context.Context) error {
		if inspect(t, s).Running {
			return os.ErrExist
		}
		return nil
	})
	err = s.Ready(t.Context())
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, id.String()+" has ended;")
	require.NoError(t, s.Start(t.Context()), "and is started again")
	ready(t, s)
	assert.NotEqual(t, id, readRecord(t, cfg).process(t))
	assert.Equal(t, 2, strings.Count(logOf(t, s), "starts release"), "with a section of its own in the log")
	require.NoError(t, s.Stop(t.Context()))
	assert.Contains(t, logOf(t, s), "bye by")
}

// The tool died after it had begun the process and before it could write down which: only the token is known.
func TestDeathBetweenIntentAndRecord(t *testing.T) {
	begin := func(t *testing.T) (process.Config, proc.ID) {
		cfg := config(t, "normal")
		r := release(t, "v1")
		out, err := toolFor(t, cfg, &r).CombinedOutput()
		require.NoError(t, err, string(out))
		rec := readRecord(t, cfg)
		id := rec.process(t)
		delete(rec.run(), "process")
		rec.write(t)
		return cfg, id
	}
	t.Run("Inspect and Ready find it", func(t *testing.T) {
		cfg, _ := begin(t)
		s := newSlot(t, cfg)
		assert.True(t, inspect(t, s).Running)
		ready(t, s)
		assert.Nil(t, readRecord(t, cfg).run()["process"], "and change nothing")
		assert.ErrorIs(t, s.Install(t.Context(), release(t, "v2")), abswap.ErrSlotOccupied)
	})
	t.Run("Start takes it over", func(t *testing.T) {
		cfg, id := begin(t)
		s := newSlot(t, cfg)
		require.NoError(t, s.Start(t.Context()))
		assert.Equal(t, id, readRecord(t, cfg).process(t))
		assert.Equal(t, 1, strings.Count(logOf(t, s), "starts release"))
		ready(t, s)
	})
	t.Run("Stop ends it", func(t *testing.T) {
		cfg, id := begin(t)
		s := newSlot(t, cfg)
		ready(t, s)
		require.NoError(t, s.Stop(t.Context()))
		assert.False(t, runs(t, id))
		assert.Contains(t, logOf(t, s), "bye by")
	})
	t.Run("it never began", func(t *testing.T) {
		cfg, id := begin(t)
		require.NoError(t, proc.Kill([]proc.ID{id}))
		s := newSlot(t, cfg)
		eventually(t, func(context.Context) error {
			if inspect(t, s).Running {
				return os.ErrExist
			}
			return nil
		})
		err := s.Ready(t.Context())
		assert.ErrorIs(t, err, abswap.ErrNotReady)
		assert.NotErrorIs(t, err, abswap.ErrPermanent, "another may be starting it now")
		require.NoError(t, s.Start(t.Context()))
		ready(t, s)
		assert.NotEqual(t, id, readRecord(t, cfg).process(t))
	})
}

// The tool is killed at some point of Start; whatever that was, there is one application afterwards, and none after Stop.
func TestKilledAnywhereInStart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the applications are counted by /proc")
	}
	cfg := config(t, "normal")
	cfg.Grace = -1
	mark := cfg.Env[1] // no other test has this folder
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	points := map[int]int{}
	for i := range 12 {
		tool := toolFor(t, cfg, nil)
		out, err := tool.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, tool.Start())
		_, err = bufio.NewReader(out).ReadString('\n') // "starting"
		require.NoError(t, err)
		deadline := time.NewTimer(time.Duration(i) * 700 * time.Microsecond)
		<-deadline.C
		_ = tool.Process.Kill()
		_ = tool.Wait()

		require.NoError(t, s.Start(t.Context()))
		apps := applications(t, mark)
		require.Len(t, apps, 1, "round %d", i)
		require.Equal(t, readRecord(t, cfg).process(t).PID, apps[0])
		points[strings.Count(logOf(t, s), "starts release")]++
		require.NoError(t, s.Stop(t.Context()))
		require.Empty(t, applications(t, mark))
	}
	t.Logf("sections of the log after each round: %v", points)
}

// applications returns the pids of all processes whose environment holds mark.
func applications(t *testing.T, mark string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && !strings.Contains(string(env), envTool) && strings.Contains(string(env), mark+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Who started it waits for it, whatever became of the slot meanwhile.
func TestNoZombieIsLeft(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no zombies there")
	}
	cfg := config(t, "normal")
	first := started(t, cfg)
	ready(t, first)
	id := readRecord(t, cfg).process(t)
	other := newSlot(t, cfg)
	require.NoError(t, other.Stop(t.Context()))
	require.NoError(t, other.Install(t.Context(), release(t, "v2")))
	require.NoError(t, other.Start(t.Context()))
	inspect(t, first)
	_, err := proc.Identify(id.PID)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A process that has ended and that nobody has waited for yet does not run.
func TestAZombieDoesNotRun(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no zombies there")
	}
	cfg := config(t, "normal")
	parent := started(t, cfg)
	ready(t, parent)
	id := readRecord(t, cfg).process(t)
	require.NoError(t, proc.Kill([]proc.ID{id}))
	other := newSlot(t, cfg) // it did not start it, so it cannot wait for it
	eventually(t, func(context.Context) error {
		if inspect(t, other).Running {
			return os.ErrExist
		}
		return nil
	})
	_, err := proc.Identify(id.PID)
	require.NoError(t, err, "it is a zombie")
	assert.ErrorContains(t, parent.Ready(t.Context()), "ended by signal: killed")
	_, err = proc.Identify(id.PID)
	assert.ErrorIs(t, err, os.ErrNotExist, "who started it has waited for it")
}
