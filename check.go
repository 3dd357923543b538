package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Check looks for all that would keep a deploy from going well, and changes nothing: mistakes in the Swapper's fields, abilities that are
// asked for and missing, and the findings of every Checker among its parts. It returns them all at once; a *Warning among them does not
// stop a run. With anything else Deploy and Swap refuse before they begin.
func (s *Swapper) Check(ctx context.Context) error {
	errs := s.mistakes()
	if s.Switcher == nil || len(errs) > 0 && s.slotless() {
		return joinErrors(errs...)
	}
	req := CheckRequest{Slots: s.Slots, Steps: s.Steps, Exclusive: s.Exclusive, Drain: s.Drain, Retain: s.Retain, Stops: s.stops()}
	for _, part := range s.parts() {
		if c, ok := As[Checker](part); ok {
			errs = append(errs, c.Check(ctx, req))
		}
	}
	errs = append(errs, s.activeKnown(ctx))
	errs = append(errs, s.traitWarnings()...)
	return joinErrors(errs...)
}

// slotless tells whether the slots cannot be asked anything.
func (s *Swapper) slotless() bool {
	for _, slot := range s.Slots {
		if slot == nil {
			return true
		}
	}
	return len(s.Slots) == 0
}

// parts lists what may be a Checker, each once.
func (s *Swapper) parts() []any {
	parts := []any{s.Switcher}
	if s.Drainer != nil && any(s.Drainer) != any(s.Switcher) {
		parts = append(parts, s.Drainer)
	}
	for _, slot := range s.Slots {
		parts = append(parts, slot)
	}
	if s.Journal != nil {
		parts = append(parts, s.Journal)
	}
	return parts
}

func (s *Swapper) stops() bool {
	for _, slot := range s.Slots {
		if _, ok := ability[StoppingSlot](slot); ok {
			return true
		}
	}
	return false
}

// mistakes finds what is wrong without asking anybody.
func (s *Swapper) mistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Switcher == nil {
		add("Swapper.Switcher is nil: set the backend that decides where traffic goes")
	} else if s.drainer() == nil {
		add("Swapper.Drainer is nil and %T does not count what is in flight: set a Drainer, or nobody knows when the old slot is idle: %w",
			s.Switcher, errors.ErrUnsupported)
	}
	if len(s.Slots) < 2 {
		add("Swapper.Slots has %d slots, at least two are needed", len(s.Slots))
	}
	seen := map[string]bool{}
	for i, slot := range s.Slots {
		switch {
		case slot == nil:
			add("Swapper.Slots[%d] is nil", i)
		case slot.Name() == "":
			add("Swapper.Slots[%d] has no name", i)
		case seen[slot.Name()]:
			add("Swapper.Slots names slot %q twice", slot.Name())
		default:
			seen[slot.Name()] = true
		}
	}
	errs = append(errs, s.stepMistakes()...)
	errs = append(errs, s.drainMistakes()...)
	if s.Occupied < OccupiedRefuse || s.Occupied > OccupiedCut {
		add("Swapper.Occupied is %d: it is one of OccupiedRefuse, OccupiedWait, OccupiedCut", s.Occupied)
	}
	if s.Hold.Each < 0 || s.Hold.Total < 0 || s.Hold.Max < 0 || s.Hold.Bytes < 0 {
		add("Swapper.Hold has a negative bound: %+v", s.Hold)
	}
	return errs
}

func (s *Swapper) stepMistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	last := 0
	for i, p := range s.Steps {
		if p < 1 || p > 99 {
			add("Swapper.Steps[%d] is %d: a step lies within 1 to 99, and the last 100 comes by itself", i, p)
		} else if p <= last {
			add("Swapper.Steps[%d] is %d after %d: steps rise", i, p, last)
		}
		last = p
	}
	if s.Switcher == nil {
		return errs
	}
	if _, ok := ability[WeightedSwitcher](s.Switcher); len(s.Steps) > 0 && !ok {
		add("Swapper.Steps %v: %T cannot weigh: %w", s.Steps, s.Switcher, errors.ErrUnsupported)
	}
	if s.Exclusive {
		if _, ok := ability[HoldingSwitcher](s.Switcher); !ok {
			add("Swapper.Exclusive: %T cannot hold requests: %w", s.Switcher, errors.ErrUnsupported)
		}
		if len(s.Steps) > 0 {
			add("Swapper.Exclusive and Steps %v exclude each other: in a step both versions work", s.Steps)
		}
	}
	return errs
}

