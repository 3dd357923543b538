package abswap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

const (
	leastReadings = 5                // zeros that an approximate count must show in a row, however short Quiet is
	cutSettle     = 10 * time.Second // how long work that was cut may take to leave the counts
	leftListed    = 100              // pieces of work that a DrainResult lists at the most
	lastReading   = 10 * time.Second // how long a reading may take past the deadline
)

// Drain waits until nothing is left in s, as d counts it (promises D2, D3), and changes nothing, unless o says that what is left at the
// deadline is to be ended. The caller has already turned the slot off; a Drain of a slot that still gets work may never end.
//
// It returns nil when s is drained by evidence: at the first zero of an exact count, or after unbroken zeros of an approximate one for
// o.Quiet. A reading that fails breaks the run of zeros and is tried again. Otherwise the error is a *DrainError that wraps ErrDrainTimeout,
// the context's error, or the Drainer's where trying again cannot help (ErrUnknownSlot, ErrPermanent, errors.ErrUnsupported).
// The result is valid with every error.
func Drain(ctx context.Context, d Drainer, s Slot, o DrainOptions) (DrainResult, error) {
	if d == nil || s == nil {
		return DrainResult{}, &DrainError{Err: fmt.Errorf("a drain needs a Drainer and a slot: %w", ErrPermanent)}
	}
	w := &drainWait{d: d, slot: s, o: o, began: time.Now(), res: DrainResult{Slot: s.Name()}}
	err := w.run(ctx)
	w.res.Waited = time.Since(w.began)
	if err != nil {
		w.list(ctx)
		return w.res, &DrainError{Slot: s.Name(), Result: w.res, Err: err}
	}
	return w.res, nil
}

// drainWait is one call of Drain.
type drainWait struct {
	d     Drainer
	slot  Slot
	o     DrainOptions
	began time.Time
	res   DrainResult

	deadline  time.Time // zero: none
	overdue   bool      // the first deadline has passed: the policy runs
	cut       bool      // ForceCut was given
	gone      int       // how much has gone, as far as readings show
	zeroSince time.Time // begin of the unbroken run of zeros; zero: there is none
	zeros     int
	failed    error // the last reading's, if it failed

	by   ClassDrainer // nil: no books are kept
	book *ledger
	next time.Time // when the book's next order is due; zero: none is
}

func (w *drainWait) run(ctx context.Context) error {
	if w.o.Sessions {
		if _, ok := As[SessionDrainer](w.d); !ok {
			return fmt.Errorf("%T cannot count sessions: %w", w.d, errors.ErrUnsupported)
		}
	}
	w.deadline = w.o.Deadline
	if t := w.began.Add(w.o.Timeout); w.o.Timeout > 0 && (w.deadline.IsZero() || t.Before(w.deadline)) {
		w.deadline = t
	}
	if err := w.openBook(); err != nil {
		return err
	}
	told, stop := w.tell(ctx)
	defer stop()
	pauses := w.pauses()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := w.byClass(ctx); err != nil {
			return err
		}
		if drained, err := w.read(ctx); drained || err != nil {
			return err
		}
		if !w.deadline.IsZero() && !time.Now().Before(w.deadline) && !(w.o.finish && w.zeros > 0) {
			if err := w.atDeadline(ctx); err != nil {
				return err
			}
			continue // the policy may have changed the counts: read again
		}
		w.pause(ctx, pauses(), told)
	}
}

// read takes one reading and tells whether it proves the slot drained.
func (w *drainWait) read(ctx context.Context) (bool, error) {
	l, err := w.load(ctx)
	w.res.Readings++
	if err != nil {
		w.zeroSince, w.zeros, w.failed = time.Time{}, 0, err
		if errors.Is(err, ErrUnknownSlot) || errors.Is(err, ErrPermanent) || errors.Is(err, errors.ErrUnsupported) {
			return false, err
		}
		return false, nil
	}
	w.failed = nil
	if w.res.Readings == 1 || w.res.First == (Load{}) {
		w.res.First = l
	} else if gone := w.res.Last.Total() - l.Total(); gone > 0 {
		w.gone += gone
		if w.cut && !w.ruled() {
			w.res.Cut += gone
		}
	}
	w.res.Last = l
	w.res.Drained = w.proven(l)
	w.tellClasses()
	w.res.Finished = w.gone - w.res.Cut
	if w.o.OnLoad != nil {
		w.o.OnLoad(l)
	}
	return w.res.Drained, nil
}

// proven reports whether l, and what was read before, prove the slot drained.
func (w *drainWait) proven(l Load) bool {
	if l.Total() > 0 || l.Evidence == EvidenceUnknown {
		w.zeroSince, w.zeros = time.Time{}, 0
		return false
	}
	if l.Evidence == EvidenceExact {
		return true
	}
	if w.zeroSince.IsZero() {
		w.zeroSince = time.Now()
	}
	w.zeros++
	return w.zeros >= leastReadings && time.Since(w.zeroSince) >= w.quiet()
}

// bounded bounds a reading, so that one that does not answer does not keep the drain from its deadline.
func (w *drainWait) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.deadline.IsZero() || w.o.finish {
		return context.WithCancel(ctx)
	}
	from := w.deadline
	if now := time.Now(); from.Before(now) {
		from = now
	}
	return context.WithDeadline(ctx, from.Add(lastReading)) // not by a duration: one to year 9999 is too large for its type
}

