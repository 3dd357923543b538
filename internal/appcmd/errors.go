package appcmd

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

var (
	// ErrUnknownOutcome says that a command which changes something was begun and its end is not known: it was killed, or the connection
	// to the service broke. Its process has gone. Read what is there now; do not repeat it blindly.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrTruncated says that output ended before it was complete.
	ErrTruncated = errors.New("output is cut off")
	// ErrMalformed says that output was not understood.
	ErrMalformed = errors.New("output is not understood")
	// ErrBusy says that another program kept appcmd's lock for longer than Client.LockWait.
	ErrBusy = errors.New("another program is using appcmd")
	// ErrNotStarted says that the program could not be started: it is not there, or may not be run. Nothing has happened.
	ErrNotStarted = errors.New("appcmd was not started")
)

// Class is what kind of failure an Error is, told by its exit code and HRESULT. It is an error itself, for errors.Is(err, appcmd.Conflict).
type Class int

// The classes. Which codes they stand for is written at each.
const (
	Other          Class = iota // none of those below
	NotFound                    // 1168; 4312 without an HRESULT (an element of a collection); 2, 3; list with exit code 1 and no output
	Permission                  // 5; any trouble with reading redirection.config, which is what callers without elevation see
	Conflict                    // 32, 80070020: another program has the configuration open; nothing was saved: read again and retry
	Exists                      // 183: a duplicate, or another started site has the binding
	Usage                       // 87, 13, 80070057: a mistake in the command or its values
	Unavailable                 // 50, 1058, 1060: the service WAS is down, or the caller is not elevated
	AlreadyDone                 // 1056, 1062: started or stopped already
	Unchanged                   // 42: seen by one project, which takes it for success without a change; read what is there
	NotReady                    // 800710d8, 80070425: WAS has not read the last commit, or is still stopping: wait and retry
	Transient                   // 1722, 1723, 1726, 80010006 and other RPC errors: the service went away in the middle, the effect is unknown
	NotImplemented              // 80004001: the feature is not installed, such as Request Monitor for requests
	Locked                      // 80070021: the section is locked for this location
)

var classNames = [...]string{
	Other: "failure", NotFound: "not found", Permission: "no permission", Conflict: "configuration is in use by another program",
	Exists: "exists already", Usage: "command or value not accepted", Unavailable: "service is not available, or caller is not elevated",
	AlreadyDone: "already in that state", Unchanged: "nothing changed", NotReady: "not ready yet", Transient: "service went away",
	NotImplemented: "feature is not installed", Locked: "section is locked",
}

func (c Class) Error() string { return c.String() }

func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("class %d", int(c))
	}
	return classNames[c]
}

// Error is a command that appcmd answered with an error.
type Error struct {
	Command string // as Command.String shows it, secrets masked
	Exit    uint32 // exit code of the process
	HResult uint32 // 0: none was printed
	Message string // what was printed, in the language of the machine, secrets masked; may be empty
	Class   Class
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, exit code %d", e.Command, e.Class, e.Exit)
	if e.HResult != 0 {
		fmt.Fprintf(&b, ", hresult %08x", e.HResult)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", oneLine(e.Message))
	}
	return b.String()
}

// Is reports whether target is the class of e.
func (e *Error) Is(target error) bool {
	c, ok := target.(Class)
	return ok && c == e.Class
}

// ClassOf returns the class of an Error in err; Other if there is none.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Other
}

// HRESULTs, and the exit codes that stand for those of Windows errors.
const (
	facilityWin32 = 0x80070000

	errFileNotFound    = 2
	errPathNotFound    = 3
	errAccessDenied    = 5
	errInvalidData     = 13
	errSharing         = 32
	errLockViolation   = 33
	errUnchanged       = 42
	errNotSupported    = 50
	errInvalidParam    = 87
	errAlreadyExists   = 183
	errServiceRunning  = 1056
	errServiceDisabled = 1058
	errNoService       = 1060
	errServiceBusy     = 1061
	errServiceStopped  = 1062
	errNotFound        = 1168
	errRPCUnavailable  = 1722
	errRPCBusy         = 1723
	errRPCFailed       = 1726
	errRPCNotExecuted  = 1727
	errInvalidObject   = 4312

	hNotImplemented   = 0x80004001
	hCallRejected     = 0x80010001
	hConnectionEnded  = 0x80010006
	hServerDied       = 0x80010007
	hServerDiedNoCall = 0x80010012
	hDisconnected     = 0x80010108
	hServerBusy       = 0x8001010A
)

// classify decides by numbers. The message is only searched for the name of a file, which no language changes.
func classify(exit, hresult uint32, message string) Class {
	if strings.Contains(strings.ToLower(message), "redirection.config") {
		return Permission
	}
	code, explicit := exit, hresult != 0
	if explicit {
		code = hresult
	}
	if code&0xFFFF0000 == facilityWin32 {
		code &= 0xFFFF
	}
	switch code {
	case errNotFound, errFileNotFound, errPathNotFound:
		return NotFound
	case errAccessDenied:
		return Permission
	case errSharing:
		return Conflict
	case errLockViolation:
		return Locked
	case errAlreadyExists:
		return Exists
	case errInvalidParam, errInvalidData:
		return Usage
	case errNotSupported, errServiceDisabled, errNoService:
		return Unavailable
	case errServiceRunning, errServiceStopped:
		return AlreadyDone
	case errUnchanged:
		return Unchanged
	case errServiceBusy:
		return NotReady
	case errInvalidObject:
		if explicit {
			return NotReady
		}
		return NotFound
	case errRPCUnavailable, errRPCBusy, errRPCFailed, errRPCNotExecuted,
		hCallRejected, hConnectionEnded, hServerDied, hServerDiedNoCall, hDisconnected, hServerBusy:
		return Transient
	case hNotImplemented:
		return NotImplemented
	}
	return Other
}

// oneLine brings a message of several lines into one, of bounded length.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	s = strings.Join(strings.Fields(s), " ")
	const most = 600
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return s
}
