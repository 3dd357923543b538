package switchertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// world is a rig while a rule is checked on it.
type world struct {
	Rig
	life   context.Context // of the rule; work that was begun lives in it
	cancel context.CancelFunc

	mu     sync.Mutex
	undo   []func()
	asking sync.WaitGroup
}

func (w *world) setUp(ctx context.Context) context.Context {
	w.life, w.cancel = context.WithCancel(ctx)
	return w.life
}

// tidy ends all that the rule began, the newest first, and waits for it.
func (w *world) tidy() {
	w.mu.Lock()
	undo := slices.Clone(w.undo)
	w.mu.Unlock()
	for _, f := range slices.Backward(undo) {
		f()
	}
	w.cancel()
	w.asking.Wait()
}

func (w *world) later(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undo = append(w.undo, f)
}

// pause waits for d, or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until calls f until it returns nil, at the longest for Patience; then it returns f's last error. A skip ends it at once.
func (w *world) until(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(w.Patience)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[*skip](err); ok {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s: %w", w.Patience, err)
		}
		if perr := pause(ctx, max(w.Settle/25, time.Millisecond)); perr != nil {
			return fmt.Errorf("%w; last: %w", perr, err)
		}
	}
}

func (w *world) activate(ctx context.Context, s abswap.Slot) error {
	if err := w.Switcher.Activate(ctx, s); err != nil {
		return fmt.Errorf("activate %q: %w", s.Name(), err)
	}
	return nil
}

// settled activates s and waits until all probes go there.
func (w *world) settled(ctx context.Context, s abswap.Slot) error {
	if err := w.activate(ctx, s); err != nil {
		return err
	}
	return w.goesTo(ctx, s.Name())
}

// bounded is probe with Patience as its limit.
func (w *world) bounded(ctx context.Context, probe func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	return probe(ctx)
}

// goesTo waits until some probes running were answered by the slot. Only S1 asks that it be so from the first one on.
func (w *world) goesTo(ctx context.Context, slot string) error {
	return w.until(ctx, func() error {
		for range 12 {
			got, err := w.bounded(ctx, w.Probe)
			if err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			if got != slot {
				return fmt.Errorf("a probe was answered by %q, not by %q", got, slot)
			}
		}
		return nil
	})
}

// stays checks for Settle that all probes are answered by the slot.
func (w *world) stays(ctx context.Context, slot string) error {
	for range 10 {
		got, err := w.bounded(ctx, w.Probe)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		if got != slot {
			return fmt.Errorf("a probe was answered by %q, not by %q", got, slot)
		}
		if err := pause(ctx, w.Settle/10); err != nil {
			return err
		}
	}
	return nil
}

// still checks with a few probes that all go to the slot.
func (w *world) still(ctx context.Context, slot string) error {
	for range 4 {
		got, err := w.bounded(ctx, w.Probe)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		if got != slot {
			return fmt.Errorf("a probe was answered by %q, not by %q", got, slot)
		}
	}
	return nil
}

// activeIs waits until Active returns that name and no error.
func (w *world) activeIs(ctx context.Context, slot string) error {
	return w.until(ctx, func() error { return w.activeNow(ctx, slot) })
}

func (w *world) activeNow(ctx context.Context, slot string) error {
	got, err := w.Switcher.Active(ctx)
	if err != nil {
		return fmt.Errorf("active: %w", err)
	}
	if got != slot {
		return fmt.Errorf("active returned %q, not %q", got, slot)
	}
	return nil
}

// begin begins work of the kind in the slot, which takes all new work.
func (w *world) begin(ctx context.Context, kind Kind, slot string) (Work, error) {
	if w.Begin == nil {
		return Work{}, skipf("the rig has no Begin")
	}
	var work Work
	err := w.until(ctx, func() (err error) {
		work, err = w.Begin(w.life, kind)
		if errors.Is(err, errors.ErrUnsupported) {
			return skipf("the rig cannot begin work of kind %s", kind)
		}
		if err != nil {
			return fmt.Errorf("begin %s: %w", kind, err)
		}
		w.later(work.Abort)
		if work.Slot != slot {
			work.Abort()
			return fmt.Errorf("a new %s went to %q, not to %q", kind, work.Slot, slot)
		}
		return nil
	})
	return work, err
}

