package abswap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// roll carries one roll on. Members that are out at the same time have a goroutine each; all that they write into the journal, and all that is
// told, goes through the caller's goroutine, one after the other. The state is what the journal says.
type roll struct {
	o    *Rolling
	h    *run // the engine's calls of single slots
	hold JournalHold
	st   *rollState

	asks   chan func()     // for the caller's goroutine
	turn   chan struct{}   // one token: who has it may take a member out
	causes []error         // failures of members, as this run saw them; the state has their texts
	undone []error         // what could not be undone
	broken error           // the journal's failure: nothing more is done
	errs   map[string]bool // members whose failure is among causes
}

func (o *Rolling) newRoll(hold JournalHold, st *rollState) *roll {
	r := &roll{o: o, hold: hold, st: st, asks: make(chan func()), turn: make(chan struct{}, 1), errs: map[string]bool{}}
	r.turn <- struct{}{}
	s := &Swapper{Drainer: o.drainer(), Slots: o.Slots, Timeouts: o.Timeouts, OnEvent: o.OnEvent, Logger: o.Logger}
	r.h = &run{s: s, hold: hold, now: time.Now, approvals: make(chan Owner)}
	return r
}

// drive runs the turns of the members until the roll is at its end, and writes that. With only is true no member begins that has not begun.
func (r *roll) drive(ctx context.Context, only bool) {
	if err := r.settleAfterCrash(ctx); err != nil {
		r.broken = err
		return
	}
	for {
		members := r.st.next(ctx.Err() != nil || only)
		if len(members) == 0 {
			break
		}
		r.batch(ctx, members)
		if r.broken != nil {
			return
		}
	}
	if only {
		return
	}
	end := Record{Kind: RecordEnd, Result: ResultOK}
	switch first := r.st.first(); {
	case first != nil && !first.canceled:
		end.Result, end.Error = ResultFailed, first.cause
	case first != nil:
		end.Result, end.Error = ResultCanceled, first.cause
	case ctx.Err() != nil && !r.st.complete():
		end.Result, end.Error = ResultCanceled, context.Cause(ctx).Error()
	}
	r.broken = r.write(ctx, end)
}

// settleAfterCrash gives a call that a killed process had under way the time to land, before anything else is ordered.
func (r *roll) settleAfterCrash(ctx context.Context) error {
	for _, m := range r.st.members {
		if m.inWork() {
			return retry.Sleep(context.WithoutCancel(ctx), r.o.Timeouts.settle())
		}
	}
	return nil
}

// batch carries members to their rest, all at once.
func (r *roll) batch(ctx context.Context, members []*memberState) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, m := range members {
		wg.Go(func() { r.carry(ctx, m) })
	}
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case f := <-r.asks:
			f()
		case <-done:
			return
		}
	}
}

// do runs f on the caller's goroutine.
func (r *roll) do(f func()) {
	done := make(chan struct{})
	r.asks <- func() { f(); close(done) }
	<-done
}

// carry runs the phases of m until it is at rest, or cannot go on.
func (r *roll) carry(ctx context.Context, m *memberState) {
	for !memberAtRest(m.phase) {
		if r.step(ctx, m) != nil {
			return
		}
	}
}

// step runs the phase that m is in. The error is the journal's, or ctx's before the turn of m has begun.
func (r *roll) step(ctx context.Context, m *memberState) error {
	p := m.phase
	if p == MemberWaiting {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p, _ = nextMemberPhase(p, ResultOK)
	}
	heeds := memberHeeds(p)
	if ctx.Err() != nil && heeds && m.phase == p {
		return r.outcome(ctx, m, verdict{result: ResultCanceled, err: context.Cause(ctx)}, r.h.now())
	}
	began := r.h.now()
	rec := Record{Kind: RecordIntent, Phase: p, Slot: m.Name, Deadline: r.deadline(m, p)}
	if m.entered && !m.deadline.IsZero() {
		rec.Deadline = m.deadline // wall-clock: a crash does not prolong it
	}
	if err := r.append(ctx, rec, Event{Kind: EventPhase, Phase: p, Slot: m.Name}); err != nil {
		return err
	}
	within := ctx
	if !heeds {
		within = context.WithoutCancel(ctx)
	}
	v := r.act(within, m)
	if v.result == ResultFailed && heeds && ctx.Err() != nil {
		v.result = ResultCanceled
		if cause := context.Cause(ctx); !errors.Is(v.err, cause) {
			v.err = fmt.Errorf("%w: %w", cause, v.err)
		}
	}
	return r.outcome(ctx, m, v, began)
}

