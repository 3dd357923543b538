package iis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
)

// Drainer counts the requests that the worker processes of a slot's application pool are executing: those of the worker that serves now
// and those of older ones that are still finishing. It needs the feature Request Monitor.
//
// Its evidence is approximate, always: a request that waits in the queue of HTTP.sys and was not yet taken by a worker process is on nobody's
// list, so that one zero proves nothing. Queue lets it be counted. IIS lists a websocket as a request like others, so Upgraded stays 0.
type Drainer struct {
	Slots []*Slot // those that it is asked for; required

	// Queue tells how many requests wait in the queue of an application pool: the performance counter "HTTP Service Request Queues\
	// CurrentQueueSize". nil: they are not counted, and DrainOptions.Quiet has to outlast their stay.
	Queue func(ctx context.Context, pool string) (int, error)
}

var (
	_ abswap.ListingDrainer = (*Drainer)(nil)
	_ abswap.Checker        = (*Drainer)(nil)
)

// InFlight counts the requests in the slot's pool. Without Request Monitor the count is 0 if the pool has no worker process at all; else
// the evidence is unknown, and the error wraps errors.ErrUnsupported.
func (d *Drainer) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	slot, requests, err := d.requests(ctx, s)
	if slot == nil {
		return abswap.Load{}, err
	}
	pool := slot.cfg.Pool
	if appcmd.ClassOf(err) == appcmd.NotImplemented {
		return d.withoutMonitor(ctx, slot, err)
	}
	if err != nil {
		return abswap.Load{}, slot.errorf("requests in pool %q: %w", pool, explain(err))
	}
	l := abswap.Load{Requests: len(requests), Evidence: abswap.EvidenceApproximate, Source: "IIS requests of pool " + pool + byWorker(requests)}
	return d.withQueue(ctx, slot, l)
}

// withQueue adds what waits in HTTP.sys.
func (d *Drainer) withQueue(ctx context.Context, slot *Slot, l abswap.Load) (abswap.Load, error) {
	if d.Queue == nil {
		return l, nil
	}
	n, err := d.Queue(ctx, slot.cfg.Pool)
	if err != nil {
		return abswap.Load{}, slot.errorf("queue of pool %q: %w", slot.cfg.Pool, err)
	}
	l.Requests += n
	l.Source += fmt.Sprintf(", queue: %d", n)
	return l, nil
}

// withoutMonitor tells as much as worker processes tell.
func (d *Drainer) withoutMonitor(ctx context.Context, slot *Slot, why error) (abswap.Load, error) {
	workers, err := slot.server().workers(ctx, slot.cfg.Pool)
	if err != nil {
		return abswap.Load{}, slot.errorf("worker processes of pool %q: %w", slot.cfg.Pool, err)
	}
	if len(workers) == 0 {
		return d.withQueue(ctx, slot, abswap.Load{Evidence: abswap.EvidenceApproximate, Source: "no worker process of pool " + slot.cfg.Pool})
	}
	return abswap.Load{Source: "worker processes of pool " + slot.cfg.Pool}, slot.errorf("its %d worker processes run, and what they execute cannot be "+
		"listed: %w: %w", len(workers), errNoMonitor, why)
}

// errNoMonitor says what to install.
var errNoMonitor = fmt.Errorf("the Windows feature Request Monitor (Web-Request-Monitor, IIS-RequestMonitor) is not installed: %w", errors.ErrUnsupported)

// List names the requests in the slot's pool.
func (d *Drainer) List(ctx context.Context, s abswap.Slot, limit int) ([]abswap.Work, error) {
	slot, requests, err := d.requests(ctx, s)
	if slot == nil {
		return nil, err
	}
	if appcmd.ClassOf(err) == appcmd.NotImplemented {
		err = fmt.Errorf("%w: %w", errNoMonitor, err)
	}
	if err != nil {
		return nil, slot.errorf("requests in pool %q: %w", slot.cfg.Pool, explain(err))
	}
	slices.SortStableFunc(requests, func(a, b appcmd.Request) int { return cmp.Compare(b.Time, a.Time) })
	var all []abswap.Work
	for _, r := range requests[:min(len(requests), max(limit, 0))] {
		path, _, _ := strings.Cut(r.URL, "?")
		all = append(all, abswap.Work{Kind: "request", Method: r.Verb, Path: path[:min(len(path), 100)], Peer: r.Client, Age: r.Time})
	}
	return all, nil
}

// requests lists those in the slot's pool. slot is nil if it is not one of d's.
func (d *Drainer) requests(ctx context.Context, s abswap.Slot) (*Slot, []appcmd.Request, error) {
	slot, err := find(d.Slots, s)
	if err != nil {
		return nil, nil, err
	}
	requests, err := slot.server().appcmd().Requests(ctx, appcmd.RequestFilter{Pool: slot.cfg.Pool})
	return slot, requests, err
}

// find returns the slot of that name.
func find(all []*Slot, s abswap.Slot) (*Slot, error) {
	if s == nil {
		return nil, fmt.Errorf("no slot is named: %w", abswap.ErrUnknownSlot)
	}
	for _, own := range all {
		if own.Name() == s.Name() {
			return own, nil
		}
	}
	return nil, fmt.Errorf("slot %q: %w", s.Name(), abswap.ErrUnknownSlot)
}

// byWorker tells how many requests each worker process has.
func byWorker(requests []appcmd.Request) string {
	count := map[int]int{}
	var pids []int
	for _, r := range requests {
		if count[r.PID]++; count[r.PID] == 1 {
			pids = append(pids, r.PID)
		}
	}
	slices.Sort(pids)
	var b strings.Builder
	for _, pid := range pids {
		fmt.Fprintf(&b, ", worker process %d: %d", pid, count[pid])
	}
	return b.String()
}

// Check finds out whether requests can be listed.
func (d *Drainer) Check(ctx context.Context, r abswap.CheckRequest) error {
	if len(d.Slots) == 0 {
		return errors.New("iis.Drainer has no Slots")
	}
	_, err := d.Slots[0].server().appcmd().Requests(ctx, appcmd.RequestFilter{Pool: d.Slots[0].cfg.Pool})
	if appcmd.ClassOf(err) == appcmd.NotImplemented {
		return fmt.Errorf("nobody could tell when an old slot is idle: %w: %w", errNoMonitor, err)
	}
	if err != nil {
		return fmt.Errorf("requests: %w", explain(err))
	}
	return nil
}
