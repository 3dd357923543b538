package abswap

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Switcher decides which slot takes new work. It is the part that differs from machine to machine: an embedded proxy, IIS, ARR, HAProxy.
//
// Rules; package switchertest checks each of them under its number:
//
//   - S1 in force at return: when Activate returns nil, no request that begins afterwards reaches another slot.
//   - S2 nothing is lost: no request fails or is answered twice because of a switch, also not on kept-alive connections.
//   - S3 old work survives: what a slot had begun when it was turned off, it finishes.
//   - S4 calls: Activate is idempotent; an unknown slot is refused with ErrUnknownSlot; a context that has ended before the call changes
//     nothing and its error is returned; all methods are safe for concurrent use. If the context ends during the call, its error is
//     returned, wrapped with ErrUnknownOutcome once the effect may have begun; then the world is the old or the new one, never a third.
//   - S5 honest: Active tells what the backend does now, also after a change behind our back. What cannot be done is refused, never
//     reported as done.
//   - S6 touch only what we own: nothing but the named slots' share of traffic changes.
type Switcher interface {
	// Active returns the name of the slot that takes new work: the one with the largest weight. If more than one is above 0 the error
	// is ErrMixed beside the name; if none is, ErrNoActive.
	Active(ctx context.Context) (string, error)

	// Activate sends all new work to s, and none to the other slots, from its return on. It undoes Seal.
	Activate(ctx context.Context, s Slot) error
}

// Weight is one slot's part of the new work, in per cents.
type Weight struct {
	Slot Slot
	Part int // 0 to 100; 0 means exactly none
}

// WeightedSwitcher is a Switcher that can share new work out between slots.
type WeightedSwitcher interface {
	Switcher

	// Weights returns the part of each slot that is above 0, by name, in per cents that sum up to 100; empty if none is active.
	Weights(ctx context.Context) (map[string]int, error)

	// SetWeights gives each named slot its part and all others 0, all or nothing. The parts sum up to 100. S1 to S6 hold for it too;
	// the parts are met within the tolerance that the backend documents.
	SetWeights(ctx context.Context, w ...Weight) error
}

// CheckWeights returns an error that lists all that is wrong with a call of SetWeights: no slot, the same slot twice, a part
// outside 0 to 100, a sum that is not 100. Backends call it first.
func CheckWeights(w []Weight) error {
	var errs []error
	seen, sum := map[string]bool{}, 0
	for _, x := range w {
		if x.Slot == nil {
			errs = append(errs, errors.New("a weight has no slot"))
			continue
		}
		if seen[x.Slot.Name()] {
			errs = append(errs, fmt.Errorf("slot %q is named twice", x.Slot.Name()))
		}
		seen[x.Slot.Name()] = true
		if x.Part < 0 || x.Part > 100 {
			errs = append(errs, fmt.Errorf("slot %q: weight %d is not within 0 to 100", x.Slot.Name(), x.Part))
		}
		sum += x.Part
	}
	if sum != 100 {
		errs = append(errs, fmt.Errorf("the weights sum up to %d, not 100", sum))
	}
	return joinErrors(errs...)
}

// SealingSwitcher is a Switcher that can close a slot for certain, so that a count of zero is proof.
type SealingSwitcher interface {
	Switcher

	// Seal makes sure that no rule at all leads to s: no weight, session, preview, mirror or held request. A part of the new work that s
	// had goes to the other active slots in the ratio of theirs. No request that begins after its return is answered by s, so that the
	// counts of s can only fall (a backend may count for an instant what then picks another slot). Activate, SetWeights with a part
	// above 0, and Preview with rules undo it; nothing else does. Sealing the slot that is the only one with weight leaves no slot active: the
	// engine does it only where a first deploy is undone.
	Seal(ctx context.Context, s Slot) error
}

// HoldingSwitcher is a Switcher that can make new requests wait while two versions must not overlap.
type HoldingSwitcher interface {
	Switcher

	// Hold makes new requests wait, each at most o.Each, until release is called or o.Total has passed, whichever is first; then they
	// go on in the order in which they came. What waits longer, or is more than o.Max or o.Bytes, is answered as o.Beyond says.
	// release is idempotent. A second Hold while one is in force is refused with ErrBusy. If the backend is out of reach the error
	// says so and nothing is held. The hold ends by itself after o.Total even if the caller has died.
	Hold(ctx context.Context, o HoldOptions) (release func(), err error)
}

