package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// The control plane is JSON over HTTP. Its paths begin with the version of the form; fields may be added to answers within a version, so a
// client passes over those that it does not know. The proxy refuses orders with fields that it does not know: it must not do half of one.
const (
	pathStatus   = "/v1/status"
	pathInFlight = "/v1/inflight"
	pathIdle     = "/v1/idle"
	pathList     = "/v1/list"
	pathCheck    = "/v1/check"
	pathActivate = "/v1/activate"
	pathWeights  = "/v1/weights"
	pathSeal     = "/v1/seal"
	pathForce    = "/v1/force"
	pathEnd      = "/v1/end"
	pathHold     = "/v1/hold"
	pathRenew    = "/v1/hold/renew"
	pathRelease  = "/v1/hold/release"

	keyHeader   = "Idempotency-Key"
	controlHost = "abswap"         // the Host over a Unix socket
	maxOrder    = 64 << 10         // bytes of an order
	maxPoll     = 60 * time.Second // of one call of pathIdle
	maxList     = 200_000
	maxEnd      = 2_000 // IDs of one order, which fit into maxOrder
)

// wireSlot is a slot as the caller's process sees it.
type wireSlot struct {
	Name    string    `json:"name"`
	Told    bool      `json:"told,omitempty"` // the slot could be asked what it holds; what follows is its answer
	Address string    `json:"address,omitempty"`
	Release string    `json:"release,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Running bool      `json:"running,omitempty"`
}

type (
	activateOrder struct {
		Revision uint64   `json:"revision"` // the state that the order rests on
		Slot     wireSlot `json:"slot"`
		Hold     string   `json:"hold,omitempty"` // the hold that the order needs to be in force
	}
	weightsOrder struct {
		Revision uint64       `json:"revision"`
		Weights  []wireWeight `json:"weights"`
		Hold     string       `json:"hold,omitempty"`
	}
	wireWeight struct {
		Slot wireSlot `json:"slot"`
		Part int      `json:"part"`
	}
	sealOrder struct {
		Revision uint64 `json:"revision"`
		Slot     string `json:"slot"`
	}
	forceOrder struct {
		Revision uint64 `json:"revision"`
		Slot     string `json:"slot"`
		How      string `json:"how"` // "hand-over" or "cut"
	}
	endOrder struct {
		Revision uint64   `json:"revision"`
		Slot     string   `json:"slot"`
		How      string   `json:"how"` // "hand-over" or "cut"
		IDs      []string `json:"ids"` // as the list tells them
	}
	holdOrder struct {
		Revision uint64        `json:"revision"`
		Each     time.Duration `json:"each"` // this and all durations: nanoseconds
		Total    time.Duration `json:"total"`
		Max      int           `json:"max"`
		Bytes    int64         `json:"bytes"`
		Beyond   string        `json:"beyond"` // "refuse" or "pass"
	}
	leaseOrder struct {
		ID string `json:"id"`
	}
	checkOrder struct {
		Slots      []wireSlot          `json:"slots"`
		Steps      []int               `json:"steps"`
		Exclusive  bool                `json:"exclusive"`
		Stops      bool                `json:"stops"`
		Sessions   bool                `json:"sessions"`
		AtDeadline abswap.AtDeadline   `json:"at_deadline"`
		Retain     time.Duration       `json:"retain"`
		Drain      wireDrainingOptions `json:"drain"`
	}
	wireDrainingOptions struct {
		Timeout time.Duration                     `json:"timeout"`
		Grace   time.Duration                     `json:"grace"`
		Quiet   time.Duration                     `json:"quiet"`
		Classes map[abswap.Class]abswap.ClassRule `json:"classes,omitempty"`
	}
)

type (
	// orderAnswer says that an order is in force.
	orderAnswer struct {
		Revision uint64 `json:"revision"`
	}
	holdAnswer struct {
		Revision uint64        `json:"revision"`
		ID       string        `json:"id"`
		Lease    time.Duration `json:"lease"` // it ends so long after it was given or renewed
	}
	leaseAnswer struct {
		Lease time.Duration `json:"lease,omitempty"`
	}
	statusAnswer struct {
		Version  int            `json:"version"`
		Revision uint64         `json:"revision"`
		Weights  map[string]int `json:"weights"`
		Slots    []slotStatus   `json:"slots"`
		Hold     holdStatus     `json:"hold"`
		Queued   int            `json:"queued"`
		Traits   abswap.Traits  `json:"traits"`
		Stats    Stats          `json:"stats"`
	}
	slotStatus struct {
		Name    string      `json:"name"`
		Part    int         `json:"part"`
		Sealed  bool        `json:"sealed"`
		Address string      `json:"address,omitempty"`
		Release string      `json:"release,omitempty"`
		Started time.Time   `json:"started,omitzero"`
		Load    abswap.Load `json:"load"`
		Health  *SlotHealth `json:"health,omitempty"`
		slotExtras
	}
	holdStatus struct {
		InForce bool `json:"in_force"`
		Waiting int  `json:"waiting"`
	}
	loadAnswer struct {
		Load abswap.Load `json:"load"`
	}
	idleAnswer struct {
		Idle bool `json:"idle"`
	}
	listAnswer struct {
		Work []wireWork `json:"work"`
	}
	wireWork struct {
		abswap.Work
		Class     string       `json:"class"`                // the path with what looks like the name of one thing replaced by "*"
		WorkClass abswap.Class `json:"work_class,omitempty"` // abswap.Work.Class
	}
	checkAnswer struct {
		Findings []finding `json:"findings"`
	}
	finding struct {
		Warning bool      `json:"warning,omitempty"`
		Error   wireError `json:"error"`
	}
	errorAnswer struct {
		Revision uint64    `json:"revision,omitempty"` // what is in force, where the caller may know it
		Error    wireError `json:"error"`
	}
	wireError struct {
		Codes []string `json:"codes,omitempty"` // what errors.Is finds in it
		Text  string   `json:"text"`
	}
)

// coded is an error that keeps its meaning on the way to a Client.
type coded struct {
	code   string
	err    error
	status int
}

func codes() []coded {
	return []coded{
		{"unknown-slot", abswap.ErrUnknownSlot, http.StatusNotFound},
		{"unknown-hold", errNoHold, http.StatusNotFound},
		{"busy", abswap.ErrBusy, http.StatusConflict},
		{"slot-live", abswap.ErrSlotLive, http.StatusConflict},
		{"stale", ErrStale, http.StatusPreconditionFailed},
		{"closed", http.ErrServerClosed, http.StatusServiceUnavailable},
		{"unsupported", errors.ErrUnsupported, http.StatusNotImplemented},
		{"no-active", abswap.ErrNoActive, http.StatusConflict},
		{"mixed", abswap.ErrMixed, http.StatusConflict},
		{"not-ready", abswap.ErrNotReady, http.StatusConflict},
		{"permanent", abswap.ErrPermanent, http.StatusUnprocessableEntity},
		{"unknown-outcome", abswap.ErrUnknownOutcome, http.StatusInternalServerError},
	}
}

var errNoHold = errors.New("the hold is not in force any more")

// errHoldLost is of an order that was to be carried out under a hold. Giving it again is of no use: a new hold is needed.
var errHoldLost = fmt.Errorf("it was to be done under a hold: %w: %w", errNoHold, abswap.ErrPermanent)

// wireErrorOf describes err, and gives the status that goes with it.
func wireErrorOf(err error) (w wireError, status int) {
	w.Text, status = err.Error(), http.StatusUnprocessableEntity
	for _, c := range codes() {
		if errors.Is(err, c.err) {
			if w.Codes == nil {
				status = c.status
			}
			w.Codes = append(w.Codes, c.code)
		}
	}
	return w, status
}

// ControlError is an error that the proxy itself gave to a Client: the call arrived, was understood, and changed nothing. errors.Is finds in
// it what it would find in the Switcher's own: ErrUnknownSlot, ErrBusy, http.ErrServerClosed and so on.
type ControlError struct {
	Status int    // of the HTTP answer; 0: of a finding of Check
	Text   string // the proxy's own words
	is     []error
}

func (e *ControlError) Error() string { return e.Text }

// Unwrap returns the sentinels that the proxy's error had in it.
func (e *ControlError) Unwrap() []error { return e.is }

func (w wireError) err(status int) *ControlError {
	e := &ControlError{Status: status, Text: w.Text}
	for _, c := range codes() {
		for _, code := range w.Codes {
			if code == c.code {
				e.is = append(e.is, c.err)
			}
		}
	}
	return e
}

// findingsOf takes apart what Check returned.
func findingsOf(err error) []finding {
	out := []finding{}
	for _, e := range multi.All(err) {
		w, _ := wireErrorOf(e)
		f := finding{Error: w}
		if x, ok := errors.AsType[*abswap.Warning](e); ok {
			f.Warning, f.Error.Text = true, x.Err.Error()
		}
		out = append(out, f)
	}
	return out
}

// err puts together what Check returned.
func (a checkAnswer) err() error {
	var errs []error
	for _, f := range a.Findings {
		var err error = f.Error.err(0)
		if f.Warning {
			err = &abswap.Warning{Err: err}
		}
		errs = append(errs, err)
	}
	return multi.Join(errs...)
}

func forceText(f abswap.Force) (string, error) {
	switch f {
	case abswap.ForceHandOver:
		return "hand-over", nil
	case abswap.ForceCut:
		return "cut", nil
	}
	return "", fmt.Errorf("%d is no way to force a slot: ForceHandOver and ForceCut are", f)
}

func forceOf(text string) (abswap.Force, error) {
	switch text {
	case "hand-over":
		return abswap.ForceHandOver, nil
	case "cut":
		return abswap.ForceCut, nil
	}
	return 0, fmt.Errorf("%q is no way to force a slot: \"hand-over\" and \"cut\" are", text)
}

func beyondText(b abswap.HoldBeyond) (string, error) {
	switch b {
	case abswap.HoldRefuse:
		return "refuse", nil
	case abswap.HoldPass:
		return "pass", nil
	}
	return "", fmt.Errorf("hold: Beyond %d: HoldRefuse and HoldPass are known", b)
}

func beyondOf(text string) (abswap.HoldBeyond, error) {
	switch text {
	case "", "refuse":
		return abswap.HoldRefuse, nil
	case "pass":
		return abswap.HoldPass, nil
	}
	return 0, fmt.Errorf("hold: beyond %q: \"refuse\" and \"pass\" are known", text)
}
