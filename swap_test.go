package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// TestW5OneAtATime: the second deploy is refused without waiting for anything, and told who is first.
func TestW5OneAtATime(t *testing.T) {
	for name, file := range map[string]bool{"in memory": false, "in files": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.Soak = 2 * time.Minute
				second := r.Swapper
				if file { // as two processes have it
					r.Journal = openJournal(t, dir)
					second = &abswap.Swapper{Switcher: r.sw, Slots: r.Slots, Journal: openJournal(t, dir)}
				}
				wait := after(time.Minute, func() {
					began := time.Now()
					rep, err := second.Deploy(context.Background(), abswap.Release{ID: "v3"})
					assert.Zero(t, time.Since(began), "at once")
					assert.ErrorIs(t, err, abswap.ErrBusy)
					busy, ok := errors.AsType[*abswap.BusyError](err)
					if assert.True(t, ok) {
						assert.Equal(t, "v2", busy.Owner.Release)
						assert.Equal(t, os.Getpid(), busy.Owner.PID)
						assert.WithinDuration(t, began.Add(-time.Minute), busy.Owner.Since, 0)
					}
					assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
				})
				_, err := r.Deploy(t.Context(), v2)
				require.NoError(t, err)
				wait()
			})
		})
	}
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

// A probe right before the switch takes longer than the hold lasts, and the old slot gets new work meanwhile: it is held, and drained, once more.
func TestExclusiveDoesNotSwitchWhenTheHoldIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Exclusive, r.Timeouts.Ready = true, time.Minute
		slow := true
		r.green.ReadyFunc = func(ctx context.Context, do func(context.Context) error) error {
			if last := r.events[len(r.events)-1]; slow && last.Kind == abswap.EventPhase && last.Phase == abswap.PhaseShifting {
				slow = false
				time.Sleep(11 * time.Second)
				_, end := r.sw.Begin()
				time.AfterFunc(3*time.Second, end)
			}
			return do(ctx)
		}
		overlap := false
		r.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			l, err := r.sw.InFlight(ctx, r.blue)
			overlap = err != nil || l.Total() > 0
			return do(ctx, to)
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.False(t, slow)
		assert.False(t, overlap)
		assert.Contains(t, phases(rep), "holding draining-first shifting holding draining-first shifting confirming")
	})
}

func TestTimeoutOfAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Exclusive, r.Hold.Total, r.Timeouts.Shift = true, time.Hour, 5*time.Second
		r.sw.HoldFunc = func(ctx context.Context, _ abswap.HoldOptions, _ func(context.Context, abswap.HoldOptions) (func(), error)) (func(), error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, abswap.OutcomeDiscarded, rep.Outcome)
		assert.Less(t, time.Since(began), time.Minute)
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

func TestFrontDoorIsNotAskedUnderTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Exclusive, r.Soak = true, -1
		r.FrontDoor = func(context.Context) (string, error) { // as any client
			slot, end := r.sw.Begin()
			end()
			return slot, nil
		}
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Less(t, time.Since(began), time.Second, "it waited for the end of the hold")

		r.FrontDoor = func(context.Context) (string, error) { return "v2", nil } // the data path did not follow
		rep, err = r.Swap(t.Context(), "blue")
		assert.ErrorContains(t, err, `front door: "v2" answers, not slot "blue"`)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
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

// A slot that is none of the Swapper's gets a part of the work behind its back, after Check has looked.
func TestAStrangersPartIsNotSwappedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, to := range []string{"blue", "green"} {
			r := newRig(t)
			r.sw = &fake.Switcher{Slots: []string{"blue", "green", "mauve"}}
			r.Switcher = r.sw
			r.sw.Move(map[string]int{"blue": 100})
			r.green.Put(abswap.SlotState{Release: "v2", Running: true})
			r.sw.CheckFunc = func(ctx context.Context, req abswap.CheckRequest, do func(context.Context, abswap.CheckRequest) error) error {
				time.AfterFunc(time.Nanosecond, func() { r.sw.Move(map[string]int{"blue": 60, "mauve": 40}) })
				return do(ctx, req)
			}
			r.sw.ActiveFunc = func(ctx context.Context, do func(context.Context) (string, error)) (string, error) {
				defer time.Sleep(time.Millisecond)
				return do(ctx)
			}
			rep, err := r.Swap(t.Context(), to)
			require.ErrorIs(t, err, abswap.ErrUnknownSlot)
			assert.ErrorContains(t, err, "blue 60 %, mauve 40 %")
			assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
			assert.Equal(t, map[string]int{"blue": 60, "mauve": 40}, r.sw.Shares())
		}
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

// A slot whose Inspect does not answer is one that cannot tell what is in it: each question has its bound.
func TestASlotThatDoesNotTellIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Timeouts.Observe, r.Soak = time.Second, -1
		r.FrontDoor = func(context.Context) (string, error) { return "green", nil }
		r.green.Put(abswap.SlotState{Release: "v2", Running: true})
		r.green.InspectFunc = func(ctx context.Context, _ func(context.Context) (abswap.SlotState, error)) (abswap.SlotState, error) {
			<-ctx.Done()
			return abswap.SlotState{}, context.Cause(ctx)
		}
		began := time.Now()
		rep, err := r.Swap(t.Context(), "green")
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Less(t, time.Since(began), time.Minute)

		r.sw.Move(map[string]int{"blue": 100})
		r.blue.Put(abswap.SlotState{Release: "v1", Running: true})
		rep, err = r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, "green", rep.To)
	})
}

func TestNegativeTimeoutsBindNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Timeouts = abswap.Timeouts{Install: -1, Start: -1, Warm: -1, Ready: -1, Gate: -1, Shift: -1, Observe: -1, Settle: -1, Stop: -1, Revert: -1}
		r.green.ReadyAfter = 2 * time.Hour // no default is as long
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
	})
}
