package abswap_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// TestD4NoSealWhileSessionsLive deploys while a session lives in the old slot: that is sealed, and stopped, when the session has ended, not
// before, though no request was in flight for hours.
func TestD4NoSealWhileSessionsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions = true
		s, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		began, ended := time.Now(), false
		r.sw.SealFunc = func(ctx context.Context, slot abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			if slot.Name() == "blue" {
				assert.True(t, ended, "sealed after %s", time.Since(began))
			}
			return do(ctx, slot)
		}
		time.AfterFunc(3*time.Hour, func() { ended = true; s.End() })
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.GreaterOrEqual(t, time.Since(began), 3*time.Hour)
		assert.False(t, running(t, r.blue))
	})
}

// TestD4SessionsOccupyASlot deploys again while sessions live in the slot that would be needed.
func TestD4SessionsOccupyASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions, r.Drain.Timeout = true, time.Minute
		s, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeStillDraining, rep.Outcome)
		assert.Equal(t, 1, rep.Drains[0].Last.Sessions)
		seals := len(r.sw.Calls("Seal"))
		_, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.ErrorIs(t, err, abswap.ErrSlotOccupied)
		assert.ErrorContains(t, err, `slot "blue" has 0 requests, 0 upgraded connections, 1 sessions`)
		assert.Len(t, r.sw.Calls("Seal"), seals)
		st, err := r.Status(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, st.Slots[0].Load.Sessions)

		r.Occupied, r.Drain.Timeout = abswap.OccupiedWait, time.Hour
		time.AfterFunc(10*time.Minute, s.End)
		rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "blue", rep.To)
		assert.NoError(t, s.Err())
	})
}

// TestD4RetainedSlotGetsASessionAgain has one begin in the retained slot, as after a restart of the backend: it is waited for, too.
func TestD4RetainedSlotGetsASessionAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions, r.Retain = true, time.Hour
		before, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		var over atomic.Bool
		start := time.Now()
		r.sw.SessionsFunc = func(ctx context.Context, slot abswap.Slot, do func(context.Context, abswap.Slot) (abswap.Load, error)) (abswap.Load, error) {
			l, err := do(ctx, slot)
			if slot.Name() == "blue" && time.Since(start) > 90*time.Minute && !over.Load() {
				l.Sessions = 1
			}
			return l, err
		}
		time.AfterFunc(time.Hour, before.End)
		time.AfterFunc(5*time.Hour, func() { over.Store(true) })
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.GreaterOrEqual(t, time.Since(start), 5*time.Hour)
	})
}

// TestD4CutOccupantIncludesSessions takes a slot by force: OccupiedCut does not wait for sessions.
func TestD4CutOccupantIncludesSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions, r.Occupied = true, abswap.OccupiedCut
		_, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		r.sw.Move(map[string]int{"green": 100})
		r.green.Put(abswap.SlotState{Release: "v1", Running: true})
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, "blue", rep.To)
	})
}

// deployPastTheCap deploys v2, which takes until the cap of the sessions, an hour, and stops the old slot at the first try. One that goes round
// between draining and stopping is ended.
func (r *rig) deployPastTheCap(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stops := 0
	r.OnEvent = func(e abswap.Event) {
		if e.Kind != abswap.EventPhase || e.Phase != abswap.PhaseStopping {
			return
		}
		if stops++; stops == 3 {
			cancel()
		}
	}
	began := time.Now()
	rep, err := r.Deploy(ctx, v2)
	require.NoError(t, err)
	assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
	assert.Equal(t, 1, stops)
	assert.False(t, running(t, r.blue))
	assert.InDelta(t, time.Hour, time.Since(began), float64(time.Minute))
}

// TestD4SessionsBeyondTheirCap deploys while a session lives in the old slot that never ends, and once more while one lives in the slot that is
// needed: after the cap of their class they are not waited for, neither by the drain nor by the stop behind it.
func TestD4SessionsBeyondTheirCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions, r.Drain.Classes = true, classRules{abswap.ClassSession: {Cap: time.Hour}}
		_, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		r.deployPastTheCap(t)

		r.Occupied = abswap.OccupiedWait
		r.blue.Put(abswap.SlotState{Release: "v1", Running: true})
		r.sw.Move(map[string]int{"blue": 100})
		_, err = r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		r.sw.Move(map[string]int{"green": 100})
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "blue", rep.To)
	})
}

// TestD4SessionsThatNobodyKnowsBeyondTheirCap deploys while the backend cannot tell how many sessions the old slot has, as after it was killed, and
// once more into that slot: after the cap of their class nobody waits for what may be there.
func TestD4SessionsThatNobodyKnowsBeyondTheirCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Drain.Sessions, r.Drain.Classes = true, classRules{abswap.ClassSession: {Cap: time.Hour}}
		r.sw.SessionsFunc = func(ctx context.Context, slot abswap.Slot, do func(context.Context, abswap.Slot) (abswap.Load, error)) (abswap.Load, error) {
			l, err := do(ctx, slot)
			if slot.Name() == "blue" {
				l.Evidence = abswap.EvidenceUnknown
			}
			return l, err
		}
		r.deployPastTheCap(t)

		r.Occupied = abswap.OccupiedWait
		r.blue.Put(abswap.SlotState{Release: "v1", Running: true})
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "blue", rep.To)
	})
}
