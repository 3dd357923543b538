package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// askAPerson is a Gate that wants an approval at one point.
func askAPerson(at int) func(context.Context, abswap.GateRequest) error {
	return func(_ context.Context, g abswap.GateRequest) error {
		if g.Percent == at {
			return fmt.Errorf("%w: look at the dashboard", abswap.ErrApprovalNeeded)
		}
		return nil
	}
}

func TestApproveLetsAWaitingSwapGoOn(t *testing.T) {
	for _, at := range []int{0, 10, 100} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.Steps = []int{10}
				r.Gate = askAPerson(at)
				r.Journal = &abswap.MemoryJournal{}
				_, err := r.Approve(t.Context())
				assert.ErrorIs(t, err, abswap.ErrNothingToDo)
				wait := after(time.Hour, func() {
					rep, err := abswap.ReadReport(context.Background(), r.Journal, "")
					assert.NoError(t, err)
					assert.Contains(t, rep.Awaiting, "look at the dashboard")
					rep, err = r.Approve(context.Background())
					assert.NoError(t, err)
					assert.NotEmpty(t, rep.ID)
				})
				began := time.Now()
				rep, err := r.Deploy(t.Context(), v2)
				require.NoError(t, err)
				assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
				assert.GreaterOrEqual(t, time.Since(began), time.Hour)
				assert.Empty(t, rep.Awaiting)
				asked := slices.IndexFunc(r.events, func(e abswap.Event) bool { return e.Kind == abswap.EventAwaiting })
				if assert.GreaterOrEqual(t, asked, 0) {
					assert.Contains(t, r.events[asked].Message, "look at the dashboard")
				}
				wait()
			})
		})
	}
}

func TestApproveAfterTheProcessHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Steps = []int{10}
		r.Gate = askAPerson(10)
		journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
		journal.die = func(rec abswap.Record) (bool, bool) { return rec.Kind == abswap.RecordNote, true } // it waits for a person
		r.Journal = journal
		_, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, errKilled)
		journal.dead, journal.die = false, nil
		rep, err := r.Approve(t.Context())
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "green", r.serving(t))
	})
}

func TestWaitingForApprovalEndsWhenItMakesNoSenseAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Steps = []int{10}
		r.Gate = askAPerson(10)
		sick := errors.New("sick")
		time.AfterFunc(time.Hour, func() { r.green.Sick(sick) })
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, sick)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Gate = askAPerson(100)
		wait := after(time.Hour, func() { _, _ = r.Cancel(context.Background()) })
		rep, err := r.Deploy(t.Context(), v2)
		assert.ErrorIs(t, err, abswap.ErrCanceled)
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		wait()
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

// TestCancelWhileAnEarlierSwapIsBroughtToItsEnd asks a deploy to cancel that has to finish first what a killed one left.
func TestCancelWhileAnEarlierSwapIsBroughtToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Soak = time.Hour
		journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
		journal.die = func(rec abswap.Record) (bool, bool) {
			return rec.Kind == abswap.RecordIntent && rec.Phase == abswap.PhaseSoaking, true
		}
		r.Journal = journal
		_, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, errKilled)
		journal.dead, journal.die = false, nil
		wait := after(time.Minute, func() {
			rep, err := r.Cancel(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, "v2", rep.Release)
			assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		assert.ErrorIs(t, err, abswap.ErrCanceled)
		assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
		assert.Equal(t, "blue", r.serving(t))
		wait()
	})
}