func (r *roll) outcome(ctx context.Context, m *memberState, v verdict, began time.Time) error {
	p := m.phase
	rec := Record{Kind: RecordOutcome, Phase: p, Slot: m.Name, Result: v.result, Note: v.note, Drain: v.drain, NotUndone: v.notUndone}
	if v.err != nil {
		rec.Error = v.err.Error()
	}
	e := Event{Kind: EventDone, Phase: p, Slot: m.Name, Result: v.result, Elapsed: r.h.now().Sub(began), Message: v.note, Err: v.err}
	first := m.failed == ""
	err := r.append(ctx, rec, e)
	if err == nil && v.err != nil && v.result != ResultMore {
		r.do(func() {
			if first {
				r.causes, r.errs[m.Name] = append(r.causes, v.err), true
			} else {
				r.undone = append(r.undone, fmt.Errorf("member %q: %s: %w", m.Name, p, v.err))
			}
		})
	}
	return err
}

// act runs the handler of the phase that m is in.
func (r *roll) act(ctx context.Context, m *memberState) verdict {
	if h, planted := r.o.handlers[m.phase]; planted {
		return h(r, ctx, m)
	}
	slot, err := r.o.slot(m.Name)
	if err != nil {
		return failed(err)
	}
	switch m.phase {
	case MemberTakingOut:
		return r.takingOut(ctx, m, slot)
	case MemberDraining:
		return r.draining(ctx, m, slot)
	case MemberStopping:
		return r.stopping(ctx, m, slot)
	case MemberInstalling:
		return r.installing(ctx, slot)
	case MemberStarting:
		return r.starting(ctx, slot)
	case MemberWarming:
		return r.warming(ctx, slot)
	case MemberProving:
		return r.proving(ctx, slot)
	case MemberPuttingIn:
		return r.puttingIn(ctx, slot)
	case MemberWatching:
		return r.watching(ctx, m, slot)
	case MemberWithdrawing:
		return r.withdrawing(ctx, slot)
	case MemberReverting:
		return r.reverting(ctx, slot)
	case MemberRestoring:
		return r.restoring(ctx, m, slot)
	}
	return failed(fmt.Errorf("phase %s: %w", m.phase, ErrPermanent))
}

// deadline is when the wait that p begins is over.
func (r *roll) deadline(m *memberState, p Phase) time.Time {
	var d time.Duration
	switch {
	case p == MemberDraining:
		d = r.o.Drain.Timeout
	case p == MemberWatching && m.canary:
		d = orDefault(r.o.Bake, time.Minute)
	case p == MemberWatching:
		d = orDefault(r.o.Soak, 10*time.Second)
	}
	if d <= 0 {
		return time.Time{}
	}
	return r.h.now().Add(d).Round(0)
}

// append writes a member's record, takes it into the state, and tells e. It is called on the member's goroutine.
func (r *roll) append(ctx context.Context, rec Record, e Event) error {
	var err error
	r.do(func() {
		if r.broken == nil {
			r.broken = r.write(ctx, rec)
		}
		if err = r.broken; err == nil {
			r.emit(e)
		}
	})
	return err
}

// write is append on the caller's goroutine.
func (r *roll) write(ctx context.Context, rec Record) error {
	rec.Swap, rec.Time = r.st.id, r.h.now().Round(0)
	if err := r.hold.Append(context.WithoutCancel(ctx), rec); err != nil {
		return fmt.Errorf("journal: %w; nothing more was done; make it writable and call Resume", err)
	}
	return r.st.apply(rec)
}

// emit tells OnEvent and Logger, on the caller's goroutine.
func (r *roll) emit(e Event) {
	e.Time, e.Swap, e.Release, e.To = r.h.now(), r.st.id, r.st.Release.ID, e.Slot
	r.h.s.tell(e)
}

// complete tells whether all members had their turn.
func (st *rollState) complete() bool {
	for _, m := range st.members {
		if !memberAtRest(m.phase) {
			return false
		}
	}
	return true
}

// failure is the error of the roll, if it did not end well; rep tells of its end.
func (r *roll) failure(ctx context.Context, rep RollReport) error {
	err, first := joinErrors(r.causes...), r.st.first()
	switch {
	case err == nil && r.st.err() != nil && ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", context.Cause(ctx), r.st.err())
	case err == nil:
		err = r.st.err()
	case first != nil && !r.errs[first.Name]:
		err = joinErrors(errors.New(first.cause), err) // it failed in an earlier process
	}
	if err = joinErrors(r.broken, err); err == nil {
		return nil
	}
	e := &RollError{Release: r.st.Release.ID, Outcome: rep.Outcome, Serving: rep.Serving, Of: len(r.st.members), Err: err, Rollback: joinErrors(r.undone...)}
	if first != nil {
		e.Member, e.Phase, e.Rests = first.Name, first.failed, first.phase
	}
	return e
}
