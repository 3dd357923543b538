package abswap

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// swapState is all that the engine knows of a swap. It comes from the journal's records alone, by apply, also within one run: so a later
// process knows exactly as much.
type swapState struct {
	SwapBegin
	id      string
	began   time.Time
	phase   Phase
	round   int
	entered bool // an intent for phase stands in the journal: its effects may have happened

	deadline  time.Time      // of the wait in phase, from its intent; zero: none
	reached   map[Phase]bool // phases for which an intent was ever written
	left      []string       // slots that are still to be drained and stopped; set by the commit
	leaving   string         // the one of them that has drained, and is now retained or stopped
	kept      []string       // slots kept warm
	committed bool
	resting   bool // in the tail: the last run left it there

	failed      Phase  // the first phase that did not end well
	cause       string // why
	canceled    bool
	awaiting    string // why the Gate of phase and round waits for a person; "": it does not
	approved    bool   // who has said yes
	suspendedIn Phase  // where Resume goes on
	suspension  string // why it is suspended

	seen              map[string]int // the weights last observed
	undone, notUndone []string
	drains            []DrainResult
	warnings          []string
	steps             []StepReport
	ended             time.Time
	endedBy           Result // of a RecordEnd
}

// fold reads the records of one swap.
func fold(records []Record) (*swapState, error) {
	st := &swapState{reached: map[Phase]bool{}}
	for _, r := range records {
		if err := st.apply(r); err != nil {
			return nil, fmt.Errorf("swap %q, record %d: %w", r.Swap, r.Seq, err)
		}
	}
	if st.id == "" {
		return nil, fmt.Errorf("a swap without records: %w", ErrPermanent)
	}
	return st, nil
}

// apply takes one more record in.
func (st *swapState) apply(r Record) error {
	if (st.id == "") != (r.Kind == RecordBegin) {
		return fmt.Errorf("a swap has one begin, and it comes first: %w", ErrPermanent)
	}
	st.undone = append(st.undone, r.Undone...)
	st.notUndone = append(st.notUndone, r.NotUndone...)
	if r.Weights != nil {
		st.seen = r.Weights
	}
	if r.Drain != nil {
		st.drains = append(st.drains, *r.Drain)
	}
	switch r.Kind {
	case RecordBegin:
		if r.Roll != nil {
			return fmt.Errorf("the journal is a Rolling's, not a Swapper's: give each its own: %w", ErrPermanent)
		}
		if r.Begin == nil || len(r.Begin.Steps) == 0 {
			return fmt.Errorf("a begin without its facts: %w", ErrPermanent)
		}
		st.SwapBegin, st.id, st.began, st.phase, st.seen = *r.Begin, r.Swap, r.Time, PhasePlanned, r.Begin.Weights
	case RecordIntent:
		st.phase, st.round, st.deadline = r.Phase, r.Round, r.Deadline
		st.entered, st.resting, st.awaiting = true, false, ""
		st.reached[r.Phase] = true
		st.steps = append(st.steps, StepReport{Phase: r.Phase, Round: r.Round, Started: r.Time})
	case RecordOutcome:
		return st.applyOutcome(r)
	case RecordNote:
		switch r.Result {
		case resultWarning:
			st.warnings = append(st.warnings, r.Note)
		case resultAwaiting:
			st.awaiting = cmp.Or(r.Note, "waits for an approval")
		case resultApproved:
			st.awaiting, st.approved = "", true
		}
	case RecordEnd:
		st.endedBy, st.ended, st.awaiting = r.Result, r.Time, ""
		switch r.Result {
		case resultAbandoned:
			st.phase = PhaseAbandoned
		case resultSuperseded:
			st.phase = PhaseSucceeded
		case resultAdopted:
			return st.adopt(r)
		default:
			return fmt.Errorf("end with result %q: %w", r.Result, ErrPermanent)
		}
	default:
		return fmt.Errorf("kind %q: %w", r.Kind, ErrPermanent)
	}
	return nil
}

func (st *swapState) applyOutcome(r Record) error {
	if r.Phase != st.phase {
		return fmt.Errorf("outcome of phase %s in phase %s: %w", r.Phase, st.phase, ErrPermanent)
	}
	next, err := nextPhase(r.Phase, r.Result)
	if err != nil {
		return err
	}
	if n := len(st.steps); n > 0 && st.entered {
		s := &st.steps[n-1]
		s.Result, s.Elapsed, s.Note, s.Err = r.Result, r.Time.Sub(s.Started), r.Note, r.Error
	}
	if st.failed == "" && (next == PhaseDiscarding || next == PhaseReverting || next == PhaseSuspended) && r.Result != ResultOK {
		st.failed, st.cause, st.canceled = r.Phase, r.Error, r.Result == ResultCanceled
	}
	st.entered, st.deadline, st.awaiting, st.approved = false, time.Time{}, "", false
	st.resting = r.Result == ResultLeft && next.tail()
	st.bookTail(r)
	if next == PhaseSuspended {
		st.suspendedIn, st.suspension = r.Phase, r.Error
	}
	if r.Phase == PhaseSoaking && r.Result == ResultMore {
		st.round++
	}
	for !st.applies(next) {
		if next, err = nextPhase(next, ResultOK); err != nil {
			return err
		}
	}
	st.phase = next
	if next.final() {
		st.ended = r.Time
	}
	return nil
}

