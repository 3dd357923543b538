package nginx_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/switchertest"
)

// crowd are clients that ask all the time, each request on a connection of its own.
type crowd struct {
	wg         sync.WaitGroup
	stop       context.CancelFunc
	want       atomic.Pointer[string] // the slot that requests that begin now must go to; nil: while it moves
	sent, late atomic.Int64

	mu   sync.Mutex
	lost []error
}

func (e *engine) crowd(ctx context.Context, n int) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{stop: stop}
	probe := e.site.Rig().Probe
	for range n {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				want := c.want.Load()
				got, err := probe(context.WithoutCancel(ctx))
				c.sent.Add(1)
				if err != nil {
					c.mu.Lock()
					c.lost = append(c.lost, err)
					c.mu.Unlock()
				} else if want != nil && want == c.want.Load() && got != *want {
					c.late.Add(1)
				}
				if !*full {
					_ = pause(ctx)
				}
			}
		})
	}
	return c
}

// Swaps under load, by the engine of the SDK: an upload, a download and a websocket begin before each swap and live over it and the next one.
// Nothing is lost, late or cut, and a slot counts as drained only when they are through.
func TestSwapsUnderLoad(t *testing.T) {
	t.Parallel()
	swaps := 5
	if *full {
		swaps = 100
	}
	e := newEngine(t, shape{})
	swapper := &abswap.Swapper{Switcher: e.sw, Slots: []abswap.Slot{e.blue, e.green}, Soak: -1, Retain: -1,
		Drain: abswap.DrainOptions{Quiet: 100 * time.Millisecond, Poll: 10 * time.Millisecond}}
	require.NoError(t, nothingButWarnings(swapper.Check(t.Context())))
	c := e.crowd(t.Context(), 4)
	defer c.wg.Wait()
	defer c.stop()
	kinds := []switchertest.Kind{switchertest.KindUpload, switchertest.KindDownload, switchertest.KindUpgraded}
	slots := []abswap.Slot{e.blue, e.green}
	var longest time.Duration
	for i := range swaps {
		from, to := slots[i%2], slots[(i+1)%2]
		var all []switchertest.Work
		for _, kind := range kinds {
			work, err := e.site.Begin(t.Context(), kind)
			require.NoError(t, err)
			require.Equal(t, from.Name(), work.Slot)
			defer work.Abort()
			all = append(all, work)
		}
		c.want.Store(nil)
		began := time.Now()
		require.NoError(t, e.sw.Activate(t.Context(), to))
		longest = max(longest, time.Since(began))
		name := to.Name()
		c.want.Store(&name)

		drained := make(chan error, 1)
		var open atomic.Int64
		open.Store(int64(len(all)))
		go func() {
			_, err := abswap.Drain(t.Context(), e.sw, from, swapper.Drain)
			if n := open.Load(); err == nil && n > 0 {
				err = fmt.Errorf("drained while %d pieces of work were open", n)
			}
			drained <- err
		}()
		for range 3 {
			for j, work := range all {
				assert.NoError(t, work.Step(t.Context()), "%s over swap %d", kinds[j], i)
			}
		}
		for j, work := range all {
			if j == len(all)-1 {
				load, err := e.sw.InFlight(t.Context(), from)
				require.NoError(t, err)
				assert.GreaterOrEqual(t, load.Requests, 1)
			}
			open.Add(-1) // from here on it may be seen as ended
			assert.NoError(t, work.End(t.Context()), "%s over swap %d", kinds[j], i)
		}
		require.NoError(t, <-drained)
	}
	c.stop()
	c.wg.Wait()
	assert.Empty(t, c.lost)
	assert.Zero(t, c.late.Load())
	t.Logf("%d swaps, the longest took %s; %d requests, %d late, %d lost; %d pieces of long work, none cut", swaps, longest.Round(time.Millisecond),
		c.sent.Load(), c.late.Load(), len(c.lost), swaps*len(kinds))
	_, err := swapper.Swap(t.Context(), slots[(swaps+1)%2].Name())
	require.NoError(t, err, "and by the whole engine")
}

// nothingButWarnings returns err without its warnings.
func nothingButWarnings(err error) error {
	joined, ok := err.(interface{ WrappedErrors() []error })
	if !ok {
		if _, warns := err.(*abswap.Warning); warns {
			return nil
		}
		return err
	}
	for _, e := range joined.WrappedErrors() {
		if err := nothingButWarnings(e); err != nil {
			return err
		}
	}
	return nil
}
