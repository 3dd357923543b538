package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Class is a kind of work, for drains that treat each kind in its own way. A piece of work may change its class: a request becomes a download.
type Class string

const (
	ClassRequest  Class = "request"  // its answer has not begun, or is short
	ClassUpload   Class = "upload"   // a body is on its way in
	ClassDownload Class = "download" // a body is on its way out
	ClassStream   Class = "stream"   // server-sent events
	ClassTunnel   Class = "tunnel"   // a websocket, or another connection that left HTTP
	ClassSession  Class = "session"  // a client's session, with or without a request under way
)

// classes lists them all.
func classes() []Class {
	return []Class{ClassRequest, ClassUpload, ClassDownload, ClassStream, ClassTunnel, ClassSession}
}

// ClassPolicy is what a drain does with the work of a class.
type ClassPolicy int

const (
	Finish        ClassPolicy = iota // it ends by itself, however long that takes; with ClassRule.Cap: until then
	FinishMoving                     // it ends by itself as long as it moves: what has been still for ClassRule.Still is asked to end
	ClosePolitely                    // it is asked to end, each piece at its own moment within ClassRule.Window
)

// String returns "finish", "finish-moving" or "close".
func (p ClassPolicy) String() string {
	switch p {
	case Finish:
		return "finish"
	case FinishMoving:
		return "finish-moving"
	case ClosePolitely:
		return "close"
	}
	return fmt.Sprintf("policy %d", int(p))
}

// MarshalText writes what String returns.
func (p ClassPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *ClassPolicy) UnmarshalText(b []byte) error {
	for _, x := range []ClassPolicy{Finish, FinishMoving, ClosePolitely} {
		if x.String() == string(b) {
			*p = x
			return nil
		}
	}
	return fmt.Errorf("%q is no policy: it is one of finish, finish-moving, close", b)
}

// ClassRule is what a drain does with one class. The zero value lets all finish.
//
// To ask is to break nothing: a websocket gets a close frame between two frames, an event stream ends between two events, a request whose
// answer has not begun gets "Connection: close" with it. An upload or a download has no such end: asked, it goes on until Grace is over. Nor has
// an event stream with a Content-Encoding, such as gzip (Work.Opaque): ClosePolitely leaves it alone, as Finish would, and only its Cap, with Grace
// behind it, cuts it in the midst. FinishMoving does too, once it is still.
type ClassRule struct {
	Policy ClassPolicy   `json:"policy"`
	Still  time.Duration `json:"still,omitempty"`  // of FinishMoving: how long work may go without a byte in either direction; 0: 1m
	Window time.Duration `json:"window,omitempty"` // of ClosePolitely: over how long the asking is spread, so that not all clients come back at once; 0: 30s, negative: at once
	Cap    time.Duration `json:"cap,omitempty"`    // so long after the begin of the drain all that is left is asked to end; 0: never
	Grace  time.Duration `json:"grace,omitempty"`  // what was asked to end is cut after it; 0: 30s, negative: never
}

func (r ClassRule) withDefaults() ClassRule {
	r.Still = orDefault(r.Still, time.Minute)
	r.Window = orDefault(r.Window, 30*time.Second)
	if r.Grace == 0 {
		r.Grace = 30 * time.Second
	}
	return r
}

// checkRules returns all mistakes of rules at once.
func checkRules(rules map[Class]ClassRule) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, c := range slices.Sorted(maps.Keys(rules)) {
		r := rules[c]
		if !slices.Contains(classes(), c) {
			add("class %q is none of %q", c, classes())
		}
		if r.Policy < Finish || r.Policy > ClosePolitely {
			add("class %q: %d is no policy: it is one of Finish, FinishMoving, ClosePolitely", c, r.Policy)
		}
		if r.Still < 0 || r.Cap < 0 {
			add("class %q: Still %s, Cap %s: none may be below 0", c, r.Still, r.Cap)
		}
		if c == ClassSession && r.Policy != Finish {
			add("class %q: a session has nothing that could be closed: only Finish, and a Cap after which it is not waited for", c)
		}
	}
	return joinErrors(errs...)
}

// ClassOutcome is what became of the work of one class in a drain, as of the last reading.
type ClassOutcome struct {
	Finished int           `json:"finished,omitempty"` // ended by itself
	Closed   int           `json:"closed,omitempty"`   // ended after it was asked to
	Cut      int           `json:"cut,omitempty"`      // ended after it was cut
	Left     int           `json:"left,omitempty"`     // is still there
	Asked    int           `json:"asked,omitempty"`    // of Left: was asked to end
	Oldest   time.Duration `json:"oldest,omitempty"`   // age of the oldest that is left
	Quiet    time.Duration `json:"quiet,omitempty"`    // how long the quietest that is left has been still
	In       int64         `json:"in,omitempty"`       // bytes that what is left has read from its clients
	Out      int64         `json:"out,omitempty"`      // and written to them
}

// ErrSlotLive is of an order to end work in a slot that takes new work: it went live again, and nothing was done.
var ErrSlotLive = errors.New("slot takes new work")

// ClassDrainer is a ListingDrainer that knows the class of each piece of work and can end one alone.
//
// Rule; package switchertest checks it under its number:
//
//   - D5 by class: List tells for each piece an ID that no other piece has or will have, the class that it has now, and how long no byte of it
//     has moved. End ends the pieces that it is told, and no other.
type ClassDrainer interface {
	ListingDrainer

	// End ends the pieces of work in s that have these IDs. ForceHandOver asks them to end without breaking anything; what has no such end
	// goes on. ForceCut closes them. It returns when the order is given; IDs of work that has ended are passed over.
	//
	// If any of them lies in what takes new work, nothing is done and the error is ErrSlotLive. When the slot goes live (Activate, or
	// SetWeights with a part above 0) what was asked and has not begun to end goes on as if it had not been.
	End(ctx context.Context, s Slot, how Force, ids ...uint64) error
}

// countClasses lists what is in s and sums it up by class; nil if d cannot.
func countClasses(ctx context.Context, d Drainer, s Slot) (map[Class]ClassOutcome, error) {
	cd, ok := As[ClassDrainer](d)
	if !ok {
		return nil, nil
	}
	all, err := cd.List(ctx, s, listed)
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		return nil, err
	}
	book := newLedger(time.Now(), time.Time{}, nil)
	book.step(time.Now(), all)
	return book.result(), nil
}
