package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// Deploy brings rel to all members, the canary first, as Rolling says. It returns when all are updated, or when the roll has stopped and the
// members that were in work are at rest. Members that have the release, are in service and fit are skipped; those that another hand has
// taken out of service too, unless TakeBack is set.
//
// The error is nil if every member serves the release or was skipped. Otherwise it is a *RollError; RollReport.Members says who has what. To
// go on after a failure, call Deploy again: it skips who has the release. To go back, Deploy the old release.
//
// When ctx ends, or Cancel is asked for, no further member begins; one that was not stopped yet goes back into service, and one that was is
// brought to its end first.
//
// Refused before anything moves, with OutcomeRefused: a bad release or Rolling (see Check), and ErrBusy where another rolls. Of a roll that an
// earlier, killed process left unfinished, the members in work are brought to rest first; the rest of it is superseded.
func (o *Rolling) Deploy(ctx context.Context, rel Release) (RollReport, error) {
	if err := rel.Check(); err != nil {
		return o.refuse(rel, fmt.Errorf("%w: %w", ErrPermanent, err))
	}
	if ctx.Err() != nil {
		return o.refuse(rel, context.Cause(ctx))
	}
	warnings, err := splitWarnings(o.Check(ctx))
	if err != nil {
		return o.refuse(rel, err)
	}
	hold, err := o.journal().Lock(ctx, owner(rel.ID))
	if err != nil {
		return o.refuse(rel, err)
	}
	defer hold.Unlock()
	earlier, err := o.clearWay(ctx, hold)
	if err != nil {
		return o.refuse(rel, err)
	}
	begin, err := o.choose(ctx, rel, earlier)
	if err != nil {
		return o.refuse(rel, err)
	}
	now := time.Now().Round(0)
	first := Record{Time: now, Swap: swapID(now), Kind: RecordBegin, Roll: &begin}
	if err := hold.Append(context.WithoutCancel(ctx), first); err != nil {
		return o.refuse(rel, fmt.Errorf("journal: %w; nothing was done; make it writable and try again", err))
	}
	r := o.newRoll(hold, &rollState{members: map[string]*memberState{}})
	if err := r.st.apply(first); err != nil {
		return o.refuse(rel, err)
	}
	for _, text := range warnings {
		if r.broken = r.write(ctx, Record{Kind: RecordNote, Result: resultWarning, Note: text}); r.broken != nil {
			return o.finish(ctx, r)
		}
		r.emit(Event{Kind: EventWarning, Message: text})
	}
	return o.carry(ctx, r)
}

// carry drives r until it rests, obeying requests, and makes the report.
func (o *Rolling) carry(ctx context.Context, r *roll) (RollReport, error) {
	watched, stop := r.h.watch(ctx)
	r.drive(watched, false)
	rep, err := o.finish(watched, r)
	stop()
	return rep, err
}

func (o *Rolling) finish(ctx context.Context, r *roll) (RollReport, error) {
	rep := o.report(ctx, r.st)
	err := r.failure(ctx, rep)
	if err != nil {
		rep.Err = err.Error()
	}
	r.emit(Event{Kind: EventEnd, Outcome: rep.Outcome, Elapsed: r.h.now().Sub(r.st.began), Err: err})
	return rep, err
}

// refuse is the answer of a verb that has touched nothing.
func (o *Rolling) refuse(rel Release, err error) (RollReport, error) {
	rep := RollReport{Release: rel.ID, Outcome: OutcomeRefused, Floor: o.floor(), Serving: -1, Err: err.Error()}
	return rep, &RollError{Release: rel.ID, Outcome: OutcomeRefused, Serving: -1, Of: len(o.Slots), Err: err}
}

// clearWay brings the members to rest that an earlier, unfinished roll has in work, and ends that roll. It returns the newest roll's state; nil
// if there was none. ErrCanceled if Cancel was asked for meanwhile: then no new roll begins.
func (o *Rolling) clearWay(ctx context.Context, hold JournalHold) (*rollState, error) {
	st, err := readRoll(ctx, o.journal(), "")
	if errors.Is(err, ErrNothingToDo) {
		return nil, nil
	}
	if err != nil || st.endedBy != "" {
		return st, err
	}
	if err := o.knows(st); err != nil {
		return nil, err
	}
	r := o.newRoll(hold, st)
	watched, stop := r.h.watch(ctx)
	defer stop()
	r.drive(watched, true)
	stop() // a request that is taken is heard
	if r.broken != nil {
		return nil, r.broken
	}
	if err := context.Cause(watched); errors.Is(err, ErrCanceled) {
		err = fmt.Errorf("%w while an earlier roll was brought to its end", err)
		return nil, joinErrors(err, r.write(ctx, Record{Kind: RecordEnd, Result: ResultCanceled, Error: context.Cause(watched).Error()}))
	}
	return st, r.write(ctx, Record{Kind: RecordEnd, Result: resultSuperseded, Note: "a later roll takes over"})
}

