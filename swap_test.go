package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// rig is a Swapper on fakes: v1 runs in blue and takes all work, green is empty.
type rig struct {
	*abswap.Swapper
	sw          *fake.Switcher
	blue, green *fake.Slot
	events      []abswap.Event
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{sw: &fake.Switcher{}, blue: fake.NewRunningSlot("blue", "v1"), green: fake.NewSlot("green")}
	require.NoError(t, r.sw.Move(map[string]int{"blue": 100}))
	r.Swapper = &abswap.Swapper{Switcher: r.sw, Slots: []abswap.Slot{r.blue, r.green}, OnEvent: func(e abswap.Event) { r.events = append(r.events, e) }}
	return r
}

// emptyRig is a rig before its first deploy.
func emptyRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.blue.Put(abswap.SlotState{})
	r.sw.Move(nil)
	return r
}

func (r *rig) serving(t *testing.T) string {
	t.Helper()
	name, err := r.sw.Active(t.Context())
	if errors.Is(err, abswap.ErrNoActive) {
		return ""
	}
	require.NoError(t, err)
	return name
}

func phases(rep abswap.Report) string {
	var names []string
	for _, s := range rep.Steps {
		names = append(names, string(s.Phase))
	}
	return strings.Join(names, " ")
}

func running(t *testing.T, s abswap.InspectingSlot) bool {
	t.Helper()
	state, err := s.Inspect(t.Context())
	require.NoError(t, err)
	return state.Running
}

// after runs f in a goroutine when d has passed; wait waits for its end.
func after(d time.Duration, f func()) (wait func()) {
	done := make(chan struct{})
	time.AfterFunc(d, func() { defer close(done); f() })
	return func() { <-done }
}

var v2 = abswap.Release{ID: "v2"}

func TestDeployMovesNewWorkAndLetsOldWorkEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, end := r.sw.Begin() // an upload in blue
		time.AfterFunc(2*time.Hour, end)
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "green", rep.Serving)
		assert.Equal(t, "green", r.serving(t))
		assert.False(t, running(t, r.blue), "the old slot goes idle")
		assert.Equal(t, 2*time.Hour, time.Since(began).Round(time.Minute), "at the moment its last work ended")
		assert.Equal(t, "planned preparing installing starting warming gating shifting confirming soaking verifying committing draining retaining stopping", phases(rep))
		require.Len(t, rep.Drains, 1)
		assert.Equal(t, abswap.EvidenceExact, rep.Drains[0].Last.Evidence, "the report names the evidence")
		assert.Equal(t, 1, rep.Drains[0].Finished)
	})
}

func TestDeployWithStepsAndGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Steps = []int{5, 25}
		var asked []string
		r.Gate = func(_ context.Context, g abswap.GateRequest) error {
			asked = append(asked, fmt.Sprintf("%d>%d", g.Percent, g.Next))
			return nil
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"0>5", "5>25", "25>100", "100>101"}, asked)
		assert.Equal(t, 3, strings.Count(phases(rep), "soaking"))
		var calls []string
		for _, c := range r.sw.Calls("SetWeights", "Activate") {
			calls = append(calls, c.String())
		}
		assert.Equal(t, []string{"SetWeights(blue 95, green 5)", "SetWeights(blue 75, green 25)", "Activate(green)"}, calls)
	})
}

func TestGateRefusesAndTheOldSlotServes(t *testing.T) {
	for _, at := range []int{0, 5, 100} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.Steps = []int{5}
				no := errors.New("error rate is 7 %")
				r.Gate = func(_ context.Context, g abswap.GateRequest) error {
					if g.Percent == at {
						return no
					}
					return nil
				}
				rep, err := r.Deploy(t.Context(), v2)
				assert.ErrorIs(t, err, no)
				assert.Equal(t, "blue", r.serving(t))
				assert.False(t, running(t, r.green), "what was started is stopped")
				want := abswap.OutcomeRolledBack
				if at == 0 {
					want = abswap.OutcomeDiscarded
				}
				assert.Equal(t, want, rep.Outcome)
			})
		})
	}
}

func TestW1UnfitReleaseNeverSeesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.green.ReadyFunc = func(context.Context, func(context.Context) error) error { return abswap.ErrNotReady }
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, abswap.ErrNotReady)
		se, ok := errors.AsType[*abswap.SwapError](err)
		require.True(t, ok)
		assert.Equal(t, abswap.PhaseStarting, se.Phase)
		assert.Equal(t, "blue", se.Serving)
		assert.Equal(t, abswap.OutcomeDiscarded, rep.Outcome)
		assert.Empty(t, r.sw.Calls("Activate", "SetWeights"), "no order to move was ever given")
		assert.False(t, running(t, r.green))
		assert.Equal(t, []string{`slot "green" stopped`}, rep.Undone)
	})
}

func TestSickAfterTheSwitchIsRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		sick := errors.New("database is gone")
		r.Soak = time.Minute
		time.AfterFunc(30*time.Second, func() { r.green.Sick(sick) })
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, sick)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
		assert.True(t, running(t, r.blue))
		assert.False(t, running(t, r.green))
		assert.Contains(t, err.Error(), `deploy of "v2" to slot "green": soaking`)
		assert.Contains(t, err.Error(), `slot "blue" serves`)
	})
}

func TestW3NoWayBackToAnUnfitSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		sick := errors.New("new one is sick")
		dead := errors.New("old one is dead")
		time.AfterFunc(3*time.Second, func() { r.green.Sick(sick); r.blue.Sick(dead) })
		rep, err := r.Deploy(t.Context(), v2)
		assert.Equal(t, abswap.OutcomeSuspended, rep.Outcome)
		assert.ErrorIs(t, err, sick, "the error of the deploy is never replaced")
		assert.ErrorIs(t, err, dead, "and that of the rollback is there too")
		assert.ErrorIs(t, err, abswap.ErrSuspended)
		assert.Equal(t, "green", r.serving(t), "nothing is moved to a slot that is not fit")

		_, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		assert.ErrorIs(t, err, abswap.ErrSuspended, "an operator decides first")

		r.blue.Sick(nil)
		rep, err = r.Resume(t.Context())
		assert.Error(t, err)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
	})
}

func TestOperatorsVerbsAfterASuspension(t *testing.T) {
	suspended := func(t *testing.T) *rig {
		r := newRig(t)
		time.AfterFunc(3*time.Second, func() { r.sw.Move(map[string]int{"blue": 60, "green": 40}) })
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, abswap.ErrSuspended)
		require.Equal(t, abswap.OutcomeSuspended, rep.Outcome)
		return r
	}
	t.Run("adopt the new", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := suspended(t)
			_, err := r.Adopt(t.Context())
			require.ErrorIs(t, err, abswap.ErrMixed)
			r.sw.Move(map[string]int{"green": 100})
			rep, err := r.Adopt(t.Context())
			require.NoError(t, err)
			assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
			assert.False(t, running(t, r.blue))
		})
	})
	t.Run("adopt the old", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := suspended(t)
			r.sw.Move(map[string]int{"blue": 100})
			rep, err := r.Adopt(t.Context())
			assert.Error(t, err)
			assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
			assert.False(t, running(t, r.green))
		})
	})
	t.Run("abandon", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := suspended(t)
			rep, _ := r.Abandon(t.Context())
			assert.Equal(t, abswap.OutcomeAbandoned, rep.Outcome)
			assert.True(t, running(t, r.green), "nothing is touched")
			_, err := r.Resume(t.Context())
			assert.ErrorIs(t, err, abswap.ErrNothingToDo)
		})
	})
	t.Run("cancel goes back once the world is known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := suspended(t)
			rep, _ := r.Cancel(t.Context())
			assert.Equal(t, abswap.OutcomeSuspended, rep.Outcome, "60:40 is nobody's order")
			r.sw.Move(map[string]int{"green": 100})
			rep, _ = r.Cancel(t.Context())
			assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
			assert.Equal(t, "blue", r.serving(t))
		})
	})
}

func TestFirstDeploy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := emptyRig(t)
		r.Steps = []int{5} // there is nobody to share with
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v1"})
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "", rep.From)
		assert.Equal(t, rep.To, r.serving(t))
	})
}

