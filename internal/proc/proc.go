// Package proc starts a process that outlives its starter, finds it again, and ends it with all that it has begun. A process is named by
// its pid, the time at which it began, and the boot of the machine, never by the pid alone: pids are used again.
//
// What finds the tree of a process again, by the token that Launch put into its environment:
//
//   - Linux: all processes of the session of the main process, their descendants, and all whose environment carries the token, so also
//     one that made a session of its own or lost its parent. Signals go through a pidfd that was verified after it was opened.
//   - macOS: the same, where the system shows another process's environment. Signals go to a pid that was verified just before.
//   - Windows: all processes of a job object named after the token. The job's name lives as long as a process of the job has a handle to
//     the job: the main process is given one, which its children inherit if they inherit handles at all.
//   - elsewhere: everything returns errors.ErrUnsupported.
package proc

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// TokenEnv is the environment variable in which Launch hands the token to the process.
const TokenEnv = "ABSWAP_TOKEN"

// ID names one process for certain. The zero ID names none.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start,string"`   // when it began, in the system's own unit
	Boot  string `json:"boot,omitempty"` // of the machine; empty on Windows, where Start is exact wall-clock time
}

func (id ID) String() string { return fmt.Sprintf("process %d", id.PID) }

// Spec says what Launch starts.
type Spec struct {
	Path   string   // of the executable
	Args   []string // after the name
	Dir    string   // working folder
	Env    []string // whole environment, without the token
	Output *os.File // stdout and stderr, handed over as it is; the caller closes its own
	Token  string   // unique, of letters and digits; "" is refused
}

// Exit says how a process ended.
type Exit struct {
	Code   int    // exit code; -1 if a signal ended it, or if it cannot be told
	Signal string // name of the signal that ended it; "": none
}

func (e Exit) String() string {
	switch {
	case e.Signal != "":
		return "ended by signal: " + e.Signal
	case e.Code == -1:
		return "ended, exit code not known"
	default:
		return fmt.Sprintf("exit code %d", e.Code)
	}
}

// Tree is what one Launch has begun: the main process and all that came out of it.
type Tree struct {
	Main  ID     // zero: not known, for instance because the starter died before it could write it down
	Token string // of the Launch
}

// Members is what runs of a Tree at one moment. Processes that have ended but were not yet waited for are not in it.
type Members struct {
	Main ID   // the main process, found by its token if Tree.Main was zero; zero if it does not run
	All  []ID // Main too
}

// Owner is a process that listens on an address.
type Owner struct {
	ID   ID     // zero if it belongs to another user and cannot be told
	Name string // of its executable; "": not known
}

func (o Owner) String() string {
	if o.ID.PID == 0 {
		return "a process that cannot be told (another user's?)"
	}
	if o.Name == "" {
		return o.ID.String()
	}
	return fmt.Sprintf("process %d (%s)", o.ID.PID, o.Name)
}

// Kill ends, for certain and at once, every process of ids that is still the one it names. Those that have ended already are no error.
// The processes may take a moment to disappear: ask Tree.Find until none is left.
func Kill(ids []ID) error { return each(ids, kill) }

// Terminate asks every process of ids that is still the one it names to end (SIGTERM). On Windows, where there is no such thing for a
// single process, it returns errors.ErrUnsupported; see Tree.Interrupt.
func Terminate(ids []ID) error { return each(ids, terminate) }

func each(ids []ID, f func(ID) error) error {
	var errs []error
	for _, id := range ids {
		if err := f(id); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		}
	}
	return multi.Join(errs...)
}

// settle is how long Find looks again for a process that was begun in the very moment its starter died.
const settle = 200 * time.Millisecond

// ForeignError says that others than expected listen on an address.
type ForeignError struct {
	Addr   netip.AddrPort
	Owners []Owner
}

func (e *ForeignError) Error() string {
	names := make([]string, len(e.Owners))
	for i, o := range e.Owners {
		names[i] = o.String()
	}
	return fmt.Sprintf("%s is held by %s", e.Addr, strings.Join(names, ", "))
}

// Identify returns the ID of the process that has pid now; an fs.ErrNotExist if there is none.
func Identify(pid int) (ID, error) {
	in, err := look(pid)
	return in.id, err
}
