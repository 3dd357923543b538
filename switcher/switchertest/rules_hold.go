package switchertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap"
)

// holdRules are what a HoldingSwitcher promises.
func holdRules() []Rule {
	return []Rule{
		{"H1/hold-holds", "new requests wait while a hold is in force and are answered after its release", holdHolds},
		{"H2/hold-order", "requests go on in the order in which they came", holdOrder},
		{"H3/hold-each", "a request waits no longer than Each; then it is refused", holdEach},
		{"H4/hold-total", "a hold ends by itself after Total", holdTotal},
		{"H5/hold-max", "no more than Max requests wait; others are refused", holdMax},
		{"H6/hold-pass", "with HoldPass what cannot wait goes on as if there was no hold", holdPass},
		{"H7/hold-release-twice", "release is idempotent, and harmless to a later hold", holdReleaseTwice},
		{"H8/hold-busy", "a second Hold is refused with ErrBusy, and the first stays in force", holdBusy},
		{"H9/hold-gone-client", "a request whose client has gone while it waited is not delivered", holdGoneClient},
		{"H10/hold-switch", "what waits over a switch goes to the new slot", holdSwitch},
		{"H11/hold-nothing-lost", "hold and release lose nothing under load", holdNothingLost},
	}
}

// longHold is a hold that does not end by itself while a rule lasts.
func (w *world) longHold() abswap.HoldOptions {
	return abswap.HoldOptions{Each: 12 * w.Patience, Total: 12 * w.Patience, Max: 1000}
}

// holding returns the ability, with blue active.
func (w *world) holding(ctx context.Context) (abswap.HoldingSwitcher, error) {
	sw, err := ability[abswap.HoldingSwitcher](w.Switcher)
	if err != nil {
		return nil, err
	}
	return sw, w.settled(ctx, w.Blue)
}

func (w *world) hold(ctx context.Context, sw abswap.HoldingSwitcher, o abswap.HoldOptions) (release func(), err error) {
	release, err = sw.Hold(ctx, o)
	if err != nil {
		return nil, refused(fmt.Errorf("hold: %w", err))
	}
	w.later(release)
	return release, nil
}

// held waits until that many requests are held, or for Settle if the rig cannot tell.
func (w *world) held(ctx context.Context, n int) error {
	if w.Held == nil {
		return pause(ctx, w.Settle)
	}
	return w.until(ctx, func() error {
		if got := w.Held(); got != n {
			return fmt.Errorf("%d requests are held, not %d", got, n)
		}
		return nil
	})
}

// waits checks that the request is not answered for Settle.
func (w *world) waits(ctx context.Context, c <-chan answer) error {
	t := time.NewTimer(w.Settle)
	defer t.Stop()
	select {
	case a := <-c:
		return fmt.Errorf("a request was answered (by %q, %v) while a hold was in force", a.slot, a.err)
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// served waits for the answer, which must be the slot's.
func (w *world) served(ctx context.Context, c <-chan answer, slot string) error {
	a, err := w.get(ctx, c)
	if err != nil {
		return err
	}
	if a.err != nil {
		return fmt.Errorf("a request that was held: %w", a.err)
	}
	if a.slot != slot {
		return fmt.Errorf("a request that was held was answered by %q, not by %q", a.slot, slot)
	}
	return nil
}

func holdHolds(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		release, err := w.hold(ctx, sw, w.longHold())
		if err != nil {
			return err
		}
		all := []<-chan answer{w.ask(ctx), w.ask(ctx), w.ask(ctx)}
		for _, c := range all {
			if err := w.waits(ctx, c); err != nil {
				return err
			}
		}
		release()
		for _, c := range all {
			if err := w.served(ctx, c, w.Blue.Name()); err != nil {
				return err
			}
		}
		if err := w.stays(ctx, w.Blue.Name()); err != nil {
			return fmt.Errorf("after the release: %w", err)
		}
	}
	return nil
}

func holdOrder(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	if w.ProbeOrder == nil {
		return skipf("the rig has no ProbeOrder")
	}
	release, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return err
	}
	all := make([]<-chan answer, 12)
	for i := range all {
		all[i] = w.askBy(ctx, w.ProbeOrder)
		if err := w.held(ctx, i+1); err != nil {
			return err
		}
	}
	release()
	last := answer{}
	for i, c := range all {
		a, err := w.get(ctx, c)
		if err != nil {
			return err
		}
		if a.err != nil {
			return fmt.Errorf("a request that was held: %w", a.err)
		}
		if i > 0 && a.order <= last.order {
			return fmt.Errorf("request %d came after request %d and went on before it", i+1, i)
		}
		last = a
	}
	return nil
}

