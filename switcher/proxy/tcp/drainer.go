package tcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// InFlight counts the connections carried to sl, all generations of the slot together, as upgraded ones. The counts are exact: a zero is one of
// a moment within the call, and nothing is ever missed. While sl takes new connections the next moment may be another; once it is off, or
// sealed, zero stays zero. A connection that picked sl just before that and is about to pick another slot may be counted for an instant; it
// never reaches sl.
func (s *Switcher) InFlight(ctx context.Context, sl abswap.Slot) (abswap.Load, error) {
	if err := s.slots.Has(ctx, sl); err != nil {
		return abswap.Load{}, err
	}
	return abswap.Load{Upgraded: s.table.Count(sl.Name()).Total(), Evidence: abswap.EvidenceExact, Source: "tcp counters"}, nil
}

// WaitIdle returns nil as soon as no connection is in sl. It is told of it by the last one to leave.
func (s *Switcher) WaitIdle(ctx context.Context, sl abswap.Slot) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	return s.table.WaitIdle(ctx, sl.Name())
}

// List returns at most limit of the connections in sl, oldest first, with what was carried from and to the client.
func (s *Switcher) List(ctx context.Context, sl abswap.Slot, limit int) ([]abswap.Work, error) {
	if err := s.slots.Has(ctx, sl); err != nil {
		return nil, err
	}
	all := s.table.List(sl.Name())
	slices.SortFunc(all, func(a, b route.Work) int { return a.Started.Compare(b.Started) })
	out := make([]abswap.Work, 0, max(min(limit, len(all)), 0))
	now := time.Now()
	for _, w := range all[:cap(out)] {
		out = append(out, abswap.Work{Kind: "upgraded", Peer: w.Peer, Age: now.Sub(w.Started), In: w.In, Out: w.Out})
	}
	return out, nil
}

// Force with ForceCut breaks the connections in sl, on both sides; at return each has been told. While sl takes new connections only those in
// it now are. Otherwise the order holds for what is still on its way in, too, until the slot goes live again. ForceHandOver is
// errors.ErrUnsupported: nothing in TCP asks a client to go elsewhere.
func (s *Switcher) Force(ctx context.Context, sl abswap.Slot, how abswap.Force) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	switch how {
	case abswap.ForceHandOver:
		return fmt.Errorf("tcp: slot %q: connections cannot be asked to go elsewhere: %w", sl.Name(), errors.ErrUnsupported)
	case abswap.ForceCut:
		s.table.Order(sl.Name(), route.Cut)
		return nil
	}
	return fmt.Errorf("tcp: slot %q: %d is no way to force it: ForceCut is", sl.Name(), how)
}
