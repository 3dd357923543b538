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

func TestSlotLife(t *testing.T) {
	ctx := t.Context()
	s := fake.NewSlot("blue")
	assert.Equal(t, "blue", s.Name())
	assert.ErrorIs(t, s.Ready(ctx), abswap.ErrNotReady)
	assert.Error(t, s.Start(ctx), "nothing is installed")
	assert.Error(t, s.Install(ctx, abswap.Release{ID: "../x"}))
	require.NoError(t, s.Install(ctx, abswap.Release{ID: "v1"}))
	assert.ErrorIs(t, s.Warm(ctx), abswap.ErrNotReady)
	require.NoError(t, s.Start(ctx))
	require.NoError(t, s.Start(ctx), "again")
	require.NoError(t, s.Ready(ctx))
	assert.False(t, s.Warmed())
	require.NoError(t, s.Warm(ctx))
	assert.True(t, s.Warmed())
	assert.Error(t, s.Install(ctx, abswap.Release{ID: "v2"}), "it runs")
	state, err := s.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "v1", state.Release)
	assert.True(t, state.Running)
	require.NoError(t, s.Stop(ctx))
	require.NoError(t, s.Stop(ctx), "again")
	assert.False(t, s.Warmed())
	state, err = s.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, abswap.SlotState{Release: "v1"}, state)
}

func TestSlotNeedsAName(t *testing.T) {
	assert.Error(t, new(fake.Slot).Check(t.Context(), abswap.CheckRequest{}))
	assert.NoError(t, (&fake.Slot{ID: "blue"}).Check(t.Context(), abswap.CheckRequest{}))
}

func TestSlotGetsReadyAfterATimeAndSomeProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake.Slot{ID: "blue", ReadyAfter: time.Minute, ReadyProbes: 2}
		require.NoError(t, s.Install(t.Context(), abswap.Release{ID: "v1"}))
		require.NoError(t, s.Start(t.Context()))
		assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady)
		time.Sleep(time.Minute)
		assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady, "the second probe")
		assert.NoError(t, s.Ready(t.Context()))
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, s.Start(t.Context()))
		assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady, "a new start")
		s.Put(abswap.SlotState{Release: "v1", Running: true})
		assert.NoError(t, s.Ready(t.Context()), "what is put running is ready at once")
	})
}

func TestSlotGetsSick(t *testing.T) {
	s := fake.NewRunningSlot("blue", "v1")
	fever := errors.New("fever")
	s.Sick(fever)
	assert.ErrorIs(t, s.Ready(t.Context()), fever)
	assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady)
	s.Sick(nil)
	assert.NoError(t, s.Ready(t.Context()))
	s.Sick(fever)
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Install(t.Context(), abswap.Release{ID: "v2"}))
	require.NoError(t, s.Start(t.Context()))
	assert.NoError(t, s.Ready(t.Context()), "another release")
}

func TestSlotMethodsCanBeScripted(t *testing.T) {
	boom := errors.New("boom")
	fail := func(context.Context, func(context.Context) error) error { return boom }
	s := &fake.Slot{ID: "blue", ReadyFunc: fail, StartFunc: fail, WarmFunc: fail, StopFunc: fail,
		InstallFunc: func(ctx context.Context, r abswap.Release, do func(context.Context, abswap.Release) error) error {
			return errors.Join(do(ctx, r), boom) // half way: it is there, and an error all the same
		},
		InspectFunc: func(ctx context.Context, do func(context.Context) (abswap.SlotState, error)) (abswap.SlotState, error) {
			state, err := do(ctx)
			return state, errors.Join(err, boom)
		}}
	ctx := t.Context()
	for _, err := range []error{s.Ready(ctx), s.Install(ctx, abswap.Release{ID: "v1"}), s.Start(ctx), s.Warm(ctx), s.Stop(ctx)} {
		assert.ErrorIs(t, err, boom)
	}
	state, err := s.Inspect(ctx)
	assert.ErrorIs(t, err, boom)
	assert.Equal(t, "v1", state.Release)
	var said []string
	for _, c := range s.Calls() {
		said = append(said, c.String())
	}
	assert.Equal(t, []string{"Ready(blue)", "Install(blue, v1)", "Start(blue)", "Warm(blue)", "Stop(blue)", "Inspect(blue)"}, said)
}

func TestSlotMethodsObeyTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := fake.NewRunningSlot("blue", "v1")
	_, inspect := s.Inspect(ctx)
	for _, err := range []error{s.Ready(ctx), s.Install(ctx, abswap.Release{ID: "v1"}), s.Start(ctx), s.Warm(ctx), s.Stop(ctx), inspect} {
		assert.ErrorIs(t, err, context.Canceled)
	}
	state, err := s.Inspect(t.Context())
	require.NoError(t, err)
	assert.True(t, state.Running)
}

func TestBareSlotAndDrainerHaveNoAbilities(t *testing.T) {
	_, ok := abswap.As[abswap.InstallingSlot](fake.BareSlot(fake.NewSlot("blue")))
	assert.False(t, ok)
	assert.Equal(t, "blue", fake.BareSlot(fake.NewSlot("blue")).Name())
	_, ok = abswap.As[abswap.WaitingDrainer](fake.BareDrainer(fake.New("blue")))
	assert.False(t, ok)
	only := struct{ abswap.WeightedSwitcher }{fake.New("blue")}
	_, ok = abswap.As[abswap.WeightedSwitcher](only)
	assert.True(t, ok)
	_, ok = abswap.As[abswap.SealingSwitcher](only)
	assert.False(t, ok, "one ability is left")
}
