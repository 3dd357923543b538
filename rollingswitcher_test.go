package abswap_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// onlyWeighing leaves a fake no ability but its weights.
type onlyWeighing struct{ abswap.WeightedSwitcher }

func membersOf(t *testing.T, sw abswap.WeightedSwitcher, names ...string) (abswap.MemberSwitcher, map[string]abswap.Slot) {
	t.Helper()
	var slots []abswap.Slot
	by := map[string]abswap.Slot{}
	for _, n := range names {
		by[n] = fake.NewRunningSlot(n, "v1")
		slots = append(slots, by[n])
	}
	return abswap.WeightedMembers(sw, slots...), by
}

func TestWeightedMembers(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(*fake.Switcher) abswap.WeightedSwitcher
	}{
		{"with seal", func(s *fake.Switcher) abswap.WeightedSwitcher { return s }},
		{"by weights alone", func(s *fake.Switcher) abswap.WeightedSwitcher { return onlyWeighing{s} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := fake.New("a", "b", "c")
			require.NoError(t, sw.Move(map[string]int{"a": 60, "b": 25, "c": 15}))
			m, slots := membersOf(t, c.wrap(sw), "a", "b", "c")
			ctx := t.Context()
			require.NoError(t, m.TakeOut(ctx, slots["a"]))
			require.NoError(t, m.TakeOut(ctx, slots["a"]), "idempotent")
			got := sw.Shares()
			assert.Len(t, got, 2)
			assert.InDelta(t, 62, got["b"], 2, "the others take over in their ratio")
			all, err := m.Members(ctx)
			require.NoError(t, err)
			assert.Equal(t, abswap.Member{Out: true, Up: true}, all["a"])
			assert.Equal(t, abswap.Member{In: true, Up: true}, all["b"])
			require.NoError(t, m.PutIn(ctx, slots["a"]))
			require.NoError(t, m.PutIn(ctx, slots["a"]), "idempotent")
			assert.Equal(t, 33, sw.Shares()["a"], "as much as the others have on average")

			require.NoError(t, m.TakeOut(ctx, slots["a"]))
			require.NoError(t, m.TakeOut(ctx, slots["b"]))
			assert.ErrorIs(t, m.TakeOut(ctx, slots["c"]), abswap.ErrPermanent, "the last one stays")
			assert.Equal(t, map[string]int{"c": 100}, sw.Shares())

			assert.ErrorIs(t, m.PutIn(ctx, fake.NewSlot("z")), abswap.ErrUnknownSlot)
			assert.ErrorIs(t, m.TakeOut(ctx, nil), abswap.ErrUnknownSlot)
			over, cancel := context.WithCancel(ctx)
			cancel()
			assert.ErrorIs(t, m.PutIn(over, slots["a"]), context.Canceled)
			assert.Equal(t, map[string]int{"c": 100}, sw.Shares())
			gone := errors.New("gone")
			sw.WeightsFunc = func(context.Context, func(context.Context) (map[string]int, error)) (map[string]int, error) {
				return nil, gone
			}
			_, err = m.Members(ctx)
			assert.ErrorIs(t, err, gone)
			assert.ErrorIs(t, m.PutIn(ctx, slots["a"]), gone)
		})
	}
}

func TestWeightedMembersThatCannotSealAreWarnedOf(t *testing.T) {
	for _, c := range []struct {
		seals bool
		sw    func(*fake.Switcher) abswap.WeightedSwitcher
	}{{true, func(s *fake.Switcher) abswap.WeightedSwitcher { return s }}, {false, func(s *fake.Switcher) abswap.WeightedSwitcher { return onlyWeighing{s} }}} {
		r := newFleetRig(t, 3)
		r.Switcher, r.Drainer = abswap.WeightedMembers(c.sw(r.sw), r.Slots...), r.sw
		err := r.Check(t.Context())
		if c.seals {
			assert.NoError(t, err)
			continue
		}
		_, warned := errors.AsType[*abswap.Warning](err)
		assert.True(t, warned)
		assert.ErrorContains(t, err, "cannot seal")
	}
}

func TestWeightedMembersFromNothingToMany(t *testing.T) {
	var names []string
	for i := range 26 {
		names = append(names, string(rune('a'+i)))
	}
	sw := fake.New(names...)
	require.NoError(t, sw.Move(nil))
	m, slots := membersOf(t, sw, names...)
	for i, n := range names {
		require.NoError(t, m.PutIn(t.Context(), slots[n]))
		sum := 0
		for _, part := range sw.Shares() {
			sum += part
		}
		assert.Equal(t, 100, sum)
		assert.Len(t, sw.Shares(), i+1)
	}
	for _, n := range names[1:] {
		require.NoError(t, m.TakeOut(t.Context(), slots[n]))
	}
	assert.Equal(t, map[string]int{"a": 100}, sw.Shares())
	_, seals := abswap.As[abswap.SealingSwitcher](m)
	assert.True(t, seals, "abilities are those of the switcher behind it")
}
