package proxy

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// InFlight counts what the proxy has given to sl and what has not come to its end in both directions, all generations of the slot together.
// The counts are exact: a zero is one of a moment within the call, and nothing in flight is ever missed. While sl takes new work the next
// moment may be another; once sl is off, or sealed, zero stays zero. A request that picked sl just before that and is about to pick
// another slot may be counted for an instant; it never reaches sl.
//
// A proxy that was restored from its state file counts from zero, and exactly: the lock on the file proves that the earlier process is dead,
// and its connections with it. Only where the file lies on a disk whose locks may not bind (a network share), and the earlier proxy was not
// closed, the evidence is unknown until the slot's application was started anew.
func (s *Switcher) InFlight(ctx context.Context, sl abswap.Slot) (abswap.Load, error) {
	if err := s.slots.Has(ctx, sl); err != nil {
		return abswap.Load{}, err
	}
	c := s.table.Count(sl.Name())
	load := abswap.Load{Requests: c.Requests, Upgraded: c.Upgraded, Evidence: abswap.EvidenceExact, Source: "proxy counters"}
	if s.doubt.about(s.last(sl.Name())) {
		load.Evidence, load.Source = abswap.EvidenceUnknown, "proxy counters, without what an earlier proxy may still carry"
	}
	return load, nil
}

// WaitIdle returns nil as soon as nothing is in flight in sl, and, if nothing leads there, no connection to it is left. It is told of it by the
// last request to leave.
func (s *Switcher) WaitIdle(ctx context.Context, sl abswap.Slot) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if err := s.table.WaitIdle(ctx, sl.Name()); err != nil {
		return err
	}
	return s.waitSwept(ctx)
}

// List returns at most limit of the pieces of work in sl, oldest first.
func (s *Switcher) List(ctx context.Context, sl abswap.Slot, limit int) ([]abswap.Work, error) {
	if err := s.slots.Has(ctx, sl); err != nil {
		return nil, err
	}
	all := s.table.List(sl.Name())
	slices.SortFunc(all, func(a, b route.Work) int { return a.Started.Compare(b.Started) })
	out := make([]abswap.Work, 0, max(min(limit, len(all)), 0))
	now := time.Now()
	for _, w := range all[:cap(out)] {
		kind := "request"
		if w.Traffic&route.Upgraded != 0 {
			kind = "upgraded"
		}
		out = append(out, abswap.Work{Kind: kind, Method: w.Method, Path: clip(w.Path), Peer: w.Peer, Age: now.Sub(w.Started), In: w.In, Out: w.Out,
			ID: w.ID, Class: classOf(w.Traffic), Quiet: max(now.Sub(w.Moved), 0),
			Opaque: w.Traffic&route.Opaque != 0 && !s.hooks.plain})
	}
	return out, nil
}

// Force ends what is left in sl. ForceHandOver makes the answers that have not begun carry "Connection: close", so that their clients come
// back on a new connection; nothing breaks, and what streams already, or was upgraded, is not told. ForceCut closes all: answers that have
// begun break off, a request without an answer gets 503, upgraded connections are closed.
//
// While sl takes new work only what is in it now is told. Otherwise the order holds for what is still on its way in, too, until the slot
// goes live again: from the return of that Activate or SetWeights on nothing is cut or closed by an older order.
func (s *Switcher) Force(ctx context.Context, sl abswap.Slot, how abswap.Force) error {
	return s.force(ctx, nil, sl, how)
}

// force is Force, if the view of the caller is still the state in force.
func (s *Switcher) force(ctx context.Context, at *view, sl abswap.Slot, how abswap.Force) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if at != nil {
		if err := s.lock(ctx, "force"); err != nil {
			return err
		}
		defer s.turn.Give()
		if err := at.check(s); err != nil {
			return err
		}
	}
	switch how {
	case abswap.ForceHandOver:
		s.table.Order(sl.Name(), route.HandOver)
	case abswap.ForceCut:
		s.cutSessions(sl.Name())
		s.table.Order(sl.Name(), route.Cut)
	default:
		return fmt.Errorf("proxy: slot %q: %d is no way to force it: ForceHandOver and ForceCut are", sl.Name(), how)
	}
	return nil
}

// clip cuts a path to the 100 bytes that a list may show, at the beginning of a character.
func clip(path string) string {
	if len(path) <= 100 {
		return path
	}
	n := 100
	for n > 0 && !utf8.RuneStart(path[n]) {
		n--
	}
	return path[:n]
}
