package abswap

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Swapper deploys releases into slots and moves the traffic. Its fields are set before the first call and not changed afterwards; the
// zero value of each means what its comment says. All verbs are safe for concurrent use: of two that move something, one gets ErrBusy.
type Swapper struct {
	Switcher Switcher // required
	Drainer  Drainer  // nil: As[Drainer](Switcher)
	Slots    []Slot   // required, at least two, each with a name of its own
	Journal  Journal  // nil: in memory, of this Swapper, forgotten with it; OpenJournal makes one that outlives a crash

	// Steps are the per cents of new work that the new slot gets before it gets all, rising, each within 1 to 99: {5, 25}.
	// Empty: all at once. They need a WeightedSwitcher.
	Steps []int

	// Soak is how long the new slot is watched after each step, also the last one, before the next. While it lasts, a release that
	// gets sick is rolled back. 0: 10s, negative: none.
	Soak time.Duration

	// Gate is asked before each step up, the first one included, and before the commit; an error refuses and the swap goes back. With an
	// error that wraps ErrApprovalNeeded the swap waits for Approve instead, for as long as the new slot stays fit. nil: nobody is asked.
	Gate func(ctx context.Context, g GateRequest) error

	// FrontDoor asks, as a client would, who answers: it returns the name of the slot or the ID of the release. The engine asks it after
	// the last step, since a backend's API may say yes to what its data path does not do; with Exclusive once the hold has ended.
	// nil: only the Switcher is asked.
	FrontDoor func(ctx context.Context) (string, error)

	// Exclusive makes new requests wait while the old slot finishes, so that the two versions never work at the same time. It needs
	// a HoldingSwitcher and no Steps. Work that outlasts Hold.Total makes the swap fail, with the old slot serving.
	Exclusive bool
	Hold      HoldOptions // of Exclusive

	Drain    DrainOptions  // how the old slot is drained; OnLoad is the engine's, use OnEvent
	Retain   time.Duration // how long the drained old slot is kept warm, for a way back; 0: not at all, negative: until it is needed
	Occupied Occupied      // what Deploy does when no idle slot is free
	Timeouts Timeouts

	OnEvent func(Event)  // nil: nobody is told
	Logger  *slog.Logger // nil: silent

	mu     sync.Mutex
	memory *MemoryJournal

	plan     bool                                          // the parts are a model: see Plan
	handlers map[Phase]func(*run, context.Context) verdict // tests only: bugs planted into a phase
}

// GateRequest tells a Gate what is about to happen.
type GateRequest struct {
	Swap     string
	Release  string // ID; "" for Swap
	From, To string // slots
	Percent  int    // the new slot's part now
	Next     int    // its part after the step; 101: the commit
}

// Occupied says what Deploy does when every slot but the live one still has work.
type Occupied int

const (
	OccupiedRefuse Occupied = iota // ErrSlotOccupied, before anything moves
	OccupiedWait                   // drain one, as long as Drain allows
	OccupiedCut                    // drain one for Drain.Grace, then cut what is left; needs a ForcingDrainer
)

// Timeouts bound single calls and waits. 0 means the default named, negative none.
type Timeouts struct {
	Install time.Duration // of Install; 0: 10m
	Start   time.Duration // of Start, and then until Ready says yes; 0: 2m
	Warm    time.Duration // of Warm; 0: 5m
	Ready   time.Duration // of one probe; 0: 10s
	Gate    time.Duration // of one call of Gate; 0: none
	Shift   time.Duration // of one Activate, SetWeights, Seal or Hold; 0: 30s
	Observe time.Duration // of one reading; 0: 10s
	Settle  time.Duration // how long an effect with unknown outcome may still land, and the front door may lag; 0: 10s
	Stop    time.Duration // of Stop; 0: 2m
	Revert  time.Duration // how long a rollback waits for the old slot to be fit, and for the new one to drain; 0: 2m
}
