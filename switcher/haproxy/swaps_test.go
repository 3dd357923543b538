package haproxy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/switchertest"
)

var swaps = flag.Int("haproxy.swaps", 5, "how many swaps TestSwapsUnderLoad makes")

// TestSwapsUnderLoad swaps to and fro under short requests, long uploads, downloads, websockets and sessions, while another hand reloads HAProxy
// at random moments. None may be lost, none late (answered by a slot that was off when it began), none cut; and at each reading the counts
// cover all that is open in a slot, also what old workers carry.
func TestSwapsUnderLoad(t *testing.T) {
	for name, newRig := range map[string]func(context.Context) (switchertest.Rig, *instance, error){
		"map": func(ctx context.Context) (switchertest.Rig, *instance, error) { return mapRig(ctx, true) },
		"servers": func(ctx context.Context) (switchertest.Rig, *instance, error) {
			return serversRig(ctx, serversConfig, false)
		},
		"sessions": func(ctx context.Context) (switchertest.Rig, *instance, error) {
			return serversRig(ctx, cookieConfig, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			needHAProxy(t)
			t.Parallel()
			rig, in, err := newRig(t.Context())
			require.NoError(t, err)
			defer func() { assert.NoError(t, rig.Close()) }()
			began := time.Now()
			l := &load{rig: rig, sessions: name == "sessions", open: map[*int]string{}}
			l.run(t, in)
			t.Logf("%s: %d swaps (longest Activate %s), %d reloads; %d short requests, %d pieces of long work, %d of them open in one slot at the most; lost %d, late %d, cut %d",
				time.Since(began).Round(time.Second), *swaps, l.longest, l.reloads, l.short.Load(), l.long.Load(), l.most, l.lost.Load(), l.late.Load(), l.cut.Load())
			assert.Zero(t, l.lost.Load(), "lost: %v", l.first)
			assert.Zero(t, l.late.Load(), "late")
			assert.Zero(t, l.cut.Load(), "cut: %v", l.first)
			assert.Positive(t, l.short.Load())
			assert.Positive(t, l.long.Load())
		})
	}
}

// load is what clients do during the swaps, and what became of it.
type load struct {
	rig      switchertest.Rig
	sessions bool
	want     atomic.Pointer[string] // the slot for what begins now; nil while a switch is on its way

	short, long, lost, late, cut atomic.Int64
	reloads, most                int
	longest                      time.Duration // of all calls of Activate

	mu    sync.Mutex
	first error           // what went wrong first
	open  map[*int]string // long work that has begun and is not yet being ended: its slot
}

