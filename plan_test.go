package abswap_test

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

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

func TestReadReportNeedsTheJournalOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, err := abswap.ReadReport(t.Context(), nil, "")
		assert.ErrorIs(t, err, abswap.ErrPermanent)
		r.Journal = &abswap.MemoryJournal{}
		_, err = abswap.ReadReport(t.Context(), r.Journal, "")
		assert.ErrorIs(t, err, abswap.ErrNothingToDo)
		first, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		second, err := r.Swap(t.Context(), "blue")
		require.NoError(t, err)
		require.NoError(t, r.sw.Move(nil)) // of which a journal knows nothing

		newest, err := abswap.ReadReport(t.Context(), r.Journal, "")
		require.NoError(t, err)
		assert.Equal(t, second.ID, newest.ID)
		assert.Equal(t, "blue", newest.Serving)
		older, err := abswap.ReadReport(t.Context(), r.Journal, first.ID)
		require.NoError(t, err)
		assert.Equal(t, "green", older.Serving)
		assert.Equal(t, first.Steps, older.Steps)
		assert.Equal(t, first.Outcome, older.Outcome)
		assert.Equal(t, os.Getpid(), older.By.PID)
		_, err = abswap.ReadReport(t.Context(), r.Journal, "no-such")
		assert.ErrorIs(t, err, abswap.ErrNothingToDo)
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