func TestFirstDeployThatFailsLeavesNothingActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := emptyRig(t)
		time.AfterFunc(time.Second, func() { r.blue.Sick(nil); r.green.Sick(nil) })
		time.AfterFunc(5*time.Second, func() { r.blue.Sick(errors.New("sick")); r.green.Sick(errors.New("sick")) })
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v1"})
		assert.Error(t, err)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		assert.Equal(t, "", r.serving(t))
		assert.Equal(t, "", rep.Serving)
		assert.Contains(t, err.Error(), "no slot is known to serve")
	})
}

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

func TestCancelBeforeTheCommitGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak = time.Hour
		wait := after(time.Minute, func() {
			rep, err := r.Cancel(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, abswap.ErrCanceled)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
		_, err = r.Cancel(t.Context())
		assert.ErrorIs(t, err, abswap.ErrNothingToDo)
		wait()
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

func TestContextThatEndsGoesTheSafeWay(t *testing.T) {
	t.Run("before the commit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			rep, err := r.Deploy(ctx, v2)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
			assert.Equal(t, "blue", r.serving(t))
		})
	})
	t.Run("in the tail", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			_, end := r.sw.Begin()
			defer end()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			rep, err := r.Deploy(ctx, v2)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
			assert.Equal(t, "green", r.serving(t))
		})
	})
	t.Run("before the call", func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rep, err := r.Deploy(ctx, v2)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
		assert.Empty(t, r.green.Calls())
	})
}

func TestW5OneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak = time.Hour
		wait := after(time.Minute, func() {
			rep, err := r.Deploy(context.Background(), abswap.Release{ID: "v3"})
			assert.ErrorIs(t, err, abswap.ErrBusy)
			busy, ok := errors.AsType[*abswap.BusyError](err)
			if assert.True(t, ok) {
				assert.Equal(t, "v2", busy.Owner.Release)
				assert.NotZero(t, busy.Owner.PID)
			}
			assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
		})
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
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

func TestExclusiveKeepsTheVersionsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Exclusive = true
		_, end := r.sw.Begin()
		time.AfterFunc(3*time.Second, end) // ends within the hold
		overlap := false
		r.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			l, err := r.sw.InFlight(ctx, r.blue)
			overlap = err != nil || l.Total() > 0
			return do(ctx, to)
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.False(t, overlap)
		assert.Contains(t, phases(rep), "gating holding draining-first shifting confirming releasing soaking")
	})
}

func TestExclusiveGivesUpWhenOldWorkOutlastsTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Exclusive = true
		_, end := r.sw.Begin()
		defer end()
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.Equal(t, abswap.OutcomeDiscarded, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
		_, endNext := r.sw.Begin()
		endNext() // nothing is held any more
	})
}

func TestW2AnUnknownOutcomeIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			time.AfterFunc(4*time.Second, func() { _ = do(context.Background(), to) }) // it lands late
			return fmt.Errorf("timeout: %w", abswap.ErrUnknownOutcome)
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Len(t, r.sw.Calls("Activate"), 1, "never retried blindly")
	})
}

func TestFrontDoorHasTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.FrontDoor = func(context.Context) (string, error) { return "v1", nil } // the API said yes, the data path did not follow
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorContains(t, err, `front door: "v1" answers, not slot "green"`)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		r.FrontDoor = func(context.Context) (string, error) { return "v2", nil }
		_, err = r.Deploy(t.Context(), v2)
		assert.NoError(t, err)
	})
}

func TestPlanTellsAndMovesNothing(t *testing.T) {
	r := newRig(t)
	r.Steps = []int{10}
	boom := func() { t.Error("a plan moved something") }
	r.sw.ActivateFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) error) error { boom(); return nil }
	r.sw.SetWeightsFunc = func(context.Context, []abswap.Weight, func(context.Context, ...abswap.Weight) error) error {
		boom()
		return nil
	}
	r.sw.SealFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) error) error { boom(); return nil }
	r.green.InstallFunc = func(context.Context, abswap.Release, func(context.Context, abswap.Release) error) error {
		boom()
		return nil
	}
	r.green.StartFunc = func(context.Context, func(context.Context) error) error { boom(); return nil }
	r.blue.StopFunc = func(context.Context, func(context.Context) error) error { boom(); return nil }
	p, err := r.Plan(t.Context(), v2)
	require.NoError(t, err)
	assert.Equal(t, "blue", p.From)
	assert.Equal(t, "green", p.To)
	assert.Equal(t, `planned         
preparing       seal green, so that nothing leads to it
installing      install v2 into green
starting        start green
warming         warm green
gating          
shifting        send new work to blue 90 %, green 10 %
confirming      
soaking         
shifting        send all new work to green
confirming      
soaking         
verifying       
committing      
draining        
retaining       
stopping        seal blue, so that nothing leads to it, stop blue
`, p.String())
	_, err = r.Plan(t.Context(), abswap.Release{})
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	p, err = r.PlanSwap(t.Context(), "green")
	require.NoError(t, err)
	assert.NotContains(t, p.String(), "install")
}

