package switchertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap"
)

// NewRig sets up a backend with its two slots, ready to work, and nothing left over from an earlier rig. It is called once for each
// rule. ctx ends when the rule has been checked; Rig.Close is called before that.
type NewRig func(ctx context.Context) (Rig, error)

// Rig is a backend at work, and how the suite reaches it. All functions are called from many goroutines at once.
type Rig struct {
	Switcher abswap.Switcher // required
	Drainer  abswap.Drainer  // nil: abswap.As[abswap.Drainer](Switcher); if there is none, rules about counts are skipped

	// Blue and Green are two slots of the backend that are fit to serve, and get no traffic but the suite's. Required. Which of them is
	// active at first does not matter.
	Blue, Green abswap.Slot

	// Unknown is a slot that the backend does not have. nil: one with an unlikely name.
	Unknown abswap.Slot

	// Probe sends one whole short request through the front door, on a connection of its own or one kept alive, and returns the name of
	// the slot whose application answered it. An answer that is not whole and right is an error, and so is a refusal (503). It never
	// tries again by itself. Required.
	Probe func(ctx context.Context) (slot string, err error)

	// KeepAlive returns a client that is like Probe but has one connection of its own, which it keeps alive from request to request. It
	// is not used by two goroutines at once. done closes the connection.
	KeepAlive func() (probe func(ctx context.Context) (slot string, err error), done func())

	// ProbeMatching is Probe with a request that the preview rule matches.
	ProbeMatching func(ctx context.Context, rule abswap.PreviewRule) (slot string, err error)

	// ProbeOrder is Probe, and tells also a number that grows with the order in which requests went on from the front door.
	ProbeOrder func(ctx context.Context) (slot string, order int64, err error)

	// Begin begins work of that kind through the front door, which stays in its slot until it is ended. At return its slot has begun
	// it: an upload is half read there. A kind that the backend cannot carry, or the rig cannot make, is errors.ErrUnsupported. ctx lives
	// as long as the rule; the work may depend on it.
	Begin func(ctx context.Context, kind Kind) (Work, error)

	// Delivered returns how many requests the applications in both slots have received in all: those of Probe and KeepAlive count one
	// each; what else counts does not matter.
	Delivered func(ctx context.Context) (int64, error)

	// Disturb sends all new work to the slot of that name behind the Switcher's back, as an operator with the backend's own tool would;
	// "" means to none, which may be errors.ErrUnsupported. At return it is in force.
	Disturb func(ctx context.Context, slot string) error

	// Rest returns all that the backend's configuration holds except the shares of the two slots, in any form that is equal if nothing
	// has changed.
	Rest func(ctx context.Context) (string, error)

	// Stall makes the next request stop in the front door after its slot was picked and before it is counted. reached is closed when
	// one has stopped there; resume lets it go on, and is idempotent. It is for backends that own their data path.
	Stall func() (reached <-chan struct{}, resume func())

	// Held returns how many requests a hold keeps now. nil: the suite waits for Settle instead.
	Held func() int

	// Except names rules that the backend is documented not to keep, with the reason. They are skipped by name.
	Except map[string]string

	Tolerance float64       // of weights, in points of per cent, beside what chance explains; 0: 2
	Load      int           // requests of each rule that needs load; 0: 600
	Patience  time.Duration // how long something that must happen may take; 0: 10s
	Settle    time.Duration // how long the suite watches that something does not happen; 0: 50ms

	// Close ends everything that NewRig began. nil: nothing to end.
	Close func() error
}

// Kind is a kind of work that stays in its slot.
type Kind int

const (
	KindRequest  Kind = iota + 1 // a request whose answer has not begun
	KindUpload                   // a request whose body is half read by the application
	KindDownload                 // an answer that is half written: a download, an event stream
	KindUpgraded                 // a websocket or another upgraded connection
	KindSession                  // no request, but a session of several, which is to stay in the slot where it began
)

// kinds are those that count as requests or connections.
func kinds() []Kind { return []Kind{KindRequest, KindUpload, KindDownload, KindUpgraded} }

// String returns "request", "upload", "download", "upgraded" or "session".
func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindUpload:
		return "upload"
	case KindDownload:
		return "download"
	case KindUpgraded:
		return "upgraded"
	case KindSession:
		return "session"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Work is work in a slot. It is used by one goroutine at a time.
type Work struct {
	// Slot is the name of the slot that has it.
	Slot string

	// Step exchanges a bit more and returns an error if the work is not alive any more: an upload sends a part that the application
	// reads, a download reads a part, an upgraded connection echoes, a session makes one more request, which must be answered by Slot.
	// nil: the kind has nothing to exchange, as a request whose answer is awaited.
	Step func(ctx context.Context) error

	// End finishes the work properly and returns an error unless all of it was right, to the last byte. Required.
	End func(ctx context.Context) error

	// Abort ends it as a client does that goes away. It is idempotent, and harmless after End. Required.
	Abort func()
}

// withDefaults returns r with every zero setting replaced, and all that is wrong with it as one error.
func (r Rig) withDefaults() (Rig, error) {
	var errs []error
	if r.Switcher == nil {
		errs = append(errs, errors.New("rig has no Switcher"))
	}
	if r.Probe == nil {
		errs = append(errs, errors.New("rig has no Probe"))
	}
	if r.Blue == nil || r.Green == nil {
		errs = append(errs, errors.New("rig needs two slots, Blue and Green"))
	} else if r.Blue.Name() == r.Green.Name() {
		errs = append(errs, fmt.Errorf("rig's slots have one name, %q", r.Blue.Name()))
	}
	for name := range r.Except {
		if !known(name) {
			errs = append(errs, fmt.Errorf("rig excepts rule %q, which does not exist", name))
		}
	}
	if r.Drainer == nil {
		r.Drainer, _ = abswap.As[abswap.Drainer](r.Switcher)
	}
	if r.Unknown == nil {
		r.Unknown = stranger{}
	}
	if r.Tolerance == 0 {
		r.Tolerance = 2
	}
	if r.Load <= 0 {
		r.Load = 600
	}
	if r.Patience <= 0 {
		r.Patience = 10 * time.Second
	}
	if r.Settle <= 0 {
		r.Settle = 50 * time.Millisecond
	}
	return r, errors.Join(errs...)
}

// stranger is a slot that no backend has.
type stranger struct{}

func (stranger) Name() string                { return "switchertest-stranger" }
func (stranger) Ready(context.Context) error { return abswap.ErrNotReady }
