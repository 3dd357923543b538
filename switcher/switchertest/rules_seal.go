package switchertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/abswap/abswap"
)

// sealRules are what a SealingSwitcher promises, without which a stop could race with a request (W1).
func sealRules() []Rule {
	return []Rule{
		{"W1/seal-shuts", "when Seal has returned, no request that begins afterwards is answered by the slot, also if that was active", sealShuts},
		{"W1/seal-undone", "Activate, and SetWeights with a part above 0, undo Seal", sealUndone},
		{"W1/seal-keeps-old-work", "Seal lets what is in the slot finish there, and count", sealKeepsOldWork},
		{"W1/seal-ends-preview", "Seal removes the slot's preview", sealEndsPreview},
		{"W1/seal-ends-sessions", "Seal ends the binding of the slot's sessions", sealEndsSessions},
	}
}

// sealing returns the ability, with green sealed and blue active.
func (w *world) sealing(ctx context.Context) (abswap.SealingSwitcher, error) {
	sw, err := ability[abswap.SealingSwitcher](w.Switcher)
	if err != nil {
		return nil, err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return nil, err
	}
	return sw, seal(ctx, sw, w.Green)
}

func seal(ctx context.Context, sw abswap.SealingSwitcher, s abswap.Slot) error {
	if err := sw.Seal(ctx, s); err != nil {
		return refused(fmt.Errorf("seal %q: %w", s.Name(), err))
	}
	return nil
}

func sealShuts(ctx context.Context, w *world) error {
	sw, err := w.sealing(ctx)
	if err != nil {
		return err
	}
	tr, err := w.underLoad(0, func(tr *traffic) error {
		for range 6 {
			tr.want.Store(nil)
			if err := w.activate(ctx, w.Blue); err != nil {
				return err
			}
			tr.want.Store(&expectation{not: true}) // whoever answers: requests are on their way
			if err := tr.await(2 * clients); err != nil {
				return err
			}
			tr.want.Store(nil)
			if err := seal(ctx, sw, w.Blue); err != nil {
				return err
			}
			tr.want.Store(&expectation{slot: w.Blue.Name(), not: true})
			if err := tr.await(2 * clients); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n := tr.late.Load(); n > 0 {
		return fmt.Errorf("%d requests that began after Seal(%q) had returned were answered by it", n, w.Blue.Name())
	}
	return nil
}

func sealUndone(ctx context.Context, w *world) error {
	sw, err := w.sealing(ctx)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return fmt.Errorf("%q was sealed: %w", w.Green.Name(), err)
	}
	weighted, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher)
	if !ok {
		return nil
	}
	if err := seal(ctx, sw, w.Blue); err != nil {
		return err
	}
	err = weighted.SetWeights(ctx, abswap.Weight{Slot: w.Blue, Part: 100})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set weights of sealed %q: %w", w.Blue.Name(), err)
	}
	return w.goesTo(ctx, w.Blue.Name())
}

func sealKeepsOldWork(ctx context.Context, w *world) error {
	sw, err := w.sealing(ctx)
	if err != nil {
		return err
	}
	old, err := w.beginAll(ctx, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.activate(ctx, w.Green); err != nil {
		return err
	}
	if err := seal(ctx, sw, w.Blue); err != nil {
		return err
	}
	requests, upgraded := 0, 0
	for kind := range old {
		r, u := tally(kind)
		requests, upgraded = requests+r, upgraded+u
	}
	if w.Drainer != nil {
		if err := w.counts(ctx, w.Blue, requests, upgraded); err != nil {
			return fmt.Errorf("after Seal: %w", err)
		}
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	for kind, work := range old {
		if err := w.step(ctx, kind, work); err != nil {
			return fmt.Errorf("after Seal: %w", err)
		}
		if err := w.end(ctx, kind, work); err != nil {
			return fmt.Errorf("after Seal: %w", err)
		}
	}
	if w.Drainer != nil {
		return w.counts(ctx, w.Blue, 0, 0)
	}
	return nil
}

func sealEndsPreview(ctx context.Context, w *world) error {
	sw, err := ability[abswap.SealingSwitcher](w.Switcher)
	if err != nil {
		return err
	}
	pre, err := w.previewing(ctx)
	if err != nil {
		return err
	}
	rule := previewRule("one")
	if err := pre.Preview(ctx, w.Green, rule); err != nil {
		return fmt.Errorf("preview of %q: %w", w.Green.Name(), err)
	}
	if err := w.matchingGoesTo(ctx, rule, w.Green.Name()); err != nil {
		return err
	}
	if err := seal(ctx, sw, w.Green); err != nil {
		return err
	}
	for range 12 {
		got, err := w.bounded(ctx, func(ctx context.Context) (string, error) { return w.ProbeMatching(ctx, rule) })
		if err != nil {
			return fmt.Errorf("probe that matches a removed preview rule: %w", err)
		}
		if got == w.Green.Name() {
			return fmt.Errorf("%q was sealed, and a preview request was answered by it", got)
		}
	}
	return nil
}

func sealEndsSessions(ctx context.Context, w *world) error {
	sw, err := w.sealing(ctx)
	if err != nil {
		return err
	}
	old, err := w.begin(ctx, KindSession, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	if err := w.step(ctx, KindSession, old); err != nil {
		return skipf("sessions do not stay at all (see D4/session-stays): %v", err)
	}
	if err := seal(ctx, sw, w.Blue); err != nil {
		return err
	}
	if err := w.step(ctx, KindSession, old); err == nil {
		return fmt.Errorf("%q was sealed, and a request of a session was answered by it", old.Slot)
	}
	return nil
}
