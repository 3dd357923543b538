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

var swaps = flag.Int("haproxy.swaps", 4, "how many swaps TestSwapsUnderLoad makes; from 50 on clients do not pause between requests")

// many swaps are the full form of TestSwapsUnderLoad: go test -run TestSwapsUnderLoad -timeout 30m ./switcher/haproxy -haproxy.swaps 100
const many = 50

// TestSwapsUnderLoad swaps to and fro under short requests, long uploads, downloads, websockets and sessions, while another hand reloads HAProxy
// at random moments. None may be lost, none late (answered by a slot that was off when it began), none cut; and at each reading the counts
// cover all that is open in a slot, also what old workers carry.
func TestSwapsUnderLoad(t *testing.T) {
	type newRig = func(context.Context) (switchertest.Rig, *instance, error)
	servers := func(config string, keep bool) newRig {
		return func(ctx context.Context) (switchertest.Rig, *instance, error) { return serversRig(ctx, config, keep) }
	}
	for name, c := range map[string]struct {
		newRig   newRig
		sessions sessions
		tcp      bool
	}{
		"map":               {func(ctx context.Context) (switchertest.Rig, *instance, error) { return mapRig(ctx, true) }, noSessions, false},
		"servers":           {servers(serversConfig, false), noSessions, false},
		"sessions kept":     {servers(cookieConfig, true), sessionsStay, false},
		"sessions not kept": {servers(cookieConfig, false), sessionsMove, false},
		"tcp map":           {func(ctx context.Context) (switchertest.Rig, *instance, error) { return tcpRig(ctx, true) }, noSessions, true},
		"tcp servers":       {func(ctx context.Context) (switchertest.Rig, *instance, error) { return tcpRig(ctx, false) }, noSessions, true},
	} {
		t.Run(name, func(t *testing.T) {
			needHAProxy(t)
			t.Parallel()
			rig, in, err := c.newRig(t.Context())
			require.NoError(t, err)
			defer func() { assert.NoError(t, rig.Close()) }()
			began := time.Now()
			l := &load{rig: rig, front: in.front, sessions: c.sessions, tcp: c.tcp, open: map[*int]string{}}
			l.run(t, in)
			t.Logf("%s: %d swaps (longest Activate %s), %d reloads; %d short requests, %d pieces of long work, %d of them open in one slot at the most; lost %d, late %d, cut %d",
				time.Since(began).Round(time.Second), *swaps, l.longest, l.reloads, l.short.Load(), l.long.Load(), l.most, l.lost.Load(), l.late.Load(), l.cut.Load())
			assert.Zero(t, l.lost.Load(), "lost: %v", l.first)
			assert.Zero(t, l.late.Load(), "late: %v", l.first)
			assert.Zero(t, l.cut.Load(), "cut: %v", l.first)
			assert.Positive(t, l.short.Load())
			assert.Positive(t, l.long.Load())
			if l.sessions != noSessions {
				v := &l.visits
				t.Logf("%d sessions with %d requests, %d of them while their slot was off; lost %d, moved %d, late %d", v.sessions.Load(), v.requests.Load(),
					v.stayed.Load(), v.lost.Load(), v.moved.Load(), v.late.Load())
				assert.Zero(t, v.lost.Load()+v.moved.Load()+v.late.Load(), "sessions: %v", l.first)
				assert.Positive(t, v.sessions.Load())
				assert.Greater(t, v.requests.Load(), v.sessions.Load())
				if l.sessions == sessionsStay && *swaps >= many {
					assert.Positive(t, v.stayed.Load(), "a session that is kept outlives swaps")
				}
			}
		})
	}
}

// load is what clients do during the swaps, and what became of it.
type load struct {
	rig      switchertest.Rig
	front    string
	sessions sessions
	tcp      bool                   // plain connections, no requests
	want     atomic.Pointer[string] // the slot for what begins now; nil while a switch is on its way

	short, long, lost, late, cut atomic.Int64
	visits                       visits
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
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(*swaps+20)*10*time.Second)
	defer stop()
	require.NoError(t, l.rig.Switcher.Activate(ctx, l.rig.Blue))
	blue := l.rig.Blue.Name()
	l.want.Store(&blue)

	var over atomic.Bool
	var clients, reloader sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			probe, done := l.rig.Probe, func() {}
			if i%2 == 0 && !l.tcp {
				probe, done = l.rig.KeepAlive()
			}
			defer done()
			for !over.Load() {
				l.request(ctx, probe)
				if *swaps < many {
					pause(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
				}
			}
		})
	}
	kinds := []switchertest.Kind{switchertest.KindUpload, switchertest.KindUpgraded, switchertest.KindDownload, switchertest.KindUpload, switchertest.KindRequest}
	if l.tcp {
		kinds = []switchertest.Kind{switchertest.KindUpgraded, switchertest.KindUpgraded, switchertest.KindUpgraded}
	}
	if l.sessions != noSessions {
		for range 3 {
			clients.Go(func() {
				for !over.Load() {
					l.visit(ctx, &over)
				}
			})
		}
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
		res, err := abswap.Drain(ctx, l.rig.Switcher.(abswap.Drainer), s, abswap.DrainOptions{Timeout: 2 * time.Minute})
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
	l.mu.Lock()
	l.open[key] = work.Slot
	l.mu.Unlock()
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
		if *swaps < many {
			pause(ctx, time.Duration(200+rand.IntN(1000))*time.Millisecond)
		} else {
			pause(ctx, time.Duration(rand.IntN(600))*time.Millisecond)
		}
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
