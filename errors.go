package abswap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Sentinels say what happened; match them with errors.Is.
var (
	ErrBusy           = errors.New("busy")                     // another deploy, or another hold, is in force; see BusyError
	ErrNotReady       = errors.New("slot is not ready")        // a slot was not proven fit in time
	ErrUnknownSlot    = errors.New("unknown slot")             // the backend, or the Swapper, has no slot of that name
	ErrNoActive       = errors.New("no slot is active")        // nothing takes new work
	ErrMixed          = errors.New("several slots are active") // more than one slot has a weight above 0
	ErrDrainTimeout   = errors.New("drain timed out")          // work is left at the deadline; see DrainError
	ErrPermanent      = errors.New("permanent")                // trying again cannot help
	ErrUnknownOutcome = errors.New("outcome unknown")          // the effect may or may not have happened: observe
	ErrSlotOccupied   = errors.New("slot is occupied")         // no idle slot is free for a deploy
	ErrCanceled       = errors.New("canceled")                 // Cancel was asked for; the swap went to its safe end
	ErrSuspended      = errors.New("suspended")                // no automatic move is provably safe; an operator decides
	ErrApprovalNeeded = errors.New("approval needed")          // a Gate returns it: the swap waits there for Approve
	ErrNothingToDo    = errors.New("nothing to do")            // there is no unfinished swap
)

// SwapError says where a swap failed, who serves now and what the rollback gave. errors.Is finds both the failure and the rollback's.
type SwapError struct {
	Phase    Phase  // in which it failed
	From, To string // names of the slots; From is "" at a first deploy
	Release  string // ID of the release; "" for Swap
	Serving  string // who takes new work now; "" if nobody does, or it cannot be told
	Outcome  Outcome
	Err      error // the failure of the deploy itself
	Rollback error // what could not be undone; nil if all was
}

func (e *SwapError) Error() string {
	var b strings.Builder
	if e.Release != "" {
		fmt.Fprintf(&b, "deploy of %q to slot %q", e.Release, e.To)
	} else {
		fmt.Fprintf(&b, "swap to slot %q", e.To)
	}
	fmt.Fprintf(&b, ": %s: %v", e.Phase, e.Err)
	if e.Serving != "" {
		fmt.Fprintf(&b, " (%s; slot %q serves)", e.Outcome, e.Serving)
	} else {
		fmt.Fprintf(&b, " (%s; no slot is known to serve)", e.Outcome)
	}
	if e.Rollback != nil {
		fmt.Fprintf(&b, "; rollback: %v", e.Rollback)
	}
	return b.String()
}

// Unwrap returns the failure and, if there is one, the rollback's.
func (e *SwapError) Unwrap() []error {
	if e.Rollback == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Rollback}
}

// DrainError says what is left in a slot that did not drain.
type DrainError struct {
	Slot   string
	Result DrainResult
	Err    error // ErrDrainTimeout, the context's error, or the Drainer's
}

func (e *DrainError) Error() string {
	l := e.Result.Last
	s := fmt.Sprintf("drain of slot %q after %s: %v: %d requests, %d upgraded connections, %d sessions left (%s evidence)",
		e.Slot, e.Result.Waited.Round(time.Millisecond), e.Err, l.Requests, l.Upgraded, l.Sessions, l.Evidence)
	if len(e.Result.Left) > 0 {
		w := e.Result.Left[0]
		s += fmt.Sprintf(", oldest: %s %s from %s, %s old", w.Method, w.Path, w.Peer, w.Age.Round(time.Second))
	}
	return s
}

// Unwrap returns Err.
func (e *DrainError) Unwrap() error { return e.Err }

// BusyError says who holds what is busy. errors.Is(err, ErrBusy) is true.
type BusyError struct{ Owner Owner }

func (e *BusyError) Error() string {
	o := e.Owner
	return fmt.Sprintf("busy: %s on %s (process %d) has been deploying %q since %s", o.User, o.Host, o.PID, o.Release, o.Since.Format(time.RFC3339))
}

// Is reports true for ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// joinErrors is errors.Join that prints one line.
func joinErrors(errs ...error) error { return multi.Join(errs...) }
