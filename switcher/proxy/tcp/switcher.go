package tcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Switcher carries TCP connections to the slot that takes new ones.
type Switcher struct {
	cfg   Config
	table *route.Table[target]
	busy  chan struct{} // held by the one who changes the table; a channel, since waiting for it ends with a context
	doors acceptor
	flow  flowKit
	stats struct{ carried, failed, refused, redialled, cut atomic.Int64 }
}

// target is how a generation is reached.
type target struct{ addr string }

type generation = route.Generation[target]

var ( // what this backend can do
	_ abswap.WeightedSwitcher = (*Switcher)(nil)
	_ abswap.SealingSwitcher  = (*Switcher)(nil)
	_ abswap.TraitsSwitcher   = (*Switcher)(nil)
	_ abswap.Checker          = (*Switcher)(nil)
	_ abswap.WaitingDrainer   = (*Switcher)(nil)
	_ abswap.ListingDrainer   = (*Switcher)(nil)
	_ abswap.ForcingDrainer   = (*Switcher)(nil)
)

// New checks cfg and returns a Switcher. It connects to nothing. Close must be called in the end. The error lists all mistakes in cfg.
func New(cfg Config) (*Switcher, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Switcher{cfg: cfg, table: route.New[target](slices.Collect(maps.Keys(cfg.Slots))...), busy: make(chan struct{}, 1)}
	if cfg.Active != "" {
		s.table.Set(route.Part[target]{Gen: s.generation(route.Key{Slot: cfg.Active, Address: cfg.Slots[cfg.Active]}), Part: 100})
	}
	return s, nil
}

// Active returns the name of the slot with the largest part of new connections, and ErrMixed beside it if it is not the only one with a part;
// of equal parts the first name counts. If no slot takes connections the error is ErrNoActive; after Close it is net.ErrClosed.
func (s *Switcher) Active(ctx context.Context) (string, error) {
	w, err := s.Weights(ctx)
	if err != nil {
		return "", err
	}
	best := ""
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if best == "" || w[name] > w[best] {
			best = name
		}
	}
	switch len(w) {
	case 0:
		return "", fmt.Errorf("tcp: %w", abswap.ErrNoActive)
	case 1:
		return best, nil
	}
	return best, fmt.Errorf("tcp: %v: %w", w, abswap.ErrMixed)
}

// Weights returns the parts of the slots that take new connections. After Close the error is net.ErrClosed.
func (s *Switcher) Weights(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := map[string]int{}
	for _, p := range s.table.Parts() {
		w[p.Gen.Key.Slot] = p.Part
	}
	if s.doors.isClosed() { // asked last: that nothing takes work now was decided by nobody
		return nil, fmt.Errorf("tcp: weights: %w", net.ErrClosed)
	}
	return w, nil
}

// Activate sends all new connections to sl: it is in force at return, exactly. Where sl is an abswap.InspectingSlot it is asked what it
// holds; a release, address or start other than the one known makes a new generation, whose counts begin afresh. Otherwise the known one goes
// on, also one that is still draining. An error means that nothing has changed: the effect is a single step, so ErrUnknownOutcome is never
// returned.
func (s *Switcher) Activate(ctx context.Context, sl abswap.Slot) error {
	return s.set(ctx, "activate", abswap.Weight{Slot: sl, Part: 100})
}

// SetWeights gives each slot its part of the new connections. Of any hundred in a row between two changes each slot gets exactly its part,
// evenly spread; a part of 0 gets none. Everything said of Activate holds.
func (s *Switcher) SetWeights(ctx context.Context, w ...abswap.Weight) error {
	return s.set(ctx, "set weights", w...)
}

