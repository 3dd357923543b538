package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// The phases after the commit: the old slot finishes what it has, is kept warm, is stopped.

var (
	errMovedThere = errors.New("new work is led to it again")
	errHasWork    = errors.New("it still has work")
)

const (
	stopTries   = 3 // of one Stop, each after a look at what the one before gave
	retireTries = 3 // of a slot that was drained and shows work at the last look before its stop
)

// leave is the verdict that rests the swap in its tail.
func leave(err error) verdict { return verdict{result: ResultLeft, err: err} }

func (r *run) draining(ctx context.Context) verdict {
	w, err := r.see(ctx)
	if err != nil {
		return leave(err)
	}
	for _, name := range r.st.left {
		if !idle(w, name) {
			return moved("new work goes to %s: somebody else moved it back to slot %q while that was draining", weightsText(w), name)
		}
	}
	o := r.s.Drain
	o.Timeout, o.Deadline, o.Began = 0, r.st.deadline, r.drainBegan()
	res, err := r.firstDrained(ctx, o)
	if errors.Is(err, errMovedThere) || errors.Is(err, ErrSlotLive) {
		return verdict{result: ResultMoved, err: err, slot: res.Slot, drain: &res}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return verdict{result: ResultLeft, err: err, slot: res.Slot, drain: &res}
	}
	return verdict{result: ResultOK, slot: res.Slot, drain: &res}
}

// givenUp tells whether the sessions in slot are not waited for any more, by its last drain, or since the cap of their class has passed.
func (r *run) givenUp(slot string) bool {
	rules := r.s.Drain.Classes
	for _, d := range slices.Backward(r.st.drains) {
		if d.Slot == slot {
			if d.givenUp(rules) {
				return true
			}
			break
		}
	}
	began, limit := r.drainBegan(), rules[ClassSession].Cap // began perhaps by an earlier run
	return limit > 0 && !began.IsZero() && !r.now().Before(began.Add(limit))
}

// drainBegan is when the first run of this swap began to drain; zero: this one does.
func (r *run) drainBegan() time.Time {
	for _, s := range r.st.steps {
		if s.Phase == PhaseDraining {
			return s.Started
		}
	}
	return time.Time{}
}

