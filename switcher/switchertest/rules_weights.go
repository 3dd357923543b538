package switchertest

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/abswap/abswap"
)

// weightRules are what S1 to S5 mean for weights. S1/weights-in-force-at-return stands with the other rules of S1.
func weightRules() []Rule {
	return []Rule{
		{"S4/weights-refused", "a call of SetWeights with any mistake in it is refused and changes nothing", weightsRefused},
		{"S5/mixed", "with two slots above 0 Active returns the larger one with ErrMixed, and Weights both", mixed},
		{"S5/weights-met", "each slot gets its part of the requests, within the tolerance", weightsMet},
		{"S5/weight-zero", "a slot that is given 0 by name gets exactly none", weightZero},
	}
}

// weighted returns the ability after blue was given all by it, and all probes go there.
func (w *world) weighted(ctx context.Context) (abswap.WeightedSwitcher, error) {
	sw, err := ability[abswap.WeightedSwitcher](w.Switcher)
	if err != nil {
		return nil, err
	}
	if err := w.activate(ctx, w.Blue); err != nil {
		return nil, err
	}
	if err := sw.SetWeights(ctx, abswap.Weight{Slot: w.Blue, Part: 100}); err != nil {
		return nil, refused(fmt.Errorf("set weight of %q to 100: %w", w.Blue.Name(), err))
	}
	return sw, w.goesTo(ctx, w.Blue.Name())
}

func weightsRefused(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	blue, green := w.Blue, w.Green
	for _, bad := range []struct {
		what string
		list []abswap.Weight
		want error
	}{
		{"no slot", nil, nil},
		{"a sum of 90", []abswap.Weight{{Slot: green, Part: 60}, {Slot: blue, Part: 30}}, nil},
		{"a sum of 110", []abswap.Weight{{Slot: green, Part: 60}, {Slot: blue, Part: 50}}, nil},
		{"a slot named twice", []abswap.Weight{{Slot: green, Part: 50}, {Slot: green, Part: 50}}, nil},
		{"a part below 0", []abswap.Weight{{Slot: green, Part: 110}, {Slot: blue, Part: -10}}, nil},
		{"a nil slot", []abswap.Weight{{Slot: green, Part: 100}, {}}, nil},
		{"an unknown slot", []abswap.Weight{{Slot: green, Part: 50}, {Slot: w.Unknown, Part: 50}}, abswap.ErrUnknownSlot},
		{"an unknown slot with 0", []abswap.Weight{{Slot: green, Part: 100}, {Slot: w.Unknown}}, abswap.ErrUnknownSlot},
	} {
		err := sw.SetWeights(ctx, bad.list...)
		if err == nil || bad.want != nil && !errors.Is(err, bad.want) {
			return fmt.Errorf("SetWeights with %s returned %v", bad.what, err)
		}
		if err := w.weightsAre(ctx, sw, map[string]int{blue.Name(): 100}); err != nil {
			return fmt.Errorf("after SetWeights with %s was refused: %w", bad.what, err)
		}
		if err := w.still(ctx, blue.Name()); err != nil {
			return fmt.Errorf("after SetWeights with %s was refused: %w", bad.what, err)
		}
	}
	return w.stays(ctx, blue.Name())
}

func mixed(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	for _, s := range []abswap.Slot{w.Green, w.Blue} {
		if err := sw.SetWeights(ctx, abswap.Weight{Slot: s, Part: 70}, abswap.Weight{Slot: w.other(s), Part: 30}); err != nil {
			return fmt.Errorf("set weights to 70 and 30: %w", err)
		}
		if name, err := w.Switcher.Active(ctx); name != s.Name() || !errors.Is(err, abswap.ErrMixed) {
			return fmt.Errorf("%q has 70 and %q has 30; Active returned %q and %v, not %q and ErrMixed", s.Name(), w.other(s).Name(), name, err, s.Name())
		}
		if err := w.weightsAre(ctx, sw, map[string]int{s.Name(): 70, w.other(s).Name(): 30}); err != nil {
			return err
		}
	}
	if err := w.activate(ctx, w.Green); err != nil {
		return err
	}
	return w.weightsAre(ctx, sw, map[string]int{w.Green.Name(): 100})
}

func weightsMet(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	for _, part := range []int{10, 70} {
		if err := sw.SetWeights(ctx, abswap.Weight{Slot: w.Green, Part: part}, abswap.Weight{Slot: w.Blue, Part: 100 - part}); err != nil {
			return fmt.Errorf("set weights: %w", err)
		}
		n, hits := w.Load, 0
		for range n {
			slot, err := w.bounded(ctx, w.Probe)
			if err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			if slot == w.Green.Name() {
				hits++
			}
		}
		p := float64(part) / 100
		chance := 4 * math.Sqrt(p*(1-p)/float64(n)) * 100 // four standard deviations
		if got := float64(hits) / float64(n) * 100; math.Abs(got-float64(part)) > w.Tolerance+chance {
			return fmt.Errorf("%q got %.1f %% of %d requests instead of %d %%, more than %.1f off", w.Green.Name(), got, n, part, w.Tolerance+chance)
		}
	}
	return nil
}

func weightZero(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	for _, s := range []abswap.Slot{w.Green, w.Blue} {
		if err := sw.SetWeights(ctx, abswap.Weight{Slot: s, Part: 100}, abswap.Weight{Slot: w.other(s), Part: 0}); err != nil {
			return fmt.Errorf("set weights to 100 and 0: %w", err)
		}
		for i := range max(w.Load/4, 100) {
			slot, err := w.bounded(ctx, w.Probe)
			if err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			if slot != s.Name() && i >= 12 { // whether the first ones come right is S1's matter
				return fmt.Errorf("%q has weight 0 and answered request %d", slot, i)
			}
		}
		if err := w.activeNow(ctx, s.Name()); err != nil {
			return err
		}
	}
	return nil
}
