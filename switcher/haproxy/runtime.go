package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Runtime says how HAProxy's runtime API is reached. Exactly one of Master and Stats is set. An address is the path of a Unix socket,
// "/run/haproxy-master.sock", or "host:port".
//
// The socket gives full control of HAProxy: let it be a Unix socket of mode 600 or 660, never a port that others reach.
type Runtime struct {
	// Master is the socket of the master process, as given to its option -S. Through it all workers are asked and changed: the one that
	// takes new connections, and those that a reload has made old and that still hold uploads, websockets and kept-alive clients.
	Master string

	// Stats is a "stats socket" of level admin, for an HAProxy that runs as one process, without -W. After a reload nobody can ask the
	// process before, so such an HAProxy is restarted, not reloaded, while slots are drained.
	Stats string

	// Timeout bounds one command. 0: 5s.
	Timeout time.Duration

	// Patience bounds what HAProxy needs time for: a reload that goes on, a server whose health check has to come up first. 0: 30s.
	Patience time.Duration

	// Dial connects to the socket. The connection should have the method CloseWrite, as those of Unix sockets and TCP have: the master waits
	// for further commands until then. nil: a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const answerLimit = 64 << 20 // an answer that is longer is not waited for

// mistakes finds what is wrong with r.
func (r Runtime) mistakes() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case r.Master == "" && r.Stats == "":
		add("neither Runtime.Master nor Runtime.Stats is set: name the socket that HAProxy was given with -S, or the stats socket of a single process")
	case r.Master != "" && r.Stats != "":
		add("Runtime.Master and Runtime.Stats are both set: the master's socket is enough")
	}
	if r.Timeout < 0 || r.Patience < 0 {
		add("Runtime has a negative duration: Timeout %s, Patience %s", r.Timeout, r.Patience)
	}
	return multi.Join(errs...)
}

func (r Runtime) withDefaults() Runtime {
	if r.Timeout == 0 {
		r.Timeout = 5 * time.Second
	}
	if r.Patience == 0 {
		r.Patience = 30 * time.Second
	}
	if r.Dial == nil {
		r.Dial = (&net.Dialer{}).DialContext
	}
	return r
}

// address is the one of the socket.
func (r Runtime) address() string {
	if r.Master != "" {
		return r.Master
	}
	return r.Stats
}

// network tells a path from host:port.
func network(address string) string {
	if strings.ContainsAny(address, `/\`) {
		return "unix"
	}
	return "tcp"
}

// ask sends one command to a worker, on a connection of its own, and returns the answer without the empty line at its end. pid 0 is the
// process behind the socket itself: the master, or the only process. A refusal of the master's that there is no such worker is an error;
// all other sentences are the caller's to judge, since only it knows what it expects.
func (r Runtime) ask(ctx context.Context, pid int, command string) (string, error) {
	sent := command
	if pid != 0 {
		sent = fmt.Sprintf("@!%d %s", pid, command)
	}
	answer, err := r.exchange(ctx, sent+"\n", true)
	if err != nil {
		return "", fmt.Errorf("haproxy at %s: %q: %w", r.address(), sent, err)
	}
	text, whole := complete(answer)
	if err := refusal(pid, command, answer); errors.Is(err, ErrNoWorker) {
		return "", err
	}
	if !whole {
		return "", fmt.Errorf("haproxy at %s: %q: %w after %d bytes", r.address(), sent, ErrCutAnswer, len(answer))
	}
	return text, nil
}

// complete tells whether an answer came to its end, which is an empty line: a process that ends leaves a part of one. It returns the answer
// without that line.
func complete(answer string) (string, bool) {
	if answer == "\n" {
		return "", true
	}
	return strings.CutSuffix(answer, "\n\n")
}

// exchange writes text and reads until the other side closes. last says to the other side that no more commands come, which the master needs, and
// which ends a command that waits.
func (r Runtime) exchange(ctx context.Context, text string, last bool) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("no answer within %s: %w", r.Timeout, context.DeadlineExceeded))
	defer cancel()
	conn, err := r.Dial(ctx, network(r.address()), r.address())
	if err != nil {
		return "", r.advised(causeOr(ctx, err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", causeOr(ctx, err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && last {
		if err := half.CloseWrite(); err != nil {
			return "", causeOr(ctx, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(conn, answerLimit+1))
	if err != nil {
		return "", causeOr(ctx, err)
	}
	if len(b) > answerLimit {
		return "", fmt.Errorf("%w: it has more than %d MiB", ErrBadAnswer, answerLimit>>20)
	}
	return string(b), nil
}

// advised says what an operator can do about a socket that cannot be reached.
func (r Runtime) advised(err error) error {
	made := "-S " + r.Master + " on its command line"
	if r.Master == "" {
		made = fmt.Sprintf("the line \"stats socket %s mode 600 level admin\" in its section global", r.Stats)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("HAProxy does not run, or not with %s: %w", made, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("run as root, or as the user to whom the socket belongs: %w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("HAProxy does not run, or is just being reloaded: %w", err)
	}
	return err
}

// causeOr is what ended ctx, or err if nothing did.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// order sends a command for which HAProxy has no words when it was carried out.
func (r Runtime) order(ctx context.Context, pid int, command string) error {
	answer, err := r.ask(ctx, pid, command)
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "" {
		return unexpected(pid, command, answer)
	}
	return nil
}

// read sends a command that is answered with data.
func (r Runtime) read(ctx context.Context, pid int, command string) (string, error) {
	answer, err := r.ask(ctx, pid, command)
	if err != nil {
		return "", err
	}
	if err := refusal(pid, command, answer); err != nil {
		return "", err
	}
	return answer, nil
}
