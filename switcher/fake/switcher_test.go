package fake_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

var blue, green = fake.NewRunningSlot("blue", "v1"), fake.NewRunningSlot("green", "v2")

type activate = func(context.Context, abswap.Slot) error

func TestZeroValueKnowsBlueAndGreen(t *testing.T) {
	var sw fake.Switcher
	_, err := sw.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNoActive)
	slot, end := sw.Begin()
	assert.Empty(t, slot, "nothing takes work")
	end()
	assert.ErrorIs(t, sw.Activate(t.Context(), fake.NewSlot("red")), abswap.ErrUnknownSlot)
	assert.ErrorIs(t, sw.Activate(t.Context(), nil), abswap.ErrUnknownSlot, "a nil slot is refused too")
	require.NoError(t, sw.Activate(t.Context(), green))
	slot, end = sw.Begin()
	defer end()
	assert.Equal(t, "green", slot)
}

func TestSlotsCanBeMoreThanTwo(t *testing.T) {
	sw := fake.New("a", "b", "c")
	w := func(name string, part int) abswap.Weight { return abswap.Weight{Slot: fake.NewSlot(name), Part: part} }
	require.NoError(t, sw.SetWeights(t.Context(), w("a", 50), w("b", 30), w("c", 20)))
	got := map[string]int{}
	for range 200 {
		slot, end := sw.Begin()
		got[slot]++
		end()
	}
	assert.Equal(t, map[string]int{"a": 100, "b": 60, "c": 40}, got, "the parts are met exactly")
	require.NoError(t, sw.Seal(t.Context(), fake.NewSlot("a")))
	assert.Equal(t, map[string]int{"b": 60, "c": 40}, sw.Shares(), "what the sealed one had goes to the others")
	require.NoError(t, sw.SetWeights(t.Context(), w("a", 34), w("b", 33), w("c", 33)))
	require.NoError(t, sw.Seal(t.Context(), fake.NewSlot("c")))
	assert.Equal(t, map[string]int{"a": 51, "b": 49}, sw.Shares(), "the sum stays 100")
	assert.True(t, sw.Sealed("c"))
	assert.False(t, sw.Sealed("a"))
}

func TestSetWeightsTellsAllMistakesAtOnce(t *testing.T) {
	sw := fake.New("blue", "green")
	err := sw.SetWeights(t.Context(), abswap.Weight{Slot: blue, Part: -1}, abswap.Weight{Slot: fake.NewSlot("red"), Part: 50}, abswap.Weight{})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	for _, part := range []string{"no slot", "-1", "49, not 100", `"red"`} {
		assert.ErrorContains(t, err, part)
	}
	assert.Equal(t, map[string]int{"blue": 100}, sw.Shares())
}

func TestScriptedCalls(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name   string
		script func(context.Context, abswap.Slot, activate) error
		serves string
		want   error
	}{
		{"fails before its effect", func(context.Context, abswap.Slot, activate) error { return boom }, "blue", boom},
		{"fails after its effect", func(ctx context.Context, s abswap.Slot, do activate) error {
			return errors.Join(do(ctx, s), abswap.ErrUnknownOutcome)
		}, "green", abswap.ErrUnknownOutcome},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := fake.New("blue", "green")
			sw.ActivateFunc = c.script
			assert.ErrorIs(t, sw.Activate(t.Context(), green), c.want)
			assert.Equal(t, map[string]int{c.serves: 100}, sw.Shares())
			calls := sw.Calls("Activate")
			require.Len(t, calls, 1)
			assert.True(t, calls[0].Ended)
			assert.ErrorIs(t, calls[0].Err, c.want)
		})
	}
}

func TestACallCanLandLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		sw.ActivateFunc = func(ctx context.Context, s abswap.Slot, do activate) error {
			time.AfterFunc(time.Minute, func() { _ = do(context.Background(), s) })
			return abswap.ErrUnknownOutcome
		}
		assert.ErrorIs(t, sw.Activate(t.Context(), green), abswap.ErrUnknownOutcome)
		assert.Equal(t, map[string]int{"blue": 100}, sw.Shares())
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, map[string]int{"green": 100}, sw.Shares())
	})
}

