package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Check looks for all that would keep a roll from going well, and changes nothing: mistakes in the Rolling's fields, abilities that are asked
// for and missing, members that the doors do not know or that do not serve, and the findings of every Checker among its parts. It returns
// them all at once; a *Warning among them does not stop a roll. With anything else Deploy refuses before it begins.
func (o *Rolling) Check(ctx context.Context) error {
	errs := o.mistakes()
	if o.Switcher == nil || len(errs) > 0 && (len(o.Slots) == 0 || slices.Contains(o.Slots, nil)) {
		return joinErrors(errs...)
	}
	req := CheckRequest{Slots: o.Slots, Drain: o.Drain, Stops: true}
	parts := []any{o.Switcher}
	if o.Drainer != nil && any(o.Drainer) != any(o.Switcher) {
		parts = append(parts, o.Drainer)
	}
	for _, slot := range o.Slots {
		parts = append(parts, slot)
	}
	if o.Journal != nil {
		parts = append(parts, o.Journal)
	}
	for _, part := range parts {
		if c, ok := As[Checker](part); ok {
			errs = append(errs, c.Check(ctx, req))
		}
	}
	errs = append(errs, o.fleetFindings(ctx)...)
	return joinErrors(errs...)
}

// mistakes finds what is wrong without asking anybody.
func (o *Rolling) mistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Switcher == nil {
		add("Rolling.Switcher is nil: set what decides which members are in service")
	} else if o.drainer() == nil {
		add("Rolling.Drainer is nil and %T does not count what is in flight: set a Drainer, or nobody knows when a member is idle: %w",
			o.Switcher, errors.ErrUnsupported)
	}
	if len(o.Slots) < 2 {
		add("Rolling.Slots has %d members, at least two are needed: one serves while the other is updated", len(o.Slots))
	}
	seen := map[string]bool{}
	for i, slot := range o.Slots {
		switch {
		case slot == nil:
			add("Rolling.Slots[%d] is nil", i)
		case slot.Name() == "":
			add("Rolling.Slots[%d] has no name", i)
		case seen[slot.Name()]:
			add("Rolling.Slots names member %q twice", slot.Name())
		default:
			seen[slot.Name()] = true
		}
	}
	if o.Back.ID != "" {
		if err := o.Back.Check(); err != nil {
			add("Rolling.Back: %w", err)
		}
	}
	return append(append(errs, o.floorMistakes()...), o.drainMistakes()...)
}

func (o *Rolling) floorMistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n := len(o.Slots)
	switch {
	case o.Parallel < 0:
		add("Rolling.Parallel is %d: it is how many members may be out at a time", o.Parallel)
	case o.MinServing < 0:
		add("Rolling.MinServing is %d: it is how many members serve at the least", o.MinServing)
	case o.MinPercent < 0 || o.MinPercent > 100:
		add("Rolling.MinPercent is %d: it lies within 0 to 100", o.MinPercent)
	case n >= 2 && o.parallel() >= n:
		add("Rolling.Parallel is %d of %d members: at least one has to serve", o.Parallel, n)
	case n >= 2 && o.floor()+o.parallel() > n:
		add("Rolling.Parallel %d and a floor of %d members (MinServing %d, MinPercent %d) are more than the %d that there are: lower one of them",
			o.parallel(), o.floor(), o.MinServing, o.MinPercent, n)
	}
	return errs
}

func (o *Rolling) drainMistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := o.Drain
	if d.OnLoad != nil {
		add("Rolling.Drain.OnLoad is the engine's: use OnEvent")
	}
	if d.OnClasses != nil || !d.Began.IsZero() {
		add("Rolling.Drain.OnClasses and Began are the engine's: use OnEvent")
	}
	if err := checkRules(d.Classes); err != nil {
		add("Rolling.Drain.Classes: %w", err)
	}
	if !d.Deadline.IsZero() {
		add("Rolling.Drain.Deadline is one moment and there are many drains: use Timeout")
	}
	if d.Timeout < 0 || d.Quiet < 0 || d.Poll < 0 {
		add("Rolling.Drain has a negative duration: Timeout %s, Quiet %s, Poll %s", d.Timeout, d.Quiet, d.Poll)
	}
	if d.AtDeadline < LeaveUp || d.AtDeadline > CutOff {
		add("Rolling.Drain.AtDeadline is %d: it is one of LeaveUp, KeepWaiting, HandOver, CutOff", d.AtDeadline)
	}
	if o.Switcher == nil || o.drainer() == nil {
		return errs
	}
	if _, ok := As[ForcingDrainer](o.drainer()); !ok && (d.AtDeadline == HandOver || d.AtDeadline == CutOff) {
		add("Rolling.Drain.AtDeadline: %T cannot end what is left: %w", o.drainer(), errors.ErrUnsupported)
	}
	if _, ok := As[ClassDrainer](o.drainer()); len(d.Classes) > 0 && !ok {
		add("Rolling.Drain.Classes: %T cannot end work by class: %w", o.drainer(), errors.ErrUnsupported)
	}
	if _, ok := As[SessionDrainer](o.drainer()); d.Sessions && !ok {
		add("Rolling.Drain.Sessions: %T cannot count sessions: %w", o.drainer(), errors.ErrUnsupported)
	}
	return errs
}

// fleetFindings asks the doors.
func (o *Rolling) fleetFindings(ctx context.Context) []error {
	w, err := o.members(ctx)
	if err != nil {
		return []error{err}
	}
	var errs []error
	serving := 0
	for _, slot := range o.Slots {
		m, known := w[slot.Name()]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("member %q: %T does not know it: %w", slot.Name(), o.Switcher, ErrUnknownSlot))
		case !m.Serves():
			errs = append(errs, Warnf("member %q does not serve: %s", slot.Name(), memberText(m)))
		default:
			serving++
		}
		_, stops := ability[StoppingSlot](slot)
		if _, starts := ability[StartingSlot](slot); !stops && !starts {
			errs = append(errs, Warnf("member %q can neither be stopped nor started by us: what is installed has to come into force by itself", slot.Name()))
		}
	}
	_, weighs := As[WeightedSwitcher](o.Switcher)
	if _, seals := As[SealingSwitcher](o.Switcher); weighs && !seals {
		errs = append(errs, Warnf("%T cannot seal: a member with no part of the work could still get some, as by a session, between the last look at it and its stop",
			o.Switcher))
	}
	if floor := o.floor(); serving > 0 && serving <= floor && serving < len(o.Slots) {
		errs = append(errs, Warnf("%d of %d members serve and the floor is %d: none of them can be taken out as long as that is so",
			serving, len(o.Slots), floor))
	}
	return errs
}
