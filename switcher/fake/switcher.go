package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Switcher is a front door in memory, with every ability that package abswap knows. Its zero value knows the slots "blue" and "green",
// of which none is active. Fields are set before the first call; a function that shall behave differently later keeps that in itself.
//
// Each Func field replaces the method of its name and is given the real one as do. nil: the real one. For instance
//
//	sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
//		return errors.Join(do(ctx, to), abswap.ErrUnknownOutcome) // it happens, and nobody knows
//	}
type Switcher struct {
	// Slots are the names that it knows; empty: "blue" and "green".
	Slots []string

	// Declared is what Traits returns. It changes nothing in what the Switcher does.
	Declared abswap.Traits

	// Evidence is what InFlight and Sessions say of their counts, which are exact whatever it says; 0: abswap.EvidenceExact, below 0:
	// abswap.EvidenceUnknown.
	Evidence abswap.Evidence

	// CutAfter is how long after Force with ForceCut the work is cut; 0: at once. Until then the slot going live cancels it.
	CutAfter time.Duration

	// Between is called for each piece of work between "picked" and "counted", with the slot picked; work that finds the world changed
	// afterwards picks again. Held work does not pass here. nil: nothing is called.
	Between func(slot string)

	ActiveFunc     func(ctx context.Context, do func(context.Context) (string, error)) (string, error)
	ActivateFunc   func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error
	WeightsFunc    func(ctx context.Context, do func(context.Context) (map[string]int, error)) (map[string]int, error)
	SetWeightsFunc func(ctx context.Context, w []abswap.Weight, do func(context.Context, ...abswap.Weight) error) error
	SealFunc       func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error
	HoldFunc       func(ctx context.Context, o abswap.HoldOptions, do func(context.Context, abswap.HoldOptions) (func(), error)) (func(), error)
	PreviewFunc    func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error
	CheckFunc      func(ctx context.Context, r abswap.CheckRequest, do func(context.Context, abswap.CheckRequest) error) error
	InFlightFunc   func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) (abswap.Load, error)) (abswap.Load, error)
	WaitIdleFunc   func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error
	ListFunc       func(ctx context.Context, s abswap.Slot, limit int, do func(context.Context, abswap.Slot, int) ([]abswap.Work, error)) ([]abswap.Work, error)
	ForceFunc      func(ctx context.Context, s abswap.Slot, how abswap.Force, do func(context.Context, abswap.Slot, abswap.Force) error) error
	EndFunc        func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do func(context.Context, abswap.Slot, abswap.Force, ...uint64) error) error
	SessionsFunc   func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) (abswap.Load, error)) (abswap.Load, error)

	log record

	mu       sync.Mutex
	slots    map[string]*place // by name; made at the first use
	order    []string          // names, as Slots has them
	version  int64             // grows with every change of the routes
	hold     *hold             // nil: none in force
	sessions map[string]*Work
	serial   int64 // of the last piece of work
}

// place is what the Switcher knows of one slot.
type place struct {
	weight   int
	credit   int // of the smooth choice by weight
	sealed   bool
	previews []abswap.PreviewRule
	work     map[*Work]struct{} // requests and upgraded connections
	sessions map[*Work]struct{}
	idle     []chan struct{} // of those who wait for zero
	cut      *time.Timer     // an order not yet carried out
}

var (
	_ abswap.WeightedSwitcher   = (*Switcher)(nil)
	_ abswap.SealingSwitcher    = (*Switcher)(nil)
	_ abswap.HoldingSwitcher    = (*Switcher)(nil)
	_ abswap.PreviewingSwitcher = (*Switcher)(nil)
	_ abswap.TraitsSwitcher     = (*Switcher)(nil)
	_ abswap.Checker            = (*Switcher)(nil)
	_ abswap.WaitingDrainer     = (*Switcher)(nil)
	_ abswap.ListingDrainer     = (*Switcher)(nil)
	_ abswap.ForcingDrainer     = (*Switcher)(nil)
	_ abswap.ClassDrainer       = (*Switcher)(nil)
	_ abswap.SessionDrainer     = (*Switcher)(nil)
)

// New returns a Switcher that knows the slots named, of which the first is active. Without names it is as the zero value.
func New(slots ...string) *Switcher {
	s := &Switcher{Slots: slots}
	if len(slots) > 0 {
		s.ready()
		s.slots[slots[0]].weight = 100
	}
	return s
}