func TestEveryMethodCanBeScripted(t *testing.T) {
	boom := errors.New("boom")
	sw := fake.New("blue", "green")
	sw.ActiveFunc = func(context.Context, func(context.Context) (string, error)) (string, error) { return "x", boom }
	sw.WeightsFunc = func(context.Context, func(context.Context) (map[string]int, error)) (map[string]int, error) {
		return nil, boom
	}
	sw.SetWeightsFunc = func(context.Context, []abswap.Weight, func(context.Context, ...abswap.Weight) error) error {
		return boom
	}
	sw.SealFunc = func(context.Context, abswap.Slot, activate) error { return boom }
	sw.HoldFunc = func(context.Context, abswap.HoldOptions, func(context.Context, abswap.HoldOptions) (func(), error)) (func(), error) {
		return nil, boom
	}
	sw.PreviewFunc = func(context.Context, abswap.Slot, []abswap.PreviewRule, func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
		return boom
	}
	sw.CheckFunc = func(context.Context, abswap.CheckRequest, func(context.Context, abswap.CheckRequest) error) error {
		return boom
	}
	sw.InFlightFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) (abswap.Load, error)) (abswap.Load, error) {
		return abswap.Load{}, boom
	}
	sw.WaitIdleFunc = func(context.Context, abswap.Slot, activate) error { return boom }
	sw.ListFunc = func(context.Context, abswap.Slot, int, func(context.Context, abswap.Slot, int) ([]abswap.Work, error)) ([]abswap.Work, error) {
		return nil, boom
	}
	sw.ForceFunc = func(context.Context, abswap.Slot, abswap.Force, func(context.Context, abswap.Slot, abswap.Force) error) error {
		return boom
	}
	sw.SessionsFunc = sw.InFlightFunc
	ctx := t.Context()
	_, active := sw.Active(ctx)
	_, weights := sw.Weights(ctx)
	_, hold := sw.Hold(ctx, abswap.HoldOptions{})
	_, load := sw.InFlight(ctx, blue)
	_, list := sw.List(ctx, blue, 1)
	_, sessions := sw.Sessions(ctx, blue)
	for i, err := range []error{active, weights, hold, load, list, sessions, sw.SetWeights(ctx, abswap.Weight{Slot: blue, Part: 100}), sw.Seal(ctx, blue),
		sw.Preview(ctx, blue), sw.Check(ctx, abswap.CheckRequest{}), sw.WaitIdle(ctx, blue), sw.Force(ctx, blue, abswap.ForceCut)} {
		assert.ErrorIs(t, err, boom, "call %d", i)
	}
	assert.Len(t, sw.Calls(), 12)
}

func TestMoveIsAnotherHand(t *testing.T) {
	sw := fake.New("blue", "green")
	require.NoError(t, sw.Seal(t.Context(), green))
	require.NoError(t, sw.Move(map[string]int{"green": 70, "blue": 30}))
	assert.False(t, sw.Sealed("green"))
	name, err := sw.Active(t.Context())
	assert.Equal(t, "green", name)
	assert.ErrorIs(t, err, abswap.ErrMixed)
	err = sw.Move(map[string]int{"red": 10, "blue": -5})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorContains(t, err, "-5")
	assert.ErrorContains(t, err, "100")
	assert.Equal(t, map[string]int{"green": 70, "blue": 30}, sw.Shares(), "nothing was changed")
	require.NoError(t, sw.Move(nil))
	assert.Empty(t, sw.Shares())
	assert.Len(t, sw.Calls(), 2, "Move is no call")
}

func TestCheckRefusesUnknownSlots(t *testing.T) {
	sw := fake.New("blue", "green")
	assert.NoError(t, sw.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue, green}}))
	err := sw.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue, fake.NewSlot("x"), fake.NewSlot("y")}})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorContains(t, err, `"x"`)
	assert.ErrorContains(t, err, `"y"`)
}

func TestPreviewMatchesAllFieldsOfARule(t *testing.T) {
	sw := fake.New("blue", "green")
	require.NoError(t, sw.Preview(t.Context(), green,
		abswap.PreviewRule{Header: "X-Preview", Host: "New.Example", Value: "yes"}, abswap.PreviewRule{Cookie: "preview", Value: "yes"}))
	for _, c := range []struct {
		r    fake.Request
		want string
	}{
		{fake.Request{}, "blue"},
		{fake.Request{Header: map[string]string{"x-preview": "yes"}}, "blue"},
		{fake.Request{Host: "new.example"}, "blue"},
		{fake.Request{Host: "new.example", Header: map[string]string{"x-preview": "yes"}}, "green"},
		{fake.Request{Cookie: map[string]string{"preview": "yes"}}, "green"},
		{fake.Request{Cookie: map[string]string{"preview": "no"}}, "blue"},
	} {
		w, err := sw.Open(t.Context(), c.r)
		require.NoError(t, err)
		assert.Equal(t, c.want, w.Slot(), "%+v", c.r)
		w.End()
	}
	require.NoError(t, sw.Seal(t.Context(), green))
	require.NoError(t, sw.Preview(t.Context(), green))
	assert.True(t, sw.Sealed("green"), "no rules, and the seal stays")
	require.NoError(t, sw.Preview(t.Context(), green, abswap.PreviewRule{Host: "x"}))
	assert.False(t, sw.Sealed("green"), "rules are the younger order")
	assert.NoError(t, sw.Preview(t.Context(), green), "removing is no harm")
}

