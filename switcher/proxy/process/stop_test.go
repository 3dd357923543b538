package process_test

import (
	"context"
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

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/switcher/proxy/process"
)

func TestStopAsksFirst(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals; TestStopPath has the way there")
	}
	s := started(t, config(t, "normal"))
	ready(t, s)
	require.NoError(t, s.Stop(t.Context()))
	assert.Contains(t, logOf(t, s), "bye by signal")
}

func TestStopPath(t *testing.T) {
	cfg := config(t, "normal,stubborn")
	cfg.StopPath = "/stop"
	s := started(t, cfg)
	ready(t, s)
	require.NoError(t, s.Stop(t.Context()))
	assert.Contains(t, logOf(t, s), "bye by post")

	if runtime.GOOS == "windows" {
		return
	}
	cfg.StopPath = "/absent" // 404: then the signal
	cfg.Env[0] = envApp + "=normal"
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)
	require.NoError(t, s.Stop(t.Context()))
	assert.True(t, strings.HasSuffix(logOf(t, s), "bye by signal\n"))
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	cfg := config(t, "stubborn")
	cfg.Grace = 300 * time.Millisecond
	cfg.StopPath = ""
	s := started(t, cfg)
	ready(t, s)
	id := readRecord(t, cfg).process(t)
	begun := time.Now()
	require.NoError(t, s.Stop(t.Context()))
	if runtime.GOOS != "windows" { // there it may be that it cannot be asked: then it is killed at once
		assert.GreaterOrEqual(t, time.Since(begun), cfg.Grace)
	}
	assert.False(t, runs(t, id))
	assert.False(t, inspect(t, s).Running)
	assert.NotContains(t, logOf(t, s), "bye")
	assert.Contains(t, logOf(t, s), fmt.Sprintf("slot blue: kills [process %d]", id.PID))
}

func TestNegativeGraceKillsAtOnce(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Grace = -1
	s := started(t, cfg)
	ready(t, s)
	id := readRecord(t, cfg).process(t)
	require.NoError(t, s.Stop(t.Context()))
	assert.False(t, runs(t, id))
	assert.NotContains(t, logOf(t, s), "bye")
}

func TestStopEndsTheWholeTree(t *testing.T) {
	for _, modes := range []string{"children", "children,stubborn"} {
		t.Run(modes, func(t *testing.T) {
			cfg := config(t, modes)
			if strings.Contains(modes, "stubborn") {
				cfg.Grace = 300 * time.Millisecond
			}
			s := started(t, cfg)
			ready(t, s)
			ids := append(childPIDs(t, cfg, len(childPlaces)), readRecord(t, cfg).process(t))
			for _, id := range ids {
				require.True(t, runs(t, id))
			}
			require.NoError(t, s.Stop(t.Context()))
			for _, id := range ids {
				assert.False(t, runs(t, id), id)
			}
		})
	}
}

// The main process dies by itself and leaves its children: the slot does not run, but is not free either.
func TestOrphansOfACrash(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a job whose main process died is found again only if its children inherited a handle to it; Go's do not")
	}
	begin := func(t *testing.T) (cfgOrphans []proc.ID, s interface {
		Stop(context.Context) error
		Start(context.Context) error
		Install(context.Context, abswap.Release) error
	}) {
		cfg := config(t, "children")
		slot := started(t, cfg)
		ready(t, slot)
		ids := childPIDs(t, cfg, len(childPlaces))
		main := readRecord(t, cfg).process(t)
		require.NoError(t, proc.Kill([]proc.ID{main}))
		eventually(t, func(ctx context.Context) error {
			if runs(t, main) {
				return os.ErrExist
			}
			return nil
		})
		assert.False(t, inspect(t, slot).Running)
		assert.ErrorIs(t, slot.Ready(t.Context()), abswap.ErrPermanent)
		assert.ErrorContains(t, slot.Ready(t.Context()), "ended by signal: killed")
		for _, id := range ids {
			require.True(t, runs(t, id))
		}
		return ids, newSlot(t, cfg)
	}
	none := func(t *testing.T, ids []proc.ID) {
		for _, id := range ids {
			assert.False(t, runs(t, id), id)
		}
	}
	t.Run("Install refuses", func(t *testing.T) {
		ids, s := begin(t)
		assert.ErrorIs(t, s.Install(t.Context(), release(t, "v2")), abswap.ErrSlotOccupied)
		require.True(t, runs(t, ids[0]))
	})
	t.Run("Stop ends them", func(t *testing.T) {
		ids, s := begin(t)
		require.NoError(t, s.Stop(t.Context()))
		none(t, ids)
	})
	t.Run("Start ends them first", func(t *testing.T) {
		ids, s := begin(t)
		require.NoError(t, s.Start(t.Context()))
		none(t, ids)
	})
}

// The application ends when asked, its children ignore it.
func TestChildrenLeftAtTheEndAreEnded(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("TestStopEndsTheWholeTree shows the job; what is left is not asked there")
	}
	cfg := config(t, "children,leaves")
	s := started(t, cfg)
	ready(t, s)
	ids := childPIDs(t, cfg, len(childPlaces))
	require.NoError(t, s.Stop(t.Context()))
	for _, id := range ids {
		assert.False(t, runs(t, id), id)
	}
	assert.Contains(t, logOf(t, s), "bye by signal")
}