func (l *load) wrong(n *atomic.Int64, err error) {
	n.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

func (l *load) run(t *testing.T, in *instance) {
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(*swaps+10)*3*time.Second)
	defer stop()
	require.NoError(t, l.rig.Switcher.Activate(ctx, l.rig.Blue))
	blue := l.rig.Blue.Name()
	l.want.Store(&blue)

	var over atomic.Bool
	var clients, reloader sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			probe, done := l.rig.Probe, func() {}
			if i%2 == 0 {
				probe, done = l.rig.KeepAlive()
			}
			defer done()
			for !over.Load() {
				l.request(ctx, probe)
			}
		})
	}
	kinds := []switchertest.Kind{switchertest.KindUpload, switchertest.KindUpgraded, switchertest.KindDownload, switchertest.KindUpload, switchertest.KindRequest}
	if l.sessions {
		kinds = append(kinds, switchertest.KindSession, switchertest.KindSession)
	}
	for _, kind := range kinds {
		clients.Go(func() {
			for !over.Load() {
				l.work(ctx, kind, &over)
			}
		})
	}
	reloader.Go(func() { l.reload(ctx, t, in, &over) })

	to := l.rig.Green
	for i := range *swaps {
		l.want.Store(nil)
		began := time.Now()
		if !assert.NoError(t, l.rig.Switcher.Activate(ctx, to), "swap %d", i) {
			break
		}
		took := time.Since(began)
		l.longest = max(l.longest, took)
		name := to.Name()
		l.want.Store(&name)
		active, err := l.rig.Switcher.Active(ctx)
		assert.NoError(t, err)
		assert.Equal(t, name, active, "swap %d, which took %s", i, took)
		for range 3 {
			l.reading(ctx, t)
			pause(ctx, time.Duration(20+rand.IntN(80))*time.Millisecond)
		}
		if to = l.rig.Blue; name == blue {
			to = l.rig.Green
		}
	}
	over.Store(true)
	reloader.Wait()
	l.reading(ctx, t)
	clients.Wait()
	for _, s := range []abswap.Slot{l.rig.Blue, l.rig.Green} {
		res, err := abswap.Drain(ctx, l.rig.Switcher.(abswap.Drainer), s, abswap.DrainOptions{Timeout: 30 * time.Second})
		assert.NoError(t, err, "all has ended")
		assert.Equal(t, abswap.EvidenceExact, res.Last.Evidence)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// request sends one short request.
func (l *load) request(ctx context.Context, probe func(context.Context) (string, error)) {
	want := l.want.Load()
	slot, err := probe(ctx)
	l.short.Add(1)
	switch {
	case err != nil:
		l.wrong(&l.lost, fmt.Errorf("short request: %w", err))
	case want != nil && want == l.want.Load() && slot != *want:
		l.wrong(&l.late, fmt.Errorf("a request was answered by %q, not by %q", slot, *want))
	}
}

// work begins one piece of long work, carries it on over some swaps, and ends it.
func (l *load) work(ctx context.Context, kind switchertest.Kind, over *atomic.Bool) {
	want := l.want.Load()
	work, err := l.rig.Begin(ctx, kind)
	if err != nil {
		l.wrong(&l.lost, fmt.Errorf("begin of %s: %w", kind, err))
		return
	}
	defer work.Abort()
	l.long.Add(1)
	if want != nil && want == l.want.Load() && work.Slot != *want {
		l.wrong(&l.late, fmt.Errorf("a %s went to %q, not to %q", kind, work.Slot, *want))
	}
	key := new(int)
	if kind != switchertest.KindSession { // between its requests it is nowhere
		l.mu.Lock()
		l.open[key] = work.Slot
		l.mu.Unlock()
	}
	for range 2 + rand.IntN(10) {
		if over.Load() {
			break
		}
		if work.Step != nil {
			if err := work.Step(ctx); err != nil {
				l.wrong(&l.cut, fmt.Errorf("%s in %q: %w", kind, work.Slot, err))
				break
			}
		}
		pause(ctx, time.Duration(rand.IntN(100))*time.Millisecond)
	}
	l.mu.Lock()
	delete(l.open, key)
	l.mu.Unlock()
	if err := work.End(ctx); err != nil {
		l.wrong(&l.cut, fmt.Errorf("end of %s in %q: %w", kind, work.Slot, err))
	}
}

// reading compares the counts with what was open before them and still is after them.
func (l *load) reading(ctx context.Context, t *testing.T) {
	for _, s := range []abswap.Slot{l.rig.Blue, l.rig.Green} {
		before := map[*int]bool{}
		l.mu.Lock()
		for key, slot := range l.open {
			if slot == s.Name() {
				before[key] = true
			}
		}
		l.mu.Unlock()
		got, err := l.rig.Switcher.(abswap.Drainer).InFlight(ctx, s)
		if !assert.NoError(t, err) {
			return
		}
		n := 0
		l.mu.Lock()
		for key := range l.open {
			if before[key] {
				n++
			}
		}
		l.mu.Unlock()
		l.most = max(l.most, n)
		assert.GreaterOrEqual(t, got.Total(), n, "slot %q: %+v", s.Name(), got)
		assert.Equal(t, abswap.EvidenceExact, got.Evidence)
	}
}

// reload is another hand that reloads HAProxy now and then, and knows nothing of swaps.
func (l *load) reload(ctx context.Context, t *testing.T, in *instance, over *atomic.Bool) {
	for !over.Load() {
		pause(ctx, time.Duration(rand.IntN(600))*time.Millisecond)
		before, err := in.worker()
		if !assert.NoError(t, err) || !assert.NoError(t, in.reload()) {
			return
		}
		l.reloads++
		sent := time.Now()
		for now := before; now == before; { // one that comes while the master still makes ready is lost, as signals are: send it again
			if ctx.Err() != nil {
				assert.NoError(t, errors.New("the reload does not come to its end"))
				return
			}
			if time.Since(sent) > 3*time.Second {
				sent = time.Now()
				assert.NoError(t, in.reload())
			}
			pause(ctx, 5*time.Millisecond)
			if now, err = in.worker(); err != nil { // the socket changes hands
				now = before
			}
		}
	}
}
