package switchertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/abswap/abswap"
)

// waitRules are what a WaitingDrainer promises.
func waitRules() []Rule {
	return []Rule{
		{"D2/wait-idle-waits", "WaitIdle waits while work is open, and is told when the last has ended", waitIdleWaits},
		{"D2/wait-idle-all-told", "all who wait are told", waitIdleAllTold},
		{"D2/wait-idle-at-once", "WaitIdle of an idle slot returns at once", waitIdleAtOnce},
		{"D2/wait-idle-context", "WaitIdle ends with its context", waitIdleContext},
	}
}

// waiting returns the ability, with one request open in blue and green active.
func (w *world) waiting(ctx context.Context) (abswap.WaitingDrainer, Work, error) {
	d, err := ability[abswap.WaitingDrainer](w.Drainer)
	if err != nil {
		return nil, Work{}, err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return nil, Work{}, err
	}
	work, err := w.begin(ctx, KindRequest, w.Blue.Name())
	if err != nil {
		return nil, Work{}, err
	}
	return d, work, w.activate(ctx, w.Green)
}

// waitIdle calls WaitIdle beside the rule.
func (w *world) waitIdle(ctx context.Context, d abswap.WaitingDrainer, s abswap.Slot) <-chan answer {
	return w.askBy(ctx, func(ctx context.Context) (string, int64, error) { return "", 0, d.WaitIdle(ctx, s) })
}

// told waits until WaitIdle has returned nil.
func (w *world) told(ctx context.Context, c <-chan answer) error {
	a, err := w.get(ctx, c)
	if err != nil {
		return fmt.Errorf("the slot is idle and WaitIdle was not told: %w", err)
	}
	if a.err != nil {
		return refused(fmt.Errorf("wait idle: %w", a.err))
	}
	return nil
}

func waitIdleWaits(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	first, err := w.begin(ctx, KindRequest, w.Blue.Name())
	if err != nil {
		return err
	}
	d, second, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	c := w.waitIdle(ctx, d, w.Blue)
	waits := func() error {
		if err := pause(ctx, w.Settle); err != nil {
			return err
		}
		select {
		case a := <-c:
			if a.err != nil {
				return refused(fmt.Errorf("wait idle: %w", a.err))
			}
			return errors.New("wait idle: it returned nil while a request was open")
		default:
			return nil
		}
	}
	if err := waits(); err != nil {
		return err
	}
	if err := w.end(ctx, KindRequest, first); err != nil {
		return err
	}
	if err := waits(); err != nil {
		return err
	}
	if err := w.end(ctx, KindRequest, second); err != nil {
		return err
	}
	return w.told(ctx, c)
}

func waitIdleAllTold(ctx context.Context, w *world) error {
	d, work, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	all := make([]<-chan answer, 5)
	for i := range all {
		all[i] = w.waitIdle(ctx, d, w.Blue)
	}
	if err := pause(ctx, w.Settle); err != nil { // so that they wait indeed
		return err
	}
	if err := w.end(ctx, KindRequest, work); err != nil {
		return err
	}
	for i, c := range all {
		if err := w.told(ctx, c); err != nil {
			return fmt.Errorf("waiter %d of %d: %w", i+1, len(all), err)
		}
	}
	return nil
}

func waitIdleAtOnce(ctx context.Context, w *world) error {
	d, err := ability[abswap.WaitingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	for _, s := range []abswap.Slot{w.Blue, w.Green} {
		if err := w.told(ctx, w.waitIdle(ctx, d, s)); err != nil {
			return fmt.Errorf("slot %q: %w", s.Name(), err)
		}
	}
	return nil
}

func waitIdleContext(ctx context.Context, w *world) error {
	d, _, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	c := w.waitIdle(over, d, w.Blue)
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	cancel()
	a, err := w.get(ctx, c)
	if err != nil {
		return fmt.Errorf("wait idle: its context has ended: %w", err)
	}
	if !errors.Is(a.err, context.Canceled) {
		return refused(fmt.Errorf("wait idle: its context ended and it returned %w, not its error", a.err))
	}
	return nil
}
