package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

func (t Timeouts) settle() time.Duration { return orDefault(t.Settle, 10*time.Second) }
func (t Timeouts) revert() time.Duration { return orDefault(t.Revert, 2*time.Minute) }

// within returns ctx bounded by d, where 0 stands for def. If that is not above 0, there is no bound.
func within(ctx context.Context, d, def time.Duration) (context.Context, context.CancelFunc) {
	if d = orDefault(d, def); d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return context.WithCancel(ctx)
}

// weights reads the world once. It is bounded by itself and not by ctx: an effect whose context ended must still be observed.
func (s *Swapper) weights(ctx context.Context) (map[string]int, error) {
	ctx, cancel := within(context.WithoutCancel(ctx), s.Timeouts.Observe, 10*time.Second)
	defer cancel()
	if w, ok := ability[WeightedSwitcher](s.Switcher); ok {
		m, err := w.Weights(ctx)
		if err != nil && !errors.Is(err, ErrNoActive) && !errors.Is(err, ErrMixed) {
			return nil, fmt.Errorf("reading the weights: %w", err)
		}
		maps.DeleteFunc(m, func(_ string, part int) bool { return part == 0 })
		return m, nil
	}
	name, err := s.Switcher.Active(ctx)
	if errors.Is(err, ErrNoActive) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the active slot: %w", err)
	}
	return map[string]int{name: 100}, nil
}

// see is weights, tried again while the backend is out of reach, for as long as Timeouts.Settle.
func (r *run) see(ctx context.Context) (map[string]int, error) {
	return r.await(ctx, func(map[string]int) bool { return true })
}

// await reads the world until want says yes or Timeouts.Settle has passed, and returns what was seen last. The error is that of the last
// reading (a permanent one ends the wait), never that want said no.
func (r *run) await(ctx context.Context, want func(map[string]int) bool) (map[string]int, error) {
	end := time.Now().Add(r.s.Timeouts.settle())
	pause := retry.Policy{First: 50 * time.Millisecond, Max: time.Second}.Pauses()
	for {
		w, err := r.s.weights(ctx)
		if err == nil && want(w) || errors.Is(err, ErrPermanent) || !time.Now().Before(end) {
			return w, err
		}
		if serr := retry.Sleep(ctx, min(pause(), max(time.Until(end), time.Millisecond))); serr != nil {
			return w, joinErrors(err, serr)
		}
	}
}

// idle tells whether no work is led to slot, by the weights w.
func idle(w map[string]int, slot string) bool { return w[slot] == 0 }

// ready probes slot once.
func (r *run) ready(ctx context.Context, slot Slot) error {
	ctx, cancel := within(ctx, r.s.Timeouts.Ready, 10*time.Second)
	defer cancel()
	return slot.Ready(ctx)
}

