package abswap

import (
	"context"
	"time"
)

// Journal keeps what a deploy does, so that the next run can finish it (promises W4, W5). It holds any number of swaps, of which at most
// the newest is unfinished. A Journal is safe for concurrent use, and all reading works while another process holds it.
type Journal interface {
	// Lock takes the journal for o, for writing. If another holds it the error is a *BusyError at once. The lock dies with its process.
	Lock(ctx context.Context, o Owner) (JournalHold, error)

	// Owner tells who holds the journal; false if nobody does.
	Owner(ctx context.Context) (Owner, bool, error)

	// Swaps lists the IDs of the swaps kept, newest first.
	Swaps(ctx context.Context) ([]string, error)

	// Records returns the records of one swap, oldest first; an unknown ID has none.
	Records(ctx context.Context, swap string) ([]Record, error)

	// Post leaves a request for the holder, who sees it within 100 ms. Requests that no holder has taken are dropped when the journal
	// is next locked: they were meant for a holder who is gone.
	Post(ctx context.Context, r Request) error
}

// JournalHold is a Journal held for writing.
type JournalHold interface {
	// Append adds r, numbered after the last record of its swap; it is durable at return. An error means that nothing more may be
	// done to the world: the record may or may not be there.
	Append(ctx context.Context, r Record) error

	// NextRequest waits for a request and takes it.
	NextRequest(ctx context.Context) (Request, error)

	// Unlock gives the journal free. It is idempotent.
	Unlock() error
}

// Owner is who holds a journal, for those who find it busy.
type Owner struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Release string    `json:"release,omitempty"`
}

// RequestKind is what one process asks of another that holds the journal.
type RequestKind string

const (
	RequestCancel  RequestKind = "cancel"  // go to the safe end
	RequestApprove RequestKind = "approve" // go on where a Gate waits for a person
	RequestYield   RequestKind = "yield"   // end the tail here and unlock: another swap takes it over; not obeyed before the commit
)

// Request is left in a journal by Post.
type Request struct {
	Kind RequestKind `json:"kind"`
	From Owner       `json:"from"`
	Why  string      `json:"why,omitempty"`
}

// RecordKind is the kind of a journal record.
type RecordKind string

const (
	RecordBegin   RecordKind = "begin"   // a swap begins; Begin says which
	RecordIntent  RecordKind = "intent"  // the effects of Phase may happen from now on
	RecordOutcome RecordKind = "outcome" // Phase ended with Result; the transition table says what comes next
	RecordNote    RecordKind = "note"    // something for the reader; moves nothing
	RecordEnd     RecordKind = "end"     // an operator or a later swap ended this one; Result says how
)

// Record is one line of a journal. All that the engine knows of a swap it knows from these, so that a later process knows as much.
type Record struct {
	Version   int            `json:"v"` // of this format: 1
	Seq       int            `json:"seq"`
	Time      time.Time      `json:"time"`
	Swap      string         `json:"swap"`
	Kind      RecordKind     `json:"kind"`
	Phase     Phase          `json:"phase,omitempty"`
	Round     int            `json:"round,omitempty"` // of Steps, from 0
	Result    Result         `json:"result,omitempty"`
	Error     string         `json:"error,omitempty"`
	Note      string         `json:"note,omitempty"`
	Slot      string         `json:"slot,omitempty"`    // the slot that an outcome in the tail, or a note, is about
	Deadline  time.Time      `json:"deadline,omitzero"` // of the wait that an intent begins; wall-clock
	Weights   map[string]int `json:"weights,omitempty"` // as observed
	Drain     *DrainResult   `json:"drain,omitempty"`   // how a drain ended
	Begin     *SwapBegin     `json:"begin,omitempty"`
	Roll      *RollBegin     `json:"roll,omitempty"`      // in place of Begin, where a Rolling's roll begins; its other records name the member as Slot
	Undone    []string       `json:"undone,omitempty"`    // what Discarding took back
	NotUndone []string       `json:"notUndone,omitempty"` // what it could not take back
}

// SwapBegin says which swap a journal's records are about. It is fixed for the swap's life: a Resume with other Steps goes on with these.
type SwapBegin struct {
	Release   Release        `json:"release,omitzero"`
	From      string         `json:"from,omitempty"` // "": a first deploy
	To        string         `json:"to"`
	Install   bool           `json:"install,omitempty"` // Deploy; false: Swap
	Steps     []int          `json:"steps"`             // always ends with 100
	Exclusive bool           `json:"exclusive,omitempty"`
	Tail      []string       `json:"tail,omitempty"`    // slots that an earlier, taken over swap had still to drain and stop
	Weights   map[string]int `json:"weights,omitempty"` // as found when the swap began
	Running   bool           `json:"running,omitempty"` // To ran already: a rollback leaves it running
	Owner     Owner          `json:"owner"`
}
