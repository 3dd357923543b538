package switchertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// callRules are S4: how calls behave.
func callRules() []Rule {
	return []Rule{
		{"S4/idempotent", "Activate of the active slot returns nil and changes nothing", idempotent},
		{"S4/unknown-slot", "Activate of an unknown slot returns ErrUnknownSlot and changes nothing", unknownSlot},
		{"S4/unknown-slot-abilities", "so does every other method that is given an unknown slot", unknownSlotAbilities},
		{"S4/ended-context", "Activate with a context that has ended returns its error and changes nothing", endedContext},
		{"S4/ended-context-abilities", "so does every other method that changes something", endedContextAbilities},
		{"S4/context-ends-during", "a context that ends during Activate leaves the old world or the new one, and ErrUnknownOutcome unless it is surely the old", contextEndsDuring},
		{"S4/concurrent-use", "all methods may be called at one time; in the end the world is what one of the calls asked for", concurrentUse},
	}
}

func idempotent(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	for i := range 3 {
		if err := w.activate(ctx, w.Blue); err != nil {
			return fmt.Errorf("the slot was active: call %d: %w", i+2, err)
		}
		if err := w.still(ctx, w.Blue.Name()); err != nil {
			return fmt.Errorf("after call %d: %w", i+2, err)
		}
	}
	if err := w.stays(ctx, w.Blue.Name()); err != nil {
		return err
	}
	return w.activeIs(ctx, w.Blue.Name())
}

func unknownSlot(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.Switcher.Activate(ctx, w.Unknown); !errors.Is(err, abswap.ErrUnknownSlot) {
		return fmt.Errorf("activate of unknown slot %q returned %v, not ErrUnknownSlot", w.Unknown.Name(), err)
	}
	if err := w.stays(ctx, w.Blue.Name()); err != nil {
		return fmt.Errorf("after activate of an unknown slot: %w", err)
	}
	return w.activeIs(ctx, w.Blue.Name())
}

func unknownSlotAbilities(ctx context.Context, w *world) error {
	calls := map[string]func() error{}
	if w.Drainer != nil {
		calls["InFlight"] = func() error { _, err := w.Drainer.InFlight(ctx, w.Unknown); return err }
	}
	if d, ok := abswap.As[abswap.WaitingDrainer](w.Drainer); ok {
		calls["WaitIdle"] = func() error { return d.WaitIdle(ctx, w.Unknown) }
	}
	if d, ok := abswap.As[abswap.ListingDrainer](w.Drainer); ok {
		calls["List"] = func() error { _, err := d.List(ctx, w.Unknown, 10); return err }
	}
	if d, ok := abswap.As[abswap.ForcingDrainer](w.Drainer); ok {
		calls["Force"] = func() error { return d.Force(ctx, w.Unknown, abswap.ForceHandOver) }
	}
	if d, ok := abswap.As[abswap.ClassDrainer](w.Drainer); ok {
		calls["End"] = func() error { return d.End(ctx, w.Unknown, abswap.ForceHandOver, math.MaxUint64) }
	}
	if d, ok := abswap.As[abswap.SessionDrainer](w.Drainer); ok {
		calls["Sessions"] = func() error { _, err := d.Sessions(ctx, w.Unknown); return err }
	}
	if s, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher); ok {
		calls["SetWeights"] = func() error { return s.SetWeights(ctx, abswap.Weight{Slot: w.Unknown, Part: 100}) }
	}
	if s, ok := abswap.As[abswap.SealingSwitcher](w.Switcher); ok {
		calls["Seal"] = func() error { return s.Seal(ctx, w.Unknown) }
	}
	if s, ok := abswap.As[abswap.PreviewingSwitcher](w.Switcher); ok {
		calls["Preview"] = func() error { return s.Preview(ctx, w.Unknown, previewRule("unknown")) }
	}
	var errs []error
	asked := 0
	for name, call := range calls {
		err := call()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		asked++
		if !errors.Is(err, abswap.ErrUnknownSlot) {
			errs = append(errs, fmt.Errorf("%s of unknown slot %q returned %v, not ErrUnknownSlot", name, w.Unknown.Name(), err))
		}
	}
	if asked == 0 {
		return skipf("the backend has no ability that takes a slot")
	}
	return errors.Join(errs...)
}

// ended returns contexts that have ended, with their errors.
func ended(ctx context.Context) map[error]context.Context {
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	exceeded, cancelToo := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancelToo()
	return map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: exceeded}
}

func endedContext(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	for want, over := range ended(ctx) {
		if err := w.Switcher.Activate(over, w.Green); !errors.Is(err, want) {
			return fmt.Errorf("activate returned %v, not its context's error: %w", err, want)
		}
		if err := w.stays(ctx, w.Blue.Name()); err != nil {
			return fmt.Errorf("after activate of %q with a context that had ended: %w", w.Green.Name(), err)
		}
	}
	return w.activeIs(ctx, w.Blue.Name())
}

