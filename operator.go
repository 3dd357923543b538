package abswap

import (
	"context"
	"fmt"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// The verbs that act on a swap which is under way or stands unfinished in the journal.

// Resume brings the newest swap to its end, if a killed process, a deadline or a suspension left it unfinished: it observes the world and goes
// on from there. ErrNothingToDo if it is finished.
func (s *Swapper) Resume(ctx context.Context) (Report, error) {
	return s.reopen(ctx, func(ctx context.Context, r *run) error {
		if r.st.phase == PhaseSuspended {
			return r.append(ctx, Record{Kind: RecordIntent, Phase: r.st.suspendedIn, Round: r.st.round})
		}
		r.st.resting = false
		return nil
	})
}

// Cancel asks the running swap to go to its safe end: back, before the commit; after it, to leave the old slot up. It returns when the swap
// rests. If the process that ran it is gone, this one does it. ErrNothingToDo if no swap is under way.
func (s *Swapper) Cancel(ctx context.Context) (Report, error) {
	for {
		_, held, err := s.journal().Owner(ctx)
		if err != nil {
			return Report{}, err
		}
		if !held {
			break
		}
		if err := s.journal().Post(ctx, Request{Kind: RequestCancel, From: owner("")}); err != nil {
			return Report{}, fmt.Errorf("asking the running deploy to cancel: %w", err)
		}
		for held {
			if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
				return Report{}, err
			}
			if _, held, err = s.journal().Owner(ctx); err != nil {
				return Report{}, err
			}
		}
		st, err := s.newest(ctx)
		if err != nil {
			return Report{}, err
		}
		if st.atRest() {
			return s.report(ctx, st), nil
		}
	}
	return s.reopen(ctx, func(ctx context.Context, r *run) error {
		switch {
		case r.st.phase == PhaseSuspended && !r.st.committed:
			back := PhaseDiscarding
			if r.st.reached[PhaseShifting] {
				back = PhaseReverting
			}
			return r.append(ctx, Record{Kind: RecordIntent, Phase: back, Round: r.st.round})
		case r.st.committed:
			return ErrNothingToDo
		case r.st.phase.ahead():
			return r.cancelHere(ctx)
		}
		return nil
	})
}

// cancelHere turns the swap back from the phase in which a killed process left it.
func (r *run) cancelHere(ctx context.Context) error {
	for {
		if _, err := nextPhase(r.st.phase, ResultCanceled); err == nil {
			return r.outcome(ctx, verdict{result: ResultCanceled, err: ErrCanceled}, r.now())
		}
		if err := r.outcome(ctx, ok(), r.now()); err != nil { // planned and releasing have no effect of their own to undo
			return err
		}
	}
}

// Approve says yes where a Gate waits for a person (ErrApprovalNeeded). If the process that ran the swap is gone, this one goes on with it. In
// any case Approve returns when the swap has gone on. ErrNothingToDo if nothing waits.
func (s *Swapper) Approve(ctx context.Context) (Report, error) {
	st, err := s.newest(ctx)
	if err != nil {
		return Report{}, err
	}
	if st.awaiting == "" {
		return s.report(ctx, st), fmt.Errorf("swap %s waits for no approval: %w", st.id, ErrNothingToDo)
	}
	for asked := st; ; {
		_, held, err := s.journal().Owner(ctx)
		if err != nil {
			return Report{}, err
		}
		if !held {
			break
		}
		if err := s.journal().Post(ctx, Request{Kind: RequestApprove, From: owner("")}); err != nil {
			return Report{}, fmt.Errorf("telling the running deploy: %w", err)
		}
		for range 50 {
			if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
				return Report{}, err
			}
			st, err := s.newest(ctx)
			if err != nil {
				return Report{}, err
			}
			if st.id != asked.id || st.awaiting == "" {
				return s.report(ctx, st), nil
			}
		}
	}
	return s.reopen(ctx, func(ctx context.Context, r *run) error {
		if r.st.awaiting == "" {
			return ErrNothingToDo
		}
		o := owner("")
		return r.append(ctx, Record{Kind: RecordNote, Phase: r.st.phase, Round: r.st.round, Result: resultApproved,
			Note: fmt.Sprintf("approved by %s on %s", o.User, o.Host)})
	})
}

// Adopt ends a suspension by taking the world as it is: if the new slot takes all work the swap is committed and its tail runs; if it takes
// none, what was done to it is undone. ErrMixed if it takes a part.
func (s *Swapper) Adopt(ctx context.Context) (Report, error) {
	return s.reopen(ctx, func(ctx context.Context, r *run) error {
		if r.st.phase != PhaseSuspended {
			return fmt.Errorf("only a suspended swap can be adopted, this one is in %s: %w", r.st.phase, ErrNothingToDo)
		}
		w, err := r.see(ctx)
		if err != nil {
			return err
		}
		rec := Record{Kind: RecordEnd, Result: resultAdopted, Weights: w}
		switch {
		case sameWeights(w, map[string]int{r.st.To: 100}):
			rec.Slot = r.st.To
		case idle(w, r.st.To) && !r.st.committed:
		default:
			return fmt.Errorf("new work goes to %s: %w; send all of it to one slot first", weightsText(w), ErrMixed)
		}
		return r.append(ctx, rec)
	})
}

// Abandon ends an unfinished swap where it is and touches nothing. Use it when the world was put right by hand.
func (s *Swapper) Abandon(ctx context.Context) (Report, error) {
	return s.reopen(ctx, func(ctx context.Context, r *run) error {
		return r.append(ctx, Record{Kind: RecordEnd, Result: resultAbandoned})
	})
}

// reopen takes up the newest swap, if it is unfinished: prepare says how it goes on.
func (s *Swapper) reopen(ctx context.Context, prepare func(context.Context, *run) error) (Report, error) {
	if mistakes := s.mistakes(); len(mistakes) > 0 {
		return Report{Outcome: OutcomeRefused}, joinErrors(mistakes...)
	}
	hold, err := s.journal().Lock(ctx, owner(""))
	if err != nil {
		return Report{Outcome: OutcomeRefused}, err
	}
	defer hold.Unlock()
	st, err := s.newest(ctx)
	if err != nil {
		return Report{Outcome: OutcomeRefused}, err
	}
	if st.phase.final() {
		return s.report(ctx, st), ErrNothingToDo
	}
	r := s.newRun(hold, st)
	if err := prepare(ctx, r); err != nil {
		return s.report(ctx, st), err
	}
	return s.carry(ctx, r)
}
