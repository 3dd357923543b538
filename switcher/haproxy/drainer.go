package haproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap"
)

// count is what a worker carries for a slot.
type count struct {
	total    int
	upgraded int
	requests int // that were seen as such; the total tells how many there are
}

// InFlight counts the work in a slot, over the worker that takes new connections and all that reloads have made old.
//
// The evidence is exact: HAProxy counts a request when it picks the backend or the server, in one go on one thread, and before each count
// this waits until no thread is within such a go. The Config's Listed bounds how websockets are told from requests. While a reload goes on the
// reading is taken again. A worker that cannot be asked is an error.
//
// What HAProxy does for the slot without having given it to a server does not count: health checks, and a request whose connection to the
// server was refused and which waits to try once more.
func (e *engine) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	p, err := e.slot(s)
	if err != nil {
		return abswap.Load{}, err
	}
	counts := map[int]count{}
	err = e.everywhere(ctx, func(ctx context.Context, w worker) error {
		c, err := e.count(ctx, w, p)
		if w.old && refusedFor(err, ErrNoBackend) {
			c, err = count{}, nil // its configuration had no such backend yet
		}
		if err == nil {
			counts[w.pid] = c
		}
		return err
	})
	if err != nil {
		return abswap.Load{Source: "haproxy"}, fmt.Errorf("count of slot %q: %w", s.Name(), err)
	}
	l := abswap.Load{Evidence: abswap.EvidenceExact, Source: fmt.Sprintf("haproxy counters of %d worker(s)", len(counts))}
	for _, c := range counts {
		l.Upgraded += c.upgraded
		l.Requests += max(c.total-c.upgraded, c.requests)
	}
	return l, nil
}

// refusedFor tells whether err is a refusal for that reason.
func refusedFor(err, reason error) bool {
	r, ok := errors.AsType[*RefusalError](err)
	return ok && r.Reason == reason
}

// count reads what a worker carries in a place.
func (e *engine) count(ctx context.Context, w worker, p place) (count, error) {
	if err := e.barrier(ctx, w); err != nil {
		return count{}, err
	}
	n, err := e.total(ctx, w, p)
	if err != nil || n == 0 || e.listed < 0 {
		return count{total: n}, err
	}
	info, err := e.rt.read(ctx, w.pid, "show info")
	if err != nil {
		return count{}, err
	}
	if open, err := parseInfo(info, "CurrConns"); err != nil || open > e.listed {
		return count{total: n}, err
	}
	c := count{}
	all, err := e.sessions(ctx, w, p)
	if err != nil {
		return count{}, err
	}
	for _, s := range all {
		if s.upgraded {
			c.upgraded++
		} else {
			c.requests++
		}
	}
	// Read last: a websocket that has ended since it was listed is then not taken from the requests twice.
	c.total, err = e.total(ctx, w, p)
	return c, err
}

// barrier returns when every thread of the worker has come to the end of what it was doing when the call began: the command isolates them. A
// request that had picked a slot is counted from then on.
func (e *engine) barrier(ctx context.Context, w worker) error {
	_, err := e.rt.read(ctx, w.pid, "show fd 0")
	return err
}

// total reads HAProxy's counters of a place.
func (e *engine) total(ctx context.Context, w worker, p place) (int, error) {
	rows, err := e.stats(ctx, w, p.backend)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, r := range rows {
		switch {
		case p.servers == nil && r.name == backendRow:
			sum += r.current // those that wait in its queue included
		case p.servers != nil && slices.Contains(p.servers, r.name):
			sum += r.current + r.queued
		}
	}
	return sum, nil
}

// sessions lists what is in a place.
func (e *engine) sessions(ctx context.Context, w worker, p place) ([]session, error) {
	text, err := e.rt.read(ctx, w.pid, "show sess all")
	if err != nil {
		return nil, err
	}
	all, err := parseSessions(text)
	return slices.DeleteFunc(all, func(s session) bool {
		return s.backend != p.backend || p.servers != nil && !slices.Contains(p.servers, s.server)
	}), err
}

// List returns at most limit of the pieces of work in s, oldest first. HAProxy does not tell their paths.
func (e *engine) List(ctx context.Context, s abswap.Slot, limit int) ([]abswap.Work, error) {
	p, err := e.slot(s)
	if err != nil {
		return nil, err
	}
	found := map[int][]session{}
	err = e.everywhere(ctx, func(ctx context.Context, w worker) error {
		some, err := e.sessions(ctx, w, p)
		if err == nil {
			found[w.pid] = some
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list of slot %q: %w", s.Name(), err)
	}
	var all []session
	for _, some := range found {
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b session) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.id, b.id)) })
	all = all[:min(len(all), max(limit, 0))]
	list := make([]abswap.Work, len(all))
	for i, age := range ages(all, time.Now()) {
		x := all[i]
		list[i] = abswap.Work{Kind: "request", Method: x.method, Peer: x.source, Age: age, In: x.in, Out: x.out}
		if x.upgraded {
			list[i].Kind = "upgraded"
		}
	}
	return list, nil
}

// Force ends the work in s. ForceCut shuts its sessions down, in all workers; clients see their connection closed in the midst of an answer.
// ForceHandOver has nothing to do: HAProxy picks the slot for each request, so kept-alive clients go to the new one with their next request;
// websockets, and connections in TCP mode, HAProxy cannot ask to go.
func (e *engine) Force(ctx context.Context, s abswap.Slot, how abswap.Force) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	p, err := e.slot(s)
	if err != nil {
		return err
	}
	switch how {
	case abswap.ForceHandOver:
		return nil
	case abswap.ForceCut:
	default:
		return fmt.Errorf("haproxy: force %d is neither ForceHandOver nor ForceCut: %w", how, errors.ErrUnsupported)
	}
	err = e.everywhere(ctx, func(ctx context.Context, w worker) error {
		err := e.cut(ctx, w, p)
		if w.old && refusedFor(err, ErrNoBackend) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cut of slot %q: %w", s.Name(), err)
	}
	return nil
}

// cut shuts down what a worker carries in a place: by server, and one by one where there is no server yet, or where the worker is an old one,
// which refuses the former.
func (e *engine) cut(ctx context.Context, w worker, p place) error {
	rows, err := e.stats(ctx, w, p.backend)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.name == backendRow || p.servers != nil && !slices.Contains(p.servers, r.name) {
			continue
		}
		err := e.rt.order(ctx, w.pid, "shutdown sessions server "+p.backend+"/"+r.name)
		if err != nil && !refusedFor(err, ErrDisabled) {
			return err
		}
	}
	all, err := e.sessions(ctx, w, p)
	if err != nil {
		return err
	}
	for _, x := range all {
		if err := e.rt.order(ctx, w.pid, "shutdown session "+x.id); err != nil && !refusedFor(err, ErrNoSession) {
			return err
		}
	}
	return nil
}
