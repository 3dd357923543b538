package haproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/retry"
)

// waited is what came of a wait for servers to have nothing left.
type waited int

const (
	waitNever   waited = iota // this HAProxy cannot, or not behind this socket
	waitUnable                // not now: the servers are not in maintenance
	waitExpired               // the time is up, and something is left
	waitOver                  // HAProxy says that nothing is left
)

// WaitIdle returns as soon as InFlight of s is zero. An HAProxy from 3.0 on says by itself when a server in maintenance has nothing left; where
// that helps it is waited for: behind Runtime.Stats, for the servers of a ServerSwitcher. Else HAProxy is asked, up to twenty times a second,
// which costs a fraction of a millisecond each: it does not wait for servers that are drained or on, and the master process ends the wait at once.
func (e *engine) WaitIdle(ctx context.Context, s abswap.Slot) error {
	pauses := retry.Policy{First: 10 * time.Millisecond, Max: 50 * time.Millisecond}.Pauses()
	how := waitUnable
	for {
		l, err := e.InFlight(ctx, s)
		if err == nil && l.Total() == 0 {
			return nil
		}
		if errors.Is(err, abswap.ErrUnknownSlot) || errors.Is(err, abswap.ErrPermanent) {
			return err
		}
		if how == waitUnable || how == waitExpired {
			if how = e.removable(ctx, e.places[s.Name()]); how == waitExpired || how == waitOver {
				continue
			}
		} else if how == waitOver { // and the counters say something else: it would be said at once again
			how = waitUnable
		}
		if serr := retry.Sleep(ctx, pauses()); serr != nil {
			return serr
		}
	}
}

// removable lets HAProxy wait, for at most a second, until the servers of a place could be removed from it, which they can when they are in
// maintenance and have nothing left. Only the counters tell whether that is so: this tells when to look at them.
func (e *engine) removable(ctx context.Context, p place) waited {
	if e.rt.Master != "" || len(p.servers) == 0 {
		return waitNever
	}
	limit := min(time.Second, e.rt.Timeout/2)
	for _, server := range p.servers {
		command := fmt.Sprintf("wait %dms srv-removable %s/%s\n", limit.Milliseconds(), p.backend, server)
		answer, err := e.rt.exchange(ctx, command, false)
		if err != nil {
			return waitUnable // the next reading will say what is wrong
		}
		if how := parseWaited(answer); how != waitOver {
			return how
		}
	}
	return waitOver
}

// parseWaited reads the answer to "wait".
func parseWaited(answer string) waited {
	switch firstLine(answer) {
	case "Done":
		return waitOver
	case "Wait delay expired":
		return waitExpired
	case "Failed":
		return waitUnable
	}
	return waitNever // "Interrupted.": by the master process. "Unknown command": before 3.0
}
