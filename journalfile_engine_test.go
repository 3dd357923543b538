package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// journalStory is a swap, whole, on a journal in a folder.
type journalStory struct {
	name    string
	prepare func(t *testing.T, r *rig) (after func()) // before the swap, and before a later one; the journal is well
	verb    func(ctx context.Context, r *rig) (abswap.Report, error)
	serving string   // when the swap never began
	ends    []string // who may serve when it has
}

func journalStories() []journalStory {
	deploy := func(ctx context.Context, r *rig) (abswap.Report, error) { return r.Deploy(ctx, v2) }
	either := []string{"blue", "green"}
	return []journalStory{
		{name: "deploy", verb: deploy, serving: "blue", ends: either},
		{name: "weighted", verb: deploy, serving: "blue", ends: either, prepare: func(_ *testing.T, r *rig) func() {
			r.Steps = []int{5, 50}
			return func() {}
		}},
		{name: "rolled back", verb: deploy, serving: "blue", ends: []string{"blue"}, prepare: func(_ *testing.T, r *rig) func() {
			falls := time.AfterFunc(time.Second, func() { r.green.Sick(errors.New("sick")) })
			return func() { falls.Stop(); r.green.Sick(nil) }
		}},
		{name: "swap back", serving: "green", ends: either,
			prepare: func(t *testing.T, r *rig) func() {
				r.Retain = -1
				_, err := r.Deploy(t.Context(), v2)
				require.NoError(t, err)
				return func() {}
			},
			verb: func(ctx context.Context, r *rig) (abswap.Report, error) { return r.Swap(ctx, "blue") }},
	}
}

// nth tells which part of the cases to try: all of them where that takes seconds.
func nth() int {
	switch {
	case runtime.GOOS == "windows":
		return 9
	case abswap.RaceDetector:
		return 5
	}
	return 1
}

// dyingDisk fails at the n-th line written and ever after.
type dyingDisk struct {
	n    int // 0: never
	how  string
	err  error
	seen int
}

// The ways in which a disk dies.
const (
	diesBefore = "before the line"   // nothing of it is there
	diesHalf   = "half way"          // a part of it is
	diesAfter  = "after the line"    // it is there, but nobody goes on
	fillsUp    = "the disk is full"  // a part of it is, and can be removed
	failsFlush = "it cannot be kept" // fsync fails
)

func (d *dyingDisk) disk() abswap.TestDisk {
	return abswap.TestDisk{
		Create: func(path string, line []byte, do func() error) error {
			switch d.turn() {
			case "":
				return do()
			case diesAfter:
				return errors.Join(do(), d.err)
			case diesHalf:
				_ = os.WriteFile(filepath.Join(filepath.Dir(path), ".new.1.tmp"), line[:len(line)/2], 0o600)
			}
			return &os.PathError{Op: "write", Path: path, Err: d.err}
		},
		Write: func(line []byte, do func([]byte) (int, error)) (int, error) {
			n := 0
			switch d.turn() {
			case "", failsFlush:
				return do(line)
			case diesAfter:
				n, _ = do(line)
			case diesHalf, fillsUp:
				n, _ = do(line[:len(line)/2])
			}
			return n, &os.PathError{Op: "write", Path: "journal", Err: d.err}
		},
		Sync: func(func() error) error { // what is not flushed is not lost in a test
			if d.dead() && d.how == failsFlush {
				return &os.PathError{Op: "sync", Path: "journal", Err: d.err}
			}
			return nil
		},
		Truncate: func(_ string, _ int64, do func() error) error {
			if d.dead() && d.how != fillsUp {
				return d.err // a dead process tidies nothing up
			}
			return do()
		},
	}
}

func (d *dyingDisk) dead() bool { return d.n > 0 && d.seen >= d.n }

// turn counts a line and tells how the disk fails at it; "" if it does not.
func (d *dyingDisk) turn() string {
	d.seen++
	switch {
	case !d.dead():
		return ""
	case d.seen > d.n && d.how == diesAfter:
		return diesBefore
	}
	return d.how
}

