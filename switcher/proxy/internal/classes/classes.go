package classes

import (
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Class is a kind of work.
type Class int

const (
	Request  Class = iota // short: its answer has not begun, or is small
	Upload                // a body is on its way in
	Download              // a body is on its way out
	Stream                // server-sent events
	Tunnel                // a websocket, or another connection that left HTTP
	Session               // a client's session, with or without a request under way
	count
)

var names = [count]string{"request", "upload", "download", "stream", "tunnel", "session"}

// String returns "request", "upload", "download", "stream", "tunnel" or "session".
func (c Class) String() string {
	if c < 0 || c >= count {
		return fmt.Sprintf("class %d", int(c))
	}
	return names[c]
}

// MarshalText writes what String returns.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Class) UnmarshalText(b []byte) error {
	for i, n := range names {
		if n == string(b) {
			*c = Class(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no class of work", b)
}

// Policy is what a drain does with the work of a class.
type Policy int

const (
	Finish       Policy = iota // it ends by itself, however long that takes
	FinishMoving               // it ends by itself as long as it moves: what has been still for Rule.Still is closed
	Close                      // it is asked to end, each piece at its own moment within Rule.Window
)

// Rule is what a drain does with one class. The zero value lets all finish.
type Rule struct {
	Policy Policy
	Still  time.Duration // of FinishMoving: how long work may go without a byte in either direction; 0: 1m
	Window time.Duration // of Close: over how long the closing is spread, so that not all come back at once; 0: 30s, negative: at once
	Cap    time.Duration // after so long a drain asks all that is left to end; 0: never
	Grace  time.Duration // how long work that was asked to end may take before it is cut; 0: never cut
}

func (r Rule) withDefaults() Rule {
	if r.Still == 0 {
		r.Still = time.Minute
	}
	if r.Window == 0 {
		r.Window = 30 * time.Second
	}
	return r
}

// Rules are the rules by class. A class that is not named has the zero Rule.
type Rules map[Class]Rule

// Check returns all mistakes of r at once.
func (r Rules) Check() error {
	var errs []error
	for c := range count {
		x, ok := r[c]
		if !ok {
			continue
		}
		if x.Policy < Finish || x.Policy > Close {
			errs = append(errs, fmt.Errorf("%s: %d is no policy: it is one of Finish, FinishMoving, Close", c, x.Policy))
		}
		if x.Still < 0 || x.Cap < 0 || x.Grace < 0 {
			errs = append(errs, fmt.Errorf("%s: Still %s, Cap %s, Grace %s: none may be below 0", c, x.Still, x.Cap, x.Grace))
		}
	}
	for c := range r {
		if c < 0 || c >= count {
			errs = append(errs, errors.New(c.String()+" is not known"))
		}
	}
	return multi.Join(errs...)
}

// View is one piece of work as it is now.
type View struct {
	ID      uint64 // never used twice
	Class   Class
	Peer    string    // the client's address
	Began   time.Time // of the work
	Last    time.Time // of its last byte in either direction
	In, Out int64     // bytes from and to the client
}

// Do is an order.
type Do int

const (
	AskToEnd Do = iota + 1 // GOAWAY, a close frame, "Connection: close", the end of an event stream at an event's boundary
	Cut                    // close it
)

// Order is what is to be done with one piece of work. Each is given once.
type Order struct {
	ID    uint64
	Class Class
	Do    Do
}

// Outcome is what became of the work of one class.
type Outcome struct {
	Finished int           `json:"finished"`         // ended by itself
	Closed   int           `json:"closed"`           // ended after it was asked to
	Cut      int           `json:"cut"`              // ended after it was cut
	Asked    int           `json:"asked"`            // of what is left: was asked to end
	Left     int           `json:"left"`             // is still there
	Oldest   time.Duration `json:"oldest,omitempty"` // age of the oldest that is left
	Quiet    time.Duration `json:"quiet,omitempty"`  // how long the quietest that is left has been still
	In       int64         `json:"in,omitempty"`     // bytes that what is left has moved
	Out      int64         `json:"out,omitempty"`
}
