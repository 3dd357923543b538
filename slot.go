package abswap

import (
	"context"
	"fmt"
	"time"
)

// Slot is one place in which a version of the application lives: a folder and a process, an IIS site and its app pool, a member of a
// server farm. A Swapper needs at least two. A slot knows nothing of traffic; that is the Switcher's.
//
// Rules, checked by switchertest and by the engine's model test:
//
//   - Every method is idempotent: it states what shall be, and is safe to call again after a failure, a timeout or a crash.
//   - Every method is safe for concurrent use.
type Slot interface {
	// Name names the slot in journals, events and errors: "blue". It is never empty and never changes.
	Name() string

	// Ready asks the slot itself, past any Switcher, whether the version in it is fit to serve now. nil means one successful probe.
	// It changes nothing and answers within the slot's own timeout.
	Ready(ctx context.Context) error
}

// InstallingSlot is a Slot into which a release can be put.
type InstallingSlot interface {
	Slot

	// Install puts r into the slot, which is idle: not started, and no traffic leads to it. It replaces what was there.
	// At return the files are complete; a crash in between is cured by calling it again.
	Install(ctx context.Context, r Release) error
}

// StartingSlot is a Slot whose application is started by a call.
type StartingSlot interface {
	Slot

	// Start starts the installed version. A running slot is left as it is. The application need not be ready at return; Ready tells that.
	Start(ctx context.Context) error
}

// WarmingSlot is a Slot that can be warmed before it takes traffic: caches, compilers, connections.
type WarmingSlot interface {
	Slot

	// Warm returns nil when the slot will answer its first real request as fast as its hundredth.
	Warm(ctx context.Context) error
}

// StoppingSlot is a Slot whose application is stopped by a call.
type StoppingSlot interface {
	Slot

	// Stop ends the application: politely first, then for certain. At return it no longer runs. A stopped slot is left as it is.
	// The engine calls it only after it has seen that nothing leads to the slot and nothing is left in it (promise W1).
	Stop(ctx context.Context) error
}

// InspectingSlot is a Slot that can tell what is in it. Status, Resume and backends that forward traffic themselves use it.
type InspectingSlot interface {
	Slot

	// Inspect tells what the slot holds now, also when another process put it there. It changes nothing.
	Inspect(ctx context.Context) (SlotState, error)
}

// SlotState is what a slot holds at one moment.
type SlotState struct {
	Release string    // ID of the installed release; "": none, or not known
	Running bool      // the application runs; says nothing of its fitness
	Address string    // host:port at which it listens; "": none, or not known
	Started time.Time // when it was started; zero: not running, or not known
}

// Release is one version of the application, to be put into a slot.
type Release struct {
	// ID names the release in journals, events, folders and marks: "v1085". Required: 1 to 64 of the characters
	// A-Z a-z 0-9 . _ + - and no leading dot or dash, so that it can be a folder's name on every system.
	ID string `json:"id"`

	// Path is where the new files are; what it means (a folder, an archive) is the slot's to say.
	Path string `json:"path,omitempty"`

	// Meta is carried along unread: a commit, a build's address.
	Meta map[string]string `json:"meta,omitempty"`
}

// Check returns an error if the release cannot be used: an ID that is empty, too long or not safe as a folder's name.
func (r Release) Check() error {
	if r.ID == "" {
		return fmt.Errorf("release has no ID: set Release.ID, for instance to the version")
	}
	if len(r.ID) > 64 {
		return fmt.Errorf("release ID %q has %d characters, at most 64 are allowed", r.ID, len(r.ID))
	}
	if r.ID[0] == '.' || r.ID[0] == '-' || r.ID[len(r.ID)-1] == '.' {
		return fmt.Errorf("release ID %q: it may not begin with a dot or a dash, nor end with a dot", r.ID)
	}
	for _, c := range r.ID {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '+', c == '-':
		default:
			return fmt.Errorf("release ID %q: character %q is not one of A-Z a-z 0-9 . _ + -", r.ID, c)
		}
	}
	return nil
}
