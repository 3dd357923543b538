package switchertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/abswap/abswap"
)

// switchRules are S1 to S3 and S6: what a switch does to traffic.
func switchRules() []Rule {
	all := []Rule{
		{"S1/in-force-at-return", "when Activate has returned, no request that begins afterwards is answered by another slot", inForce},
		{"S1/in-force-kept-alive", "the same for requests on connections that were kept alive over the switch", inForceKeptAlive},
		{"S1/weights-in-force-at-return", "when SetWeights has returned, no request that begins afterwards is answered by a slot that it did not name", inForceWeights},
		{"S2/nothing-lost", "no request fails because of a switch, on new connections or on kept ones", nothingLost},
		{"S2/answered-once", "no request is delivered twice because of a switch", answeredOnce},
	}
	for _, kind := range kinds() {
		all = append(all, Rule{"S3/" + kind.String() + "-survives", "what had begun in a slot before it was turned off goes on there to its proper end: " + kind.String(),
			func(ctx context.Context, w *world) error { return survives(ctx, w, kind) }})
	}
	return append(all, Rule{"S6/rest-untouched", "switching changes nothing but the slots' shares", restUntouched})
}

func inForce(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	tr, err := w.underLoad(0, func(tr *traffic) error { return tr.flips(ctx, w.Switcher.Activate) })
	return errors.Join(err, tr.noneLate())
}

func inForceKeptAlive(ctx context.Context, w *world) error {
	if w.KeepAlive == nil {
		return skipf("the rig has no KeepAlive")
	}
	if t, ok := abswap.As[abswap.TraitsSwitcher](w.Switcher); ok && t.Traits().PerConnection {
		return skipf("the backend's Traits say that it decides per connection")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	tr, err := w.underLoad(clients, func(tr *traffic) error { return tr.flips(ctx, w.Switcher.Activate) })
	return errors.Join(err, tr.noneLate())
}

func inForceWeights(ctx context.Context, w *world) error {
	sw, err := w.weighted(ctx)
	if err != nil {
		return err
	}
	tr, err := w.underLoad(0, func(tr *traffic) error {
		return tr.flips(ctx, func(ctx context.Context, to abswap.Slot) error {
			return sw.SetWeights(ctx, abswap.Weight{Slot: to, Part: 100})
		})
	})
	return errors.Join(err, tr.noneLate())
}

func nothingLost(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	kept := 0
	if w.KeepAlive != nil {
		kept = clients / 2
	}
	tr, err := w.underLoad(kept, func(tr *traffic) error { return tr.flips(ctx, w.Switcher.Activate) })
	return errors.Join(tr.noneLost(), err)
}

func answeredOnce(ctx context.Context, w *world) error {
	if w.Delivered == nil {
		return skipf("the rig has no Delivered")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	before, err := w.Delivered(ctx)
	if err != nil {
		return fmt.Errorf("delivered: %w", err)
	}
	tr, err := w.underLoad(0, func(tr *traffic) error { return tr.flips(ctx, w.Switcher.Activate) })
	if err != nil {
		return err
	}
	after, err := w.Delivered(ctx)
	if err != nil {
		return fmt.Errorf("delivered: %w", err)
	}
	if after-before > tr.sent.Load() {
		return fmt.Errorf("%d requests were sent and %d delivered", tr.sent.Load(), after-before)
	}
	if after-before < tr.answered.Load() {
		return fmt.Errorf("%d requests were answered but only %d delivered: the rig's Delivered does not count all", tr.answered.Load(), after-before)
	}
	return nil
}

func survives(ctx context.Context, w *world, kind Kind) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	work, err := w.begin(ctx, kind, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.step(ctx, kind, work); err != nil {
		return fmt.Errorf("before any switch: %w", err)
	}
	for i, to := range []abswap.Slot{w.Green, w.Blue, w.Green} {
		if err := w.activate(ctx, to); err != nil {
			return err
		}
		if err := w.step(ctx, kind, work); err != nil {
			return fmt.Errorf("after switch %d: %w", i+1, err)
		}
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	if err := w.step(ctx, kind, work); err != nil {
		return fmt.Errorf("a while after the switch: %w", err)
	}
	return w.end(ctx, kind, work)
}

func restUntouched(ctx context.Context, w *world) error {
	if w.Rest == nil {
		return skipf("the rig has no Rest")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	before, err := w.Rest(ctx)
	if err != nil {
		return fmt.Errorf("rest: %w", err)
	}
	same := func(after string) error {
		now, err := w.Rest(ctx)
		if err == nil && now != before {
			err = fmt.Errorf("%s changed what is not the slots' share: from %q to %q", after, before, now)
		}
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	if err := same("Activate"); err != nil {
		return err
	}
	if sw, ok := abswap.As[abswap.WeightedSwitcher](w.Switcher); ok {
		err := sw.SetWeights(ctx, abswap.Weight{Slot: w.Blue, Part: 50}, abswap.Weight{Slot: w.Green, Part: 50})
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("set weights: %w", err)
		}
		if err := same("SetWeights"); err != nil {
			return err
		}
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	return same("Activate")
}