func TestPlanOfSlotsThatDoLess(t *testing.T) {
	r := newRig(t)
	r.Slots = []abswap.Slot{fake.BareSlot(r.blue), fake.BareSlot(r.green)}
	p, err := r.Plan(t.Context(), v2)
	require.NoError(t, err)
	assert.NotContains(t, p.String(), "stop blue")
	assert.NotContains(t, p.String(), "start green")
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak = time.Hour
		wait := after(time.Minute, func() {
			st, err := r.Status(context.Background())
			assert.NoError(t, err)
			if assert.NotNil(t, st.Owner) {
				assert.Equal(t, "v2", st.Owner.Release)
			}
			assert.Equal(t, abswap.PhaseSoaking, st.Newest.Phase)
			assert.Equal(t, map[string]int{"green": 100}, st.Weights)
			assert.Equal(t, "v2", st.Slots[1].State.Release)
			assert.Empty(t, st.Problems)
		})
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		st, err := r.Status(t.Context())
		require.NoError(t, err)
		assert.Nil(t, st.Owner)
		assert.Equal(t, abswap.OutcomeSucceeded, st.Newest.Outcome)
		wait()
	})
}

func TestEventsComeInOrderAndTellTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, end := r.sw.Begin()
		time.AfterFunc(time.Minute, end)
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		var open abswap.Phase
		loads := 0
		for _, e := range r.events {
			assert.Equal(t, rep.ID, e.Swap)
			switch e.Kind {
			case abswap.EventPhase:
				assert.Empty(t, open, "phase %s began within another", e.Phase)
				open = e.Phase
			case abswap.EventDone:
				assert.Equal(t, open, e.Phase)
				open = ""
			case abswap.EventLoad:
				assert.Equal(t, "blue", e.Slot)
				loads++
			}
		}
		assert.Greater(t, loads, 2)
		last := r.events[len(r.events)-1]
		assert.Equal(t, abswap.EventEnd, last.Kind)
		assert.Equal(t, abswap.OutcomeSucceeded, last.Outcome)
		assert.Contains(t, last.LogValue().String(), "outcome=succeeded")
	})
}

func TestMixedWorldIsNotDeployedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.green.Put(abswap.SlotState{Release: "v2", Running: true})
		r.sw.Move(map[string]int{"blue": 70, "green": 30})
		_, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, abswap.ErrMixed)
		rep, err := r.Swap(t.Context(), "blue") // the way out
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
		assert.False(t, running(t, r.green))
	})
}

func TestGateIsNotBoundUnlessAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Gate = func(ctx context.Context, _ abswap.GateRequest) error {
			_, bound := ctx.Deadline()
			assert.False(t, bound)
			return ctx.Err()
		}
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		r = newRig(t)
		r.Timeouts.Gate = time.Minute
		r.Gate = func(ctx context.Context, _ abswap.GateRequest) error { <-ctx.Done(); return ctx.Err() }
		_, err = r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestNegativeTimeoutsBindNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Timeouts = abswap.Timeouts{Install: -1, Start: -1, Warm: -1, Ready: -1, Gate: -1, Shift: -1, Observe: -1, Settle: -1, Stop: -1, Revert: -1}
		r.green.ReadyAfter = 24 * time.Hour
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
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

func TestMemoryJournalForgetsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak, r.Retain = -1, -1
		r.green.Put(abswap.SlotState{Release: "v2", Running: true})
		for i := range 60 {
			_, err := r.Swap(t.Context(), []string{"green", "blue"}[i%2])
			require.NoError(t, err)
			after(time.Second, func() {})() // IDs sort by time
		}
		ids, err := r.MemoryForTest().Swaps(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, 50)
		assert.IsDecreasing(t, ids, "newest first")
	})
}