// becomesReady probes slot until it is fit or d, if above 0, has passed.
func (r *run) becomesReady(ctx context.Context, slot Slot, d time.Duration) error {
	ctx, cancel := within(ctx, d, 0)
	defer cancel()
	err := retry.Do(ctx, retry.Policy{First: 50 * time.Millisecond, Max: time.Second}, func(ctx context.Context) error {
		err := r.ready(ctx, slot)
		if errors.Is(err, ErrPermanent) {
			return retry.Stop(err)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotReady) {
		return fmt.Errorf("slot %q: %w: %w", slot.Name(), ErrNotReady, err)
	}
	return err
}

// move sends new work to where weights say, through the smallest verb that can: Activate for all of it to one slot. Its error is nil only
// if the world was then seen to be so; on any error the world has been given Timeouts.Settle to show the effect after all.
func (r *run) move(ctx context.Context, to map[string]int) (note string, err error) {
	err = r.order(ctx, to)
	if err == nil {
		return "", nil
	}
	back := context.WithoutCancel(ctx)
	if errors.Is(err, ErrPermanent) || errors.Is(err, ErrUnknownSlot) || errors.Is(err, errors.ErrUnsupported) {
		w, serr := r.see(back)
		if serr == nil && sameWeights(w, to) {
			return fmt.Sprintf("refused (%v), but in force", err), nil
		}
		return "", joinErrors(err, serr)
	}
	w, serr := r.await(back, func(w map[string]int) bool { return sameWeights(w, to) })
	if serr == nil && sameWeights(w, to) {
		return fmt.Sprintf("reported %v, but is in force", err), nil
	}
	return "", fmt.Errorf("sending new work to %s: %w", weightsText(to), joinErrors(err, serr))
}

func (r *run) order(ctx context.Context, to map[string]int) error {
	ctx, cancel := within(ctx, r.s.Timeouts.Shift, 30*time.Second)
	defer cancel()
	if len(to) == 1 {
		for name := range to {
			slot, err := r.s.slot(name)
			if err != nil {
				return err
			}
			return r.s.Switcher.Activate(ctx, slot)
		}
	}
	w, ok := ability[WeightedSwitcher](r.s.Switcher)
	if !ok {
		return fmt.Errorf("%T cannot weigh: %w", r.s.Switcher, errors.ErrUnsupported)
	}
	var weights []Weight
	for _, name := range slices.Sorted(maps.Keys(to)) {
		slot, err := r.s.slot(name)
		if err != nil {
			return err
		}
		weights = append(weights, Weight{Slot: slot, Part: to[name]})
	}
	return w.SetWeights(ctx, weights...)
}

// seal makes sure that no rule leads to slot; sealed is false where the backend has no such ability. Another hand may have sent work there
// just before: then nothing is sealed, or, where the seal came first, work is led back there, and the error wraps errMovedThere.
func (r *run) seal(ctx context.Context, slot Slot) (sealed bool, err error) {
	sw, ok := ability[SealingSwitcher](r.s.Switcher)
	if !ok {
		return false, nil
	}
	before, err := r.see(ctx)
	if err != nil {
		return false, err
	}
	if !idle(before, slot.Name()) {
		return false, fmt.Errorf("slot %q: %w: %s", slot.Name(), errMovedThere, weightsText(before))
	}
	sctx, cancel := within(ctx, r.s.Timeouts.Shift, 30*time.Second)
	defer cancel()
	if err := sw.Seal(sctx, slot); err != nil {
		return false, fmt.Errorf("sealing slot %q: %w", slot.Name(), err)
	}
	back := context.WithoutCancel(ctx)
	after, err := r.see(back)
	switch {
	case err != nil:
	case !idle(after, slot.Name()):
		err = fmt.Errorf("slot %q: %w: %s", slot.Name(), errMovedThere, weightsText(after))
	case len(before) > 0 && len(after) == 0:
		err = joinErrors(fmt.Errorf("slot %q: %w, and its seal was taken back", slot.Name(), errMovedThere), r.relight(back, slot.Name()))
	}
	return err == nil, err
}

// dark tells whether no slot takes work though one did when the swap began.
func (r *run) dark(w map[string]int) bool { return len(w) == 0 && len(r.home()) > 0 }

// relight turns a slot on again after a seal met another hand's move and no slot is active: the first of prefer that is fit, else any.
func (r *run) relight(ctx context.Context, prefer ...string) error {
	var errs []error
	for range revertTries {
		for _, name := range append(prefer, r.s.names()...) {
			s, err := r.s.slot(name)
			if err != nil || r.ready(ctx, s) != nil {
				continue
			}
			if _, err = r.move(ctx, map[string]int{name: 100}); err == nil {
				return nil
			}
			errs = append(errs, err)
			break
		}
	}
	return joinErrors(append(errs, errors.New("no slot takes work, and none that is fit could be given it"))...)
}

// loadWith reads what slot carries, its sessions too if they are asked for.
func (r *run) loadWith(ctx context.Context, slot Slot, sessions bool) (Load, error) {
	l, err := r.load(ctx, slot)
	d, ok := As[SessionDrainer](r.s.drainer())
	if err != nil || !sessions || !ok {
		return l, err
	}
	ctx, cancel := within(context.WithoutCancel(ctx), r.s.Timeouts.Observe, 10*time.Second)
	defer cancel()
	x, err := d.Sessions(ctx, slot)
	if err != nil {
		return l, fmt.Errorf("counting the sessions of slot %q: %w", slot.Name(), err)
	}
	l.Sessions, l.Evidence = x.Sessions, min(l.Evidence, x.Evidence)
	return l, nil
}

// load reads what slot carries, without its sessions.
func (r *run) load(ctx context.Context, slot Slot) (Load, error) {
	ctx, cancel := within(context.WithoutCancel(ctx), r.s.Timeouts.Observe, 10*time.Second)
	defer cancel()
	l, err := r.s.drainer().InFlight(ctx, slot)
	if err != nil {
		return Load{}, fmt.Errorf("counting what slot %q carries: %w", slot.Name(), err)
	}
	return l, nil
}

// frontDoor asks who answers until the new slot did so several times in a row, or Timeouts.Settle has passed.
func (r *run) frontDoor(ctx context.Context) error {
	if r.s.FrontDoor == nil {
		return nil
	}
	const inARow = 3
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return err
	}
	release := r.st.Release.ID
	if release == "" {
		if state, err := r.inspect(ctx, to); err == nil {
			release = state.Release
		}
	}
	end := time.Now().Add(r.s.Timeouts.settle())
	for n := 0; n < inARow; {
		actx, cancel := within(ctx, r.s.Timeouts.Observe, 10*time.Second)
		who, err := r.s.FrontDoor(actx)
		cancel()
		if err == nil && (who == r.st.To || release != "" && who == release) {
			n++
			continue
		}
		n = 0
		if err == nil {
			err = fmt.Errorf("%q answers, not slot %q", who, r.st.To)
		}
		if !time.Now().Before(end) {
			return fmt.Errorf("front door: %w", err)
		}
		if serr := retry.Sleep(ctx, 100*time.Millisecond); serr != nil {
			return joinErrors(serr, err)
		}
	}
	return nil
}

// weightsText prints weights as "blue 95 %, green 5 %", or "nobody".
func weightsText(w map[string]int) string {
	if len(w) == 0 {
		return "nobody"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		parts = append(parts, fmt.Sprintf("%s %d %%", name, w[name]))
	}
	return strings.Join(parts, ", ")
}