// bookTail keeps the books on the slots that the commit leaves behind.
func (st *swapState) bookTail(r Record) {
	switch {
	case r.Phase == PhaseCommitting:
		st.committed = true
		if st.From != "" {
			st.left = append(st.left, st.From)
		}
		for _, s := range st.Tail {
			if s != st.To && !slices.Contains(st.left, s) {
				st.left = append(st.left, s)
			}
		}
	case r.Phase == PhaseDraining && r.Result == ResultOK:
		st.leaving = r.Slot
	case r.Phase == PhaseRetaining && (r.Result == ResultKept || r.Result == ResultMore):
		st.kept = append(st.kept, r.Slot)
		st.drop(r.Slot)
	case r.Phase == PhaseStopping && r.Slot != "" && (r.Result == ResultOK || r.Result == ResultMore):
		st.drop(r.Slot)
	case r.Phase == PhaseStopping && r.Result == ResultMore:
		st.leaving = "" // work came again
	}
}

func (st *swapState) drop(slot string) {
	st.left = slices.DeleteFunc(st.left, func(s string) bool { return s == slot })
	st.leaving = ""
}

// givenUp tells whether the slot was drained though sessions are, or may be, left in it: the cap of their class had passed, and they are not
// waited for. How many there are may not be known, so that their number alone does not tell.
func (d DrainResult) givenUp(rules map[Class]ClassRule) bool {
	limit := rules[ClassSession].Cap
	return d.Drained && (d.Classes[ClassSession].Left > 0 || limit > 0 && d.Waited >= limit)
}

// adopt takes up where the operator found the world: the new slot serves, or it does not.
func (st *swapState) adopt(r Record) error {
	st.entered, st.suspendedIn, st.endedBy, st.ended = false, "", "", time.Time{}
	if r.Slot == st.To {
		if st.committed {
			st.phase = PhaseDraining
			for !st.applies(st.phase) {
				st.phase, _ = nextPhase(st.phase, ResultOK)
			}
			return nil
		}
		st.phase = PhaseCommitting
		return nil
	}
	st.phase = PhaseDiscarding
	return nil
}

// atRest tells whether there is nothing left to do without somebody's word, or time passing.
func (st *swapState) atRest() bool {
	return st.phase.final() || st.phase == PhaseSuspended || st.resting
}

// outcome tells how the swap ended, or stands at rest; OutcomeNone if it is under way.
func (st *swapState) outcome() Outcome {
	switch {
	case st.endedBy == resultSuperseded:
		return OutcomeSuperseded
	case st.phase == PhaseSucceeded:
		return OutcomeSucceeded
	case st.phase == PhaseAbandoned:
		return OutcomeAbandoned
	case st.phase == PhaseSuspended:
		return OutcomeSuspended
	case st.phase == PhaseRolledBack && st.reached[PhaseShifting]:
		return OutcomeRolledBack
	case st.phase == PhaseRolledBack:
		return OutcomeDiscarded
	case st.resting:
		return OutcomeStillDraining
	}
	return OutcomeNone
}

// wanted returns the weights that round i is to bring about; before the first, those found when the swap began.
func (st *swapState) wanted(i int) map[string]int {
	if i < 0 {
		return st.Weights
	}
	p := st.Steps[i]
	if p == 100 || st.From == "" {
		return map[string]int{st.To: 100}
	}
	return map[string]int{st.From: 100 - p, st.To: p}
}

// sameWeights compares what was asked for with what a backend tells. Backends that count in other units may be off by one per cent, but
// never between none and some.
func sameWeights(a, b map[string]int) bool {
	names := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	return !slices.ContainsFunc(names, func(n string) bool {
		d := a[n] - b[n]
		return (a[n] > 0) != (b[n] > 0) || d > 1 || d < -1
	})
}

// err is the failure of the swap as the journal has it; nil if it went well.
func (st *swapState) err() error {
	switch {
	case st.phase == PhaseSuspended:
		return fmt.Errorf("%w: %s; open to you: Resume, Adopt, Cancel, Abandon", ErrSuspended, st.suspension)
	case st.failed == "" || st.committed:
		return nil
	case st.canceled:
		return fmt.Errorf("%w: %s", ErrCanceled, st.cause)
	}
	return errors.New(st.cause)
}
