package haproxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/abswap/abswap"
)

// Sentinels say why HAProxy refused a command, or why an answer of it cannot be used; match them with errors.Is.
var (
	ErrRefused        = errors.New("haproxy refused")                        // any refusal; see RefusalError for the sentence
	ErrNoBackend      = errors.New("haproxy has no such backend")            // no proxy of that name in the running configuration
	ErrNoServer       = errors.New("haproxy has no such server")             // the backend has no server of that name
	ErrNoMap          = errors.New("haproxy has no such map")                // no map of that file in the running configuration
	ErrNoKey          = errors.New("the map has no such key")                // the map has no entry that the key matches
	ErrNoWorker       = errors.New("haproxy has no such worker")             // the process has ended meanwhile
	ErrNoSession      = errors.New("haproxy has no such session")            // it has ended meanwhile
	ErrDenied         = errors.New("haproxy denies the permission")          // the socket has not level admin, or the command needs another mode
	ErrBadArgument    = errors.New("haproxy refuses the argument")           // a state, a weight or a value that it does not take
	ErrStaticBalance  = errors.New("the backend's balance takes no weights") // a static algorithm
	ErrDisabled       = errors.New("the backend is disabled")                // by the configuration
	ErrUnknownCommand = errors.New("haproxy does not know the command")      // another version, or no HAProxy
	ErrBadAnswer      = errors.New("the answer is not one of HAProxy's")     // it cannot be understood
	ErrCutAnswer      = errors.New("the answer of haproxy was cut")          // the process went away in the midst of it
	ErrManyWorkers    = errors.New("haproxy is between two workers")         // a reload goes on, and did not come to its end in time
	ErrNotApplied     = errors.New("haproxy took the change and has it not") // what was read back is not what was set
	ErrNotOurs        = errors.New("the traffic goes to none of the slots")  // the map, or the backend, names something else
)

// RefusalError is a command that HAProxy answered with a sentence in place of doing it. errors.Is finds ErrRefused and Reason.
type RefusalError struct {
	Worker  int    // process ID of the worker; 0: the master, or the only process
	Command string // as it was sent
	Text    string // the sentence, on one line
	Reason  error  // one of the sentinels; ErrRefused if the sentence is not known
}

func (e *RefusalError) Error() string {
	who := "haproxy"
	if e.Worker != 0 {
		who = fmt.Sprintf("haproxy worker %d", e.Worker)
	}
	return fmt.Sprintf("%s refused %q: %s", who, e.Command, e.Text)
}

// Is reports true for ErrRefused.
func (e *RefusalError) Is(target error) bool { return target == ErrRefused }

// Unwrap returns Reason, with abswap.ErrPermanent where trying again cannot help, and errors.ErrUnsupported where this HAProxy cannot do it.
func (e *RefusalError) Unwrap() []error {
	switch e.Reason {
	case ErrNoWorker, ErrNoSession, ErrDisabled, ErrRefused:
		return []error{e.Reason}
	case ErrStaticBalance, ErrUnknownCommand:
		return []error{e.Reason, errors.ErrUnsupported, abswap.ErrPermanent}
	}
	return []error{e.Reason, abswap.ErrPermanent}
}

// sentences are HAProxy's refusals, by what they begin with, in lower case: versions differ in capitals and in what follows.
func sentences() []struct {
	begin  string
	reason error
} {
	return []struct {
		begin  string
		reason error
	}{
		{"can't find the target pid", ErrNoWorker},
		{"no such backend", ErrNoBackend},
		{"no such proxy", ErrNoBackend},
		{"can't find backend", ErrNoBackend},
		{"no such server", ErrNoServer},
		{"require 'backend/server'", ErrNoServer},
		{"unknown map identifier", ErrNoMap},
		{"entry not found", ErrNoKey},
		{"key or pattern not found", ErrNoKey},
		{"key not found", ErrNoKey},
		{"no such session", ErrNoSession},
		{"session pointer expected", ErrNoSession},
		{"permission denied", ErrDenied},
		{"this command is restricted to", ErrDenied},
		{"backend is using a static lb algorithm", ErrStaticBalance},
		{"proxy is disabled", ErrDisabled},
		{"no effect on a disabled backend", ErrDisabled},
		{"'set server <srv> state' expects", ErrBadArgument},
		{"'set server <srv> ", ErrBadArgument},
		{"'set map' expects", ErrBadArgument},
		{"absolute weight can only be", ErrBadArgument},
		{"relative weight ", ErrBadArgument},
		{"require <weight>", ErrBadArgument},
		{"empty weight string", ErrBadArgument},
		{"trailing garbage in weight string", ErrBadArgument},
		{"missing map identifier", ErrBadArgument},
		{"missing server name", ErrBadArgument},
		{"missing backend name", ErrBadArgument},
		{"too many arguments", ErrBadArgument},
		{"the command line is too big", ErrBadArgument},
		{"invalid delay", ErrBadArgument},
		{"unknown command", ErrUnknownCommand},
	}
}

// refusal returns the error for an answer that is one of HAProxy's sentences; nil if it is none.
func refusal(worker int, command, answer string) error {
	low := strings.ToLower(strings.TrimSpace(answer))
	for _, s := range sentences() {
		if strings.HasPrefix(low, s.begin) {
			return &RefusalError{Worker: worker, Command: command, Text: firstLine(answer), Reason: s.reason}
		}
	}
	return nil
}

// unexpected is a sentence where silence means success.
func unexpected(worker int, command, answer string) error {
	if err := refusal(worker, command, answer); err != nil {
		return err
	}
	return &RefusalError{Worker: worker, Command: command, Text: firstLine(answer), Reason: ErrRefused}
}

// firstLine is the first line of an answer, without dot, shortened to what a log bears.
func firstLine(answer string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(answer), "\n")
	if len(line) > 200 {
		line = line[:200] + "..."
	}
	return strings.TrimSuffix(strings.TrimSpace(line), ".")
}
