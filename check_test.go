package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// findings is a Checker that has something to say.
type findings struct {
	abswap.Slot
	err error
}

func (f findings) Check(context.Context, abswap.CheckRequest) error { return f.err }

func TestCheckFindsEveryMistakeAtOnceAndNothingMoves(t *testing.T) {
	two := func() []abswap.Slot { return []abswap.Slot{fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")} }
	for _, c := range []struct {
		name string
		s    func(sw *fake.Switcher) *abswap.Swapper
		want []string
	}{
		{"empty", func(*fake.Switcher) *abswap.Swapper { return &abswap.Swapper{} },
			[]string{"Swapper.Switcher is nil", "Swapper.Slots has 0 slots"}},
		{"one slot, nil and twice", func(sw *fake.Switcher) *abswap.Swapper {
			return &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{nil, fake.NewSlot("blue"), fake.NewSlot("blue"), fake.NewSlot("")}}
		}, []string{"Slots[0] is nil", `slot "blue" twice`, "Slots[3] has no name"}},
		{"no drainer", func(sw *fake.Switcher) *abswap.Swapper {
			return &abswap.Swapper{Switcher: fake.Bare(sw), Slots: two()}
		}, []string{"Swapper.Drainer is nil"}},
		{"steps", func(sw *fake.Switcher) *abswap.Swapper {
			return &abswap.Swapper{Switcher: sw, Slots: two(), Steps: []int{0, 50, 20, 100}, Exclusive: true}
		}, []string{"Steps[0] is 0", "Steps[2] is 20 after 50", "Steps[3] is 100", "exclude each other"}},
		{"abilities that are missing", func(sw *fake.Switcher) *abswap.Swapper {
			return &abswap.Swapper{Switcher: fake.Bare(sw), Drainer: fake.BareDrainer(sw), Slots: two(), Steps: []int{5}, Exclusive: true,
				Drain: abswap.DrainOptions{AtDeadline: abswap.CutOff, Sessions: true}, Occupied: abswap.OccupiedCut}
		}, []string{"cannot weigh", "cannot hold", "AtDeadline: fake.bareDrainer", "OccupiedCut", "cannot count sessions"}},
		{"drain options", func(sw *fake.Switcher) *abswap.Swapper {
			return &abswap.Swapper{Switcher: sw, Slots: two(), Occupied: 9, Hold: abswap.HoldOptions{Each: -1},
				Drain: abswap.DrainOptions{Timeout: -1, AtDeadline: 7, Deadline: time.Unix(1, 0), OnLoad: func(abswap.Load) {}}}
		}, []string{"Occupied is 9", "negative bound", "negative duration", "AtDeadline is 7", "Deadline is one moment", "OnLoad is the engine's"}},
		{"what the parts say", func(sw *fake.Switcher) *abswap.Swapper {
			err := errors.Join(errors.New("disk is full"), fmt.Errorf("two: %w", abswap.ErrPermanent), abswap.Warnf("old firmware"))
			return &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{fake.NewSlot("blue"), findings{fake.NewSlot("green"), err}}}
		}, []string{"disk is full", "two: permanent", "old firmware"}},
		{"a stranger is active", func(sw *fake.Switcher) *abswap.Swapper {
			sw.Slots = []string{"blue", "green", "mauve"}
			sw.Move(map[string]int{"mauve": 100})
			return &abswap.Swapper{Switcher: sw, Slots: two()}
		}, []string{`says that "mauve" is active`}},
		{"a stranger has a part", func(sw *fake.Switcher) *abswap.Swapper {
			sw.Slots = []string{"blue", "green", "mauve"}
			sw.Move(map[string]int{"blue": 60, "mauve": 40})
			return &abswap.Swapper{Switcher: sw, Slots: two()}
		}, []string{`blue 60 %, mauve 40 %`, `slot "mauve": unknown slot`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := &fake.Switcher{}
			s := c.s(sw)
			err := s.Check(t.Context())
			require.Error(t, err)
			for _, w := range c.want {
				assert.ErrorContains(t, err, w)
			}
			rep, derr := s.Deploy(t.Context(), v2)
			assert.Error(t, derr, "a deploy refuses what Check refuses")
			assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
			_, derr = s.Swap(t.Context(), "green")
			assert.Error(t, derr)
			assert.Empty(t, sw.Calls("Activate", "SetWeights", "Seal", "Hold"))
		})
	}
}

