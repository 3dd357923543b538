package switchertest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
)

const clients = 8 // that send probes at one time

// traffic is a load of probes, and what became of them.
type traffic struct {
	w *world

	// want is where requests that begin now must go; nil: they may go anywhere. Each switch makes a new one, and only requests that saw
	// the same one at both ends are judged.
	want atomic.Pointer[expectation]
	stop atomic.Bool
	tick chan struct{}

	sent, answered, judged, late, lost atomic.Int64

	mu        sync.Mutex
	firstLost error
}

// expectation is a slot, or every slot but that one (then an error is as good as an answer).
type expectation struct {
	slot string
	not  bool
}

// underLoad runs f while clients send probes, each as fast as it is answered. kept says how many of them keep their connection alive.
func (w *world) underLoad(kept int, f func(*traffic) error) (*traffic, error) {
	tr := &traffic{w: w, tick: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	for i := range clients {
		probe, done := w.Probe, func() {}
		if i < kept {
			probe, done = w.KeepAlive()
		}
		wg.Go(func() {
			defer done()
			for !tr.stop.Load() {
				tr.one(probe)
				runtime.Gosched() // a backend in memory answers without ever waiting: let the switch have its turn
			}
		})
	}
	err := f(tr)
	tr.stop.Store(true)
	wg.Wait()
	return tr, err
}

func (tr *traffic) one(probe func(context.Context) (string, error)) {
	want := tr.want.Load()
	tr.sent.Add(1)
	slot, err := tr.w.bounded(tr.w.life, probe)
	same := want != nil && want == tr.want.Load()
	if err != nil {
		tr.lost.Add(1)
		tr.mu.Lock()
		if tr.firstLost == nil {
			tr.firstLost = err
		}
		tr.mu.Unlock()
		if same && want.not {
			tr.judge()
		}
		_ = pause(tr.w.life, tr.w.Settle/50) // a backend that refuses all is not to be asked without end
		return
	}
	tr.answered.Add(1)
	if same {
		if (slot == want.slot) == want.not {
			tr.late.Add(1)
		}
		tr.judge()
	}
}

func (tr *traffic) judge() {
	tr.judged.Add(1)
	select {
	case tr.tick <- struct{}{}:
	default:
	}
}

// await waits until n more requests were judged.
func (tr *traffic) await(n int64) error {
	n += tr.judged.Load()
	t := time.NewTimer(tr.w.Patience)
	defer t.Stop()
	for tr.judged.Load() < n {
		select {
		case <-tr.tick:
		case <-tr.w.life.Done():
			return context.Cause(tr.w.life)
		case <-t.C:
			tr.mu.Lock()
			defer tr.mu.Unlock()
			return fmt.Errorf("of the requests that began after a switch, %d more were to be answered within %s; %d are missing (last trouble: %v)",
				3*clients, tr.w.Patience, n-tr.judged.Load(), tr.firstLost)
		}
	}
	return nil
}

// flips switches to and fro by set, and lets some requests of each client be judged between two switches.
func (tr *traffic) flips(ctx context.Context, set func(context.Context, abswap.Slot) error) error {
	const each = 3 * clients
	for i := range max(4, tr.w.Load/each) {
		to := tr.w.Green
		if i%2 == 1 {
			to = tr.w.Blue
		}
		tr.want.Store(nil)
		if err := set(ctx, to); err != nil {
			return fmt.Errorf("switch %d: %w", i, err)
		}
		tr.want.Store(&expectation{slot: to.Name()})
		if err := tr.await(each); err != nil {
			return fmt.Errorf("after switch %d: %w", i, err)
		}
	}
	return nil
}

// noneLate returns an error if any request was late.
func (tr *traffic) noneLate() error {
	if n := tr.late.Load(); n > 0 {
		return fmt.Errorf("%d of %d requests that began after a switch had returned were answered by a slot that was turned off", n, tr.judged.Load())
	}
	return nil
}

// noneLost returns an error if any request failed.
func (tr *traffic) noneLost() error {
	if n := tr.lost.Load(); n > 0 {
		return fmt.Errorf("%d of %d requests failed; the first one: %w", n, tr.sent.Load(), tr.firstLost)
	}
	return nil
}