// choose looks at the fleet and says what the roll has to do.
func (o *Rolling) choose(ctx context.Context, rel Release, earlier *rollState) (RollBegin, error) {
	b := RollBegin{Release: rel, Back: o.Back, Parallel: o.parallel(), Floor: o.floor(), Owner: owner(rel.ID)}
	r := o.newRoll(nil, nil)
	w, err := r.see(ctx)
	if err != nil {
		return b, err
	}
	for _, slot := range o.Slots {
		one, me := MemberBegin{Name: slot.Name()}, w[slot.Name()]
		state, err := r.h.inspect(ctx, slot)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			state = SlotState{} // its machine may be down: that shows in its turn
		}
		one.Release = state.Release
		ours := earlier != nil && earlier.leftOut(slot.Name())
		switch {
		case me.In && state.Release == rel.ID && state.Running && me.Up && r.h.stillFit(ctx, slot) == nil:
			one.Skip = "it has the release already"
		case !me.In && !ours && !o.TakeBack:
			one.Skip = fmt.Sprintf("another hand has taken it out of service (%s); Rolling.TakeBack would update it and put it in", memberText(me))
		case !me.In:
			one.Out = true
		}
		b.Members = append(b.Members, one)
	}
	slices.SortStableFunc(b.Members, func(x, y MemberBegin) int { // who is out costs no capacity
		switch {
		case x.Out && !y.Out:
			return -1
		case y.Out && !x.Out:
			return 1
		}
		return 0
	})
	return b, nil
}

// Resume brings the newest roll to its end, if a killed process left it unfinished: the members that were in work first, from where the
// journal and the world say they are, then the others. It first waits for Timeouts.Settle, so that an order of the dead process that is still
// on its way lands before the next one. ErrNothingToDo if the roll is finished.
func (o *Rolling) Resume(ctx context.Context) (RollReport, error) {
	return o.reopen(ctx, func(ctx context.Context, r *roll) (RollReport, error) {
		if err := o.knows(r.st); err != nil {
			return o.report(ctx, r.st), err
		}
		return o.carry(ctx, r)
	})
}

// Cancel asks the running roll to stop: no further member begins, and those in work come to their end; see Deploy. It returns when the roll
// rests. If the process that ran it is gone, this one does it. ErrNothingToDo if no roll is under way.
func (o *Rolling) Cancel(ctx context.Context) (RollReport, error) {
	for {
		_, held, err := o.journal().Owner(ctx)
		if err != nil {
			return RollReport{}, err
		}
		if !held {
			break
		}
		if err := o.journal().Post(ctx, Request{Kind: RequestCancel, From: owner("")}); err != nil {
			return RollReport{}, fmt.Errorf("asking the running roll to cancel: %w", err)
		}
		for held {
			if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
				return RollReport{}, err
			}
			if _, held, err = o.journal().Owner(ctx); err != nil {
				return RollReport{}, err
			}
		}
		st, err := readRoll(ctx, o.journal(), "")
		if err != nil {
			return RollReport{}, err
		}
		if st.endedBy != "" {
			return o.report(ctx, st), nil
		}
	}
	return o.reopen(ctx, func(ctx context.Context, r *roll) (RollReport, error) {
		if err := o.knows(r.st); err != nil {
			return o.report(ctx, r.st), err
		}
		by := owner("")
		r.drive(ctx, true)
		if r.broken == nil {
			r.broken = r.write(ctx, Record{Kind: RecordEnd, Result: ResultCanceled, Error: fmt.Sprintf("by %s on %s", by.User, by.Host)})
		}
		rep := o.report(ctx, r.st)
		return rep, r.broken
	})
}

// Abandon ends an unfinished roll where it is and touches nothing. Use it when the fleet was put right by hand.
func (o *Rolling) Abandon(ctx context.Context) (RollReport, error) {
	return o.reopen(ctx, func(ctx context.Context, r *roll) (RollReport, error) {
		err := r.write(ctx, Record{Kind: RecordEnd, Result: resultAbandoned})
		return o.report(ctx, r.st), err
	})
}

// reopen takes up the newest roll, if it is unfinished.
func (o *Rolling) reopen(ctx context.Context, with func(context.Context, *roll) (RollReport, error)) (RollReport, error) {
	refused := RollReport{Outcome: OutcomeRefused, Serving: -1}
	if mistakes := o.mistakes(); len(mistakes) > 0 {
		return refused, joinErrors(mistakes...)
	}
	hold, err := o.journal().Lock(ctx, owner(""))
	if err != nil {
		return refused, err
	}
	defer hold.Unlock()
	st, err := readRoll(ctx, o.journal(), "")
	if err != nil {
		return refused, err
	}
	if st.endedBy != "" {
		return o.report(ctx, st), ErrNothingToDo
	}
	return with(ctx, o.newRoll(hold, st))
}