// ready makes the maps of a zero value; s.mu is held, or nobody else knows s yet.
func (s *Switcher) ready() {
	if s.slots != nil {
		return
	}
	s.slots, s.sessions, s.order = map[string]*place{}, map[string]*Work{}, slices.Clone(s.Slots)
	if len(s.order) == 0 {
		s.order = []string{"blue", "green"}
	}
	for _, name := range s.order {
		s.slots[name] = &place{work: map[*Work]struct{}{}, sessions: map[*Work]struct{}{}}
	}
}

// lock locks s and returns the unlocking.
func (s *Switcher) lock() (unlock func()) {
	s.mu.Lock()
	s.ready()
	return s.mu.Unlock
}

// place returns the slot's; s.mu is held.
func (s *Switcher) place(slot abswap.Slot) (*place, error) {
	name := nameOf(slot)
	p, ok := s.slots[name]
	if !ok {
		return nil, fmt.Errorf("slot %q is none of %q: %w", name, s.order, abswap.ErrUnknownSlot)
	}
	return p, nil
}

func nameOf(slot abswap.Slot) string {
	if slot == nil {
		return ""
	}
	return slot.Name()
}

// Active returns the slot with the largest weight; of equals the one named first. See abswap.Switcher.
func (s *Switcher) Active(ctx context.Context) (string, error) {
	done := s.log.begin(Call{Method: "Active"})
	if s.ActiveFunc != nil {
		name, err := s.ActiveFunc(ctx, s.active)
		return name, done(err)
	}
	name, err := s.active(ctx)
	return name, done(err)
}

func (s *Switcher) active(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	defer s.lock()()
	best, n := "", 0
	for _, name := range s.order {
		if w := s.slots[name].weight; w > 0 {
			n++
			if best == "" || w > s.slots[best].weight {
				best = name
			}
		}
	}
	switch {
	case n == 0:
		return "", abswap.ErrNoActive
	case n > 1:
		return best, abswap.ErrMixed
	}
	return best, nil
}

// Activate sends all new work to the slot. See abswap.Switcher.
func (s *Switcher) Activate(ctx context.Context, to abswap.Slot) error {
	done := s.log.begin(Call{Method: "Activate", Slot: nameOf(to)})
	if s.ActivateFunc != nil {
		return done(s.ActivateFunc(ctx, to, s.activate))
	}
	return done(s.activate(ctx, to))
}

func (s *Switcher) activate(ctx context.Context, to abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	if _, err := s.place(to); err != nil {
		return err
	}
	s.route(map[string]int{to.Name(): 100})
	return nil
}

// route gives each slot its weight, undoes the seal of those above 0 and cancels their pending orders; s.mu is held.
func (s *Switcher) route(weights map[string]int) {
	s.version++
	for name, p := range s.slots {
		p.weight, p.credit = weights[name], 0
		if p.weight == 0 {
			continue
		}
		p.sealed = false
		for w := range p.all() {
			if w.told {
				w.told, w.leave = false, make(chan struct{})
			}
		}
		if p.cut != nil {
			p.cut.Stop()
			p.cut = nil
		}
	}
}

// Weights returns the part of each slot that is above 0. See abswap.WeightedSwitcher.
func (s *Switcher) Weights(ctx context.Context) (map[string]int, error) {
	done := s.log.begin(Call{Method: "Weights"})
	if s.WeightsFunc != nil {
		w, err := s.WeightsFunc(ctx, s.weights)
		return w, done(err)
	}
	w, err := s.weights(ctx)
	return w, done(err)
}

func (s *Switcher) weights(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Shares(), nil
}

// SetWeights shares new work out. The parts are met exactly in every hundred pieces of work. See abswap.WeightedSwitcher.
func (s *Switcher) SetWeights(ctx context.Context, w ...abswap.Weight) error {
	call := Call{Method: "SetWeights", Weights: map[string]int{}}
	for _, x := range w {
		call.Weights[nameOf(x.Slot)] = x.Part
	}
	done := s.log.begin(call)
	if s.SetWeightsFunc != nil {
		return done(s.SetWeightsFunc(ctx, w, s.setWeights))
	}
	return done(s.setWeights(ctx, w...))
}

func (s *Switcher) setWeights(ctx context.Context, w ...abswap.Weight) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	errs, weights := []error{abswap.CheckWeights(w)}, map[string]int{}
	for _, x := range w {
		if x.Slot == nil {
			continue
		}
		if _, err := s.place(x.Slot); err != nil {
			errs = append(errs, err)
		}
		weights[x.Slot.Name()] = x.Part
	}
	if err := multi.Join(errs...); err != nil {
		return err
	}
	s.route(weights)
	return nil
}