func TestStopWhoseContextEnds(t *testing.T) {
	cfg := config(t, "stubborn")
	cfg.StopPath = ""
	if runtime.GOOS == "windows" {
		cfg.StopPath = "/heal" // says yes and does not end
	}
	s := started(t, cfg)
	ready(t, s)
	id := readRecord(t, cfg).process(t)
	err := stopUntilAsked(t, s, cfg)
	assert.ErrorContains(t, err, "call Stop again")
	assert.True(t, runs(t, id))
	assert.True(t, inspect(t, s).Running)

	err = s.Ready(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNotReady, "what is being stopped is not fit")
	assert.ErrorContains(t, err, "was asked to stop")
	assert.ErrorIs(t, s.Install(t.Context(), release(t, "v2")), abswap.ErrSlotOccupied)

	// Another tool goes on. The grace counts from the first call: set that back by more than it.
	rec := readRecord(t, cfg)
	rec.run()["asked"] = time.Now().Add(-patience).Format(time.RFC3339Nano)
	rec.write(t)
	begun := time.Now()
	require.NoError(t, newSlot(t, cfg).Stop(t.Context()))
	assert.Less(t, time.Since(begun), cfg.Grace)
	assert.False(t, runs(t, id))
}

// A Stop that is broken off while it asks, as by a swap back to the slot, leaves an application that may end at any moment: it is not fit.
func TestStopBrokenOffWhileItAsks(t *testing.T) {
	cfg := config(t, "mute")
	cfg.StopPath, cfg.ReadyTimeout = "/stop", patience
	s := started(t, cfg)
	ready(t, s)
	first := readRecord(t, cfg).process(t)
	breakOff := func(told int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- s.Stop(ctx) }()
		eventually(t, func(context.Context) error {
			if strings.Count(logOf(t, s), "told to stop") < told {
				return os.ErrNotExist
			}
			return nil
		})
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
		assert.True(t, runs(t, first))
	}
	breakOff(1)
	s = newSlot(t, cfg)
	err := s.Ready(t.Context())
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, "was asked to stop")
	breakOff(2) // nobody knows whether it has heard it

	cfg.Grace, cfg.ReadyTimeout = time.Millisecond, time.Second
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	assert.False(t, runs(t, first), "one that may end at any moment is not taken for running")
	ready(t, s)
}

// askedToStop waits until the record says that the application was asked to stop.
func askedToStop(t *testing.T, cfg process.Config) {
	eventually(t, func(context.Context) error {
		if run := readRecord(t, cfg).run(); run["asked"] == nil || run["asking"] != nil {
			return os.ErrNotExist
		}
		return nil
	})
}

// stopUntilAsked calls Stop, of an application that does not listen, and gives up as soon as it was asked.
func stopUntilAsked(t *testing.T, s *process.Slot, cfg process.Config) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Stop(ctx) }()
	askedToStop(t, cfg)
	cancel()
	err := <-ended
	require.ErrorIs(t, err, context.Canceled)
	return err
}

func TestCallsThatChangeTheSlotWaitForEachOther(t *testing.T) {
	cfg := config(t, "stubborn")
	cfg.StopPath = ""
	if runtime.GOOS == "windows" {
		cfg.StopPath = "/heal"
	}
	s := started(t, cfg)
	ready(t, s)
	stopping, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { assert.ErrorIs(t, s.Stop(stopping), context.Canceled) })
	askedToStop(t, cfg)
	other := newSlot(t, cfg)
	short, end := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer end()
	err := other.Start(short)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "another call is at work")
	assert.True(t, inspect(t, other).Running, "who only looks does not wait")
	cancel()
	wg.Wait()
}

func TestStartFinishesAStopAndStartsAgain(t *testing.T) {
	cfg := config(t, "stubborn")
	cfg.StopPath = ""
	if runtime.GOOS == "windows" {
		cfg.StopPath = "/heal"
	}
	s := started(t, cfg)
	ready(t, s)
	first := readRecord(t, cfg).process(t)
	stopUntilAsked(t, s, cfg)
	cfg.Grace = time.Millisecond
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	assert.False(t, runs(t, first))
	second := readRecord(t, cfg).process(t)
	assert.NotEqual(t, first, second)
	assert.True(t, runs(t, second))
	ready(t, s)
}

// A stranger has the pid that the record names.
func TestAReusedPIDIsNeitherTakenNorSignalled(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	stranger := exec.Command(exe)
	stranger.Env = append(os.Environ(), envApp+"=child", envNotify+"="+filepath.Join(t.TempDir(), "pids"))
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	real, err := proc.Identify(stranger.Process.Pid)
	require.NoError(t, err)

	for name, forge := range map[string]func(p map[string]any){
		"begun at another time": func(p map[string]any) { p["start"] = "12345" },
		"of another boot":       func(p map[string]any) { p["boot"] = "00000000-0000-0000-0000-000000000000" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "normal")
			s := started(t, cfg)
			ready(t, s)
			rec := readRecord(t, cfg)
			require.NoError(t, s.Stop(t.Context()))
			p := map[string]any{"pid": real.PID, "start": rec.run()["process"].(map[string]any)["start"], "boot": real.Boot}
			p["start"] = jsonStart(real)
			forge(p)
			rec.run()["process"] = p
			rec.write(t)

			s = newSlot(t, cfg)
			assert.False(t, inspect(t, s).Running)
			assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrPermanent)
			require.NoError(t, s.Stop(t.Context()))
			assert.True(t, runs(t, real), "the stranger lives")

			rec.write(t)
			require.NoError(t, s.Start(t.Context()), "nor does it keep the slot from starting")
			ready(t, s)
			assert.True(t, runs(t, real))
		})
	}
}
