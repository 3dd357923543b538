package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// The phases of the way back. They run on a context of their own: a caller that has gone does not keep the old slot from serving.

const revertTries = 3 // of the move back, each after the world was seen unchanged

func (r *run) reverting(ctx context.Context) verdict {
	w, err := r.see(ctx)
	if err != nil {
		return failed(err)
	}
	if !r.ours(w) {
		return moved("new work goes to %s: somebody else moved it", weightsText(w))
	}
	if r.st.From == "" {
		return r.revertToNothing(ctx, w)
	}
	if sameWeights(w, r.home()) {
		return verdict{result: ResultOK, note: "new work goes to the old slot already", weights: w}
	}
	from, err := r.s.slot(r.st.From)
	if err != nil {
		return failed(err)
	}
	defer r.letGo()
	for try := 1; ; try++ {
		note := r.holdBack(ctx)
		if err := r.becomesReady(ctx, from, r.s.Timeouts.revert()); err != nil {
			err = fmt.Errorf("the old slot is not fit to take the work back, so it stays with %s: %w", weightsText(w), err)
			if r.dark(w) { // a switcher with a gap was stopped in it: the new slot is better than none
				err = joinErrors(err, r.relight(ctx, r.st.To))
			}
			return verdict{result: ResultUnfit, err: err}
		}
		moved, err := r.move(ctx, r.home())
		if err == nil {
			return verdict{result: ResultOK, note: joinNotes(note, moved), weights: r.home()}
		}
		if try == revertTries {
			return failed(err)
		}
		if serr := retry.Sleep(ctx, time.Second); serr != nil {
			return failed(joinErrors(err, serr))
		}
	}
}

// home is where new work goes when the swap is rolled back: where it went when the swap began.
func (r *run) home() map[string]int { return r.st.Weights }

// revertToNothing undoes a first deploy: there is no old slot, so nothing shall be active.
func (r *run) revertToNothing(ctx context.Context, w map[string]int) verdict {
	if len(w) == 0 {
		return verdict{result: ResultOK, note: "no slot is active: this was the first deploy"}
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	sw, can := ability[SealingSwitcher](r.s.Switcher)
	if !can {
		return verdict{result: ResultUnfit, err: fmt.Errorf("slot %q keeps the work: this was the first deploy, there is no other slot, and %T cannot seal",
			r.st.To, r.s.Switcher)}
	}
	sctx, cancel := within(ctx, r.s.Timeouts.Shift, 30*time.Second)
	defer cancel()
	if err := sw.Seal(sctx, to); err != nil {
		if w, serr := r.await(ctx, func(w map[string]int) bool { return len(w) == 0 }); serr != nil || len(w) > 0 {
			return failed(joinErrors(fmt.Errorf("sealing slot %q: %w", to.Name(), err), serr))
		}
	}
	return verdict{result: ResultOK, note: "no slot is active any more: this was the first deploy"}
}

// holdBack keeps the versions apart on the way back too, where Exclusive asks for it. A hold that fails or is too short does not keep the
// work with a sick release; the note says so.
func (r *run) holdBack(ctx context.Context) (note string) {
	if !r.st.Exclusive {
		return ""
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return err.Error()
	}
	v := r.holding(ctx)
	if v.result != ResultOK {
		v = r.holding(ctx)
	}
	if v.result != ResultOK {
		return fmt.Sprintf("both versions worked at the same time on the way back: %v", v.err)
	}
	o := r.s.Drain
	o.AtDeadline, o.Timeout, o.Sessions, o.Classes = LeaveUp, 0, false, nil
	o.Deadline = r.heldUntil.Add(-r.s.Hold.WithDefaults().Total / 10)
	if _, err := r.drain(ctx, to, o); err != nil {
		return fmt.Sprintf("both versions worked at the same time on the way back: %v", err)
	}
	return ""
}

func (r *run) revConfirming(ctx context.Context) verdict {
	w, err := r.await(ctx, func(w map[string]int) bool { return sameWeights(w, r.home()) })
	if err == nil && !sameWeights(w, r.home()) {
		err = fmt.Errorf("new work goes to %s, not back to %s", weightsText(w), weightsText(r.home()))
	}
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, weights: w}
}

func (r *run) revDraining(ctx context.Context) verdict {
	if !idle(r.home(), r.st.To) {
		return verdict{result: ResultOK, note: fmt.Sprintf("slot %q had a part of the work before and has it again", r.st.To)}
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return verdict{result: ResultLeft, err: err}
	}
	o := r.s.Drain
	o.Timeout, o.Deadline = 0, r.st.deadline
	if o.AtDeadline == KeepWaiting || len(o.Classes) > 0 {
		o.AtDeadline = LeaveUp // somebody waits to hear that the deploy failed
	}
	res, err := r.drain(ctx, to, o)
	if err != nil {
		return verdict{result: ResultLeft, err: err, drain: &res,
			notUndone: []string{fmt.Sprintf("slot %q is left up with %d pieces of work", to.Name(), res.Last.Total())}}
	}
	return verdict{result: ResultOK, drain: &res}
}

func (r *run) discarding(ctx context.Context) verdict {
	r.letGo()
	w, err := r.see(ctx)
	if err != nil {
		return failed(err)
	}
	if r.dark(w) {
		if err := r.relight(ctx, r.st.From); err != nil {
			return failed(err)
		}
	}
	if r.st.Running && !r.st.Install {
		return verdict{result: ResultOK, note: fmt.Sprintf("slot %q ran before and runs on", r.st.To)}
	}
	if !idle(w, r.st.To) {
		return moved("new work goes to %s: slot %q, which is to be taken down, was given some by another hand", weightsText(w), r.st.To)
	}
	if !r.st.reached[PhaseStarting] {
		return verdict{result: ResultOK, note: "nothing was started"}
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	note, err := r.retire(ctx, to, r.s.Drain.Sessions && !r.givenUp(r.st.To))
	switch {
	case errors.Is(err, errMovedThere):
		return moved("%v", err)
	case err != nil:
		return verdict{result: ResultOK, notUndone: []string{fmt.Sprintf("slot %q could not be stopped: %v", to.Name(), err)}}
	}
	return verdict{result: ResultOK, note: note, undone: []string{fmt.Sprintf("slot %q stopped", to.Name())}}
}

// joinNotes puts what there is to say into one sentence.
func joinNotes(notes ...string) string {
	notes = slices.DeleteFunc(notes, func(s string) bool { return s == "" })
	switch len(notes) {
	case 0:
		return ""
	case 1:
		return notes[0]
	}
	return notes[0] + "; " + notes[1]
}
