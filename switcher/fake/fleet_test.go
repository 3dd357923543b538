package fake_test

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

func TestFleetOfTwoDoors(t *testing.T) {
	f := fake.NewFleet(2, "n1", "n2", "n3")
	ctx, n1 := t.Context(), fake.NewSlot("n1")
	assert.Equal(t, []string{"n1", "n2", "n3"}, f.Serving())
	require.NoError(t, f.TakeOut(ctx, n1))
	require.NoError(t, f.TakeOut(ctx, n1))
	for i := range 2 {
		for range 10 {
			name, end := f.Door(i).Begin()
			assert.NotEqual(t, "n1", name, "S1")
			end()
		}
	}
	all, err := f.Members(ctx)
	require.NoError(t, err)
	assert.Equal(t, abswap.Member{Out: true, Up: true, Note: "door 0: out; door 1: out"}, all["n1"])
	require.NoError(t, f.Door(1).Move(map[string]int{"n1": 30, "n2": 40, "n3": 30})) // another hand, at one door
	all, err = f.Members(ctx)
	require.NoError(t, err)
	assert.Equal(t, abswap.Member{Up: true, Note: "door 0: out"}, all["n1"], "neither in nor out")
	require.NoError(t, f.PutIn(ctx, n1))
	assert.Len(t, f.Serving(), 3)

	f.Health("n2", "its disk is full")
	all, err = f.Members(ctx)
	require.NoError(t, err)
	assert.Equal(t, abswap.Member{In: true, Note: "its disk is full"}, all["n2"])
	assert.Equal(t, []string{"n1", "n3"}, f.Serving())
	f.Health("n2", "")
	assert.Len(t, f.Serving(), 3)

	assert.ErrorIs(t, f.TakeOut(ctx, fake.NewSlot("n9")), abswap.ErrUnknownSlot)
	assert.ErrorIs(t, f.Check(ctx, abswap.CheckRequest{Slots: []abswap.Slot{fake.NewSlot("n9")}}), abswap.ErrUnknownSlot)
	_, err = f.InFlight(ctx, fake.NewSlot("n9"))
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	over, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, f.PutIn(over, n1), context.Canceled)
	_, err = f.Members(over)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestFleetCountsAndEndsWorkOfAllDoors(t *testing.T) {
	f := fake.NewFleet(2, "n1", "n2")
	ctx, n1 := t.Context(), fake.NewSlot("n1")
	for i := range 2 {
		for {
			if name, end := f.Door(i).Begin(); name != "n1" {
				end()
				continue
			}
			break
		}
	}
	l, err := f.InFlight(ctx, n1)
	require.NoError(t, err)
	assert.Equal(t, 2, l.Requests)
	assert.Equal(t, abswap.EvidenceExact, l.Evidence)
	require.NoError(t, f.TakeOut(ctx, n1))
	require.NoError(t, f.Force(ctx, n1, abswap.ForceCut))
	l, err = f.InFlight(ctx, n1)
	require.NoError(t, err)
	assert.Zero(t, l.Total())
	assert.Equal(t, "Force(n1, cut)", f.Calls("Force")[0].String())
}

// TestFleetHalfTakenOut: one door refuses, and the roll puts the member in again.
func TestFleetHalfTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.NewFleet(2, "n1", "n2", "n3")
		refused := errors.New("read only")
		f.Door(1).SealFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) error) error { return refused }
		nodes := []abswap.Slot{fake.NewRunningSlot("n1", "v1"), fake.NewRunningSlot("n2", "v1"), fake.NewRunningSlot("n3", "v1")}
		o := &abswap.Rolling{Switcher: f, Slots: nodes}
		rep, err := o.Deploy(t.Context(), abswap.Release{ID: "v2"})
		require.ErrorIs(t, err, refused)
		assert.Equal(t, abswap.MemberKept, rep.Members[0].State)
		assert.Equal(t, abswap.MemberTakingOut, rep.Members[0].Failed)
		assert.Len(t, f.Serving(), 3, "all doors are as they were")

		f.Door(1).SealFunc = nil
		f.Health("n3", "it restarts")
		time.AfterFunc(30*time.Second, func() { f.Health("n3", "") })
		rep, err = o.Deploy(t.Context(), abswap.Release{ID: "v2"})
		require.NoError(t, err)
		assert.Equal(t, 3, rep.Serving)
		assert.Len(t, f.Calls("PutIn"), 4)

		lost := errors.New("connection reset")
		f.PutInFunc = func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			return errors.Join(do(ctx, s), lost) // it happens, and the answer is lost
		}
		f.TakeOutFunc = func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error {
			return errors.Join(do(ctx, s), lost)
		}
		_, err = o.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err, "the doors are believed, not the answers")

		f.MembersFunc = func(context.Context, func(context.Context) (map[string]abswap.Member, error)) (map[string]abswap.Member, error) {
			return nil, lost
		}
		rep, err = o.Deploy(t.Context(), abswap.Release{ID: "v4"})
		require.ErrorIs(t, err, lost)
		assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
	})
}
