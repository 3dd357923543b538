package abswap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// The phases of a member on the way forward. Each looks at the world first, so that it can be entered again after a crash.

const (
	provenInARow = 2                      // probes that must find a member fit, and one more right before it is put in
	provenPause  = 250 * time.Millisecond // between them
)

func (r *roll) takingOut(ctx context.Context, m *memberState, slot Slot) verdict {
	expected := m.Out || m.times[MemberTakingOut] > 1 // an earlier process may have taken it out
	limit := orDefault(r.o.Patience, time.Minute)
	end := time.Now().Add(limit)
	for {
		v, err := r.tryOut(ctx, slot, expected)
		if !errors.Is(err, errShort) {
			return v
		}
		if r.anyOut(m) {
			end = time.Now().Add(limit) // the others come back first
		}
		if !time.Now().Before(end) {
			return failed(err)
		}
		if serr := retry.Sleep(ctx, soakPause); serr != nil {
			return failed(joinErrors(serr, err))
		}
	}
}

// tryOut takes slot out if the others are enough; the error is errShort if they are not.
func (r *roll) tryOut(ctx context.Context, slot Slot, expected bool) (verdict, error) {
	if err := r.takeTurn(ctx); err != nil {
		return failed(err), err
	}
	defer r.giveTurn()
	w, err := r.see(ctx)
	if err != nil {
		return failed(err), err
	}
	me, known := w[slot.Name()]
	switch {
	case !known:
		err = fmt.Errorf("the doors do not know it: %w", ErrUnknownSlot)
		return failed(err), err
	case me.Out && expected: // ordered all the same: with no part of the work it may have sessions that lead there, which only our order ends
		note, err := r.order(ctx, slot, false)
		if err != nil {
			return failed(err), err
		}
		return verdict{result: ResultOK, note: joinNotes("was out of service already", note)}, nil
	case !me.In && !expected:
		return moved("it was in service when the roll began and is not any more (%s): another hand is at it", memberText(me)), nil
	}
	if n, missing := r.others(ctx, w, slot.Name(), true); n < r.st.Floor && me.In {
		err := r.short(n, missing)
		return failed(err), err
	}
	note, err := r.order(ctx, slot, false)
	if err != nil {
		return failed(err), err
	}
	if w, err = r.see(ctx); err != nil {
		return failed(err), err
	}
	if n, missing := r.others(ctx, w, slot.Name(), false); n < r.st.Floor && me.In { // one went out at this very moment
		return failed(r.short(n, missing)), nil
	}
	return verdict{result: ResultOK, note: note}, nil
}

func (r *roll) draining(ctx context.Context, m *memberState, slot Slot) verdict {
	o := r.o.Drain
	o.Timeout, o.Deadline = 0, m.deadline
	dctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lastOut := time.Now()
	var by map[Class]ClassOutcome
	o.OnClasses = func(now map[Class]ClassOutcome) { by = now }
	o.OnLoad = func(l Load) {
		r.do(func() { r.emit(Event{Kind: EventLoad, Phase: MemberDraining, Slot: slot.Name(), Load: l, Classes: by}) })
		w, err := r.o.members(ctx)
		if err != nil {
			return // the next reading asks again
		}
		me := w[slot.Name()]
		if me.Out {
			lastOut = time.Now()
		}
		if me.In {
			cancel(fmt.Errorf("%w: %s", errMovedThere, memberText(me)))
		} else if time.Since(lastOut) > r.o.Timeouts.settle() { // not for a moment, as while a door reloads: such a drain would never end
			cancel(fmt.Errorf("it is not out of service any more: %s", memberText(me)))
		} else if n, missing := r.others(ctx, w, slot.Name(), false); n < r.st.Floor && !m.Out {
			cancel(r.short(n, missing)) // it is as good as it was: better in service than waiting
		}
	}
	res, err := Drain(dctx, r.o.drainer(), slot, o)
	switch {
	case err == nil && context.Cause(dctx) == nil:
		return verdict{result: ResultOK, drain: &res}
	case errors.Is(context.Cause(dctx), errMovedThere):
		return verdict{result: ResultMoved, err: context.Cause(dctx), drain: &res}
	case errors.Is(err, ErrSlotLive):
		return verdict{result: ResultMoved, err: err, drain: &res}
	case err == nil:
		err = context.Cause(dctx)
	}
	return verdict{result: ResultFailed, err: err, drain: &res}
}