// moves counts what was done to the world.
func (r *rig) moves() int {
	return len(r.sw.Calls("Activate", "SetWeights", "Seal", "Hold", "Force")) + len(r.blue.Calls("Install", "Start", "Warm", "Stop")) +
		len(r.green.Calls("Install", "Start", "Warm", "Stop"))
}

// on gives r the journal in dir, with d for its disk.
func (r *rig) on(t *testing.T, dir string, d *dyingDisk) *abswap.FileJournal {
	j := openJournal(t, dir)
	j.UseDisk(d.disk())
	r.Journal = j
	return j
}

// tell runs story until its journal fails as d says, and then the next process, whose journal is well. It returns the number of lines
// that a whole run writes, and the failed run's error.
func (s journalStory) tell(t *testing.T, d *dyingDisk) (lines int, failure error) {
	r, dir := newRig(t), t.TempDir()
	r.Soak = 2 * time.Second
	r.on(t, dir, &dyingDisk{})
	heal := func() {}
	if s.prepare != nil {
		heal = s.prepare(t, r)
	}
	defer heal()
	r.on(t, dir, d)
	_, failure = s.verb(t.Context(), r)
	if d.n == 0 {
		return d.seen, failure
	}
	require.Error(t, failure, "the journal is a part of every step")
	s.judge(t, r, "with a dead journal")
	moved := r.moves()

	// The process is gone; another one takes it up.
	j := r.on(t, dir, &dyingDisk{})
	rep, err := r.Resume(t.Context())
	if errors.Is(err, abswap.ErrNothingToDo) {
		assert.Equal(t, moved, r.moves(), "what is finished stays as it is")
		if rep.ID == "" || d.n == 1 && d.how != diesAfter {
			assert.Equal(t, s.serving, r.serving(t), "it never began")
		}
	} else {
		final := []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeRolledBack, abswap.OutcomeDiscarded}
		assert.Contains(t, final, rep.Outcome, "%v", err)
		assert.Contains(t, s.ends, r.serving(t))
	}
	s.judge(t, r, "at its end")
	ids, err := j.Swaps(t.Context())
	require.NoError(t, err)
	for _, id := range ids {
		assert.NotEmpty(t, notes(t, j, id))
	}
	heal()
	next, err := r.Deploy(t.Context(), abswap.Release{ID: "v9"})
	require.NoError(t, err, "nothing stands in the way of the next one")
	assert.Equal(t, next.To, r.serving(t))
	return d.seen, failure
}

// judge makes sure that the slots which take work run.
func (s journalStory) judge(t *testing.T, r *rig, when string) {
	w, err := r.sw.Weights(t.Context())
	require.NoError(t, err)
	sum := 0
	for name, part := range w {
		sum += part
		slot := r.blue
		if name == "green" {
			slot = r.green
		}
		if part > 0 {
			assert.True(t, running(t, slot), "%s: %s takes work and does not run", when, name)
		}
	}
	assert.Equal(t, 100, sum, when)
}

func TestFileJournalEngineDiesAtEveryRecord(t *testing.T) {
	for _, s := range journalStories() {
		t.Run(s.name, func(t *testing.T) {
			lines := 0
			synctest.Test(t, func(t *testing.T) { lines, _ = s.tell(t, &dyingDisk{}) })
			require.Greater(t, lines, 15)
			for i, how := range []string{diesBefore, diesHalf, diesAfter} {
				for n := 1; n <= lines; n++ {
					if every := nth(); n%every != i%every {
						continue
					}
					ok := t.Run(fmt.Sprintf("%s %d", how, n), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { s.tell(t, &dyingDisk{n: n, how: how, err: errors.New("the process died")}) })
					})
					if !ok {
						return
					}
				}
			}
		})
	}
}

