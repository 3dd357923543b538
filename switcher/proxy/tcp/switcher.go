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
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
)

// Switcher carries TCP connections to the slot that takes new ones.
type Switcher struct {
	cfg   Config
	table *route.Table[target]
	turn  slots.Turn // of the one who changes the table
	slots slots.Set
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
	s := &Switcher{cfg: cfg, slots: slots.Set{Room: "tcp", Addrs: cfg.Slots}, table: route.New[target](slices.Collect(maps.Keys(cfg.Slots))...),
		turn: slots.NewTurn()}
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
	name, err := slots.Active(w)
	if err != nil {
		return name, fmt.Errorf("tcp: %v: %w", w, err)
	}
	return name, nil
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
	if err := s.slots.CheckWeights(w); err != nil {
		return fmt.Errorf("tcp: %s: %w", what, err)
	}
	if err := s.lock(ctx, what); err != nil {
		return err
	}
	defer s.turn.Give()

	// First all that can go wrong, then the one step that cannot.
	var errs []error
	keys := map[string]route.Key{}
	for _, x := range w {
		if x.Part == 0 {
			continue
		}
		k, err := s.slots.Key(ctx, x.Slot)
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
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if err := s.lock(ctx, "seal"); err != nil {
		return err
	}
	defer s.turn.Give()
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
	errs := s.slots.Check(r.Slots)
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

func (s *Switcher) generation(k route.Key) *generation {
	return s.table.Generation(k, func() target { return target{k.Address} })
}

// lock waits until nobody else changes the table.
func (s *Switcher) lock(ctx context.Context, what string) error {
	if err := s.turn.Take(ctx); err != nil {
		return err
	}
	if s.doors.isClosed() {
		s.turn.Give()
		return fmt.Errorf("tcp: %s: %w", what, net.ErrClosed)
	}
	return nil
}