// HoldOptions bound a Hold. The zero value is useful; negative values are refused.
type HoldOptions struct {
	Each   time.Duration // how long one request waits at the most; 0: 5s. With Total or more none is turned away for that
	Total  time.Duration // how long the hold lasts at the most; 0: 10s
	Max    int           // requests that wait at one time; 0: 1000
	Bytes  int64         // memory for bodies read ahead; 0: 16 MiB
	Beyond HoldBeyond    // what is done with a request that cannot wait, or no longer
}

// WithDefaults returns o with every zero field set to its documented default.
func (o HoldOptions) WithDefaults() HoldOptions {
	if o.Each == 0 {
		o.Each = 5 * time.Second
	}
	if o.Total == 0 {
		o.Total = 10 * time.Second
	}
	if o.Max == 0 {
		o.Max = 1000
	}
	if o.Bytes == 0 {
		o.Bytes = 16 << 20
	}
	return o
}

// HoldBeyond says what happens to a request that a hold cannot keep.
type HoldBeyond int

const (
	HoldRefuse HoldBeyond = iota // answer 503 with Retry-After
	HoldPass                     // let it through to where it would have gone without the hold
)

// PreviewingSwitcher is a Switcher through whose front door a slot can be reached before it takes work.
type PreviewingSwitcher interface {
	Switcher

	// Preview sends the requests that match any of the rules to s, whatever the weights say. It replaces the earlier rules of s;
	// without rules it removes them, as Seal does. Rules for a sealed slot undo its seal: they are the younger order.
	Preview(ctx context.Context, s Slot, rules ...PreviewRule) error
}

// PreviewRule matches a request by all of its fields that are set; one must be.
type PreviewRule struct {
	Header string // name of a header field that carries Value
	Cookie string // name of a cookie that carries Value
	Host   string // host, without port, compared without regard to case
	Value  string // exact value of the header field or the cookie; required with these
}

// Traits are properties of a backend that the engine and the reader of a report should know.
type Traits struct {
	PerConnection bool // decides once per connection, not per request: kept-alive clients stay where they are
	ClosesIdle    bool // closes idle client connections at a switch, which can lose a request that is on its way
	Forgets       bool // its state is lost when its engine restarts
	CompareAndSet bool // refuses a change that rests on a stale view
	Gap           bool // for a moment within Activate no slot takes work
}

// TraitsSwitcher is a Switcher that tells its Traits. Without it all of them are taken as false.
type TraitsSwitcher interface {
	Switcher
	Traits() Traits
}

// Checker is an ability of Slots, Switchers, Drainers and Journals: a preflight that changes nothing. It returns all findings at once,
// each a *Warning (which does not stop a run) or an error (which does, before anything has moved).
type Checker interface {
	Check(ctx context.Context, r CheckRequest) error
}

// CheckRequest tells a Checker which swap is meant.
type CheckRequest struct {
	Slots     []Slot        // all slots of the Swapper
	Steps     []int         // per cents before the last 100; empty: one step
	Exclusive bool          // the two versions must not overlap
	Drain     DrainOptions  // how the old slot will be drained
	Retain    time.Duration // how long it is kept warm afterwards
	Stops     bool          // an old slot will be stopped in the end
}

// Warning is a finding that the operator should read and that does not stop a run.
type Warning struct{ Err error }

// Warnf returns a *Warning with a formatted text; %w works as in fmt.Errorf.
func Warnf(format string, args ...any) *Warning { return &Warning{Err: fmt.Errorf(format, args...)} }

func (w *Warning) Error() string { return "warning: " + w.Err.Error() }

// Unwrap returns the finding.
func (w *Warning) Unwrap() error { return w.Err }

// As finds an ability of v: v itself, or what its Unwrap method leads to, as http.ResponseController does. Unwrap may return a Switcher,
// a Drainer, a Slot, a Journal or any. A wrapper therefore hides no ability, and a call through the ability does not pass the wrapper.
func As[T any](v any) (T, bool) {
	for range 100 { // a chain that leads back to itself ends here
		if t, ok := v.(T); ok {
			return t, true
		}
		switch u := v.(type) {
		case interface{ Unwrap() Switcher }:
			v = u.Unwrap()
		case interface{ Unwrap() Drainer }:
			v = u.Unwrap()
		case interface{ Unwrap() Slot }:
			v = u.Unwrap()
		case interface{ Unwrap() Journal }:
			v = u.Unwrap()
		case interface{ Unwrap() any }:
			v = u.Unwrap()
		default:
			v = nil
		}
		if v == nil {
			break
		}
	}
	var zero T
	return zero, false
}
