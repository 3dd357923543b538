package abswap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RollReport tells what a roll did (promise W6).
type RollReport struct {
	ID       string         `json:"id"`
	Release  string         `json:"release"`
	Outcome  Outcome        `json:"outcome"` // succeeded, stopped, superseded, abandoned, refused; "": it is under way
	By       Owner          `json:"by"`      // who began it
	Floor    int            `json:"floor"`   // members that had to serve at every instant
	Serving  int            `json:"serving"` // members that serve now; -1: not known
	Members  []MemberReport `json:"members"` // in the order of their turns
	Warnings []string       `json:"warnings,omitempty"`
	Started  time.Time      `json:"started"`
	Ended    time.Time      `json:"ended,omitzero"`
	Err      string         `json:"error,omitempty"`
}

// MemberReport is one member in a RollReport.
type MemberReport struct {
	Name    string        `json:"name"`
	Canary  bool          `json:"canary,omitempty"`
	Before  string        `json:"before,omitempty"` // ID of the release that it had; "": none, or it cannot tell
	After   string        `json:"after,omitempty"`  // ID of the release that it has; "": not known
	State   Phase         `json:"state"`            // where it stands: MemberUpdated, MemberSkipped, MemberKept, MemberLeftOut, MemberLeftIn, or what is being done
	Failed  Phase         `json:"failed,omitempty"` // the first phase that did not end well
	Err     string        `json:"error,omitempty"`  // why
	Notes   []string      `json:"notes,omitempty"`  // why it was skipped; what could not be undone
	Drains  []DrainResult `json:"drains,omitempty"` // each with its evidence
	Steps   []StepReport  `json:"steps,omitempty"`  // in order, those of earlier runs of the same roll too
	Started time.Time     `json:"started,omitzero"` // its turn
	Out     time.Time     `json:"out,omitzero"`     // when it was out of service
	In      time.Time     `json:"in,omitzero"`      // when it was in service again
	Ended   time.Time     `json:"ended,omitzero"`
}

// ReadRoll makes the RollReport of one roll, or with "" of the newest, out of its journal alone. It asks no member and no door, so that Serving
// is -1. ErrNothingToDo if the journal has no such roll.
func ReadRoll(ctx context.Context, j Journal, id string) (RollReport, error) {
	if j == nil {
		return RollReport{}, fmt.Errorf("no journal to read: %w", ErrPermanent)
	}
	st, err := readRoll(ctx, j, id)
	if err != nil {
		return RollReport{}, err
	}
	return st.report(), nil
}

func (st *rollState) report() RollReport {
	rep := RollReport{ID: st.id, Release: st.Release.ID, Outcome: st.outcome(), By: st.Owner, Floor: st.Floor, Serving: -1,
		Warnings: slices.Clone(st.warnings), Started: st.began, Ended: st.ended}
	for _, b := range st.Members {
		m := st.members[b.Name]
		rep.Members = append(rep.Members, MemberReport{Name: m.Name, Canary: m.canary, Before: m.Release, After: m.now, State: m.phase, Failed: m.failed,
			Err: m.cause, Notes: slices.Clone(m.notes), Drains: slices.Clone(m.drains), Steps: slices.Clone(m.steps),
			Started: m.began, Out: m.out, In: m.in, Ended: m.ended})
	}
	if err := st.err(); err != nil {
		rep.Err = err.Error()
	}
	return rep
}

// report makes a RollReport out of the journal, and of one look at who serves now.
func (o *Rolling) report(ctx context.Context, st *rollState) RollReport {
	rep := st.report()
	w, err := o.members(ctx)
	if err != nil {
		return rep
	}
	rep.Serving = 0
	for _, slot := range o.Slots {
		if w[slot.Name()].Serves() {
			rep.Serving++
		}
	}
	return rep
}

// RollStatus tells what a Rolling's journal and world say now.
type RollStatus struct {
	Owner    *Owner         `json:"owner,omitempty"`  // who runs a roll now; nil: nobody
	Newest   *RollReport    `json:"newest,omitempty"` // the newest roll, finished or not; nil: none was ever begun
	Floor    int            `json:"floor"`
	Members  []MemberStatus `json:"members"`
	Problems []string       `json:"problems,omitempty"` // what could not be asked
}

// MemberStatus is one member of a RollStatus.
type MemberStatus struct {
	Name string `json:"name"`
	Member
	Load  Load      `json:"load"`
	State SlotState `json:"state"`           // zero where the slot cannot tell
	Ready string    `json:"ready,omitempty"` // why it is not fit; "": it is
}

// Status asks the journal, the doors, the Drainer and each member once. It holds nothing and changes nothing, also while a roll runs. What
// cannot be asked is listed in Problems; the error is only for a Rolling that cannot ask at all.
func (o *Rolling) Status(ctx context.Context) (RollStatus, error) {
	if mistakes := o.mistakes(); len(mistakes) > 0 {
		return RollStatus{}, joinErrors(mistakes...)
	}
	out := RollStatus{Floor: o.floor()}
	problem := func(err error) {
		if err != nil {
			out.Problems = append(out.Problems, err.Error())
		}
	}
	owner, held, err := o.journal().Owner(ctx)
	problem(err)
	if held {
		out.Owner = &owner
	}
	st, err := readRoll(ctx, o.journal(), "")
	switch {
	case err == nil:
		rep := o.report(ctx, st)
		out.Newest = &rep
	case !errors.Is(err, ErrNothingToDo):
		problem(err)
	}
	w, err := o.members(ctx)
	problem(err)
	h := o.newRoll(nil, nil).h
	for _, slot := range o.Slots {
		one := MemberStatus{Name: slot.Name(), Member: w[slot.Name()]}
		one.Load, err = h.load(ctx, slot)
		problem(err)
		if one.State, err = h.inspect(ctx, slot); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			problem(err)
		}
		if err := h.ready(ctx, slot); err != nil {
			one.Ready = err.Error()
		}
		out.Members = append(out.Members, one)
	}
	return out, nil
}
