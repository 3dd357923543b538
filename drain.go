package abswap

import (
	"context"
	"time"
)

// Drainer reads how much work a slot still carries. It only reads; the waiting is Drain's.
//
// Rules; package switchertest checks each of them under its number:
//
//   - D1 true counts: requests, upgraded connections and half-read uploads are all counted, from before their first byte can go to the
//     slot until both directions are finished. A reading taken while a request is between "picked" and "counted" does not miss it.
//   - D2 no guess: Load.Evidence says how good the counts are, and its zero value is EvidenceUnknown.
type Drainer interface {
	// InFlight counts the work in s now, that of older generations of the slot included. Sessions it leaves at 0: they are a
	// SessionDrainer's, and a drain that did not ask for them does not wait for them. An unknown slot is refused with ErrUnknownSlot.
	InFlight(ctx context.Context, s Slot) (Load, error)
}

// Evidence says how good a count is.
type Evidence int

const (
	EvidenceUnknown     Evidence = iota // the counts prove nothing; the slot never counts as drained by itself
	EvidenceApproximate                 // drained after unbroken zeros for DrainOptions.Quiet
	EvidenceExact                       // drained at the first zero
)

// String returns "unknown", "approximate" or "exact".
func (e Evidence) String() string {
	switch e {
	case EvidenceApproximate:
		return "approximate"
	case EvidenceExact:
		return "exact"
	}
	return "unknown"
}

// MarshalText writes what String returns.
func (e Evidence) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what MarshalText wrote; any other text is EvidenceUnknown.
func (e *Evidence) UnmarshalText(b []byte) error {
	switch string(b) {
	case "exact":
		*e = EvidenceExact
	case "approximate":
		*e = EvidenceApproximate
	default:
		*e = EvidenceUnknown
	}
	return nil
}

// Load is the work that a slot carries at one moment.
type Load struct {
	Requests int      `json:"requests"` // requests in flight, among them half-read uploads and half-sent downloads and streams
	Upgraded int      `json:"upgraded"` // websockets, tunnels and other connections that left HTTP
	Sessions int      `json:"sessions"` // live sessions bound to the slot; only where a SessionDrainer counts them
	Evidence Evidence `json:"evidence"`
	Source   string   `json:"source,omitempty"` // where the counts come from: "proxy counters"
}

// Total is the sum of all counts.
func (l Load) Total() int { return l.Requests + l.Upgraded + l.Sessions }

// WaitingDrainer is a Drainer that can tell at once when a slot has become idle, instead of being asked again and again.
type WaitingDrainer interface {
	Drainer

	// WaitIdle returns nil as soon as InFlight of s would report zero.
	WaitIdle(ctx context.Context, s Slot) error
}

// ListingDrainer is a Drainer that can name what is in flight.
type ListingDrainer interface {
	Drainer

	// List returns at most limit of the pieces of work in s, oldest first.
	List(ctx context.Context, s Slot, limit int) ([]Work, error)
}

// Work is one piece of work in flight: a request, or an upgraded connection.
type Work struct {
	Kind   string        `json:"kind"` // "request" or "upgraded"
	Method string        `json:"method,omitempty"`
	Path   string        `json:"path,omitempty"` // without query, which may carry secrets; at most 100 bytes
	Peer   string        `json:"peer,omitempty"` // the client's address
	Age    time.Duration `json:"age"`
	In     int64         `json:"in"`  // body bytes read from the client so far
	Out    int64         `json:"out"` // body bytes written to the client so far

	ID    uint64        `json:"id,omitempty,string"` // from a ClassDrainer: no other piece has it, or will have it
	Class Class         `json:"class,omitempty"`     // from a ClassDrainer: what it is now
	Quiet time.Duration `json:"quiet,omitempty"`     // from a ClassDrainer: how long no byte of it has moved, to about a second

	// Opaque, from a ClassDrainer, says of a stream that nobody can see where its events end, as it has a Content-Encoding: it cannot be asked
	// to end.
	Opaque bool `json:"opaque,omitempty"`
}

