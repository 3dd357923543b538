package proxy

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/h2c"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/session"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// Switcher is the embedded proxy. It is an http.Handler, or a server of its own by Serve.
type Switcher struct {
	cfg      Config
	table    *route.Table[*h1.Pool]
	guide    atomic.Pointer[guide]           // nil: requests have no wishes
	sessions *session.Table                  // nil: none are kept
	previews map[string][]abswap.PreviewRule // by slot; changed by the one who has the turn
	turn     slots.Turn                      // of the one who changes the table
	slots    slots.Set
	store    store
	swept    atomic.Pointer[chan struct{}] // closed when the last sweep is over; nil: there was none
	known    atomic.Pointer[state]         // what was put in force last; changed by the one who has the turn
	doubt    doubt
	first    bool // there was no state file
	holds    holds
	queue    *queue                 // nil: no limit on what is in flight
	prober   atomic.Pointer[prober] // nil: nobody is asked
	door     *door
	sites    *Sites // whose door it is; nil: its own
	at       place
	closed   atomic.Bool // Close has begun
	pools    *h1.PoolConfig
	hooks    hooks
	stats    struct{ failed, refused, retried, cut atomic.Int64 }
}

// hooks are faults for tests.
type hooks struct {
	blind bool // the client of a request that waits is not looked at
	plain bool // no stream is told to be opaque
}

var ( // what this backend can do
	_ abswap.WeightedSwitcher   = (*Switcher)(nil)
	_ abswap.SealingSwitcher    = (*Switcher)(nil)
	_ abswap.HoldingSwitcher    = (*Switcher)(nil)
	_ abswap.TraitsSwitcher     = (*Switcher)(nil)
	_ abswap.Checker            = (*Switcher)(nil)
	_ abswap.PreviewingSwitcher = (*Switcher)(nil)
	_ abswap.SessionDrainer     = (*Switcher)(nil)
	_ abswap.WaitingDrainer     = (*Switcher)(nil)
	_ abswap.ListingDrainer     = (*Switcher)(nil)
	_ abswap.ForcingDrainer     = (*Switcher)(nil)
	_ abswap.ClassDrainer       = (*Switcher)(nil)
	_ http.Handler              = (*Switcher)(nil)
)

// New checks cfg and returns a Switcher. It connects to nothing, unless Config.Health is set: then it asks the slots until
// Close. With a Config.StateFile it goes on where the last proxy with that file ended, and Close must be called to let the file go. The error lists all mistakes in cfg, or says why the state file cannot be used.
func New(cfg Config) (*Switcher, error) { return newOn(cfg, realDisk()) }

func newOn(cfg Config, d disk) (*Switcher, error) { return newAt(cfg, d, nil, nil) }

// newAt makes a Switcher with a door of its own, or, if at is not nil, at the door of that one, whose connections to slots are in shared.
func newAt(cfg Config, d disk, at *Sites, shared *h1.Shared) (*Switcher, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	cfg = cfg.withDefaults()
	names := make([]string, 0, len(cfg.Slots))
	for name := range cfg.Slots {
		names = append(names, name)
	}
	s := &Switcher{cfg: cfg, slots: slots.Set{Room: "proxy", Addrs: cfg.Slots}, table: route.New[*h1.Pool](names...),
		turn: slots.NewTurn(), sites: at}
	pools := h1.PoolConfig{Dial: cfg.Dial, DialTimeout: cfg.DialTimeout, ReuseBefore: cfg.ReuseBefore, MarkAs: cfg.ReleaseHeader, CloseStatus: cfg.CloseStatus}
	if at != nil {
		s.door = at.door
		pools.Shared = shared
	} else {
		s.door = newDoor(cfg.door(func(x *h1.Exchange) { s.forward(x) }, s))
	}
	s.pools = h1.NewPoolConfig(pools)
	s.limit()
	if cfg.Sessions != nil {
		s.table.KeepSessions()
	}
	if err := s.restore(d); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	var err error
	if s.sessions, err = openSessions(cfg, s.first); err != nil {
		return nil, fmt.Errorf("proxy: %w", multi.Join(err, s.closeStore()))
	}
	s.endLost()
	s.steer(nil)
	s.startProber()
	return s, nil
}