// stopping is the one way in which a roll stops a member: it is seen out of service, seen empty, and stopped (promise W1).
func (r *roll) stopping(ctx context.Context, m *memberState, slot Slot) verdict {
	again := m.times[MemberStopping] > 1 && m.steps[len(m.steps)-2].Phase == MemberStopping // an earlier process was here: it may have stopped it
	early := func(err error) verdict {
		if again {
			return failed(err)
		}
		return verdict{result: ResultLeft, err: err}
	}
	w, err := r.see(ctx)
	if err != nil {
		return early(err)
	}
	switch me := w[slot.Name()]; {
	case me.Out:
	case me.In && (!again || r.h.stillFit(ctx, slot) == nil): // no Stop was ordered, or none was heeded
		return moved("%v: %s", errMovedThere, memberText(me))
	default:
		if note, err := r.order(ctx, slot, false); err != nil {
			return early(err)
		} else if !again {
			return verdict{result: ResultMore, note: joinNotes("a door led new work to it again", note)}
		}
	}
	l, err := r.h.load(ctx, slot)
	if state, serr := r.h.inspect(ctx, slot); err != nil && serr == nil && !state.Running {
		l, err = Load{Evidence: EvidenceExact}, nil // who does not run has nothing
	}
	if err != nil {
		return early(err)
	}
	if l.Total() > 0 || l.Evidence == EvidenceUnknown {
		return verdict{result: ResultMore, note: fmt.Sprintf("%v: %d requests, %d upgraded connections (%s evidence)", errHasWork, l.Requests, l.Upgraded, l.Evidence)}
	}
	if err := r.halt(ctx, slot); err != nil {
		return failed(err)
	}
	note, err := r.keepOut(ctx, slot)
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, note: note}
}

// notingStop remembers whether a Stop failed, so that it may land late.
type notingStop struct {
	StoppingSlot
	err error
}

func (s *notingStop) Stop(ctx context.Context) error {
	err := s.StoppingSlot.Stop(ctx)
	if err != nil {
		s.err = err
	}
	return err
}

// halt stops what runs in slot, which is out of service and empty. When it returns, no Stop is on its way any more.
func (r *roll) halt(ctx context.Context, slot Slot) error {
	st, can := ability[StoppingSlot](slot)
	if !can {
		return nil
	}
	noting := &notingStop{StoppingSlot: st}
	err := r.h.stop(ctx, slot, noting)
	_ = r.settle(noting.err)
	return err
}

func (r *roll) installing(ctx context.Context, slot Slot) verdict {
	note, err := r.keepOut(ctx, slot)
	if err == nil {
		err = r.install(ctx, slot, r.st.Release)
	}
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, note: note}
}

// install puts rel into slot, which does not run.
func (r *roll) install(ctx context.Context, slot Slot, rel Release) error {
	in, can := ability[InstallingSlot](slot)
	if !can {
		return nil // Stop and Start bring the release, as where a machine fetches it by itself; what is in it is asked later
	}
	ictx, cancel := within(ctx, r.o.Timeouts.Install, 10*time.Minute)
	defer cancel()
	if err := r.settle(in.Install(ictx, rel)); err != nil {
		return fmt.Errorf("installing release %q: %w", rel.ID, err)
	}
	if state, err := r.h.inspect(ctx, slot); err == nil && state.Release != "" && state.Release != rel.ID {
		return fmt.Errorf("it holds release %q after release %q was installed", state.Release, rel.ID)
	}
	return nil
}

func (r *roll) starting(ctx context.Context, slot Slot) verdict {
	return r.outOfService(ctx, slot, func() error { return r.start(ctx, slot) })
}

// start starts slot and waits until it is ready.
func (r *roll) start(ctx context.Context, slot Slot) error {
	sctx, cancel := within(ctx, r.o.Timeouts.Start, 2*time.Minute)
	defer cancel()
	if st, can := ability[StartingSlot](slot); can {
		if err := r.settle(st.Start(sctx)); err != nil {
			return fmt.Errorf("starting it: %w", err)
		}
	}
	if err := r.h.becomesReady(sctx, slot, orDefault(r.o.Timeouts.Start, 2*time.Minute)); err != nil {
		return fmt.Errorf("after its start: %w", err)
	}
	return nil
}

func (r *roll) warming(ctx context.Context, slot Slot) verdict {
	return r.outOfService(ctx, slot, func() error { return r.warm(ctx, slot) })
}

