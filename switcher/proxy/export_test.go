package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Staller stops requests of a Switcher between "picked" and "counted".
type Staller struct {
	next atomic.Pointer[stall]

	mu      sync.Mutex
	entered map[string]int64 // by the client's address: the number of its last request
	last    int64
}

type stall struct{ reached, goOn chan struct{} }

// NewStaller hooks a Staller into s, which has had no request yet.
func NewStaller(s *Switcher) *Staller {
	st := &Staller{entered: map[string]int64{}}
	s.table.SetHooks(route.Hooks[*h1.Pool]{
		Picked: func(*generation) {
			if x := st.next.Swap(nil); x != nil {
				close(x.reached)
				<-x.goOn
			}
		},
		Entered: func(e *entry) {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.last++
			st.entered[e.Peer] = st.last
		},
	})
	return st
}

// Order returns the number of the last request of the client at that address, among all that went on to a slot.
func (st *Staller) Order(peer string) int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.entered[peer]
}

// Stall makes the next request stop there. reached is closed when it has; resume lets it go on.
func (st *Staller) Stall() (reached <-chan struct{}, resume func()) {
	x := &stall{make(chan struct{}), make(chan struct{})}
	st.next.Store(x)
	return x.reached, sync.OnceFunc(func() {
		st.next.CompareAndSwap(x, nil)
		close(x.goOn)
	})
}

// Disturb changes what s does without its methods.
func Disturb(s *Switcher, slot string) {
	if slot == "" {
		s.publish()
		return
	}
	g := s.table.Generations(slot)
	s.publish(route.Part[*h1.Pool]{Gen: g[len(g)-1], Part: 100})
}

// Generations returns how many generations of the slot may have work in them.
func (s *Switcher) Generations(slot string) int { return len(s.table.Generations(slot)) }

// IdleConns returns how many idle connections are kept to all generations of the slot.
func (s *Switcher) IdleConns(slot string) (n int) {
	for _, g := range s.table.Generations(slot) {
		n += g.Target.Idle()
	}
	return n
}

// Conns returns how many client connections Serve carries.
func (s *Switcher) Conns() int { return s.door.server.Conns() }

// Crowded reports whether a connection waits for room.
func (s *Switcher) Crowded() bool { return s.door.server.Crowded() }

// HealthByAddress gives s the fault of proxies that keep what they know of a target by its address (Caddy's hosts pool, skipper's registry).
func HealthByAddress(s *Switcher) {
	p := s.prober.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hooks.byAddress = true
}

// HealthUndrains gives s the fault of kamal-proxy, where a probe that passes makes a draining target take work again.
func HealthUndrains(s *Switcher) {
	p := s.prober.Load()
	p.tell.Lock()
	defer p.tell.Unlock()
	p.hooks.seen = func(g *generation, err error) {
		parts := slices.Clone(s.table.Parts())
		if err == nil && !slices.ContainsFunc(parts, func(p route.Part[*h1.Pool]) bool { return p.Gen == g }) {
			s.table.Set(append(parts, route.Part[*h1.Pool]{Gen: g, Part: 100})...)
		}
	}
}

// RestoreHeld gives s the fault of kamal-proxy, whose pause comes back after a crash with nobody who could end it.
func RestoreHeld(s *Switcher) {
	o := abswap.HoldOptions{}.WithDefaults()
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	s.holds.now = &hold{options: o, ends: time.Now().Add(time.Hour), total: time.AfterFunc(time.Hour, func() {})}
	s.holds.now.options.Each = time.Hour
	s.table.SetHeld(true)
}

// Blind gives s the fault of kamal-proxy, which does not look at the clients of the requests that wait.
func Blind(s *Switcher) { s.hooks.blind = true }

// EndBare gives s the fault of kamal-proxy, where what is asked to end is cut: a websocket without a close frame, a stream without a last chunk.
func EndBare(s *Switcher) { s.pools.Hooks.Bare = true }

// EndAnywhere gives s the fault of ending a websocket, or an event stream, wherever it stands.
func EndAnywhere(s *Switcher) { s.pools.Hooks.Anywhere = true }

// StillByAge gives s, which has had no request yet, the fault of kamal-proxy, whose deadline is one of age, whether anything moves or not.
func StillByAge(s *Switcher) { s.table.SetHooks(route.Hooks[*h1.Pool]{ByAge: true}) }

// Nameless gives s, which has had no request yet, the fault of kamal-proxy, which knows how much there is and not which: its drain has nothing to
// say of how each ended.
func Nameless(s *Switcher) { s.table.SetHooks(route.Hooks[*h1.Pool]{Nameless: true}) }

// TakeForPlain gives s the fault of asking an event stream to end whose events it cannot see: it is cut when it does not.
func TakeForPlain(s *Switcher) { s.hooks.plain = true }

// CloseAfterGoAway gives s the fault of akka-http, where Shutdown says GOAWAY and closes the connection.
func CloseAfterGoAway(s *Switcher) { s.door.h2.hasty = true }

// ShutdownRefusing is Shutdown with the fault of fabio, which refuses requests from then on.
func (s *Switcher) ShutdownRefusing(ctx context.Context) error {
	s.door.leave()
	s.publish()
	return s.Shutdown(ctx)
}

// ActivateLeavingLock is Activate of a known slot with the fault of fabio's CloseProxy, which returns an error with the lock in its hands.
func (s *Switcher) ActivateLeavingLock(ctx context.Context, slot string) error {
	if err := s.lock(ctx, "activate"); err != nil {
		return err
	}
	next := s.next(map[string]placed{slot: {s.last(slot), 100}}, "")
	if err := s.store.save(next, s.known.Load()); err != nil {
		return err
	}
	s.turn.Give()
	return nil
}

// Unlock takes the lock from whoever has left it.
func (s *Switcher) Unlock() { s.turn.Give() }
