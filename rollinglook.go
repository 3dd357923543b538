package abswap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// What a roll sees of the fleet, and how it gives orders to the doors.

// members reads where the members stand, once. It is bounded by itself and not by ctx: an effect whose context ended must still be observed.
func (o *Rolling) members(ctx context.Context) (map[string]Member, error) {
	ctx, cancel := within(context.WithoutCancel(ctx), o.Timeouts.Observe, 10*time.Second)
	defer cancel()
	w, err := o.Switcher.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which members are in service: %w", err)
	}
	return w, nil
}

// see is members, tried again while a door is out of reach, for as long as Timeouts.Settle.
func (r *roll) see(ctx context.Context) (map[string]Member, error) {
	return r.await(ctx, r.o.Timeouts.settle(), func(map[string]Member) bool { return true })
}

// await reads the world until want says yes or d has passed, and returns what was seen last. The error is that of the last reading, never that
// want said no.
func (r *roll) await(ctx context.Context, d time.Duration, want func(map[string]Member) bool) (map[string]Member, error) {
	end := time.Now().Add(d)
	pause := retry.Policy{First: 50 * time.Millisecond, Max: time.Second}.Pauses()
	for {
		w, err := r.o.members(ctx)
		if err == nil && want(w) || errors.Is(err, ErrPermanent) || !time.Now().Before(end) {
			return w, err
		}
		if serr := retry.Sleep(ctx, min(pause(), max(time.Until(end), time.Millisecond))); serr != nil {
			return w, joinErrors(err, serr)
		}
	}
}

// settle lets an effect land whose call gave err, before anything else is done, unless it was plainly refused. It returns err.
func (r *roll) settle(err error) error {
	if err != nil && !errors.Is(err, ErrPermanent) && !errors.Is(err, ErrUnknownSlot) && !errors.Is(err, errors.ErrUnsupported) {
		_ = retry.Sleep(context.Background(), r.o.Timeouts.settle()) // it cannot end otherwise
	}
	return err
}

// order has the doors take slot out, or put it in, and returns when that was seen. If it is not seen within Timeouts.Settle that is an error,
// also if the call said yes. If the call failed it may be in force by another hand, and our order still on its way: that is waited for.
func (r *roll) order(ctx context.Context, slot Slot, in bool) (note string, err error) {
	what, call := "taking it out of service", r.o.Switcher.TakeOut
	if in {
		what, call = "putting it into service", r.o.Switcher.PutIn
	}
	octx, cancel := within(ctx, r.o.Timeouts.Shift, 30*time.Second)
	err = r.settle(call(octx, slot))
	cancel()
	done := func(w map[string]Member) bool { return w[slot.Name()].In == in && w[slot.Name()].Out != in }
	back := context.WithoutCancel(ctx)
	var w map[string]Member
	var serr error
	if err == nil {
		w, serr = r.await(back, r.o.Timeouts.settle(), done)
	} else {
		w, serr = r.see(back)
	}
	switch {
	case serr == nil && done(w) && err != nil:
		return fmt.Sprintf("%s reported %v, but is in force", what, err), nil
	case serr == nil && done(w):
		return "", nil
	case err == nil && serr == nil:
		err = fmt.Errorf("it was ordered, and the doors say: %s", memberText(w[slot.Name()]))
	}
	return "", fmt.Errorf("%s: %w", what, joinErrors(err, serr))
}

// memberText is where a member stands, in words.
func memberText(m Member) string {
	var s string
	switch {
	case m.In && m.Up:
		s = "in service"
	case m.In:
		s = "in service, not healthy"
	case m.Out:
		s = "out of service"
	default:
		s = "in part in service"
	}
	if m.Note != "" {
		s += ": " + m.Note
	}
	return s
}

// others counts the members that serve without name: in service at every door, healthy, and, with probe, fit by a probe of ours. missing says
// what is the matter with the rest.
func (r *roll) others(ctx context.Context, w map[string]Member, name string, probe bool) (serving int, missing string) {
	var out []string
	for _, slot := range r.o.Slots {
		m, known := w[slot.Name()]
		var why string
		switch {
		case slot.Name() == name:
			continue
		case !known:
			why = "the doors do not know it"
		case !m.Serves():
			why = memberText(m)
		case probe:
			if err := r.h.stillFit(ctx, slot); err != nil {
				why = err.Error()
			}
		}
		if why == "" {
			serving++
			continue
		}
		out = append(out, fmt.Sprintf("%q: %s", slot.Name(), why))
	}
	return serving, strings.Join(out, "; ")
}

// short is errShort with the facts.
func (r *roll) short(serving int, missing string) error {
	err := fmt.Errorf("%w: %d, and the floor is %d", errShort, serving, r.st.Floor)
	if missing != "" {
		err = fmt.Errorf("%w (%s)", err, missing)
	}
	return err
}

// anyOut tells whether another member than m is out because of this roll, so that waiting for it makes sense. One that waits itself is not.
func (r *roll) anyOut(m *memberState) (out bool) {
	r.do(func() {
		for _, x := range r.st.members {
			out = out || x != m && x.inWork() && x.phase != MemberTakingOut
		}
	})
	return out
}

// takeTurn waits until no other member is being taken out.
func (r *roll) takeTurn(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-r.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *roll) giveTurn() { r.turn <- struct{}{} }

// keepOut makes sure that a member which is not proven fit is still out of service. If another hand has put it in, or a door that was reloaded, it is
// taken out again: what it gets there would fail. But if it is fit by now, and the others are too few without it, it is left in, and the error is errShort.
func (r *roll) keepOut(ctx context.Context, slot Slot) (note string, err error) {
	if err := r.takeTurn(ctx); err != nil {
		return "", err
	}
	defer r.giveTurn()
	w, err := r.see(ctx)
	if err != nil {
		return "", err
	}
	me := w[slot.Name()]
	if me.Out {
		return "", nil
	}
	if me.Serves() && r.h.stillFit(ctx, slot) == nil {
		if n, missing := r.others(ctx, w, slot.Name(), true); n < r.st.Floor {
			return "", fmt.Errorf("another hand has put it into service, and it is needed there: %w", r.short(n, missing))
		}
	}
	note, err = r.order(ctx, slot, false)
	return joinNotes(fmt.Sprintf("it was not out of service any more (%s) and is not proven fit: it was taken out again", memberText(me)), note), err
}

// outOfService runs do on a member that is kept out of service, or that another hand has put in and that is needed there.
func (r *roll) outOfService(ctx context.Context, slot Slot, do func() error) verdict {
	note, err := r.keepOut(ctx, slot)
	if errors.Is(err, errShort) {
		note, err = err.Error(), nil
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, note: note}
}
