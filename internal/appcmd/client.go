package appcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// Runner runs appcmd once. It is the seam at which an emulator takes the place of the real program.
type Runner interface {
	// Run runs appcmd with args, and stdin (nil: none) as its input, and returns at its end: stdout has the bytes as they were printed, exit
	// the code, whatever that is. If ctx ends first, Run ends the command for certain, waits until it has gone, and returns an error that
	// wraps ctx's cause. If it could not be started the error wraps ErrNotStarted. An error with exit code is none: err is nil then.
	Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error)
}

// RunnerFunc is a function as a Runner.
type RunnerFunc func(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error)

// Run calls f.
func (f RunnerFunc) Run(ctx context.Context, args []string, stdin []byte) ([]byte, uint32, error) {
	return f(ctx, args, stdin)
}

// Client runs commands, one at a time per machine. Its zero value works with the machine's own appcmd. It is safe for concurrent use; its
// fields must not change while it is used.
type Client struct {
	Runner   Runner               // nil: &Exec{Path: Path}
	Path     string               // of appcmd.exe; "": DefaultPath
	LockFile string               // "": DefaultLock, one for the machine. All that deploy on one machine must use the same
	LockWait time.Duration        // how long to wait for the lock; 0: 5m; negative: as long as ctx allows
	Timeout  time.Duration        // of one command, without what it waits for (see Command.Blocks); 0: 60s; negative: none
	Grace    time.Duration        // how long a command that changes something may still finish when ctx has ended; 0: 2s; negative: none
	RetryFor time.Duration        // how long to try again; 0: 30s; negative: not at all
	Pause    time.Duration        // before the first new try, then half as long again each time to 2s; 0: 250ms
	CodePage uint32               // of output that is not UTF-8; 0: the machine's OEM code page
	OnRun    func(Command, *Call) // told after each run of the program, under the lock; nil: nobody
}

// Call is one run of the program.
type Call struct {
	Elapsed time.Duration
	Exit    uint32
	Err     error // as Session.Run returned it
}

// Output is what a command printed.
type Output struct {
	Text string // decoded, with line ends \n; it may have passwords in it if the command shows configuration: never log it
	Exit uint32
}

// Build reads with s what is there and tells the command that is due. With ok false none is: all is as wanted, cmd is not run.
type Build func(ctx context.Context, s *Session) (cmd Command, ok bool, err error)

// Hold calls f while it holds the lock, so that no other command, of this or another program that uses the lock, runs between those of f.
// It does not keep programs out that do not ask for the lock. The Session is of no use after f. ErrBusy (and filelock.ErrHeld) if the lock
// was not free in time.
func (c *Client) Hold(ctx context.Context, f func(ctx context.Context, s *Session) error) (err error) {
	path := c.LockFile
	if path == "" {
		if path, err = DefaultLock(); err != nil {
			return err
		}
	}
	wait, cancel := ctx, context.CancelFunc(func() {})
	if d := or(c.LockWait, 5*time.Minute); d > 0 {
		wait, cancel = context.WithTimeoutCause(ctx, d, fmt.Errorf("not free for %v: %w", d, ErrBusy))
	}
	defer cancel()
	// Nothing is ever written to the file: its folder may be open to all, and somebody could have made it a link to another file.
	lock, err := filelock.Wait(wait, path, 0o666)
	if err != nil {
		return fmt.Errorf("lock of appcmd, %q: %w", path, err)
	}
	defer func() { err = multi.Join(err, lock.Close()) }()
	return f(ctx, &Session{c: c})
}

// Run runs cmd. A list is tried again for RetryFor while it ends with Conflict or Transient. A command that starts, stops or recycles is
// tried again while it ends with NotReady. All others run once: use Change for what may have to be repeated.
//
// Errors: *Error for what appcmd answers; ErrUnknownOutcome; ErrNotStarted; ErrBusy; or a mistake in cmd, before anything runs.
func (c *Client) Run(ctx context.Context, cmd Command) (Output, error) {
	if _, err := cmd.Argv(); err != nil {
		return Output{}, err
	}
	var out Output
	err := c.again(ctx, func(err error) bool {
		class := ClassOf(err)
		return !cmd.Changes() && (class == Conflict || class == Transient) || cmd.Runtime() && class == NotReady
	}, func() error {
		return c.Hold(ctx, func(ctx context.Context, s *Session) (err error) {
			out, err = s.Run(ctx, cmd)
			return err
		})
	})
	return out, err
}

// Change brings about what build wants. Each try holds the lock, calls build, which reads anew, and runs the command it tells. While that
// ends with Conflict, NotReady or Transient it is tried again for RetryFor; after AlreadyDone, Unchanged, Transient, and when the command
// took longer than its time, build is asked whether all is as wanted now, which is success then.
//
// Errors: those of build, and of Run. ErrUnknownOutcome if a command may have had its effect and build did not say that all is as wanted.
func (c *Client) Change(ctx context.Context, build Build) (Output, error) {
	var out Output
	var unsure error // of a command that may have had its effect, and has not been looked after
	err := c.again(ctx, func(err error) bool {
		switch ClassOf(err) {
		case Conflict, NotReady, Transient:
			return true
		}
		return false
	}, func() error {
		return c.Hold(ctx, func(ctx context.Context, s *Session) error {
			cmd, ok, err := build(ctx, s)
			if err != nil {
				return err
			}
			if unsure, out = nil, (Output{}); !ok {
				return nil
			}
			out, err = s.Run(ctx, cmd)
			class := ClassOf(err)
			if errors.Is(err, ErrUnknownOutcome) {
				unsure = err
			}
			if class == AlreadyDone || class == Unchanged || unsure != nil && class != Transient && ctx.Err() == nil {
				if _, ok, rerr := build(ctx, s); rerr == nil && !ok {
					unsure = nil
					return nil
				}
			}
			return err
		})
	})
	if err != nil && unsure != nil && !errors.Is(err, ErrUnknownOutcome) {
		err = fmt.Errorf("%w; before: %w", err, unsure)
	}
	return out, err
}

// again calls f until it returns nil or an error that worth does not want to see again, for RetryFor.
func (c *Client) again(ctx context.Context, worth func(error) bool, f func() error) error {
	give := time.Now().Add(or(c.RetryFor, 30*time.Second))
	pause := retry.Policy{First: c.Pause}.Pauses()
	for {
		err := f()
		if err == nil || !worth(err) {
			return err
		}
		d := pause()
		if time.Now().Add(d).After(give) {
			return err
		}
		if cause := retry.Sleep(ctx, d); cause != nil {
			return fmt.Errorf("%w; last: %w", cause, err)
		}
	}
}

func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