func (s *Swapper) drainMistakes() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	o := s.Drain
	if o.OnLoad != nil {
		add("Swapper.Drain.OnLoad is the engine's: use OnEvent")
	}
	if o.OnClasses != nil || !o.Began.IsZero() {
		add("Swapper.Drain.OnClasses and Began are the engine's: use OnEvent")
	}
	if err := checkRules(o.Classes); err != nil {
		add("Swapper.Drain.Classes: %w", err)
	}
	if !o.Deadline.IsZero() {
		add("Swapper.Drain.Deadline is one moment and a Swapper lives longer: use Timeout")
	}
	if o.Timeout < 0 || o.Quiet < 0 || o.Poll < 0 {
		add("Swapper.Drain has a negative duration: Timeout %s, Quiet %s, Poll %s", o.Timeout, o.Quiet, o.Poll)
	}
	if o.AtDeadline < LeaveUp || o.AtDeadline > CutOff {
		add("Swapper.Drain.AtDeadline is %d: it is one of LeaveUp, KeepWaiting, HandOver, CutOff", o.AtDeadline)
	}
	if s.Switcher == nil || s.drainer() == nil {
		return errs
	}
	if _, ok := As[ForcingDrainer](s.drainer()); !ok {
		if o.AtDeadline == HandOver || o.AtDeadline == CutOff {
			add("Swapper.Drain.AtDeadline: %T cannot end what is left: %w", s.drainer(), errors.ErrUnsupported)
		}
		if s.Occupied == OccupiedCut {
			add("Swapper.Occupied is OccupiedCut: %T cannot end what is left: %w", s.drainer(), errors.ErrUnsupported)
		}
	}
	if _, ok := As[ClassDrainer](s.drainer()); len(o.Classes) > 0 && !ok {
		add("Swapper.Drain.Classes: %T cannot end work by class: %w", s.drainer(), errors.ErrUnsupported)
	}
	if _, ok := As[SessionDrainer](s.drainer()); o.Sessions && !ok {
		add("Swapper.Drain.Sessions: %T cannot count sessions: %w", s.drainer(), errors.ErrUnsupported)
	}
	return errs
}

// activeKnown makes sure that the backend can be asked and speaks of our slots.
func (s *Swapper) activeKnown(ctx context.Context) error {
	ctx, cancel := within(ctx, s.Timeouts.Observe, 10*time.Second)
	defer cancel()
	name, err := s.Switcher.Active(ctx)
	switch {
	case errors.Is(err, ErrNoActive):
		return nil
	case err != nil && !errors.Is(err, ErrMixed):
		return fmt.Errorf("asking %T which slot is active: %w", s.Switcher, err)
	}
	if _, err := s.slot(name); err != nil {
		return fmt.Errorf("%T says that %q is active, and no such slot is among Swapper.Slots %q: %w", s.Switcher, name, s.names(), ErrUnknownSlot)
	}
	if err == nil {
		return nil
	}
	w, err := s.weights(ctx)
	if err != nil {
		return err
	}
	return s.knows(w)
}

// knows refuses a world in which a slot takes new work that is none of ours: nobody could lead that back to it.
func (s *Swapper) knows(w map[string]int) error {
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if _, err := s.slot(name); err != nil {
			return fmt.Errorf("new work goes to %s: %w; give it to these alone first", weightsText(w), err)
		}
	}
	return nil
}

func (s *Swapper) traits() Traits {
	if t, ok := ability[TraitsSwitcher](s.Switcher); ok {
		return t.Traits()
	}
	return Traits{}
}

// backend names the Switcher in texts: the one that has the traits, not what is wrapped around it.
func (s *Swapper) backend() string {
	if t, ok := ability[TraitsSwitcher](s.Switcher); ok {
		return fmt.Sprintf("%T", t)
	}
	return fmt.Sprintf("%T", s.Switcher)
}

func (s *Swapper) traitWarnings() []error {
	var errs []error
	add := func(format string) { errs = append(errs, Warnf(format, s.backend())) }
	t := s.traits()
	if t.Gap {
		add("%s has a gap: for a moment within a switch no slot takes work")
	}
	if t.ClosesIdle {
		add("%s closes idle client connections at a switch: a request on its way on one of them can be lost")
	}
	if t.PerConnection {
		add("%s decides once per connection: kept-alive clients stay on the old slot, which may take long to drain")
	}
	if t.Forgets {
		add("%s forgets its state when its engine restarts")
	}
	if _, ok := ability[SealingSwitcher](s.Switcher); !ok && s.stops() {
		add("%s cannot seal a slot: work could come between the last look at the old slot and its stop")
	}
	return errs
}

// splitWarnings takes the findings of a Check apart.
func splitWarnings(err error) (warnings []string, rest error) {
	var errs []error
	for _, e := range flat(err) {
		if w, ok := errors.AsType[*Warning](e); ok {
			warnings = append(warnings, w.Err.Error())
			continue
		}
		errs = append(errs, e)
	}
	return warnings, joinErrors(errs...)
}

// flat lists what joinErrors or errors.Join put together, whoever nested them.
func flat(err error) []error {
	var all []error
	for _, e := range multi.All(err) {
		j, ok := e.(interface{ Unwrap() []error })
		if !ok || !joinedByStd(e, j.Unwrap()) {
			all = append(all, e)
			continue
		}
		for _, inner := range j.Unwrap() {
			all = append(all, flat(inner)...)
		}
	}
	return all
}

// joinedByStd tells errors.Join's result, whose text is its parts', from a fmt.Errorf with two %w, whose text says more.
func joinedByStd(e error, parts []error) bool {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.Error()
	}
	return e.Error() == strings.Join(texts, "\n")
}