// Seal makes sure that nothing leads to the slot: its weight becomes 0, its preview rules and the bindings of its sessions are removed.
// See abswap.SealingSwitcher.
func (s *Switcher) Seal(ctx context.Context, slot abswap.Slot) error {
	done := s.log.begin(Call{Method: "Seal", Slot: nameOf(slot)})
	if s.SealFunc != nil {
		return done(s.SealFunc(ctx, slot, s.seal))
	}
	return done(s.seal(ctx, slot))
}

func (s *Switcher) seal(ctx context.Context, slot abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	p, err := s.place(slot)
	if err != nil {
		return err
	}
	s.version++
	p.sealed, p.previews = true, nil
	if p.weight > 0 {
		p.weight = 0
		s.fill()
	}
	for w := range p.sessions {
		s.drop(w)
	}
	return nil
}

// fill raises the weights that are left to a sum of 100, in their proportion; s.mu is held.
func (s *Switcher) fill() {
	sum, left := 0, 100
	for _, p := range s.slots {
		sum += p.weight
	}
	var first *place
	for _, name := range s.order {
		p := s.slots[name]
		if p.weight == 0 {
			continue
		}
		p.weight = p.weight * 100 / sum
		left -= p.weight
		if first == nil {
			first = p
		}
	}
	if first != nil {
		first.weight += left // what rounding left over
	}
}

// Preview sends matching requests to the slot. See abswap.PreviewingSwitcher.
func (s *Switcher) Preview(ctx context.Context, slot abswap.Slot, rules ...abswap.PreviewRule) error {
	done := s.log.begin(Call{Method: "Preview", Slot: nameOf(slot), Rules: slices.Clone(rules)})
	if s.PreviewFunc != nil {
		return done(s.PreviewFunc(ctx, slot, rules, s.preview))
	}
	return done(s.preview(ctx, slot, rules...))
}

func (s *Switcher) preview(ctx context.Context, slot abswap.Slot, rules ...abswap.PreviewRule) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	p, err := s.place(slot)
	errs := []error{err}
	for i, r := range rules {
		switch {
		case r.Header == "" && r.Cookie == "" && r.Host == "":
			errs = append(errs, fmt.Errorf("preview rule %d matches nothing: set Header, Cookie or Host", i))
		case (r.Header != "" || r.Cookie != "") && r.Value == "":
			errs = append(errs, fmt.Errorf("preview rule %d: Header and Cookie need a Value", i))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return err
	}
	s.version++
	p.previews = slices.Clone(rules)
	p.sealed = p.sealed && len(rules) == 0 // rules are the younger order
	return nil
}

// Traits returns Declared.
func (s *Switcher) Traits() abswap.Traits { return s.Declared }

// Check refuses slots that the Switcher does not know. See abswap.Checker.
func (s *Switcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	done := s.log.begin(Call{Method: "Check"})
	if s.CheckFunc != nil {
		return done(s.CheckFunc(ctx, r, s.check))
	}
	return done(s.check(ctx, r))
}

func (s *Switcher) check(ctx context.Context, r abswap.CheckRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.lock()()
	var errs []error
	for _, slot := range r.Slots {
		if _, err := s.place(slot); err != nil {
			errs = append(errs, err)
		}
	}
	return multi.Join(errs...)
}

// Move gives the slots these weights as another hand would: no call is recorded, and no Func is asked. The parts sum up to 100; empty or
// all 0: no slot is active. A part above 0 undoes Seal, as another hand could. Nothing is changed if there is an error.
func (s *Switcher) Move(weights map[string]int) error {
	defer s.lock()()
	var errs []error
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if s.slots[name] == nil {
			errs = append(errs, fmt.Errorf("move: slot %q is none of %q: %w", name, s.order, abswap.ErrUnknownSlot))
		}
		if weights[name] < 0 {
			errs = append(errs, fmt.Errorf("move: slot %q: weight %d is below 0", name, weights[name]))
		}
		sum += weights[name]
	}
	if sum != 0 && sum != 100 {
		errs = append(errs, errors.New("move: the weights sum up to neither 100 nor 0"))
	}
	if err := multi.Join(errs...); err != nil {
		return err
	}
	s.route(weights)
	return nil
}

// Shares returns the weights above 0 as they are, by slot: no call is recorded, and no Func is asked.
func (s *Switcher) Shares() map[string]int {
	defer s.lock()()
	w := map[string]int{}
	for name, p := range s.slots {
		if p.weight > 0 {
			w[name] = p.weight
		}
	}
	return w
}

// Sealed tells whether the slot of that name is sealed: no call is recorded, and no Func is asked.
func (s *Switcher) Sealed(name string) bool {
	defer s.lock()()
	p := s.slots[name]
	return p != nil && p.sealed
}
