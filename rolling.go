package abswap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Rolling updates a fleet node by node: all its members serve, behind one or several load balancers, and one after the other, or a few at a
// time, is taken out of service, drained, stopped, given the new release, started, warmed, proven fit, and put in again. Its fields are set
// before the first call and not changed afterwards; the zero value of each means what its comment says. All verbs are safe for concurrent
// use: of two that move something, one gets ErrBusy.
//
// What it promises, beyond what the parts do:
//
//   - W1 a member is stopped only when it was seen out of service at every door and empty, right before; and put in only when it was
//     probed fit right before. None is taken out unless at least the floor of members serves without it: in service at every door, healthy
//     by the doors, and fit by a probe of our own. So members that are sick, or out by another hand, count as lost capacity.
//   - W2 after every order the doors are asked. An order whose answer was lost is given Timeouts.Settle to land before anything else is done.
//   - W3 a member goes back into service only if it was probed fit now: untouched, or with the release Back installed anew.
//   - W4 the intent is in the journal before its effect. Killed anywhere, Resume, or the next Deploy, brings the members that were in work to
//     a legal end; the fleet serves meanwhile.
//   - W5 one at a time, by the Journal's lock. A journal is that of one fleet, and not shared with a Swapper.
//   - W6 the RollReport tells of each member what it had and has, when, by which evidence it was drained, and what failed.
//
// The roll stops at the first member that does not become MemberUpdated: no other begins, and those that are in work with it come to
// their own end. The first member in Slots is the canary: it goes alone, and is watched for Bake.
type Rolling struct {
	Switcher MemberSwitcher // required
	Drainer  Drainer        // nil: As[Drainer](Switcher)
	Slots    []Slot         // the members, in the order in which they are updated; required, at least two, each with a name of its own
	Journal  Journal        // nil: in memory, of this Rolling, forgotten with it; OpenJournal makes one that outlives a crash

	// Parallel is how many members may be out at a time, after the canary. 0: 1.
	Parallel int

	// MinServing and MinPercent are the floor: how many members serve at every instant, as far as it is ours to say; the larger of the
	// two counts, MinPercent rounded up. Both 0: all but Parallel. At least one, in any case. A floor that leaves no room for Parallel is
	// a mistake.
	MinServing int
	MinPercent int

	// Patience is how long a member waits for the others to be enough, when none of them is out because of this roll. 0: 1m, negative:
	// it does not wait.
	Patience time.Duration

	// Bake is how long the canary is watched in service before the next member's turn. 0: 1m, negative: it is looked at once.
	Bake time.Duration

	// Soak is the same for each of the others. 0: 10s, negative: each is looked at once.
	Soak time.Duration

	// Gate is asked for each member when it has been watched, the canary first; an error, whichever, refuses: the member is withdrawn,
	// and the roll stops. It is called on a goroutine of the member's; with Parallel above 1 several calls may run at a time. nil: nobody is asked.
	Gate func(ctx context.Context, g RollGateRequest) error

	// Back is the release that a member gets again when the new one fails in it. With an empty ID such a member is left out of service, and the
	// report says so: what it had before was replaced, and nothing proves that it could be brought up again.
	Back Release

	// TakeBack also updates members that another hand has taken out of service, and puts them in. Without it they are skipped.
	// Those that an earlier roll has left out belong to the next one in any case, and come first: they cost no capacity.
	TakeBack bool

	// Drain is how a member is drained; OnLoad is the engine's, use OnEvent. A member with work left when Drain is at its end goes back
	// into service, with its old release, and the roll stops. Timeout 0 waits however long it takes.
	Drain    DrainOptions
	Timeouts Timeouts // Revert bounds the drain of a member that failed in service

	OnEvent func(Event)  // told in order, on the goroutine of the caller; nil: nobody is told
	Logger  *slog.Logger // nil: silent

	mu     sync.Mutex
	memory *MemoryJournal

	handlers map[Phase]func(*roll, context.Context, *memberState) verdict // tests only: bugs planted into a phase
}

// RollGateRequest tells a Rolling's Gate which member has been watched.
type RollGateRequest struct {
	Roll    string // ID
	Release string // ID
	Member  string
	Canary  bool
	Updated int // members that serve the release, without this one
	Left    int // members whose turn has not come
}

// OutcomeStopped is how a roll ended that did not update all members: at the first failure, or by Cancel. The fleet serves, with both
// releases if some members were updated; RollReport.Members says which has what.
const OutcomeStopped Outcome = "stopped"

// RollError says where a roll failed and how many members serve now. errors.Is finds the failure and what could not be undone.
type RollError struct {
	Release  string // ID
	Member   string // that failed first; "": none did
	Phase    Phase  // of that member, in which it failed
	Rests    Phase  // where that member is now: MemberKept, MemberLeftOut, MemberLeftIn
	Outcome  Outcome
	Serving  int // members in service now; -1: not known
	Of       int // members
	Err      error
	Rollback error // what could not be undone; nil if all was
}

func (e *RollError) Error() string {
	s := fmt.Sprintf("roll of %q", e.Release)
	if e.Member != "" {
		s += fmt.Sprintf(": member %q: %s", e.Member, e.Phase)
	}
	s += fmt.Sprintf(": %v (%s", e.Err, e.Outcome)
	if e.Rests != "" {
		s += fmt.Sprintf("; the member is %s", e.Rests)
	}
	if e.Serving >= 0 {
		s += fmt.Sprintf("; %d of %d members serve", e.Serving, e.Of)
	}
	s += ")"
	if e.Rollback != nil {
		s += fmt.Sprintf("; rollback: %v", e.Rollback)
	}
	return s
}

// Unwrap returns the failure and, if there is one, the rollback's.
func (e *RollError) Unwrap() []error {
	if e.Rollback == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Rollback}
}

// errShort is why a member goes back: the others are too few.
var errShort = errors.New("too few other members serve")

func (o *Rolling) parallel() int { return max(o.Parallel, 1) }

// floor is how many members serve at the least.
func (o *Rolling) floor() int {
	n := len(o.Slots)
	if o.MinServing == 0 && o.MinPercent == 0 {
		return max(n-o.parallel(), 1)
	}
	return max(o.MinServing, (o.MinPercent*n+99)/100, 1)
}

func (o *Rolling) drainer() Drainer {
	if o.Drainer != nil {
		return o.Drainer
	}
	d, _ := As[Drainer](o.Switcher)
	return d
}

// journal is Journal, or one in memory that lasts as long as the Rolling.
func (o *Rolling) journal() Journal {
	if o.Journal != nil {
		return o.Journal
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.memory == nil {
		o.memory = &MemoryJournal{}
	}
	return o.memory
}

func (o *Rolling) slot(name string) (Slot, error) {
	for _, s := range o.Slots {
		if s.Name() == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("member %q: %w: it is not among Rolling.Slots", name, ErrUnknownSlot)
}

// knows refuses an unfinished roll with members that this Rolling has not.
func (o *Rolling) knows(st *rollState) error {
	var errs []error
	for _, b := range st.Members {
		if _, err := o.slot(b.Name); err != nil && !memberAtRest(st.members[b.Name].phase) {
			errs = append(errs, err)
		}
	}
	if err := joinErrors(errs...); err != nil {
		return fmt.Errorf("roll %s is unfinished: %w; go on with the Slots that it began with, or Abandon it", st.id, err)
	}
	return nil
}
