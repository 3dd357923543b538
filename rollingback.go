package abswap

import (
	"context"
	"errors"
	"fmt"
)

// The phases of a member that failed. They run on a context of their own.

// withdrawing takes a member out that failed in service. One that serves nobody, being unfit, costs no capacity; for one that serves, but was
// refused by the Gate, the others have to be enough.
func (r *roll) withdrawing(ctx context.Context, slot Slot) verdict {
	for try := 1; ; try++ {
		note, err := r.withdraw(ctx, slot)
		switch {
		case err == nil:
			return verdict{result: ResultOK, note: note}
		case errors.Is(err, errShort), try == revertTries:
			return r.stays(err)
		}
	}
}

func (r *roll) withdraw(ctx context.Context, slot Slot) (note string, err error) {
	if err := r.takeTurn(ctx); err != nil {
		return "", err
	}
	defer r.giveTurn()
	w, err := r.see(ctx)
	if err != nil {
		return "", err
	}
	if w[slot.Name()].Serves() && r.h.stillFit(ctx, slot) == nil {
		if n, missing := r.others(ctx, w, slot.Name(), true); n < r.st.Floor {
			return "", fmt.Errorf("it stays in service: %w", r.short(n, missing))
		}
	}
	return r.order(ctx, slot, false) // also where it is out: the door's word may be older than our order to put it in
}

// stays is the verdict on a member that failed and could not be taken out.
func (r *roll) stays(err error) verdict {
	return verdict{result: ResultFailed, err: err, notUndone: []string{fmt.Sprintf("it is, or may be, in service with the new release: %v", err)}}
}

// reverting gives a member that is out of service the release Back, in the same way as it was given the new one. It may be entered again.
func (r *roll) reverting(ctx context.Context, slot Slot) verdict {
	back := r.st.Back
	if back.ID == "" {
		return verdict{result: ResultFailed, notUndone: []string{"it is left out of service as it is: the roll names no release to go back to"},
			err: errors.New("no release to go back to: Rolling.Back is empty")}
	}
	if _, can := ability[InstallingSlot](slot); !can {
		return verdict{result: ResultFailed, notUndone: []string{"it is left out of service as it is: it cannot install"},
			err: fmt.Errorf("release %q cannot be put back: %w", back.ID, errors.ErrUnsupported)}
	}
	note, err := r.bringBack(ctx, slot, back)
	if err != nil {
		return verdict{result: ResultFailed, note: note, err: err, notUndone: []string{fmt.Sprintf("it is left out of service: %v", err)}}
	}
	return verdict{result: ResultOK, note: note}
}

func (r *roll) bringBack(ctx context.Context, slot Slot, back Release) (note string, err error) {
	for try := 1; ; try++ {
		again, err := r.empty(ctx, slot)
		if note = joinNotes(note, again); err == nil {
			break
		}
		if !errors.Is(err, errHasWork) || try == revertTries {
			return note, err
		}
	}
	if err := r.halt(ctx, slot); err != nil {
		return note, err
	}
	if again, err := r.keepOut(ctx, slot); err != nil {
		return joinNotes(note, again), err
	}
	if err := r.install(ctx, slot, back); err != nil {
		return note, err
	}
	if err := r.start(ctx, slot); err != nil {
		return note, err
	}
	return note, r.warm(ctx, slot)
}

// empty brings a member to where it may be stopped: out of service, and drained. The error is errHasWork if work came while it looked.
func (r *roll) empty(ctx context.Context, slot Slot) (note string, err error) {
	if note, err = r.keepOut(ctx, slot); err != nil {
		return note, err
	}
	if state, err := r.h.inspect(ctx, slot); err == nil && !state.Running {
		return note, nil
	}
	o := r.o.Drain
	o.Timeout, o.OnLoad = r.o.Timeouts.revert(), nil
	if o.AtDeadline == KeepWaiting || len(o.Classes) > 0 {
		o.AtDeadline = LeaveUp // somebody waits to hear that the roll failed
	}
	if _, err := Drain(ctx, r.o.drainer(), slot, o); err != nil {
		return note, err
	}
	w, err := r.see(ctx)
	if err != nil {
		return note, err
	}
	l, err := r.h.load(ctx, slot)
	if err == nil && (!w[slot.Name()].Out || l.Total() > 0) {
		err = fmt.Errorf("%w: %s", errHasWork, memberText(w[slot.Name()]))
	}
	return note, err
}

// restoring puts a member into service again with what it had before, or with Back.
func (r *roll) restoring(ctx context.Context, m *memberState, slot Slot) verdict {
	release := m.Release
	if m.times[MemberReverting] > 0 {
		release = r.st.Back.ID
	} else if m.Out {
		return verdict{result: ResultFailed, err: errors.New("it was out of service before the roll, and stays so")}
	}
	err := r.prove(ctx, slot, release)
	note := ""
	if err == nil {
		note, err = r.putIn(ctx, slot, release)
	}
	if err != nil {
		return verdict{result: ResultFailed, err: err, notUndone: []string{fmt.Sprintf("it could not be put into service again: %v", err)}}
	}
	return verdict{result: ResultOK, note: note}
}