func (w *drainWait) load(ctx context.Context) (Load, error) {
	ctx, cancel := w.bounded(ctx)
	defer cancel()
	l, err := w.d.InFlight(ctx, w.slot)
	if err != nil || !w.o.Sessions {
		return l, err
	}
	sd, _ := As[SessionDrainer](w.d)
	sl, err := sd.Sessions(ctx, w.slot)
	if w.book != nil && err == nil {
		w.book.sessionsNow(sl.Sessions)
		if w.book.sessionsOver(time.Now()) {
			return l, nil
		}
	}
	l.Sessions, l.Evidence = sl.Sessions, min(l.Evidence, sl.Evidence)
	return l, err
}

// atDeadline carries out what the policy says. nil: go on waiting, until the deadline that it set.
func (w *drainWait) atDeadline(ctx context.Context) error {
	first := !w.overdue
	w.overdue = true
	timeout := ErrDrainTimeout
	if w.failed != nil {
		timeout = fmt.Errorf("%w; last reading: %w", ErrDrainTimeout, w.failed)
	}
	switch {
	case w.o.AtDeadline == KeepWaiting:
		w.deadline = time.Time{}
		return nil
	case w.o.AtDeadline != HandOver && w.o.AtDeadline != CutOff:
		return timeout
	case w.onlyRuled():
		w.deadline = time.Time{}
		return nil
	case first:
		w.deadline = time.Now().Add(w.grace())
		return w.force(ctx, ForceHandOver, "hand over")
	case w.o.AtDeadline == CutOff && !w.cut:
		w.cut = true
		w.deadline = time.Now().Add(cutSettle)
		return w.force(ctx, ForceCut, "cut")
	}
	return timeout
}

func (w *drainWait) force(ctx context.Context, how Force, name string) error {
	if w.ruled() {
		return w.forceOthers(ctx, how, name)
	}
	f, ok := As[ForcingDrainer](w.d)
	if !ok {
		return fmt.Errorf("%w, and %T cannot %s: %w", ErrDrainTimeout, w.d, name, errors.ErrUnsupported)
	}
	w.res.Forced = append(w.res.Forced, name)
	if err := f.Force(ctx, w.slot, how); err != nil {
		return fmt.Errorf("%w, and to %s what is left: %w", ErrDrainTimeout, name, err)
	}
	if w.book != nil {
		w.book.forced(how)
	}
	return nil
}

// pause waits for d, until the drainer tells that the slot is idle, for the deadline, or for ctx.
func (w *drainWait) pause(ctx context.Context, d time.Duration, told <-chan struct{}) {
	if !w.zeroSince.IsZero() { // an approximate zero: look often enough to see it broken
		d = min(d, max(w.quiet()/leastReadings, time.Millisecond))
	}
	until := w.deadline
	if w.o.finish && w.zeros > 0 {
		until = time.Time{}
	}
	for _, t := range [...]time.Time{until, w.next} {
		if !t.IsZero() {
			d = min(d, time.Until(t))
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-told:
	case <-ctx.Done():
	}
}

// tell starts to wait for a WaitingDrainer's word. The channel gets a value each time it has come; stop ends that and waits for the end.
func (w *drainWait) tell(ctx context.Context) (told <-chan struct{}, stop func()) {
	wd, ok := As[WaitingDrainer](w.d)
	if !ok {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	c := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for wd.WaitIdle(ctx, w.slot) == nil {
			select {
			case c <- struct{}{}:
			default:
			}
			// Idle, but Drain was not satisfied: work came again, or sessions are left. Do not spin.
			if retry.Sleep(ctx, 250*time.Millisecond) != nil {
				return
			}
		}
	})
	return c, func() { cancel(); wg.Wait() }
}

// list fills in what is left. It runs when the wait has ended, so ctx may have, too.
func (w *drainWait) list(ctx context.Context) {
	l, ok := As[ListingDrainer](w.d)
	if !ok || w.res.Last.Total() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	w.res.Left, _ = l.List(ctx, w.slot, leftListed) // the counts are in the error; the list is a help, not a need
}

func (w *drainWait) pauses() func() time.Duration {
	if w.o.Poll > 0 {
		return func() time.Duration { return w.o.Poll }
	}
	return retry.Policy{}.Pauses()
}

func (w *drainWait) quiet() time.Duration { return orDefault(w.o.Quiet, 5*time.Second) }

func (w *drainWait) grace() time.Duration { return orDefault(w.o.Grace, 30*time.Second) }

// orDefault returns d, def for 0, and 0 for a negative d.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// Both returns a Drainer that trusts neither a nor b alone: a slot is drained when both say so. Each count is the larger of the two, the
// evidence is the weaker, and a reading that fails on one side fails. Abilities are those of a.
func Both(a, b Drainer) Drainer { return &both{a, b} }

type both struct{ a, b Drainer }

func (d *both) InFlight(ctx context.Context, s Slot) (Load, error) {
	x, errX := d.a.InFlight(ctx, s)
	y, errY := d.b.InFlight(ctx, s)
	return Load{
		Requests: max(x.Requests, y.Requests),
		Upgraded: max(x.Upgraded, y.Upgraded),
		Sessions: max(x.Sessions, y.Sessions),
		Evidence: min(x.Evidence, y.Evidence),
		Source:   x.Source + " and " + y.Source,
	}, joinErrors(errX, errY)
}

// Unwrap returns a, whose abilities are those of the pair.
func (d *both) Unwrap() Drainer { return d.a }