func (r *roll) warm(ctx context.Context, slot Slot) error {
	w, can := ability[WarmingSlot](slot)
	if !can {
		return nil
	}
	wctx, cancel := within(ctx, r.o.Timeouts.Warm, 5*time.Minute)
	defer cancel()
	if err := w.Warm(wctx); err != nil {
		return fmt.Errorf("warming it: %w", err)
	}
	return nil
}

func (r *roll) proving(ctx context.Context, slot Slot) verdict {
	return r.outOfService(ctx, slot, func() error { return r.prove(ctx, slot, r.st.Release.ID) })
}

// prove probes slot several times in a row, and makes sure that release runs in it.
func (r *roll) prove(ctx context.Context, slot Slot, release string) error {
	for i := range provenInARow {
		if i > 0 {
			if err := retry.Sleep(ctx, provenPause); err != nil {
				return err
			}
		}
		if err := r.h.stillFit(ctx, slot); err != nil {
			return err
		}
	}
	return r.fitNow(ctx, slot, release)
}

// fitNow is prove with one probe. The release is compared if it is known and slot can tell.
func (r *roll) fitNow(ctx context.Context, slot Slot, release string) error {
	if err := r.h.stillFit(ctx, slot); err != nil {
		return err
	}
	state, err := r.h.inspect(ctx, slot)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("asking what is in it: %w", err)
	case !state.Running:
		return fmt.Errorf("it does not run: %w", ErrNotReady)
	case release != "" && state.Release != "" && state.Release != release:
		return fmt.Errorf("it runs release %q, not %q: %w", state.Release, release, ErrNotReady)
	}
	return nil
}

func (r *roll) puttingIn(ctx context.Context, slot Slot) verdict {
	note, err := r.putIn(ctx, slot, r.st.Release.ID)
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, note: note}
}

// putIn leads new work to slot, which is probed right before (promises W1, W3), and waits until the doors hold it to be healthy.
func (r *roll) putIn(ctx context.Context, slot Slot, release string) (note string, err error) {
	if err := r.fitNow(ctx, slot, release); err != nil {
		return "", err
	}
	w, err := r.see(ctx)
	if err != nil {
		return "", err
	}
	if w[slot.Name()].In {
		note = "was in service already"
	} else if note, err = r.order(ctx, slot, true); err != nil {
		return "", err
	}
	limit := orDefault(r.o.Timeouts.Start, 2*time.Minute)
	if limit == 0 { // none
		limit = math.MaxInt64
	}
	w, err = r.await(ctx, limit, func(w map[string]Member) bool { return w[slot.Name()].Serves() })
	if err == nil && !w[slot.Name()].Serves() {
		err = fmt.Errorf("it is fit by its own word, and the doors say: %s", memberText(w[slot.Name()]))
	}
	return note, err
}

func (r *roll) watching(ctx context.Context, m *memberState, slot Slot) verdict {
	for {
		if err := r.h.stillFit(ctx, slot); err != nil {
			return failed(fmt.Errorf("in service: %w", err))
		}
		w, err := r.see(ctx)
		me := w[slot.Name()]
		switch {
		case err != nil:
			return failed(err)
		case me.Out:
			return moved("it was put in and is out of service now: another hand is at it")
		case !me.Serves():
			if w, err = r.await(ctx, r.o.Timeouts.settle(), func(w map[string]Member) bool { return w[slot.Name()].Serves() }); err == nil && !w[slot.Name()].Serves() {
				err = fmt.Errorf("it was put in, and the doors say: %s", memberText(w[slot.Name()]))
			}
			if err != nil {
				return failed(err)
			}
		}
		left := time.Until(m.deadline)
		if left <= 0 {
			break
		}
		if err := retry.Sleep(ctx, min(soakPause, left)); err != nil {
			return failed(err)
		}
	}
	if r.o.Gate == nil {
		return ok()
	}
	g := RollGateRequest{Release: r.st.Release.ID, Member: m.Name, Canary: m.canary, Roll: r.st.id}
	r.do(func() {
		for _, x := range r.st.members {
			switch x.phase {
			case MemberUpdated:
				g.Updated++
			case MemberWaiting:
				g.Left++
			}
		}
	})
	gctx, cancel := within(ctx, r.o.Timeouts.Gate, 0)
	defer cancel()
	if err := r.o.Gate(gctx, g); err != nil {
		return failed(fmt.Errorf("the gate refused: %w", err))
	}
	return ok()
}