func endedContextAbilities(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	calls := map[string]func(context.Context) error{}
	if s, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher); ok {
		calls["SetWeights"] = func(ctx context.Context) error { return s.SetWeights(ctx, abswap.Weight{Slot: w.Green, Part: 100}) }
	}
	if s, ok := abswap.As[abswap.SealingSwitcher](w.Switcher); ok {
		calls["Seal"] = func(ctx context.Context) error { return s.Seal(ctx, w.Blue) }
	}
	if s, ok := abswap.As[abswap.HoldingSwitcher](w.Switcher); ok {
		calls["Hold"] = func(ctx context.Context) error {
			release, err := s.Hold(ctx, w.longHold())
			if err == nil {
				release()
			}
			return err
		}
	}
	if s, ok := abswap.As[abswap.PreviewingSwitcher](w.Switcher); ok {
		calls["Preview"] = func(ctx context.Context) error { return s.Preview(ctx, w.Green, previewRule("ended")) }
	}
	if d, ok := abswap.As[abswap.ForcingDrainer](w.Drainer); ok {
		calls["Force"] = func(ctx context.Context) error { return d.Force(ctx, w.Blue, abswap.ForceCut) }
	}
	if d, ok := abswap.As[abswap.ClassDrainer](w.Drainer); ok {
		calls["End"] = func(ctx context.Context) error { return d.End(ctx, w.Green, abswap.ForceCut, math.MaxUint64) }
	}
	work, err := w.begin(ctx, KindRequest, w.Blue.Name())
	if _, cannot := errors.AsType[*skip](err); err != nil && !cannot {
		return err
	}
	begun := err == nil
	asked := 0
	for want, over := range ended(ctx) {
		for name, call := range calls {
			err := call(over)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			asked++
			if !errors.Is(err, want) {
				return fmt.Errorf("%s returned %v, not its context's error: %w", name, err, want)
			}
			if err := w.still(ctx, w.Blue.Name()); err != nil {
				return fmt.Errorf("after %s with a context that had ended: %w", name, err)
			}
		}
	}
	if asked == 0 {
		return skipf("the backend has no ability that changes something")
	}
	if err := w.stays(ctx, w.Blue.Name()); err != nil {
		return fmt.Errorf("after calls with a context that had ended: %w", err)
	}
	if begun {
		if err := w.end(ctx, KindRequest, work); err != nil {
			return fmt.Errorf("after calls with a context that had ended: %w", err)
		}
	}
	if calls["Preview"] != nil && w.ProbeMatching != nil {
		if err := w.matchingGoesTo(ctx, previewRule("ended"), w.Blue.Name()); err != nil {
			return fmt.Errorf("after Preview with a context that had ended: %w", err)
		}
	}
	return w.activeIs(ctx, w.Blue.Name())
}

func contextEndsDuring(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	start := time.Now()
	if err := w.activate(ctx, w.Green); err != nil {
		return err
	}
	took := time.Since(start)
	now := w.Green
	if err := w.goesTo(ctx, now.Name()); err != nil {
		return err
	}
	const rounds = 16
	for i := range rounds {
		to := w.other(now)
		err := w.interrupted(ctx, to, took*time.Duration(i)/rounds)
		switch {
		case err == nil:
			now = to
		case !errors.Is(err, context.Canceled):
			return fmt.Errorf("the context of activate %q ended; it returned %w, not the context's error", to.Name(), err)
		case errors.Is(err, abswap.ErrUnknownOutcome):
			if err := pause(ctx, w.Settle); err != nil { // what may still land, lands
				return err
			}
			err = w.until(ctx, func() error {
				name, err := w.Switcher.Active(ctx)
				if err != nil {
					return fmt.Errorf("active, after a context ended during activate: %w", err)
				}
				if name == to.Name() {
					now = to
				} else {
					now = w.other(to)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if err := w.goesTo(ctx, now.Name()); err != nil {
			return fmt.Errorf("a context ended during activate %q: %w", to.Name(), err)
		}
		if err := w.activeNow(ctx, now.Name()); err != nil {
			return fmt.Errorf("a context ended during activate %q: %w", to.Name(), err)
		}
	}
	return nil
}

// interrupted is Activate with a context that ends after d.
func (w *world) interrupted(ctx context.Context, to abswap.Slot, d time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d > 0 {
		t := time.AfterFunc(d, cancel)
		defer t.Stop()
	} else {
		var wg sync.WaitGroup
		wg.Go(cancel)
		defer wg.Wait()
	}
	return w.Switcher.Activate(ctx, to)
}

func concurrentUse(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	gap := false
	if t, ok := abswap.As[abswap.TraitsSwitcher](w.Switcher); ok {
		gap = t.Traits().Gap
	}
	weighted, _ := abswap.As[abswap.WeightedSwitcher](w.Switcher)
	var wg sync.WaitGroup
	errs := make([]error, 4*5)
	for i := range errs {
		wg.Go(func() {
			for j := range min(max(w.Load/100, 2), 6) {
				var err error
				switch i % 5 {
				case 0:
					err = w.activate(ctx, w.Blue)
				case 1:
					err = w.activate(ctx, w.Green)
				case 2:
					var name string
					name, err = w.Switcher.Active(ctx)
					if gap && errors.Is(err, abswap.ErrNoActive) {
						err = nil
					} else if err == nil && name != w.Blue.Name() && name != w.Green.Name() {
						err = fmt.Errorf("active returned %q", name)
					}
				case 3:
					if w.Drainer != nil {
						_, err = w.Drainer.InFlight(ctx, w.Blue)
					}
				case 4:
					if weighted != nil {
						var weights map[string]int
						weights, err = weighted.Weights(ctx)
						if errors.Is(err, errors.ErrUnsupported) {
							err = nil
						} else if err == nil && len(weights) != 1 && !gap {
							err = fmt.Errorf("weights returned %v while only Activate was called", weights)
						}
					}
				}
				if err != nil {
					errs[i] = fmt.Errorf("call %d of several at one time: %w", j, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	name, err := w.Switcher.Active(ctx)
	if err != nil {
		return fmt.Errorf("active: %w", err)
	}
	if err := w.goesTo(ctx, name); err != nil {
		return err
	}
	return w.stays(ctx, name)
}