func holdEach(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	o := w.longHold()
	o.Each = 4 * w.Settle
	release, err := w.hold(ctx, sw, o)
	if err != nil {
		return err
	}
	for range 2 {
		a, err := w.get(ctx, w.ask(ctx))
		if err != nil {
			return fmt.Errorf("each was %s: %w", o.Each, err)
		}
		if a.err == nil {
			return fmt.Errorf("each was %s; a request was answered by %q after %s instead of being refused", o.Each, a.slot, a.after)
		}
		if a.after < o.Each*3/4 {
			return fmt.Errorf("each was %s; a request was refused after %s: %w", o.Each, a.after, a.err)
		}
	}
	release()
	return w.goesTo(ctx, w.Blue.Name())
}

func holdTotal(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	o := w.longHold()
	o.Total = 4 * w.Settle
	start := time.Now()
	release, err := w.hold(ctx, sw, o)
	if err != nil {
		return err
	}
	a, err := w.get(ctx, w.ask(ctx))
	if err != nil {
		return fmt.Errorf("total was %s: %w", o.Total, err)
	}
	if a.err != nil {
		return fmt.Errorf("total was %s; a request was refused: %w", o.Total, a.err)
	}
	if took := time.Since(start); took < o.Total*3/4 {
		return fmt.Errorf("total was %s; the hold ended after %s", o.Total, took)
	}
	if err := w.stays(ctx, w.Blue.Name()); err != nil {
		return fmt.Errorf("after the hold had ended by itself: %w", err)
	}
	next, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return fmt.Errorf("after the hold had ended by itself: %w", err)
	}
	next()
	release()
	return w.goesTo(ctx, w.Blue.Name())
}

// firstOf waits until one of three requests was answered, and checks that the others go on waiting.
func (w *world) firstOf(ctx context.Context, all []<-chan answer) (answer, error) {
	t := time.NewTimer(w.Patience)
	defer t.Stop()
	var first answer
	select {
	case first = <-all[0]:
		all[0] = nil
	case first = <-all[1]:
		all[1] = nil
	case first = <-all[2]:
		all[2] = nil
	case <-t.C:
		return first, fmt.Errorf("3 requests wait although Max is 2")
	case <-ctx.Done():
		return first, context.Cause(ctx)
	}
	for _, c := range all {
		if c != nil {
			if err := w.waits(ctx, c); err != nil {
				return first, fmt.Errorf("max is 2: %w", err)
			}
		}
	}
	return first, nil
}

