package abswap

import (
	"log/slog"
	"maps"
	"slices"
	"time"
)

// EventKind says what an Event tells.
type EventKind string

const (
	EventPhase    EventKind = "phase"    // a phase begins
	EventDone     EventKind = "done"     // a phase ended; Result, Err and Elapsed say how
	EventLoad     EventKind = "load"     // a reading while draining
	EventAwaiting EventKind = "awaiting" // a Gate waits for somebody's Approve; Message says why
	EventWarning  EventKind = "warning"  // a finding that does not stop the run
	EventNote     EventKind = "note"     // something worth reading
	EventEnd      EventKind = "end"      // the swap ended; Outcome and Err say how
)

// Event tells what a Swapper does. Events come in order, on the goroutine of the caller, and cannot veto.
type Event struct {
	Time    time.Time
	Kind    EventKind
	Swap    string // ID
	Phase   Phase
	Round   int                    // of Steps, from 0
	Percent int                    // the new slot's part, in the phases of a round
	Release string                 // ID
	From    string                 // slot; "" at a first deploy
	To      string                 // slot
	Slot    string                 // the slot that this event is about, where it is one
	Load    Load                   // EventLoad
	Classes map[Class]ClassOutcome // EventLoad: what has become of the work so far; nil: the Drainer is no ClassDrainer
	Result  Result                 // EventDone
	Outcome Outcome
	Elapsed time.Duration
	Message string
	Err     error
}

// LogValue returns the fields that are set, under the keys that every event uses.
func (e Event) LogValue() slog.Value {
	a := []slog.Attr{slog.String("kind", string(e.Kind)), slog.String("swap", e.Swap), slog.String("phase", string(e.Phase))}
	add := func(key, val string) {
		if val != "" {
			a = append(a, slog.String(key, val))
		}
	}
	add("release", e.Release)
	add("from", e.From)
	add("to", e.To)
	add("slot", e.Slot)
	add("result", string(e.Result))
	add("outcome", string(e.Outcome))
	if e.Percent > 0 {
		a = append(a, slog.Int("percent", e.Percent))
	}
	if e.Kind == EventLoad {
		a = append(a, slog.Int("requests", e.Load.Requests), slog.Int("upgraded", e.Load.Upgraded), slog.Int("sessions", e.Load.Sessions),
			slog.String("evidence", e.Load.Evidence.String()))
		for _, c := range slices.Sorted(maps.Keys(e.Classes)) {
			o := e.Classes[c]
			a = append(a, slog.Group(string(c), slog.Int("left", o.Left), slog.Int("finished", o.Finished), slog.Int("closed", o.Closed), slog.Int("cut", o.Cut)))
		}
	}
	if e.Elapsed > 0 {
		a = append(a, slog.Duration("elapsed", e.Elapsed))
	}
	add("message", e.Message)
	if e.Err != nil {
		a = append(a, slog.String("err", e.Err.Error()))
	}
	return slog.GroupValue(a...)
}