// Active returns the name of the slot with the largest part of new work, and ErrMixed beside it if it is not the only one with a part; of
// equal parts the first name counts. If no slot takes work the error is ErrNoActive; after Close it is http.ErrServerClosed.
func (s *Switcher) Active(ctx context.Context) (string, error) {
	w, err := s.Weights(ctx)
	if err != nil {
		return "", err
	}
	return slots.Active(w)
}

// Weights returns the parts of the slots that take new work. After Close the error is http.ErrServerClosed.
func (s *Switcher) Weights(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := map[string]int{}
	for _, p := range s.table.Parts() {
		w[p.Gen.Key.Slot] = p.Part
	}
	if s.closed.Load() { // asked last: that nothing takes work now was decided by nobody
		return nil, fmt.Errorf("proxy: weights: %w", http.ErrServerClosed)
	}
	return w, nil
}

// Activate sends all new work to sl: it is in force at return, exactly. Where sl is an abswap.InspectingSlot it is asked what it holds; a
// release, address or start other than the one known makes a new generation, whose counts and connections begin afresh. Otherwise the known
// one goes on, also one that is still draining: its orders to hand over are cancelled.
//
// Calls of Activate, SetWeights and Seal take effect one after the other. Of two that overlap, both return nil when theirs has taken
// effect, and Active tells the later one. An error means that nothing has changed: the effect is a single step, so ErrUnknownOutcome is
// never returned.
func (s *Switcher) Activate(ctx context.Context, sl abswap.Slot) error {
	return s.set(ctx, "activate", nil, abswap.Weight{Slot: sl, Part: 100})
}

// SetWeights gives each slot its part of the new requests. Of any hundred requests in a row that are picked between two changes, each slot
// gets exactly its part, evenly spread; a part of 0 gets none. Everything said of Activate holds.
func (s *Switcher) SetWeights(ctx context.Context, w ...abswap.Weight) error {
	return s.set(ctx, "set weights", nil, w...)
}

// set gives each slot its part, if the view of the caller is still the state in force.
func (s *Switcher) set(ctx context.Context, what string, at *view, w ...abswap.Weight) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.slots.CheckWeights(w); err != nil {
		return fmt.Errorf("proxy: %s: %w", what, err)
	}
	if err := s.lock(ctx, what); err != nil {
		return err
	}
	done := false
	defer func() {
		if done {
			s.sweep()
		} else {
			s.turn.Give()
		}
	}()

	// First all that can go wrong, then the one step that cannot.
	if err := at.check(s); err != nil {
		return err
	}
	var errs []error
	parts := map[string]placed{}
	for _, x := range w {
		if x.Part == 0 {
			continue
		}
		k, err := s.slots.Key(ctx, x.Slot)
		if err != nil {
			errs = append(errs, err)
		}
		parts[k.Slot] = placed{k, x.Part}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := multi.Join(errs...); err != nil {
		return fmt.Errorf("proxy: %s: nothing changed: %w", what, err)
	}
	if at != nil && at.hold != nil {
		s.holds.mu.Lock() // the hold cannot end until the order is in force
		defer s.holds.mu.Unlock()
		if s.holds.now != at.hold {
			return fmt.Errorf("proxy: %s: nothing changed: %w", what, errHoldLost)
		}
	}
	next := s.next(parts, "")
	if err := s.store.save(next, s.known.Load()); err != nil {
		return fmt.Errorf("proxy: %s: nothing changed: %w", what, err)
	}
	var force []route.Part[*h1.Pool]
	for _, x := range w {
		if p := parts[x.Slot.Name()]; p.part > 0 {
			force = append(force, route.Part[*h1.Pool]{Gen: s.generation(p.key), Part: p.part})
		}
	}
	s.publish(force...)
	s.endLost()
	s.settled(next, at)
	done = true
	return nil
}

// Seal makes sure that nothing leads to sl, no part, no session and no preview; the parts of the others are scaled up in their ratio. From its
// return on the counts of sl only fall. Sessions that were left in sl end: their clients begin anew in a live slot. An error means that nothing has changed.
func (s *Switcher) Seal(ctx context.Context, sl abswap.Slot) error { return s.seal(ctx, nil, sl) }

