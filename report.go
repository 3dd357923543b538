package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Report tells what a swap did (promise W6).
type Report struct {
	ID        string        `json:"id"`
	Release   string        `json:"release,omitempty"`
	From      string        `json:"from,omitempty"`
	To        string        `json:"to"`
	Outcome   Outcome       `json:"outcome"`
	Phase     Phase         `json:"phase"`              // where it stands
	Awaiting  string        `json:"awaiting,omitempty"` // why it waits for somebody's Approve; "": it does not
	By        Owner         `json:"by"`                 // who began it
	Serving   string        `json:"serving,omitempty"`  // who takes new work, as last observed; "": nobody, or not known
	Steps     []StepReport  `json:"steps"`              // in order, those of earlier runs of the same swap too
	Drains    []DrainResult `json:"drains,omitempty"`
	Retained  []string      `json:"retained,omitempty"`  // slots kept warm
	Undone    []string      `json:"undone,omitempty"`    // what was taken back
	NotUndone []string      `json:"notUndone,omitempty"` // what could not be
	Warnings  []string      `json:"warnings,omitempty"`
	Traits    Traits        `json:"traits"`
	Started   time.Time     `json:"started"`
	Ended     time.Time     `json:"ended,omitzero"`
	Err       string        `json:"error,omitempty"`
}

// StepReport is one phase of a Report.
type StepReport struct {
	Phase   Phase         `json:"phase"`
	Round   int           `json:"round,omitempty"`
	Result  Result        `json:"result,omitempty"` // "": it did not end
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed"`
	Note    string        `json:"note,omitempty"`
	Err     string        `json:"error,omitempty"`
}

// ReadReport makes the Report of one swap, or with "" of the newest, out of its journal alone: for a history, or for a page that shows a
// deploy which another process runs. It asks no slot and no Switcher, so that Serving is who took new work when the swap last looked, and
// Traits are not known. ErrNothingToDo if the journal has no such swap.
func ReadReport(ctx context.Context, j Journal, swap string) (Report, error) {
	if j == nil {
		return Report{}, fmt.Errorf("no journal to read: %w", ErrPermanent)
	}
	st, err := readSwap(ctx, j, swap)
	if err != nil {
		return Report{}, err
	}
	return st.report(), nil
}

// readSwap reads one swap, or with "" the newest.
func readSwap(ctx context.Context, j Journal, swap string) (*swapState, error) {
	if swap == "" {
		ids, err := j.Swaps(ctx)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if len(ids) == 0 {
			return nil, fmt.Errorf("the journal holds no swap: %w", ErrNothingToDo)
		}
		swap = ids[0]
	}
	records, err := j.Records(ctx, swap)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("the journal holds no swap %q: %w", swap, ErrNothingToDo)
	}
	return fold(records)
}

// report makes a Report of a swap out of its journal, and of one look at who serves now.
func (s *Swapper) report(ctx context.Context, st *swapState) Report {
	rep := st.report()
	rep.Traits = s.traits()
	if w, err := s.weights(ctx); err == nil {
		rep.Serving = heaviest(w)
	}
	return rep
}

// report makes a Report out of the journal alone.
func (st *swapState) report() Report {
	rep := Report{
		ID: st.id, Release: st.Release.ID, From: st.From, To: st.To, Outcome: st.outcome(), Phase: st.phase, Awaiting: st.awaiting,
		By: st.Owner, Serving: heaviest(st.seen), Steps: slices.Clone(st.steps), Drains: slices.Clone(st.drains), Retained: slices.Clone(st.kept),
		Undone: slices.Clone(st.undone), NotUndone: slices.Clone(st.notUndone), Warnings: slices.Clone(st.warnings),
		Started: st.began, Ended: st.ended,
	}
	if err := st.err(); err != nil {
		rep.Err = err.Error()
	}
	return rep
}

// heaviest is the slot with the largest weight, the first by name of several; "" if none has any.
func heaviest(weights map[string]int) string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if weights[name] > weights[best] {
			best = name
		}
	}
	return best
}

// Status tells what a Swapper's journal and world say now. It holds nothing and changes nothing, also while a deploy runs.
type Status struct {
	Owner    *Owner         `json:"owner,omitempty"`  // who runs a swap now; nil: nobody
	Newest   *Report        `json:"newest,omitempty"` // the newest swap, finished or not; nil: none was ever begun
	Weights  map[string]int `json:"weights"`          // where new work goes; empty: nowhere
	Slots    []SlotStatus   `json:"slots"`
	Problems []string       `json:"problems,omitempty"` // what could not be asked
}

// SlotStatus is one slot of a Status.
type SlotStatus struct {
	Name    string                 `json:"name"`
	Part    int                    `json:"part"` // of new work, in per cents
	Load    Load                   `json:"load"`
	Classes map[Class]ClassOutcome `json:"classes,omitempty"` // what Load is made of: Left and its ages, by class; nil: the Drainer is no ClassDrainer
	State   SlotState              `json:"state"`             // zero where the slot cannot tell
	Ready   string                 `json:"ready,omitempty"`   // why it is not fit; "": it is
}

// Status asks the journal, the Switcher, the Drainer and each slot once. What cannot be asked is listed in Problems; the error is only for
// a Swapper that cannot ask at all.
func (s *Swapper) Status(ctx context.Context) (Status, error) {
	if mistakes := s.mistakes(); len(mistakes) > 0 {
		return Status{}, joinErrors(mistakes...)
	}
	var out Status
	problem := func(err error) {
		if err != nil {
			out.Problems = append(out.Problems, err.Error())
		}
	}
	o, held, err := s.journal().Owner(ctx)
	problem(err)
	if held {
		out.Owner = &o
	}
	st, err := s.newest(ctx)
	switch {
	case err == nil:
		rep := s.report(ctx, st)
		out.Newest = &rep
	case !errors.Is(err, ErrNothingToDo):
		problem(err)
	}
	out.Weights, err = s.weights(ctx)
	problem(err)
	r := run{s: s}
	for _, slot := range s.Slots {
		one := SlotStatus{Name: slot.Name(), Part: out.Weights[slot.Name()]}
		one.Load, err = r.loadWith(ctx, slot, s.Drain.Sessions)
		problem(err)
		if one.Load.Total() > 0 {
			one.Classes, err = countClasses(ctx, s.drainer(), slot)
			problem(err)
		}
		if one.State, err = r.inspect(ctx, slot); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			problem(err)
		}
		if err := r.ready(ctx, slot); err != nil {
			one.Ready = err.Error()
		}
		out.Slots = append(out.Slots, one)
	}
	return out, nil
}