func TestBetweenSeesTheRaceAndWorkPicksAgain(t *testing.T) {
	sw := fake.New("blue", "green")
	var picked []string
	sw.Between = func(slot string) {
		picked = append(picked, slot)
		if len(picked) == 1 {
			assert.NoError(t, sw.Activate(context.Background(), green))
		}
	}
	slot, end := sw.Begin()
	defer end()
	assert.Equal(t, "green", slot)
	assert.Equal(t, []string{"blue", "green"}, picked)
}

func TestListTellsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		up, err := sw.Open(t.Context(), fake.Request{Kind: fake.Upload, Method: "PUT", Path: "/" + fmt.Sprintf("%0200d", 0), Peer: "10.0.0.7"})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		up.Transfer(1<<30, 12)
		_, err = sw.Open(t.Context(), fake.Request{Kind: fake.Upgraded})
		require.NoError(t, err)
		list, err := sw.List(t.Context(), blue, 10)
		require.NoError(t, err)
		require.Len(t, list, 2)
		assert.Len(t, list[0].Path, 100, "paths are cut")
		list[0].Path = ""
		assert.Equal(t, []abswap.Work{
			{Kind: "request", Method: "PUT", Peer: "10.0.0.7", Age: time.Hour, In: 1 << 30, Out: 12, ID: 1, Class: abswap.ClassUpload},
			{Kind: "upgraded", Method: "GET", Path: "/", ID: 2, Class: abswap.ClassTunnel}}, list)
		none, err := sw.List(t.Context(), blue, -1)
		assert.NoError(t, err)
		assert.Empty(t, none)
	})
}

func TestEvidenceIsWhatItIsToldToBe(t *testing.T) {
	for evidence, want := range map[abswap.Evidence]abswap.Evidence{
		0: abswap.EvidenceExact, abswap.EvidenceApproximate: abswap.EvidenceApproximate, -1: abswap.EvidenceUnknown} {
		sw := &fake.Switcher{Evidence: evidence}
		l, err := sw.InFlight(t.Context(), blue)
		require.NoError(t, err)
		assert.Equal(t, want, l.Evidence)
	}
}

func TestForceCutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		sw.CutAfter = time.Minute
		open := func(kind fake.Kind) *fake.Work {
			w, err := sw.Open(t.Context(), fake.Request{Kind: kind})
			require.NoError(t, err)
			return w
		}
		first, session := open(fake.Upgraded), open(fake.Session)
		require.NoError(t, sw.Activate(t.Context(), green))
		require.NoError(t, sw.Force(t.Context(), blue, abswap.ForceCut))
		time.Sleep(59 * time.Second)
		require.NoError(t, sw.Activate(t.Context(), blue))
		time.Sleep(time.Hour)
		assert.NoError(t, first.Err(), "going live has cancelled the order")

		require.NoError(t, sw.Activate(t.Context(), green))
		require.NoError(t, sw.Force(t.Context(), blue, abswap.ForceHandOver))
		<-first.Leave()
		assert.NoError(t, first.Err(), "it was asked, no more")
		require.NoError(t, sw.Force(t.Context(), blue, abswap.ForceCut))
		require.NoError(t, sw.Force(t.Context(), blue, abswap.ForceCut))
		time.Sleep(time.Minute)
		synctest.Wait()
		<-first.Cut()
		assert.ErrorIs(t, first.Err(), fake.ErrCut)
		assert.ErrorIs(t, session.Err(), fake.ErrCut)
		first.End()
		l, err := sw.InFlight(t.Context(), blue)
		require.NoError(t, err)
		assert.Zero(t, l.Total())
		assert.Error(t, sw.Force(t.Context(), blue, 0))
	})
}

func TestDrainOfATwoHourUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		_, end := sw.Begin()
		time.AfterFunc(2*time.Hour, end)
		require.NoError(t, sw.Activate(t.Context(), green))
		start := time.Now()
		require.NoError(t, sw.WaitIdle(t.Context(), blue))
		assert.Equal(t, 2*time.Hour, time.Since(start))
	})
}
