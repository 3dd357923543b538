package switchertest

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/abswap/abswap"
)

// honestRules are S5: what a backend says is so.
func honestRules() []Rule {
	return []Rule{
		{"S5/active-is-true", "Active returns the slot that answers", activeIsTrue},
		{"S5/disturbed-active", "Active tells what another hand has changed", disturbedActive},
		{"S5/disturbed-weights", "Weights tells what another hand has changed", disturbedWeights},
		{"S5/disturbed-activate", "Activate works although another hand has moved the traffic away in the meantime", disturbedActivate},
		{"S5/no-active", "Active returns ErrNoActive if no slot takes new work", noActive},
		{"S5/unsupported-is-said", "what a call refuses with ErrUnsupported, Check refuses before anything moves", unsupportedIsSaid},
		{"S5/check-changes-nothing", "Check changes nothing", checkChangesNothing},
	}
}

func activeIsTrue(ctx context.Context, w *world) error {
	for _, s := range []abswap.Slot{w.Blue, w.Green, w.Blue} {
		if err := w.activate(ctx, s); err != nil {
			return err
		}
		if err := w.activeNow(ctx, s.Name()); err != nil {
			return err
		}
		if err := w.goesTo(ctx, s.Name()); err != nil {
			return err
		}
		if err := w.activeNow(ctx, s.Name()); err != nil {
			return err
		}
	}
	return nil
}

// disturbed activates blue and then moves all to green behind the backend's back.
func (w *world) disturbed(ctx context.Context) error {
	if w.Disturb == nil {
		return skipf("the rig has no Disturb")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.activeNow(ctx, w.Blue.Name()); err != nil { // now it could remember
		return err
	}
	if err := w.Disturb(ctx, w.Green.Name()); err != nil {
		return fmt.Errorf("disturb: %w", err)
	}
	if err := w.goesTo(ctx, w.Green.Name()); err != nil {
		return fmt.Errorf("the rig's Disturb had no effect: %w", err)
	}
	return nil
}

func disturbedActive(ctx context.Context, w *world) error {
	if err := w.disturbed(ctx); err != nil {
		return err
	}
	return w.activeNow(ctx, w.Green.Name())
}

func disturbedWeights(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	if _, err := sw.Weights(ctx); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if err := w.disturbed(ctx); err != nil {
		return err
	}
	return w.weightsAre(ctx, sw, map[string]int{w.Green.Name(): 100})
}

func disturbedActivate(ctx context.Context, w *world) error {
	if err := w.disturbed(ctx); err != nil {
		return err
	}
	return w.settled(ctx, w.Blue)
}

func noActive(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	err := error(errors.ErrUnsupported)
	if w.Disturb != nil {
		if err = w.Disturb(ctx, ""); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("disturb: %w", err)
		}
	}
	if err != nil {
		sw, ok := abswap.As[abswap.SealingSwitcher](w.Switcher)
		if !ok {
			return skipf("neither the rig's Disturb nor a Seal can turn all slots off")
		}
		if err := sw.Seal(ctx, w.Blue); err != nil {
			return refused(fmt.Errorf("seal %q: %w", w.Blue.Name(), err))
		}
	}
	if name, err := w.Switcher.Active(ctx); !errors.Is(err, abswap.ErrNoActive) {
		return fmt.Errorf("no slot is active; Active returned %q and %v, not ErrNoActive", name, err)
	}
	if sw, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher); ok {
		if weights, err := sw.Weights(ctx); err == nil && len(weights) > 0 {
			return fmt.Errorf("no slot is active; Weights returned %v", weights)
		}
	}
	return w.settled(ctx, w.Blue)
}

func unsupportedIsSaid(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	slots := []abswap.Slot{w.Blue, w.Green}
	type refusal struct {
		what string
		req  abswap.CheckRequest
	}
	var all []refusal
	if s, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher); ok {
		if err := s.SetWeights(ctx, abswap.Weight{Slot: w.Blue, Part: 100}); errors.Is(err, errors.ErrUnsupported) {
			all = append(all, refusal{"SetWeights", abswap.CheckRequest{Slots: slots, Steps: []int{50}}})
		}
	}
	if s, ok := abswap.As[abswap.HoldingSwitcher](w.Switcher); ok {
		release, err := s.Hold(ctx, w.longHold())
		if errors.Is(err, errors.ErrUnsupported) {
			all = append(all, refusal{"Hold", abswap.CheckRequest{Slots: slots, Exclusive: true}})
		} else if err == nil {
			release()
		}
	}
	if d, ok := abswap.As[abswap.ForcingDrainer](w.Drainer); ok {
		if err := d.Force(ctx, w.Green, abswap.ForceCut); errors.Is(err, errors.ErrUnsupported) {
			all = append(all, refusal{"Force", abswap.CheckRequest{Slots: slots, Drain: abswap.DrainOptions{AtDeadline: abswap.CutOff}}})
		}
	}
	if d, ok := abswap.As[abswap.SessionDrainer](w.Drainer); ok {
		if _, err := d.Sessions(ctx, w.Green); errors.Is(err, errors.ErrUnsupported) {
			all = append(all, refusal{"Sessions", abswap.CheckRequest{Slots: slots, Drain: abswap.DrainOptions{Sessions: true}}})
		}
	}
	if len(all) == 0 {
		return skipf("the backend refuses none of the abilities that it has")
	}
	var errs []error
	for _, r := range all {
		said := false
		for _, v := range []any{w.Switcher, w.Drainer} {
			c, ok := abswap.As[abswap.Checker](v)
			said = said || ok && errors.Is(c.Check(ctx, r.req), errors.ErrUnsupported)
		}
		if !said {
			errs = append(errs, fmt.Errorf("%s is refused with ErrUnsupported, but Check of a swap that needs it is not", r.what))
		}
	}
	return errors.Join(errs...)
}

func checkChangesNothing(ctx context.Context, w *world) error {
	var all []abswap.Checker
	for _, v := range []any{w.Switcher, w.Drainer} {
		if c, ok := abswap.As[abswap.Checker](v); ok {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return skipf("the backend is no Checker")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	for _, c := range all {
		for _, r := range []abswap.CheckRequest{{}, {Steps: []int{50}}, {Exclusive: true}, {Stops: true, Drain: abswap.DrainOptions{Sessions: true, AtDeadline: abswap.CutOff}}} {
			r.Slots = []abswap.Slot{w.Blue, w.Green}
			_ = c.Check(ctx, r) // what it finds is the rig's matter
			if err := w.still(ctx, w.Blue.Name()); err != nil {
				return fmt.Errorf("after Check: %w", err)
			}
		}
	}
	if err := w.stays(ctx, w.Blue.Name()); err != nil {
		return fmt.Errorf("after Check: %w", err)
	}
	return w.activeNow(ctx, w.Blue.Name())
}

// weightsAre reads the weights and compares.
func (w *world) weightsAre(ctx context.Context, sw abswap.WeightedSwitcher, want map[string]int) error {
	got, err := sw.Weights(ctx)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("weights returned %v, not %v", got, want)
	}
	return nil
}