// firstDrained drains all slots that are left at once and returns the first that is done. If none gets there, it is the failure of the
// first of them. Readings are told on this goroutine.
func (r *run) firstDrained(ctx context.Context, o DrainOptions) (DrainResult, error) {
	type reading struct {
		slot string
		load Load
		by   map[Class]ClassOutcome
		res  *DrainResult // set by the last one of a slot
		err  error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	readings := make(chan reading)
	var wg sync.WaitGroup
	for _, name := range r.st.left {
		wg.Go(func() {
			slot, err := r.s.slot(name)
			if err != nil {
				readings <- reading{slot: name, res: &DrainResult{Slot: name}, err: err}
				return
			}
			o := o
			var by map[Class]ClassOutcome
			o.OnClasses = func(now map[Class]ClassOutcome) { by = now }
			o.OnLoad = func(l Load) { readings <- reading{slot: name, load: l, by: by} }
			res, err := Drain(ctx, r.s.drainer(), slot, o)
			readings <- reading{slot: name, res: &res, err: err}
		})
	}
	go func() { wg.Wait(); close(readings) }()
	var done *reading
	for m := range readings {
		switch {
		case m.res == nil:
			r.emit(Event{Kind: EventLoad, Slot: m.slot, Load: m.load, Classes: m.by})
			if w, err := r.s.weights(ctx); err == nil && !idle(w, m.slot) || errors.Is(err, ErrMixed) { // such a drain would never end
				cancel(fmt.Errorf("slot %q: %w: %s", m.slot, errMovedThere, weightsText(w)))
			}
		case done == nil, m.err == nil && done.err != nil:
			done = &m
			if m.err == nil {
				cancel(nil)
			}
		}
	}
	return *done.res, done.err
}

func (r *run) retaining(ctx context.Context) verdict {
	slot := r.st.leaving
	if r.s.Retain < 0 {
		if len(r.st.left) > 1 {
			return verdict{result: ResultMore, slot: slot, note: "kept warm"}
		}
		return verdict{result: ResultKept, slot: slot, note: "kept warm until it is needed"}
	}
	if r.s.Retain > 0 && !r.plan {
		if err := retry.Sleep(ctx, time.Until(r.st.deadline)); err != nil {
			return verdict{result: ResultLeft, err: err, slot: slot}
		}
	}
	return verdict{result: ResultOK, slot: slot}
}

func (r *run) stopping(ctx context.Context) verdict {
	name := r.st.leaving
	if name == "" { // an earlier run found work here and was killed before it said so
		return verdict{result: ResultMore}
	}
	slot, err := r.s.slot(name)
	if err != nil {
		return leave(err)
	}
	note, err := r.retire(ctx, slot, r.s.Drain.Sessions && !r.givenUp(name))
	switch {
	case errors.Is(err, errMovedThere):
		return moved("%v", err)
	case errors.Is(err, errHasWork):
		return verdict{result: ResultMore, note: err.Error()}
	case err != nil:
		return verdict{result: ResultLeft, err: err}
	case len(r.st.left) > 1:
		return verdict{result: ResultMore, slot: name, note: note}
	}
	return verdict{result: ResultOK, slot: name, note: note}
}

// retire is the one way in which the engine stops a slot: seal, confirm, stop (promise W1). Its error wraps errMovedThere or errHasWork
// where the slot must not be stopped. Without a SealingSwitcher, work could still come between the look and the stop; the note says so. With
// sessions it does not seal while there are any, as that would end them (promise D4).
func (r *run) retire(ctx context.Context, slot Slot, sessions bool) (note string, err error) {
	w, err := r.see(ctx)
	if err != nil {
		return "", err
	}
	if r.dark(w) {
		return "", joinErrors(fmt.Errorf("no slot took work any more: %w", errMovedThere), r.relight(ctx, r.st.To, r.st.From))
	}
	if !idle(w, slot.Name()) {
		return "", fmt.Errorf("slot %q: %w: %s", slot.Name(), errMovedThere, weightsText(w))
	}
	st, stops := ability[StoppingSlot](slot)
	if sessions {
		l, err := r.loadWith(ctx, slot, true)
		if err != nil {
			return "", err
		}
		if l.Sessions > 0 || l.Evidence == EvidenceUnknown {
			return "", fmt.Errorf("slot %q: %w: %d sessions (%s evidence)", slot.Name(), errHasWork, l.Sessions, l.Evidence)
		}
	}
	sealed, err := r.seal(ctx, slot)
	if err != nil {
		return "", err
	}
	l, err := r.load(ctx, slot)
	if err != nil {
		return "", err
	}
	if l.Total() > 0 || l.Evidence == EvidenceUnknown {
		return "", fmt.Errorf("slot %q: %w: %d requests, %d upgraded connections (%s evidence)", slot.Name(), errHasWork, l.Requests, l.Upgraded, l.Evidence)
	}
	if !stops {
		return fmt.Sprintf("slot %q is idle; it has no Stop", slot.Name()), nil
	}
	if !sealed {
		note = fmt.Sprintf("%T cannot seal: work could have come to slot %q between the last look and its stop", r.s.Switcher, slot.Name())
	}
	if err := r.stop(ctx, slot, st); err != nil {
		return note, err
	}
	if w, err := r.see(ctx); err == nil && !idle(w, slot.Name()) {
		return note, r.restart(ctx, slot, w)
	}
	return note, nil
}

// restart brings a slot up again to which another hand sent work at the very moment of its stop.
func (r *run) restart(ctx context.Context, slot Slot, w map[string]int) error {
	err := fmt.Errorf("slot %q: %w: %s; it was stopped and is started again", slot.Name(), errMovedThere, weightsText(w))
	st, can := ability[StartingSlot](slot)
	if !can {
		return fmt.Errorf("%w; but it has no Start: start it by hand", err)
	}
	sctx, cancel := within(ctx, r.s.Timeouts.Start, 2*time.Minute)
	defer cancel()
	return joinErrors(err, st.Start(sctx))
}

// stop calls Stop and believes what it sees afterwards.
func (r *run) stop(ctx context.Context, slot Slot, st StoppingSlot) error {
	var last error
	for range stopTries {
		sctx, cancel := within(ctx, r.s.Timeouts.Stop, 2*time.Minute)
		last = st.Stop(sctx)
		cancel()
		state, err := r.inspect(ctx, slot)
		switch {
		case err == nil && !state.Running, err != nil && last == nil:
			return nil
		case last == nil:
			last = errors.New("it still runs after its Stop")
		}
		if errors.Is(last, ErrPermanent) {
			break
		}
		if err := retry.Sleep(ctx, time.Second); err != nil {
			break
		}
	}
	return fmt.Errorf("stopping slot %q: %w", slot.Name(), last)
}
