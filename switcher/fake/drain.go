package fake

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap"
)

const source = "fake counters"

// InFlight counts the requests and upgraded connections in the slot; sessions are told by Sessions alone. See abswap.Drainer.
func (s *Switcher) InFlight(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	done := s.log.begin(Call{Method: "InFlight", Slot: nameOf(slot)})
	if s.InFlightFunc != nil {
		l, err := s.InFlightFunc(ctx, slot, s.inFlight)
		return l, done(err)
	}
	l, err := s.inFlight(ctx, slot)
	return l, done(err)
}

func (s *Switcher) inFlight(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return abswap.Load{}, err
	}
	l := abswap.Load{Evidence: s.evidence(), Source: source}
	for w := range p.work {
		if w.request.Kind == Upgraded {
			l.Upgraded++
		} else {
			l.Requests++
		}
	}
	return l, nil
}

func (s *Switcher) evidence() abswap.Evidence {
	switch {
	case s.Evidence == 0:
		return abswap.EvidenceExact
	case s.Evidence < 0:
		return abswap.EvidenceUnknown
	}
	return s.Evidence
}

// WaitIdle returns as soon as the slot has neither requests nor upgraded connections. See abswap.WaitingDrainer.
func (s *Switcher) WaitIdle(ctx context.Context, slot abswap.Slot) error {
	done := s.log.begin(Call{Method: "WaitIdle", Slot: nameOf(slot)})
	if s.WaitIdleFunc != nil {
		return done(s.WaitIdleFunc(ctx, slot, s.waitIdle))
	}
	return done(s.waitIdle(ctx, slot))
}

func (s *Switcher) waitIdle(ctx context.Context, slot abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	unlock := s.lock()
	p, err := s.place(slot)
	if err != nil || len(p.work) == 0 {
		unlock()
		return err
	}
	idle := make(chan struct{})
	p.idle = append(p.idle, idle)
	unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		defer s.lock()()
		if i := slices.Index(p.idle, idle); i >= 0 {
			p.idle = slices.Delete(p.idle, i, i+1)
		}
		return ctx.Err()
	}
}

// List names what is in the slot, oldest first. See abswap.ListingDrainer.
func (s *Switcher) List(ctx context.Context, slot abswap.Slot, limit int) ([]abswap.Work, error) {
	done := s.log.begin(Call{Method: "List", Slot: nameOf(slot)})
	if s.ListFunc != nil {
		l, err := s.ListFunc(ctx, slot, limit, s.list)
		return l, done(err)
	}
	l, err := s.list(ctx, slot, limit)
	return l, done(err)
}

func (s *Switcher) list(ctx context.Context, slot abswap.Slot, limit int) ([]abswap.Work, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return nil, err
	}
	var all []*Work
	for w := range p.work {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *Work) int { return cmp.Compare(a.order, b.order) })
	all = all[:min(len(all), max(limit, 0))]
	told := make([]abswap.Work, len(all))
	for i, w := range all {
		kind := "request"
		if w.request.Kind == Upgraded {
			kind = "upgraded"
		}
		told[i] = abswap.Work{Kind: kind, Method: cmp.Or(w.request.Method, "GET"), Path: cmp.Or(w.request.Path, "/"), Peer: w.request.Peer,
			Age: time.Since(w.began), In: w.in, Out: w.out, ID: uint64(w.order), Class: w.request.Kind.class(), Quiet: time.Since(w.moved)}
		told[i].Path = told[i].Path[:min(len(told[i].Path), 100)]
	}
	return told, nil
}

// Force asks the work in the slot to leave (ForceHandOver closes Work.Leave) or cuts it (Work.Err says so, and it counts no more), the
// slot's sessions too. See abswap.ForcingDrainer.
func (s *Switcher) Force(ctx context.Context, slot abswap.Slot, how abswap.Force) error {
	done := s.log.begin(Call{Method: "Force", Slot: nameOf(slot), Force: how})
	if s.ForceFunc != nil {
		return done(s.ForceFunc(ctx, slot, how, s.force))
	}
	return done(s.force(ctx, slot, how))
}

func (s *Switcher) force(ctx context.Context, slot abswap.Slot, how abswap.Force) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return err
	}
	switch how {
	case abswap.ForceHandOver:
		for w := range p.all() {
			w.tell()
		}
	case abswap.ForceCut:
		if s.CutAfter <= 0 {
			s.cut(p)
			break
		}
		if p.cut != nil {
			break // the earlier order stands
		}
		var t *time.Timer
		t = time.AfterFunc(s.CutAfter, func() {
			defer s.lock()()
			if p.cut == t { // else it was cancelled while this waited for the lock
				p.cut = nil
				s.cut(p)
			}
		})
		p.cut = t
	default:
		return fmt.Errorf("force of slot %q: %d is neither ForceHandOver nor ForceCut", slot.Name(), how)
	}
	return nil
}

// cut cuts all that is in p; s.mu is held.
func (s *Switcher) cut(p *place) {
	for w := range p.all() {
		w.cut = true
		w.tell()
		close(w.over)
		s.drop(w)
	}
}

// End asks the pieces of work to leave (ForceHandOver closes Work.Leave) or cuts them. See abswap.ClassDrainer.
func (s *Switcher) End(ctx context.Context, slot abswap.Slot, how abswap.Force, ids ...uint64) error {
	done := s.log.begin(Call{Method: "End", Slot: nameOf(slot), Force: how, IDs: slices.Clone(ids)})
	if s.EndFunc != nil {
		return done(s.EndFunc(ctx, slot, how, ids, s.end))
	}
	return done(s.end(ctx, slot, how, ids...))
}

func (s *Switcher) end(ctx context.Context, slot abswap.Slot, how abswap.Force, ids ...uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return err
	}
	if how != abswap.ForceHandOver && how != abswap.ForceCut {
		return fmt.Errorf("end in slot %q: %d is neither ForceHandOver nor ForceCut", slot.Name(), how)
	}
	var some []*Work
	for w := range p.work {
		if slices.Contains(ids, uint64(w.order)) {
			some = append(some, w)
		}
	}
	if len(some) > 0 && p.weight > 0 {
		return fmt.Errorf("end of %d pieces of work in slot %q, which has %d%% of the new work: %w", len(some), slot.Name(), p.weight, abswap.ErrSlotLive)
	}
	for _, w := range some {
		w.tell()
		if how == abswap.ForceCut {
			w.cut = true
			close(w.over)
			s.drop(w)
		}
	}
	return nil
}

// all yields the work and the sessions of p.
func (p *place) all() func(yield func(*Work) bool) {
	return func(yield func(*Work) bool) {
		for w := range p.work {
			if !yield(w) {
				return
			}
		}
		for w := range p.sessions {
			if !yield(w) {
				return
			}
		}
	}
}

// Sessions counts the sessions bound to the slot. See abswap.SessionDrainer.
func (s *Switcher) Sessions(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	done := s.log.begin(Call{Method: "Sessions", Slot: nameOf(slot)})
	if s.SessionsFunc != nil {
		l, err := s.SessionsFunc(ctx, slot, s.countSessions)
		return l, done(err)
	}
	l, err := s.countSessions(ctx, slot)
	return l, done(err)
}

func (s *Switcher) countSessions(ctx context.Context, slot abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return abswap.Load{}, err
	}
	return abswap.Load{Sessions: len(p.sessions), Evidence: s.evidence(), Source: source}, nil
}
