package abswap_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

func TestOccupied(t *testing.T) {
	t.Run("refuse", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.Drain.Timeout = time.Minute
			_, end := r.sw.Begin()
			rep, err := r.Deploy(t.Context(), v2)
			require.NoError(t, err)
			assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
			assert.True(t, running(t, r.blue), "left up")
			require.Len(t, rep.Drains[0].Left, 1, "what is left is listed")
			before := len(r.sw.Calls("Seal", "Activate"))
			rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
			assert.ErrorIs(t, err, abswap.ErrSlotOccupied)
			assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
			assert.Contains(t, err.Error(), `slot "blue" has 1 requests`)
			assert.Len(t, r.sw.Calls("Seal", "Activate"), before, "before anything moves")
			end()
			rep, err = r.Resume(t.Context())
			require.NoError(t, err)
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
			assert.False(t, running(t, r.blue))
		})
	})
	t.Run("wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.Drain.Timeout = time.Hour
			r.Occupied = abswap.OccupiedWait
			_, end := r.sw.Begin()
			r.sw.Move(map[string]int{"green": 100})
			r.green.Put(abswap.SlotState{Release: "v1", Running: true})
			time.AfterFunc(10*time.Minute, end)
			rep, err := r.Deploy(t.Context(), v2)
			require.NoError(t, err)
			assert.Equal(t, "blue", rep.To)
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		})
	})
	t.Run("cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.Occupied = abswap.OccupiedCut
			_, end := r.sw.Begin()
			defer end()
			r.sw.Move(map[string]int{"green": 100})
			r.green.Put(abswap.SlotState{Release: "v1", Running: true})
			rep, err := r.Deploy(t.Context(), v2)
			require.NoError(t, err)
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
			assert.NotEmpty(t, r.sw.Calls("Force"))
		})
	})
}

func TestRetainedSlotIsTheInstantWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Retain = -1
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"blue"}, rep.Retained)
		assert.True(t, running(t, r.blue))
		rep, err = r.Swap(t.Context(), "blue")
		require.NoError(t, err)
		assert.Equal(t, "blue", r.serving(t))
		assert.Empty(t, r.blue.Calls("Install", "Stop"), "kept as it was")
		assert.Equal(t, []string{"green"}, rep.Retained)

		rep, err = r.Swap(t.Context(), "blue")
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome, "it serves already: nothing to do")
		assert.Empty(t, rep.Steps)

		rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err, "the kept slot is stopped when it is needed")
		assert.Equal(t, "green", rep.To)
	})
}

func TestRetainForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Retain = time.Hour
		began := time.Now()
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.False(t, running(t, r.blue))
		assert.Equal(t, time.Hour, time.Since(began).Round(time.Minute))
	})
}

func TestSwapToKeptSlotThatIsUnfitLeavesItRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.green.Put(abswap.SlotState{Release: "v0", Running: true})
		r.green.Sick(errors.New("no"))
		rep, err := r.Swap(t.Context(), "green")
		assert.ErrorIs(t, err, abswap.ErrNotReady)
		assert.Equal(t, abswap.OutcomeDiscarded, rep.Outcome)
		assert.True(t, running(t, r.green))
		_, err = r.Swap(t.Context(), "mauve")
		assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	})
}

func TestCancelInTheTailLeavesTheOldSlotUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, end := r.sw.Begin()
		defer end()
		wait := after(time.Hour, func() {
			rep, err := r.Cancel(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		assert.Equal(t, "green", r.serving(t))
		assert.True(t, running(t, r.blue))
		wait()
	})
}

func TestTailIsTakenOverBySwapBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		name, end := r.sw.Begin()
		require.Equal(t, "blue", name)
		defer end()
		wait := after(time.Hour, func() {
			asked := time.Now()
			rep, err := r.Swap(context.Background(), "blue")
			assert.NoError(t, err)
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
			assert.Less(t, time.Since(asked), time.Minute)
		})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		wait()
		assert.Equal(t, "blue", r.serving(t))
		assert.True(t, running(t, r.blue), "never stopped")
		assert.Empty(t, r.blue.Calls("Stop"))
	})
}

func TestTailIsTakenOverByADeployIntoAThirdSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sw = &fake.Switcher{Slots: []string{"blue", "green", "mauve"}}
		mauve := fake.NewSlot("mauve")
		r.Switcher, r.Slots = r.sw, append(r.Slots, mauve)
		r.sw.Move(map[string]int{"blue": 100})
		_, endBlue := r.sw.Begin() // outlasts both deploys
		done := make(chan abswap.Report)
		go func() {
			rep, err := r.Deploy(context.Background(), v2)
			assert.NoError(t, err)
			done <- rep
		}()
		after(time.Hour, func() {})() // v2 serves from green, and blue drains
		_, endGreen := r.sw.Begin()
		time.AfterFunc(time.Hour, endGreen)
		time.AfterFunc(3*time.Hour, endBlue)
		second := &abswap.Swapper{Switcher: r.sw, Slots: r.Slots, Journal: r.Swapper.MemoryForTest()}
		rep, err := second.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "mauve", rep.To)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, abswap.OutcomeStillDraining, (<-done).Outcome)
		assert.False(t, running(t, r.blue), "the tail that was taken over is finished too")
		assert.False(t, running(t, r.green))
		green, blue := r.green.Calls("Stop"), r.blue.Calls("Stop")
		require.Len(t, green, 1)
		require.Len(t, blue, 1)
		assert.Equal(t, 2*time.Hour, blue[0].Time.Sub(green[0].Time).Round(time.Minute), "each is stopped when it is done, not when all are")
	})
}