func TestFileJournalEngineOnAFullDisk(t *testing.T) {
	s := journalStories()[1]
	lines := 0
	synctest.Test(t, func(t *testing.T) { lines, _ = s.tell(t, &dyingDisk{}) })
	for n := 1; n <= lines; n++ {
		if every := nth(); n%every != 1%every {
			continue
		}
		for _, c := range []struct {
			how string
			err error
		}{{fillsUp, syscall.ENOSPC}, {failsFlush, syscall.EIO}} {
			if n == 1 && c.how == failsFlush {
				continue // create flushes by itself
			}
			ok := t.Run(fmt.Sprintf("%s %d", c.how, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, err := s.tell(t, &dyingDisk{n: n, how: c.how, err: c.err})
					require.ErrorIs(t, err, c.err)
					se, ok := errors.AsType[*abswap.SwapError](err)
					require.True(t, ok)
					assert.NotEmpty(t, se.Serving, "it says who serves")
					if c.how == fillsUp {
						assert.ErrorContains(t, err, "free space on that disk", "and what to do")
					}
					if n > 1 {
						assert.ErrorContains(t, err, "call Resume")
					}
				})
			})
			if !ok {
				return
			}
		}
	}
}

// TestFileJournalEngineMovesNothingUnwritten looks at each effect: its intent stands in the file.
func TestFileJournalEngineMovesNothingUnwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, dir := newRig(t), t.TempDir()
		r.on(t, dir, &dyingDisk{})
		last := func() string {
			files := swapFiles(t, dir)
			data, err := os.ReadFile(filepath.Join(dir, files[len(files)-1]))
			require.NoError(t, err)
			lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
			return lines[len(lines)-1]
		}
		effects := 0
		at := func(phase abswap.Phase) {
			effects++
			assert.Contains(t, last(), fmt.Sprintf(`"kind":"intent","phase":%q`, phase))
		}
		r.green.InstallFunc = func(ctx context.Context, rel abswap.Release, do func(context.Context, abswap.Release) error) error {
			at(abswap.PhaseInstalling)
			return do(ctx, rel)
		}
		r.green.StartFunc = func(ctx context.Context, do func(context.Context) error) error {
			at(abswap.PhaseStarting)
			return do(ctx)
		}
		r.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			at(abswap.PhaseShifting)
			return do(ctx, to)
		}
		r.blue.StopFunc = func(ctx context.Context, do func(context.Context) error) error {
			at(abswap.PhaseStopping)
			return do(ctx)
		}
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, 4, effects)
	})
}

// TestFileJournalEngineAcrossSwappers does with two Swappers on one folder what two deploy tools do.
func TestFileJournalEngineAcrossSwappers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, dir := newRig(t), t.TempDir()
		r.on(t, dir, &dyingDisk{})
		other := newRig(t)
		other.Swapper = &abswap.Swapper{Switcher: r.sw, Slots: r.Slots, Journal: openJournal(t, dir)}
		_, end := r.sw.Begin()
		defer end()
		busy := after(5*time.Second, func() {
			_, err := other.Deploy(context.Background(), abswap.Release{ID: "v3"})
			b, ok := errors.AsType[*abswap.BusyError](err)
			if assert.True(t, ok, "%v", err) {
				assert.Equal(t, "v2", b.Owner.Release)
			}
			st, err := other.Status(context.Background())
			assert.NoError(t, err)
			assert.Empty(t, st.Problems)
			assert.Equal(t, abswap.PhaseSoaking, st.Newest.Phase)
			assert.NotNil(t, st.Owner)
		})
		back := after(time.Minute, func() {
			rep, err := other.Swap(context.Background(), "blue")
			assert.NoError(t, err, "the tail is taken over")
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		busy()
		back()
		assert.Equal(t, "blue", r.serving(t))
		ids, err := r.Journal.Swaps(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, 2)
		assert.True(t, slices.ContainsFunc(swapFiles(t, dir), func(name string) bool { return strings.Contains(name, ids[0]) }))
	})
}
