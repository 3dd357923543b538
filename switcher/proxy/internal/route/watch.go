package route

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// watch tells those who wait for a slot to become idle that something has left it. While nobody waits, leaving costs one load.
type watch struct {
	waiting atomic.Int32
	mu      sync.Mutex
	bells   []chan struct{}
}

// wake is called after the departure has been counted. A waiter registers first and counts afterwards, so either it counts the departure or
// it is told of it.
func (w *watch) wake() {
	if w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.bells {
		select {
		case b <- struct{}{}:
		default: // it has been told already and will count again
		}
	}
}

func (w *watch) add() chan struct{} {
	b := make(chan struct{}, 1)
	w.mu.Lock()
	w.bells = append(w.bells, b)
	w.mu.Unlock()
	w.waiting.Add(1)
	return b
}

func (w *watch) remove(b chan struct{}) {
	w.waiting.Add(-1)
	w.mu.Lock()
	w.bells = slices.DeleteFunc(w.bells, func(x chan struct{}) bool { return x == b })
	w.mu.Unlock()
}

// WaitIdle returns nil when nothing is in flight in the slot, in none of its generations. It is told; it does not poll.
func (t *Table[T]) WaitIdle(ctx context.Context, name string) error {
	w := &t.slots[name].watch
	bell := w.add()
	defer w.remove(bell)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.Count(name).total() == 0 {
			return nil
		}
		select {
		case <-bell:
		case <-ctx.Done():
		}
	}
}
