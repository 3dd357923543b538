package abswap

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const memoryKeeps = 50 // swaps

// MemoryJournal is a Journal in memory, for tests, and for tools that live as long as the site. It keeps the newest 50 swaps. Its zero value
// is ready; Swappers that share one exclude each other.
type MemoryJournal struct {
	mu       sync.Mutex
	owner    *Owner
	order    []string            // swap IDs, oldest first
	records  map[string][]Record // by swap
	requests chan Request        // made by Lock
}

var _ Journal = (*MemoryJournal)(nil)

// Lock implements Journal.
func (j *MemoryJournal) Lock(ctx context.Context, o Owner) (JournalHold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.owner != nil {
		return nil, &BusyError{Owner: *j.owner}
	}
	j.owner, j.requests = &o, make(chan Request, 16)
	return &memoryHold{j: j, requests: j.requests}, nil
}

// Owner implements Journal.
func (j *MemoryJournal) Owner(context.Context) (Owner, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.owner == nil {
		return Owner{}, false, nil
	}
	return *j.owner, true, nil
}

// Swaps implements Journal.
func (j *MemoryJournal) Swaps(context.Context) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := slices.Clone(j.order)
	slices.Reverse(ids)
	return ids, nil
}

// Records implements Journal.
func (j *MemoryJournal) Records(_ context.Context, swap string) ([]Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.records[swap]), nil
}

// Post implements Journal. Without a holder, or when 16 requests wait already, the request is dropped.
func (j *MemoryJournal) Post(_ context.Context, r Request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.owner == nil {
		return nil
	}
	select {
	case j.requests <- r:
	default:
	}
	return nil
}

type memoryHold struct {
	j        *MemoryJournal
	requests chan Request
	done     bool // guarded by j.mu
}

func (h *memoryHold) Append(_ context.Context, r Record) error {
	h.j.mu.Lock()
	defer h.j.mu.Unlock()
	if h.done {
		return fmt.Errorf("journal is not held any more: %w", ErrPermanent)
	}
	if h.j.records == nil {
		h.j.records = map[string][]Record{}
	}
	if _, ok := h.j.records[r.Swap]; !ok {
		h.j.order = append(h.j.order, r.Swap)
		if len(h.j.order) > memoryKeeps {
			delete(h.j.records, h.j.order[0])
			h.j.order = h.j.order[1:]
		}
	}
	r.Version, r.Seq = 1, len(h.j.records[r.Swap])+1
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	h.j.records[r.Swap] = append(h.j.records[r.Swap], r)
	return nil
}

func (h *memoryHold) NextRequest(ctx context.Context) (Request, error) {
	select {
	case r := <-h.requests:
		return r, nil
	case <-ctx.Done():
		return Request{}, context.Cause(ctx)
	}
}

func (h *memoryHold) Unlock() error {
	h.j.mu.Lock()
	defer h.j.mu.Unlock()
	if !h.done {
		h.done, h.j.owner = true, nil
	}
	return nil
}