func (s *Switcher) set(ctx context.Context, what string, w ...abswap.Weight) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := abswap.CheckWeights(w); err != nil {
		return fmt.Errorf("tcp: %s: %w", what, err)
	}
	var errs []error
	for _, x := range w {
		if !s.table.Has(x.Slot.Name()) {
			errs = append(errs, unknownSlot(x.Slot))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return fmt.Errorf("tcp: %s: %w", what, err)
	}
	if err := s.lock(ctx, what); err != nil {
		return err
	}
	defer s.unlock()

	// First all that can go wrong, then the one step that cannot.
	keys := map[string]route.Key{}
	for _, x := range w {
		if x.Part == 0 {
			continue
		}
		k, err := s.keyOf(ctx, x.Slot)
		if err != nil {
			errs = append(errs, err)
		}
		keys[k.Slot] = k
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := multi.Join(errs...); err != nil {
		return fmt.Errorf("tcp: %s: nothing changed: %w", what, err)
	}
	var force []route.Part[target]
	for _, x := range w {
		if x.Part > 0 {
			force = append(force, route.Part[target]{Gen: s.generation(keys[x.Slot.Name()]), Part: x.Part})
		}
	}
	s.table.Set(force...)
	return nil
}

// Seal makes sure that nothing leads to sl; the parts of the others are scaled up in their ratio. From its return on the counts of sl only
// fall. An error means that nothing has changed.
func (s *Switcher) Seal(ctx context.Context, sl abswap.Slot) error {
	if err := s.has(ctx, sl); err != nil {
		return err
	}
	if err := s.lock(ctx, "seal"); err != nil {
		return err
	}
	defer s.unlock()
	s.table.Seal(sl.Name())
	return nil
}

// Traits tells that it decides per connection, closes none at a switch, has no gap, and forgets its state with its process.
func (s *Switcher) Traits() abswap.Traits { return abswap.Traits{PerConnection: true, Forgets: true} }

// Check finds slots that are not there or cannot be reached, and what a swap asks for that cannot be done for connections that are not looked
// into.
func (s *Switcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	for _, sl := range r.Slots {
		switch {
		case sl == nil:
			errs = append(errs, errors.New("tcp: a slot is nil"))
		case !s.table.Has(sl.Name()):
			errs = append(errs, unknownSlot(sl))
		case s.cfg.Slots[sl.Name()] == "":
			if _, ok := abswap.As[abswap.InspectingSlot](sl); !ok {
				errs = append(errs, fmt.Errorf("tcp: slot %q has no address in Config.Slots, and %T cannot tell one", sl.Name(), sl))
			}
		}
	}
	if r.Exclusive {
		errs = append(errs, fmt.Errorf("tcp: cannot hold connections, as Exclusive needs: %w", errors.ErrUnsupported))
	}
	if r.Drain.Sessions {
		errs = append(errs, fmt.Errorf("tcp: cannot count sessions, as Drain.Sessions needs: %w", errors.ErrUnsupported))
	}
	if r.Drain.AtDeadline == abswap.HandOver {
		errs = append(errs, fmt.Errorf("tcp: cannot ask clients to go elsewhere, as a hand-over needs: %w", errors.ErrUnsupported))
	}
	return multi.Join(errs...)
}

// keyOf tells which generation of the slot is meant now.
func (s *Switcher) keyOf(ctx context.Context, sl abswap.Slot) (route.Key, error) {
	k := route.Key{Slot: sl.Name(), Address: s.cfg.Slots[sl.Name()]}
	if in, ok := abswap.As[abswap.InspectingSlot](sl); ok {
		st, err := in.Inspect(ctx)
		if err != nil {
			return k, fmt.Errorf("slot %q cannot be inspected: %w", k.Slot, err)
		}
		k.Release, k.Started = st.Release, st.Started.Round(0)
		if st.Address != "" {
			k.Address = st.Address
		}
	}
	if k.Address == "" {
		return k, fmt.Errorf("slot %q has no address: name one in Config.Slots, or let its Inspect tell it", k.Slot)
	}
	if err := checkAddress(k.Address); err != nil {
		return k, fmt.Errorf("slot %q: %w", k.Slot, err)
	}
	return k, nil
}

func (s *Switcher) generation(k route.Key) *generation {
	return s.table.Generation(k, func() target { return target{k.Address} })
}

// lock waits until nobody else changes the table.
func (s *Switcher) lock(ctx context.Context, what string) error {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		s.unlock()
		return err
	}
	if s.doors.isClosed() {
		s.unlock()
		return fmt.Errorf("tcp: %s: %w", what, net.ErrClosed)
	}
	return nil
}

func (s *Switcher) unlock() { <-s.busy }

// has returns an error if the context has ended or there is no such slot.
func (s *Switcher) has(ctx context.Context, sl abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if sl == nil {
		return errors.New("tcp: the slot is nil")
	}
	if !s.table.Has(sl.Name()) {
		return unknownSlot(sl)
	}
	return nil
}

func unknownSlot(sl abswap.Slot) error {
	return fmt.Errorf("tcp: slot %q is not in Config.Slots: %w", sl.Name(), abswap.ErrUnknownSlot)
}