func holdMax(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	o := w.longHold()
	o.Max = 2
	release, err := w.hold(ctx, sw, o)
	if err != nil {
		return err
	}
	all := []<-chan answer{w.ask(ctx), w.ask(ctx), w.ask(ctx)}
	first, err := w.firstOf(ctx, all)
	if err != nil {
		return err
	}
	if first.err == nil {
		return fmt.Errorf("max is 2; the third request was answered by %q instead of being refused", first.slot)
	}
	release()
	for _, c := range all {
		if c != nil {
			if err := w.served(ctx, c, w.Blue.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func holdPass(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	o := w.longHold()
	o.Max, o.Each, o.Beyond = 2, 8*w.Settle, abswap.HoldPass
	release, err := w.hold(ctx, sw, o)
	if err != nil {
		return err
	}
	all := []<-chan answer{w.ask(ctx), w.ask(ctx), w.ask(ctx)}
	for range all { // one passes since two wait; those after Each, while the hold is still in force
		var a answer
		select {
		case a = <-all[0]:
			all[0] = nil
		case a = <-all[1]:
			all[1] = nil
		case a = <-all[2]:
			all[2] = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(w.Patience):
			return fmt.Errorf("with HoldPass a request still waits after %s; Each was %s", w.Patience, o.Each)
		}
		if a.err != nil {
			return fmt.Errorf("with HoldPass a request was not let through: %w", a.err)
		}
		if a.slot != w.Blue.Name() {
			return fmt.Errorf("with HoldPass a request went to %q, not to %q", a.slot, w.Blue.Name())
		}
	}
	release()
	return w.goesTo(ctx, w.Blue.Name())
}

func holdReleaseTwice(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	first, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return err
	}
	first()
	first()
	if err := w.goesTo(ctx, w.Blue.Name()); err != nil {
		return err
	}
	second, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return fmt.Errorf("after a release: %w", err)
	}
	first()
	c := w.ask(ctx)
	if err := w.waits(ctx, c); err != nil {
		return fmt.Errorf("after the release of an earlier hold was called once more: %w", err)
	}
	second()
	return w.served(ctx, c, w.Blue.Name())
}

func holdBusy(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	release, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return err
	}
	if other, err := sw.Hold(ctx, abswap.HoldOptions{}); !errors.Is(err, abswap.ErrBusy) {
		if other != nil {
			other()
		}
		return fmt.Errorf("a second Hold returned %v, not ErrBusy", err)
	}
	c := w.ask(ctx)
	if err := w.waits(ctx, c); err != nil {
		return fmt.Errorf("after a second Hold was refused: %w", err)
	}
	release()
	return w.served(ctx, c, w.Blue.Name())
}

func holdGoneClient(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	if w.Delivered == nil {
		return skipf("the rig has no Delivered")
	}
	release, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return err
	}
	before, err := w.Delivered(ctx)
	if err != nil {
		return fmt.Errorf("delivered: %w", err)
	}
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	stays := w.ask(ctx)
	gone := []<-chan answer{w.ask(over), w.ask(over)}
	if err := w.held(ctx, 3); err != nil {
		return err
	}
	cancel()
	for _, c := range gone {
		a, err := w.get(ctx, c)
		if err != nil {
			return fmt.Errorf("a client that has gone: %w", err)
		}
		if a.err == nil {
			return fmt.Errorf("a client that has gone was answered by %q", a.slot)
		}
	}
	if err := pause(ctx, w.Settle); err != nil { // so that the front door sees it too
		return err
	}
	release()
	if err := w.served(ctx, stays, w.Blue.Name()); err != nil {
		return err
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	after, err := w.Delivered(ctx)
	if err != nil {
		return fmt.Errorf("delivered: %w", err)
	}
	if after-before != 1 {
		return fmt.Errorf("of 3 held requests 2 clients had gone; %d were delivered", after-before)
	}
	return nil
}

func holdSwitch(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	release, err := w.hold(ctx, sw, w.longHold())
	if err != nil {
		return err
	}
	all := []<-chan answer{w.ask(ctx), w.ask(ctx), w.ask(ctx)}
	if err := w.held(ctx, len(all)); err != nil {
		return err
	}
	if err := w.activate(ctx, w.Green); err != nil {
		return fmt.Errorf("while a hold was in force: %w", err)
	}
	release()
	for _, c := range all {
		if err := w.served(ctx, c, w.Green.Name()); err != nil {
			return err
		}
	}
	return nil
}

func holdNothingLost(ctx context.Context, w *world) error {
	sw, err := w.holding(ctx)
	if err != nil {
		return err
	}
	tr, err := w.underLoad(0, func(tr *traffic) error {
		tr.want.Store(&expectation{not: true}) // all answers count
		to := w.Green
		for range max(6, w.Load/(4*clients)) {
			release, err := w.hold(ctx, sw, w.longHold())
			if err != nil {
				return err
			}
			if err := w.activate(ctx, to); err != nil {
				return err
			}
			to = w.other(to)
			release()
			if err := tr.await(2 * clients); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(tr.noneLost(), err)
}
