package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/retry"
)

// place is where the work of a slot is in HAProxy: a backend, or some servers of one.
type place struct {
	backend string
	servers []string // nil: the whole backend
}

// engine is what both switchers share: HAProxy, and where the slots are in it.
type engine struct {
	rt     Runtime
	places map[string]place // by the slot's name
	listed int
	turn   chan struct{} // holds one token: who has it changes things
}

func newEngine(rt Runtime, places map[string]place, listed int) *engine {
	e := &engine{rt: rt.withDefaults(), places: places, listed: listed, turn: make(chan struct{}, 1)}
	if e.listed == 0 {
		e.listed = 1000
	}
	e.turn <- struct{}{}
	return e
}

// lock waits for its turn to change things.
func (e *engine) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case <-e.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *engine) unlock() { e.turn <- struct{}{} }

// slot finds the place of a slot.
func (e *engine) slot(s abswap.Slot) (place, error) {
	if s != nil {
		if p, ok := e.places[s.Name()]; ok {
			return p, nil
		}
		return place{}, fmt.Errorf("haproxy: slot %q is not among %q: %w", s.Name(), e.names(), abswap.ErrUnknownSlot)
	}
	return place{}, fmt.Errorf("haproxy: the slot is nil: %w", abswap.ErrUnknownSlot)
}

func (e *engine) names() []string {
	var all []string
	for name := range e.places {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// quick is how soon something is tried again that takes a moment.
func quick() retry.Policy {
	return retry.Policy{First: 5 * time.Millisecond, Max: 200 * time.Millisecond}
}

// processes lists the workers. Behind Runtime.Stats there is one, which has no number.
func (e *engine) processes(ctx context.Context) (processes, error) {
	if e.rt.Master == "" {
		return processes{workers: []worker{{}}}, nil
	}
	text, err := e.rt.read(ctx, 0, "show proc")
	if err != nil {
		return processes{}, err
	}
	return parseProcesses(text)
}

// patient tries f again until it succeeds, stops, or Patience is over. The master cannot be asked while it reloads, and a worker that is
// listed may end before it is asked.
func (e *engine) patient(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, e.rt.Patience, fmt.Errorf("not within %s: %w", e.rt.Patience, context.DeadlineExceeded))
	defer cancel()
	var last error // that f had to say, rather than that its time was up
	err := retry.Do(ctx, quick(), func(ctx context.Context) error {
		err := f(ctx)
		if errors.Is(err, abswap.ErrPermanent) {
			return retry.Stop(err)
		}
		if timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded); !timedOut || last == nil {
			last = err
		}
		return err
	})
	if err != nil && last != nil && ctx.Err() != nil {
		return fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
	}
	return err
}

// current runs f on the worker that takes new connections.
func (e *engine) current(ctx context.Context, f func(context.Context, worker) error) error {
	return e.patient(ctx, func(ctx context.Context) error {
		p, err := e.processes(ctx)
		if err != nil {
			return err
		}
		i := -1
		for j, w := range p.workers {
			switch {
			case w.old:
			case i >= 0:
				return ErrManyWorkers
			default:
				i = j
			}
		}
		if i < 0 {
			return fmt.Errorf("%w: none takes new connections", ErrNoWorker)
		}
		return f(ctx, p.workers[i])
	})
}

// everywhere runs f on each worker, old ones included, until a list shows none on which it has not run. A worker that has ended is done with.
// When it returns nil, every worker that a configuration read before the call could have made was dealt with: the master lists the new worker
// before it answers again after a reload.
func (e *engine) everywhere(ctx context.Context, f func(context.Context, worker) error) error {
	done := map[int]bool{}
	return e.patient(ctx, func(ctx context.Context) error {
		for fresh := true; fresh; {
			fresh = false
			p, err := e.processes(ctx)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(p.workers, func(w worker) bool { return !w.old }) {
				return fmt.Errorf("%w: none takes new connections", ErrNoWorker)
			}
			for _, w := range p.workers {
				if done[w.pid] {
					continue
				}
				if err := f(ctx, w); err != nil { // also if it has ended: then the next list lacks it
					return err
				}
				done[w.pid], fresh = true, e.rt.Master != ""
			}
		}
		return nil
	})
}

// stats reads the rows of a backend in one worker: those of its servers and its own.
func (e *engine) stats(ctx context.Context, w worker, backend string) ([]stat, error) {
	const backends, servers = 2, 4
	command := fmt.Sprintf("show stat %s %d -1", backend, backends|servers)
	text, err := e.rt.read(ctx, w.pid, command)
	if err != nil {
		return nil, err
	}
	rows, err := parseStats(text, backend)
	if err == nil && !slices.ContainsFunc(rows, func(s stat) bool { return s.name == backendRow }) {
		err = &RefusalError{Worker: w.pid, Command: command, Text: fmt.Sprintf("%q is not a backend", backend), Reason: ErrNoBackend}
	}
	return rows, err
}

// states reads the states of a backend's servers in one worker.
func (e *engine) states(ctx context.Context, w worker, backend string) (*stateTable, error) {
	text, err := e.rt.read(ctx, w.pid, "show servers state "+backend)
	if err != nil {
		return nil, err
	}
	return parseStates(text)
}

// detached is a context in which a change that has begun is carried to its end, although the caller's has ended: half a change would be a
// third world.
func (e *engine) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.rt.Patience+e.rt.Timeout)
}

// safeName refuses names that HAProxy's command line, or a map file, would not take as one word.
func safeName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty", what)
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("-_.:", c):
		default:
			return fmt.Errorf("%s %q: character %q is none of A-Z a-z 0-9 and - _ : and dot", what, name, c)
		}
	}
	return nil
}

// safeWord is safeName for what may be a path or any key.
func safeWord(what, word string) error {
	if word == "" {
		return fmt.Errorf("%s is empty", what)
	}
	for _, c := range word {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`;\"'`, c) {
			return fmt.Errorf("%s %q: character %q cannot be sent to HAProxy", what, word, c)
		}
	}
	if strings.HasPrefix(word, "#") || strings.Contains(word, "<<") {
		return fmt.Errorf("%s %q cannot be sent to HAProxy", what, word)
	}
	return nil
}