func TestWarningsDoNotStopARunAndAreReported(t *testing.T) {
	r := newRig(t)
	r.Soak = -1
	r.sw.Declared = abswap.Traits{ClosesIdle: true, Gap: true, Forgets: true, PerConnection: true}
	r.Slots = []abswap.Slot{r.blue, findings{r.green, abswap.Warnf("slow disk")}}
	var w *abswap.Warning
	assert.ErrorAs(t, r.Check(t.Context()), &w)
	r.green.Put(abswap.SlotState{Release: "v2", Running: true})
	rep, err := r.Swap(t.Context(), "green")
	require.NoError(t, err)
	assert.Len(t, rep.Warnings, 5)
	assert.Contains(t, rep.Warnings, "slow disk")
	assert.True(t, rep.Traits.Gap, "the report names the traits")
}

func TestReleaseCheck(t *testing.T) {
	for _, ok := range []string{"v1", "1.2.3", "2026-11-22_a+b", "V"} {
		assert.NoError(t, abswap.Release{ID: ok}.Check(), ok)
	}
	for _, bad := range []string{"", ".", "..", "a/b", `a\b`, "a b", "-rf", ".hidden", "dot.", "a:b", "é", string(make([]byte, 65))} {
		assert.Error(t, abswap.Release{ID: bad}.Check(), bad)
		r := newRig(t)
		_, err := r.Deploy(t.Context(), abswap.Release{ID: bad})
		assert.ErrorIs(t, err, abswap.ErrPermanent, bad)
	}
}

func TestCheckWeights(t *testing.T) {
	b, g := fake.NewSlot("blue"), fake.NewSlot("green")
	assert.NoError(t, abswap.CheckWeights([]abswap.Weight{{Slot: b, Part: 95}, {Slot: g, Part: 5}}))
	err := abswap.CheckWeights([]abswap.Weight{{Slot: b, Part: 150}, {Slot: b, Part: -1}, {}})
	for _, w := range []string{"named twice", "weight 150", "weight -1", "has no slot", "sum up to 149"} {
		assert.ErrorContains(t, err, w)
	}
}

type wrapped struct{ abswap.Switcher }

func (w wrapped) Unwrap() abswap.Switcher { return w.Switcher }

type looped struct{ abswap.Slot }

func (l *looped) Unwrap() any { return l }

type wrappedNil struct{ abswap.Slot }

func (wrappedNil) Unwrap() abswap.Slot { return nil }

func TestAsFindsAbilitiesThroughWrappers(t *testing.T) {
	sw := &fake.Switcher{}
	_, ok := abswap.As[abswap.WeightedSwitcher](wrapped{wrapped{sw}})
	assert.True(t, ok)
	d, ok := abswap.As[abswap.Drainer](wrapped{sw})
	assert.True(t, ok)
	assert.Equal(t, sw, d)
	_, ok = abswap.As[abswap.WeightedSwitcher](fake.Bare(sw))
	assert.False(t, ok, "a wrapper without Unwrap hides")
	_, ok = abswap.As[abswap.StoppingSlot](&looped{})
	assert.False(t, ok, "a wrapper of itself ends")
	_, ok = abswap.As[abswap.StoppingSlot](wrappedNil{})
	assert.False(t, ok)
	_, ok = abswap.As[abswap.StoppingSlot](nil)
	assert.False(t, ok)
}

func TestErrorsTellWhatHappened(t *testing.T) {
	cause, back := errors.New("sick"), errors.New("old is dead")
	err := error(&abswap.SwapError{Phase: abswap.PhaseSoaking, From: "blue", To: "green", Release: "v2", Serving: "green",
		Outcome: abswap.OutcomeSuspended, Err: cause, Rollback: back})
	assert.Equal(t, `deploy of "v2" to slot "green": soaking: sick (suspended; slot "green" serves); rollback: old is dead`, err.Error())
	assert.ErrorIs(t, err, cause)
	assert.ErrorIs(t, err, back)
	busy := &abswap.BusyError{Owner: abswap.Owner{User: "ann", Host: "web1", PID: 7, Release: "v2", Since: time.Unix(0, 0).UTC()}}
	assert.ErrorIs(t, busy, abswap.ErrBusy)
	assert.Equal(t, `busy: ann on web1 (process 7) has been deploying "v2" since 1970-01-01T00:00:00Z`, busy.Error())
}