// A swap that is killed, or cannot write, between the end of an earlier one's tail and its own begin does not lose that tail: the next one has it.
func TestTailOutlivesWhoWasToTakeItOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sw = &fake.Switcher{Slots: []string{"blue", "green", "mauve"}}
		r.Switcher, r.Slots = r.sw, append(r.Slots, fake.NewSlot("mauve"))
		r.sw.Move(map[string]int{"blue": 100})
		journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
		r.Journal, r.Drain.Timeout = journal, time.Minute
		_, end := r.sw.Begin()
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		require.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		end()
		journal.die = func(rec abswap.Record) (bool, bool) { return rec.Kind == abswap.RecordBegin, false }
		_, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.ErrorIs(t, err, errKilled)
		journal.dead, journal.die = false, nil
		rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "mauve", rep.To)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.False(t, running(t, r.blue), "the first swap's")
		assert.False(t, running(t, r.green))
	})
}

func TestYieldIsNotObeyedBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak = time.Hour
		wait := after(time.Minute, func() {
			assert.NoError(t, r.MemoryForTest().Post(context.Background(), abswap.Request{Kind: abswap.RequestYield}))
		})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		wait()
	})
}

func TestAStopThatDoesNotStopIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stubborn := true
		r.blue.StopFunc = func(ctx context.Context, do func(context.Context) error) error {
			if stubborn {
				return nil // it says so
			}
			return do(ctx)
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err, "the new release serves")
		assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		assert.Contains(t, rep.Steps[len(rep.Steps)-1].Err, "still runs after its Stop")
		stubborn = false
		rep, err = r.Resume(t.Context())
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
	})
}

// slowDrainer takes its time for each reading, and its zeros are approximate.
type slowDrainer struct{ abswap.Drainer }

func (d slowDrainer) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	time.Sleep(3 * time.Second)
	l, err := d.Drainer.InFlight(ctx, s)
	l.Evidence = abswap.EvidenceApproximate
	return l, err
}

// A slot that is empty by slow, approximate readings is free: there is time for as many of them as the proof takes.
func TestOccupiedRefuseWaitsForSlowReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drainer = slowDrainer{r.sw}
		r.green.Put(abswap.SlotState{Release: "v0", Running: true})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "green", r.serving(t))
	})
}

// slower takes longer for each reading than for the one before, and its zeros are approximate.
type slower struct {
	abswap.Drainer
	takes *time.Duration
}

func (d slower) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	*d.takes += time.Second
	time.Sleep(*d.takes)
	l, err := d.Drainer.InFlight(ctx, s)
	l.Evidence = abswap.EvidenceApproximate
	return l, err
}

func TestOccupiedRefuseFinishesARunOfZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drainer = slower{r.sw, new(time.Duration)}
		r.green.Put(abswap.SlotState{Release: "v0", Running: true})
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, "green", r.serving(t))
	})
}

// glimpse adds what came to green just before its seal.
type glimpse struct {
	abswap.Drainer
	seen *int
	ends bool // after one reading
}

func (d glimpse) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	l, err := d.Drainer.InFlight(ctx, s)
	if s.Name() == "green" {
		l.Requests += *d.seen
		if d.ends {
			*d.seen = 0
		}
	}
	return l, err
}

// What is there for a moment at the last look before the stop, as a health test is, is drained again; what stays is refused.
func TestOccupiedRefuseBearsAGlimpseOfWork(t *testing.T) {
	for name, ends := range map[string]bool{"a moment": true, "for good": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				seen, seals := 0, 0
				r.Drainer = glimpse{r.sw, &seen, ends}
				r.sw.SealFunc = func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error {
					if s.Name() == "green" {
						if seals++; seals == 1 {
							seen = 1
						}
					}
					return do(ctx, s)
				}
				r.green.Put(abswap.SlotState{Release: "v0", Running: true})
				_, err := r.Deploy(t.Context(), v2)
				if !ends {
					assert.ErrorIs(t, err, abswap.ErrSlotOccupied)
					assert.Equal(t, 1, seals)
					assert.True(t, running(t, r.green), "not stopped")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, 2, seals)
				assert.Equal(t, "green", r.serving(t))
			})
		})
	}
}

// mute is a slot that installs, and cannot tell which release it holds.
type mute struct{ *fake.Slot }

func (s mute) Inspect(ctx context.Context) (abswap.SlotState, error) {
	state, err := s.Slot.Inspect(ctx)
	state.Release = ""
	return state, err
}

func TestInstallIntoASlotThatCannotTellItsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Slots = []abswap.Slot{mute{r.blue}, mute{r.green}}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "green", r.serving(t))
	})
}