func (s *Switcher) seal(ctx context.Context, at *view, sl abswap.Slot) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if err := s.lock(ctx, "seal"); err != nil {
		return err
	}
	defer s.turn.Give()
	if err := at.check(s); err != nil {
		return err
	}
	parts := map[string]placed{}
	for _, p := range s.table.Without(sl.Name()) {
		parts[p.Gen.Key.Slot] = placed{p.Gen.Key, p.Part}
	}
	next := s.next(parts, sl.Name())
	if err := s.store.save(next, s.known.Load()); err != nil {
		return fmt.Errorf("proxy: seal: nothing changed: %w", err)
	}
	s.table.Seal(sl.Name())
	s.unpreview(sl.Name())
	s.closeIdle()
	s.endLost()
	s.settled(next, at)
	return nil
}

// Traits tells that the proxy decides per request, closes no idle client connection at a switch, has no gap, and forgets its state with its
// process unless there is a Config.StateFile.
func (s *Switcher) Traits() abswap.Traits { return abswap.Traits{Forgets: s.cfg.StateFile == ""} }

// Check finds slots that the proxy does not have or cannot reach, and what a swap asks for that it cannot do.
func (s *Switcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	errs := append(s.slots.Check(r.Slots), s.checkSwap(r)...)
	if (r.Drain.AtDeadline == abswap.HandOver || r.Drain.AtDeadline == abswap.CutOff) && len(r.Drain.Classes) == 0 {
		errs = append(errs, abswap.Warnf("proxy: a hand-over reaches clients whose answer has not begun; websockets and running streams are not told, unless DrainOptions.Classes says so"))
	}
	return multi.Join(errs...)
}

func (s *Switcher) generation(k route.Key) *generation {
	return s.table.Generation(k, func() *h1.Pool {
		p := h1.NewPool(s.pools, lifeOf(k), mark(k))
		if s.cfg.Protocols[k.Slot] == H2C {
			p.Links = h2c.New(k.Address, s.cfg.Dial)
		}
		if s.cfg.StickyWeights != "" {
			p.Stick = stickOf(k)
		}
		return p
	})
}

// lifeOf tells the application of a generation from all others.
func lifeOf(k route.Key) h1.Life {
	l := h1.Life{Addr: k.Address, Release: k.Release}
	if !k.Started.IsZero() {
		l.Started = k.Started.UnixNano()
	}
	return l
}

// publish puts the parts in force. Connections may be kept before the first request can come; those to what nothing leads to any more are left
// to sweep.
func (s *Switcher) publish(parts ...route.Part[*h1.Pool]) {
	for _, p := range parts {
		p.Gen.Target.SetOpen(true)
	}
	s.table.Set(parts...)
	s.prober.Load().look()
}

// sweepAfter lets the answer to an order go before what follows from it: on a machine of few cores they would meet.
const sweepAfter = 2 * time.Millisecond

// sweep does closeIdle behind the caller's back and then gives up the lock, which the caller holds: there may be hundreds of connections, and
// whoever switches is not to wait for them.
func (s *Switcher) sweep() {
	done := make(chan struct{})
	s.swept.Store(&done)
	time.AfterFunc(sweepAfter, func() {
		defer s.turn.Give()
		defer close(done)
		s.closeIdle()
	})
}

// waitSwept waits until the last sweep is over.
func (s *Switcher) waitSwept(ctx context.Context) error {
	if done := s.swept.Load(); done != nil {
		select {
		case <-*done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// closeIdle closes the idle connections to the generations to which nothing leads, and lets none be kept: a drained slot has none.
func (s *Switcher) closeIdle() {
	s.table.Each(func(g *generation, led bool) {
		if !led {
			g.Target.SetOpen(false)
		}
	})
}

// lock waits until nobody else changes the table.
func (s *Switcher) lock(ctx context.Context, what string) error {
	if err := s.turn.Take(ctx); err != nil {
		return err
	}
	if s.closed.Load() {
		s.turn.Give()
		return fmt.Errorf("proxy: %s: %w", what, http.ErrServerClosed)
	}
	return nil
}
