package arr_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/fake"
)

// plain is a slot without abilities.
type plain struct{ err error }

func (plain) Name() string                  { return "plain" }
func (p plain) Ready(context.Context) error { return p.err }

func TestSet(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two := fake.NewSlot("one"), fake.NewSlot("two")
	s := &arr.Set{ID: "blue", Members: []abswap.Slot{one, two}}
	assert.Error(t, s.Ready(ctx), "nothing runs")
	r := abswap.Release{ID: "v2"}
	require.NoError(t, s.Install(ctx, r))
	require.NoError(t, s.Start(ctx))
	require.NoError(t, s.Warm(ctx))
	require.NoError(t, s.Ready(ctx))
	st, err := s.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "v2", st.Release)
	assert.True(t, st.Running)
	require.NoError(t, one.Stop(ctx))
	assert.Error(t, s.Ready(ctx), "one of them does not run")
	require.NoError(t, arr.StoppingSet{Set: s}.Stop(ctx))
	st, err = s.Inspect(ctx)
	require.NoError(t, err)
	assert.False(t, st.Running)
	require.NoError(t, one.Install(ctx, abswap.Release{ID: "v3"}))
	_, err = s.Inspect(ctx)
	assert.ErrorContains(t, err, `"v3" and "v2"`)

	sick := errors.New("sick")
	mixed := &arr.Set{ID: "green", Members: []abswap.Slot{plain{sick}, two}}
	assert.ErrorIs(t, mixed.Install(ctx, r), errors.ErrUnsupported)
	assert.ErrorIs(t, arr.StoppingSet{Set: mixed}.Stop(ctx), errors.ErrUnsupported)
	assert.ErrorIs(t, mixed.Ready(ctx), sick)
	require.NoError(t, mixed.Start(ctx), "what a member cannot do need not be done")
	_, err = mixed.Inspect(ctx)
	assert.ErrorIs(t, err, errors.ErrUnsupported, "that nothing is known is not that nothing is there")
	require.NoError(t, mixed.Check(ctx, abswap.CheckRequest{}))
	assert.ErrorIs(t, (&arr.Set{ID: "x"}).Ready(ctx), abswap.ErrNotReady)
	assert.ErrorContains(t, (&arr.Set{Members: []abswap.Slot{one, one, nil}}).Check(ctx, abswap.CheckRequest{}), "twice")
}
