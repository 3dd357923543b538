package abswap

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RollBegin says which roll a journal's records are about. It is fixed for the roll's life: a Resume of a Rolling with other fields goes on
// with these.
type RollBegin struct {
	Release  Release       `json:"release"`
	Back     Release       `json:"back,omitzero"`
	Members  []MemberBegin `json:"members"` // in the order of their turns
	Parallel int           `json:"parallel"`
	Floor    int           `json:"floor"`
	Owner    Owner         `json:"owner"`
}

// MemberBegin is one member as it was found when the roll began.
type MemberBegin struct {
	Name    string `json:"name"`
	Release string `json:"release,omitempty"` // ID; "": none, or it cannot tell
	Out     bool   `json:"out,omitempty"`     // it was out of service, and shall be put in
	Skip    string `json:"skip,omitempty"`    // why nothing is done to it; "": it has its turn
}

// rollState is all that the engine knows of a roll: like swapState it comes from the journal's records alone.
type rollState struct {
	RollBegin
	id       string
	began    time.Time
	members  map[string]*memberState
	warnings []string
	ended    time.Time
	endedBy  Result // of the RecordEnd
	endErr   string
}

// memberState is what the engine knows of one member.
type memberState struct {
	MemberBegin
	canary   bool
	phase    Phase
	entered  bool          // an intent for phase stands in the journal: its effects may have happened
	times    map[Phase]int // intents per phase
	deadline time.Time     // of the wait in phase; zero: none
	failed   Phase         // the first phase that did not end well
	cause    string        // why
	canceled bool          // and that was a cancel
	notes    []string      // what an operator should read
	steps    []StepReport
	drains   []DrainResult
	began    time.Time // its turn
	ended    time.Time // at rest
	out, in  time.Time // when it was out of service, and in again
	now      string    // ID of the release in it, as far as the records say; "": not known
}

// foldRoll reads the records of one roll.
func foldRoll(records []Record) (*rollState, error) {
	st := &rollState{members: map[string]*memberState{}}
	for _, r := range records {
		if err := st.apply(r); err != nil {
			return nil, fmt.Errorf("roll %q, record %d: %w", r.Swap, r.Seq, err)
		}
	}
	if st.id == "" {
		return nil, fmt.Errorf("a roll without records: %w", ErrPermanent)
	}
	return st, nil
}

// readRoll reads one roll, or with "" the newest; ErrNothingToDo if there is none.
func readRoll(ctx context.Context, j Journal, id string) (*rollState, error) {
	if id == "" {
		ids, err := j.Swaps(ctx)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if len(ids) == 0 {
			return nil, fmt.Errorf("the journal holds no roll: %w", ErrNothingToDo)
		}
		id = ids[0]
	}
	records, err := j.Records(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("the journal holds no roll %q: %w", id, ErrNothingToDo)
	}
	return foldRoll(records)
}

// apply takes one more record in.
func (st *rollState) apply(r Record) error {
	if (st.id == "") != (r.Kind == RecordBegin) {
		return fmt.Errorf("a roll has one begin, and it comes first: %w", ErrPermanent)
	}
	switch r.Kind {
	case RecordBegin:
		return st.applyBegin(r)
	case RecordIntent, RecordOutcome:
		m := st.members[r.Slot]
		if m == nil {
			return fmt.Errorf("member %q is none of the roll's: %w", r.Slot, ErrPermanent)
		}
		if r.Kind == RecordIntent {
			return m.applyIntent(r)
		}
		return m.applyOutcome(r, st)
	case RecordNote:
		if r.Result == resultWarning {
			st.warnings = append(st.warnings, r.Note)
		}
	case RecordEnd:
		st.endedBy, st.ended, st.endErr = r.Result, r.Time, r.Error
	default:
		return fmt.Errorf("kind %q: %w", r.Kind, ErrPermanent)
	}
	return nil
}

func (st *rollState) applyBegin(r Record) error {
	if r.Roll == nil {
		return fmt.Errorf("the journal is a Swapper's, not a Rolling's: give each its own: %w", ErrPermanent)
	}
	st.RollBegin, st.id, st.began = *r.Roll, r.Swap, r.Time
	canary := true
	for _, b := range st.Members {
		m := &memberState{MemberBegin: b, phase: MemberWaiting, times: map[Phase]int{}, now: b.Release}
		if b.Skip != "" {
			m.phase = MemberSkipped
			m.notes = append(m.notes, b.Skip)
		} else {
			m.canary, canary = canary, false
		}
		if st.members[b.Name] != nil || b.Name == "" {
			return fmt.Errorf("member %q is named twice, or has no name: %w", b.Name, ErrPermanent)
		}
		st.members[b.Name] = m
	}
	return nil
}