// beginAll begins one piece of work of every kind that the rig can make.
func (w *world) beginAll(ctx context.Context, slot string) (map[Kind]Work, error) {
	all := map[Kind]Work{}
	for _, kind := range kinds() {
		work, err := w.begin(ctx, kind, slot)
		if _, ok := errors.AsType[*skip](err); ok && w.Begin != nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[kind] = work
	}
	if len(all) == 0 {
		return nil, skipf("the rig can begin no kind of work")
	}
	return all, nil
}

func (w *world) step(ctx context.Context, kind Kind, work Work) error {
	if work.Step == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	if err := work.Step(ctx); err != nil {
		return fmt.Errorf("%s in %q: %w", kind, work.Slot, err)
	}
	return nil
}

func (w *world) end(ctx context.Context, kind Kind, work Work) error {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	if err := work.End(ctx); err != nil {
		return fmt.Errorf("end of %s in %q: %w", kind, work.Slot, err)
	}
	return nil
}

// load reads the counts of the slot.
func (w *world) load(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	if w.Drainer == nil {
		return abswap.Load{}, skipf("there is no Drainer")
	}
	l, err := w.Drainer.InFlight(ctx, s)
	if err != nil {
		return l, fmt.Errorf("in flight in %q: %w", s.Name(), err)
	}
	return l, nil
}

func (w *world) exact(ctx context.Context) (bool, error) {
	l, err := w.load(ctx, w.Blue)
	return l.Evidence == abswap.EvidenceExact, err
}

// counts waits until the slot's counts are these. Exact ones may never be lower meanwhile.
func (w *world) counts(ctx context.Context, s abswap.Slot, requests, upgraded int) error {
	var broken error
	err := w.until(ctx, func() error {
		l, err := w.load(ctx, s)
		if err != nil {
			return err
		}
		if l.Requests == requests && l.Upgraded == upgraded {
			return nil
		}
		err = fmt.Errorf("slot %q counts %d requests and %d upgraded connections while %d and %d are open", s.Name(), l.Requests, l.Upgraded, requests, upgraded)
		if l.Evidence == abswap.EvidenceExact && (l.Requests < requests || l.Upgraded < upgraded) {
			broken = err
			return nil
		}
		return err
	})
	return errors.Join(broken, err)
}

// answer is what a probe gave that ran beside the rule.
type answer struct {
	slot  string
	order int64
	err   error
	after time.Duration
}

// ask sends a probe beside the rule.
func (w *world) ask(ctx context.Context) <-chan answer {
	return w.askBy(ctx, func(ctx context.Context) (string, int64, error) {
		slot, err := w.Probe(ctx)
		return slot, 0, err
	})
}

func (w *world) askBy(ctx context.Context, probe func(context.Context) (string, int64, error)) <-chan answer {
	c := make(chan answer, 1)
	start := time.Now()
	w.asking.Go(func() {
		slot, order, err := probe(ctx)
		c <- answer{slot, order, err, time.Since(start)}
	})
	return c
}

// get waits for the answer, at the longest for Patience.
func (w *world) get(ctx context.Context, c <-chan answer) (answer, error) {
	t := time.NewTimer(w.Patience)
	defer t.Stop()
	select {
	case a := <-c:
		return a, nil
	case <-t.C:
		return answer{}, fmt.Errorf("a request was not answered within %s", w.Patience)
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
}

// other returns the other one of the two slots.
func (w *world) other(s abswap.Slot) abswap.Slot {
	if s == w.Blue {
		return w.Green
	}
	return w.Blue
}

// ability finds an ability of v, or skips the rule.
func ability[T any](v any) (T, error) {
	t, ok := abswap.As[T](v)
	if !ok {
		return t, skipf("the backend is no %s", reflect.TypeFor[T]().Name())
	}
	return t, nil
}

// refused turns the answer of a backend that has an ability but says it cannot, into a skip; rule S5/unsupported-is-said looks at those.
func refused(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return skipf("the backend says: %v", err)
	}
	return err
}