// ForcingDrainer is a Drainer that can end what is left in a slot.
type ForcingDrainer interface {
	Drainer

	// Force ends the work in s as how says. It returns when the order is given; what is left, InFlight tells. What ForceCut has ended,
	// also an upload whose client is silent, does not end well any more after the counts have come to zero.
	// The slot going live again (Activate, or SetWeights with a part above 0) cancels orders that have not been carried out.
	Force(ctx context.Context, s Slot, how Force) error
}

// Force says how a ForcingDrainer ends what is left.
type Force int

const (
	// ForceHandOver asks clients to go elsewhere without breaking anything: Connection: close, GOAWAY, a close frame.
	ForceHandOver Force = iota + 1
	// ForceCut closes what is left.
	ForceCut
)

// SessionDrainer is a Drainer that also counts sessions bound to a slot (promise D4).
type SessionDrainer interface {
	Drainer

	// Sessions returns a Load of which only Sessions, Evidence and Source are set. The evidence of sessions is a matter of its own:
	// unknown for one idle period after an unclean restart of the backend.
	Sessions(ctx context.Context, s Slot) (Load, error)
}

// AtDeadline says what Drain does when its time is up and work is left (promise D3: the deadline is a policy, not a kill). HandOver and CutOff
// spare the work of classes that have a rule in DrainOptions.Classes: once nothing else is left it is waited for as its rules say, past the
// deadline.
type AtDeadline int

const (
	LeaveUp     AtDeadline = iota // return ErrDrainTimeout with what is left, touch nothing
	KeepWaiting                   // go on waiting; the deadline is only told
	HandOver                      // ForceHandOver, wait for DrainOptions.Grace, then as LeaveUp
	CutOff                        // ForceHandOver, wait for DrainOptions.Grace, ForceCut
)

// DrainOptions bound a drain. The zero value waits until the slot is idle, however long that takes.
type DrainOptions struct {
	Timeout    time.Duration // 0: none
	Deadline   time.Time     // wall-clock; zero: none; with Timeout the earlier of the two counts
	AtDeadline AtDeadline    // what is done then
	Grace      time.Duration // of HandOver and CutOff; 0: 30s, negative: none
	Quiet      time.Duration // unbroken zeros that prove an approximate count, at least 5 readings; 0: 5s
	Poll       time.Duration // between readings; 0: from 250ms, rising to 2s
	Sessions   bool          // wait for sessions too; needs a SessionDrainer
	OnLoad     func(Load)    // told of every reading, on the caller's goroutine; nil: nobody

	// Classes says class by class what is done with the work while it is waited for; it needs a ClassDrainer. A class without a rule is
	// waited for, and Timeout and AtDeadline bound that. Of ClassSession only Cap counts: after it sessions are not waited for.
	Classes map[Class]ClassRule

	// OnClasses is told what has become of the work of each class so far, with every reading and before OnLoad; only where the Drainer is a
	// ClassDrainer, then also without Classes. nil: nobody.
	OnClasses func(map[Class]ClassOutcome)

	// Began is when the drain began, if another call of Drain began it: ClassRule.Cap counts from there. Zero: now.
	Began time.Time

	finish bool // the deadline does not break off a run of zeros: how long the readings take is nobody's fault
}

// DrainResult tells how a drain ended.
type DrainResult struct {
	Slot     string        `json:"slot"`
	Drained  bool          `json:"drained"`          // zero, by the evidence in Last
	First    Load          `json:"first"`            // the first reading
	Last     Load          `json:"last"`             // the last reading
	Finished int           `json:"finished"`         // work that ended by itself, as far as readings show
	Cut      int           `json:"cut"`              // work that was there when ForceCut was given and went away by it
	Left     []Work        `json:"left,omitempty"`   // what is left, oldest first, at most 100; only from a ListingDrainer
	Waited   time.Duration `json:"waited"`           // how long the drain took
	Forced   []string      `json:"forced,omitempty"` // "hand over", "cut": what was ordered
	Readings int           `json:"readings,omitempty"`

	Classes map[Class]ClassOutcome `json:"classes,omitempty"` // what became of the work, as of the last reading; only from a ClassDrainer
}