func (m *memberState) applyIntent(r Record) error {
	if m.phase == MemberWaiting { // its turn comes with the intent of the first thing that is done to it
		m.phase, _ = nextMemberPhase(MemberWaiting, ResultOK)
		m.began = r.Time
	}
	if r.Phase != m.phase {
		return fmt.Errorf("member %q: intent of phase %s in phase %s: %w", m.Name, r.Phase, m.phase, ErrPermanent)
	}
	m.entered, m.deadline = true, r.Deadline
	m.times[r.Phase]++
	m.steps = append(m.steps, StepReport{Phase: r.Phase, Started: r.Time})
	switch r.Phase {
	case MemberInstalling, MemberReverting:
		m.now = "" // until it is done
	}
	return nil
}

func (m *memberState) applyOutcome(r Record, st *rollState) error {
	if r.Phase != m.phase {
		return fmt.Errorf("member %q: outcome of phase %s in phase %s: %w", m.Name, r.Phase, m.phase, ErrPermanent)
	}
	next, err := nextMemberPhase(r.Phase, r.Result)
	if err != nil {
		return err
	}
	if n := len(m.steps); n > 0 && m.entered {
		s := &m.steps[n-1]
		s.Result, s.Elapsed, s.Note, s.Err = r.Result, r.Time.Sub(s.Started), r.Note, r.Error
	}
	if r.Drain != nil {
		m.drains = append(m.drains, *r.Drain)
	}
	m.notes = append(m.notes, r.NotUndone...)
	if m.failed == "" && r.Result != ResultOK && r.Result != ResultMore {
		m.failed, m.cause, m.canceled = r.Phase, r.Error, r.Result == ResultCanceled
	}
	if r.Result == ResultOK {
		switch r.Phase {
		case MemberTakingOut:
			if m.out.IsZero() && !m.Out {
				m.out = r.Time
			}
		case MemberInstalling:
			m.now = st.Release.ID
		case MemberReverting:
			m.now = st.Back.ID
		case MemberPuttingIn, MemberRestoring:
			m.in = r.Time
		}
	}
	m.entered, m.deadline, m.phase = false, time.Time{}, next
	if memberAtRest(next) {
		m.ended = r.Time
	}
	return nil
}

// inWork tells whether something was begun on m and not brought to its end.
func (m *memberState) inWork() bool { return m.phase != MemberWaiting && !memberAtRest(m.phase) }

// stopped tells whether the roll begins with no more members.
func (st *rollState) stopped() bool { return st.first() != nil }

// next is whose turn it is: those that are in work, if there are any, since an earlier process left them so; else the canary; else as many
// as may be out at a time. None if all had their turn, or the roll stops.
func (st *rollState) next(canceled bool) []*memberState {
	var work, wait []*memberState
	for _, b := range st.Members {
		switch m := st.members[b.Name]; {
		case m.inWork():
			work = append(work, m)
		case m.phase == MemberWaiting:
			wait = append(wait, m)
		}
	}
	switch {
	case len(work) > 0:
		return work
	case len(wait) == 0 || canceled || st.stopped():
		return nil
	case wait[0].canary:
		return wait[:1]
	}
	return wait[:min(len(wait), st.Parallel)]
}

// first is the member that failed first, by its turn; nil if none did.
func (st *rollState) first() *memberState {
	for _, b := range st.Members {
		if m := st.members[b.Name]; m.failed != "" && !m.canceled {
			return m
		}
	}
	for _, b := range st.Members {
		if m := st.members[b.Name]; m.failed != "" {
			return m
		}
	}
	return nil
}

// err is the failure of the roll as the journal has it; nil if it went well, or goes on.
func (st *rollState) err() error {
	m := st.first()
	switch {
	case st.endedBy == resultAbandoned || st.endedBy == resultSuperseded:
		return nil
	case m != nil && m.canceled:
		return fmt.Errorf("%w: %s", ErrCanceled, m.cause)
	case m != nil:
		return errors.New(m.cause)
	case st.endedBy == ResultCanceled:
		return fmt.Errorf("%w: %s", ErrCanceled, st.endErr)
	}
	return nil
}

func (st *rollState) outcome() Outcome {
	switch st.endedBy {
	case "":
		return OutcomeNone
	case ResultOK:
		return OutcomeSucceeded
	case resultSuperseded:
		return OutcomeSuperseded
	case resultAbandoned:
		return OutcomeAbandoned
	}
	return OutcomeStopped
}

// leftOut tells whether the roll, and no other hand, has left a member out of service; or an earlier one, and this one did not come to it.
func (st *rollState) leftOut(name string) bool {
	m := st.members[name]
	if m == nil {
		return false
	}
	other := len(m.steps) > 0 && m.steps[len(m.steps)-1].Result == ResultMoved
	return m.phase == MemberLeftOut && !other || m.inWork() || m.phase == MemberWaiting && m.Out
}
