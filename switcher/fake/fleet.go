package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Fleet is a fleet in memory, behind one door or several, for the unit tests of tools that use abswap.Rolling. Each door is a Switcher: work comes
// in through its Begin and Open, its Move is another hand's, and its Func fields script what goes wrong at that one door. Make it with NewFleet;
// fields are set before the first call.
//
// Each Func field replaces the method of its name and is given the real one as do. nil: the real one.
type Fleet struct {
	MembersFunc func(ctx context.Context, do func(context.Context) (map[string]abswap.Member, error)) (map[string]abswap.Member, error)
	TakeOutFunc func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error
	PutInFunc   func(ctx context.Context, s abswap.Slot, do func(context.Context, abswap.Slot) error) error

	names []string
	doors []*Switcher
	sides []abswap.MemberSwitcher // of doors
	log   record

	mu   sync.Mutex
	down map[string]string // members that the doors hold to be sick, and why
}

var (
	_ abswap.MemberSwitcher = (*Fleet)(nil)
	_ abswap.ForcingDrainer = (*Fleet)(nil)
	_ abswap.Checker        = (*Fleet)(nil)
)

// NewFleet returns a fleet behind that many doors, at least one, with these members, at most 100, all of them in service.
func NewFleet(doors int, members ...string) *Fleet {
	f := &Fleet{names: slices.Clone(members), down: map[string]string{}}
	var slots []abswap.Slot
	for _, name := range members {
		slots = append(slots, NewSlot(name))
	}
	for range max(doors, 1) {
		sw := New(members...)
		weights := map[string]int{}
		for i, name := range members {
			weights[name] = 100 / len(members)
			if i < 100%len(members) {
				weights[name]++
			}
		}
		sw.lock()()
		sw.route(weights)
		f.doors = append(f.doors, sw)
		f.sides = append(f.sides, abswap.WeightedMembers(sw, slots...))
	}
	return f
}

// Door returns the door of that number, from 0.
func (f *Fleet) Door(i int) *Switcher { return f.doors[i] }

// Health makes the doors say that the member is not healthy, and why; "": it is again. It changes only what Members tells.
func (f *Fleet) Health(member, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[member] = why; why == "" {
		delete(f.down, member)
	}
}

// Serving lists the members that are in service at every door and healthy, in the order of NewFleet: no call is recorded, and no Func is asked.
func (f *Fleet) Serving() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, name := range f.names {
		in := f.down[name] == ""
		for _, d := range f.doors {
			in = in && d.Shares()[name] > 0
		}
		if in {
			all = append(all, name)
		}
	}
	return all
}

// Calls returns what was asked of the fleet so far, in order: the calls of the methods named, or without names all. What was asked of one door
// its own Calls tells.
func (f *Fleet) Calls(methods ...string) []Call { return f.log.list(methods) }

// Members sums up what the doors say. See abswap.MemberSwitcher.
func (f *Fleet) Members(ctx context.Context) (map[string]abswap.Member, error) {
	done := f.log.begin(Call{Method: "Members"})
	do := f.members
	if f.MembersFunc != nil {
		do = func(ctx context.Context) (map[string]abswap.Member, error) { return f.MembersFunc(ctx, f.members) }
	}
	all, err := do(ctx)
	return all, done(err)
}

func (f *Fleet) members(ctx context.Context) (map[string]abswap.Member, error) {
	all := map[string]abswap.Member{}
	for _, name := range f.names {
		all[name] = abswap.Member{In: true, Out: true, Up: true}
	}
	notes := map[string][]string{}
	for i, side := range f.sides {
		said, err := side.Members(ctx)
		if err != nil {
			return nil, fmt.Errorf("door %d: %w", i, err)
		}
		for name, one := range said {
			sum := all[name]
			all[name] = abswap.Member{In: sum.In && one.In, Out: sum.Out && one.Out, Up: sum.Up}
			if one.Out {
				notes[name] = append(notes[name], fmt.Sprintf("door %d: out", i))
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range f.names {
		m := all[name]
		if why := f.down[name]; why != "" {
			m.Up = false
			notes[name] = append(notes[name], why)
		}
		m.Note = strings.Join(notes[name], "; ")
		all[name] = m
	}
	return all, nil
}

// TakeOut takes the member out at one door after the other; at the first that fails it ends. See abswap.MemberSwitcher.
func (f *Fleet) TakeOut(ctx context.Context, s abswap.Slot) error {
	done := f.log.begin(Call{Method: "TakeOut", Slot: nameOf(s)})
	if f.TakeOutFunc != nil {
		return done(f.TakeOutFunc(ctx, s, f.takeOut))
	}
	return done(f.takeOut(ctx, s))
}

func (f *Fleet) takeOut(ctx context.Context, s abswap.Slot) error {
	return f.each(func(side abswap.MemberSwitcher) error { return side.TakeOut(ctx, s) })
}

// PutIn puts the member in at one door after the other; at the first that fails it ends. See abswap.MemberSwitcher.
func (f *Fleet) PutIn(ctx context.Context, s abswap.Slot) error {
	done := f.log.begin(Call{Method: "PutIn", Slot: nameOf(s)})
	if f.PutInFunc != nil {
		return done(f.PutInFunc(ctx, s, f.putIn))
	}
	return done(f.putIn(ctx, s))
}

func (f *Fleet) putIn(ctx context.Context, s abswap.Slot) error {
	return f.each(func(side abswap.MemberSwitcher) error { return side.PutIn(ctx, s) })
}

func (f *Fleet) each(do func(abswap.MemberSwitcher) error) error {
	for i, side := range f.sides {
		if err := do(side); err != nil {
			return fmt.Errorf("door %d: %w", i, err)
		}
	}
	return nil
}

// InFlight sums up what came to the member through the doors. See abswap.Drainer.
func (f *Fleet) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	done := f.log.begin(Call{Method: "InFlight", Slot: nameOf(s)})
	sum := abswap.Load{Evidence: abswap.EvidenceExact, Source: source}
	for i, d := range f.doors {
		l, err := d.InFlight(ctx, s)
		if err != nil {
			return abswap.Load{}, done(fmt.Errorf("door %d: %w", i, err))
		}
		sum.Requests, sum.Upgraded, sum.Evidence = sum.Requests+l.Requests, sum.Upgraded+l.Upgraded, min(sum.Evidence, l.Evidence)
	}
	return sum, done(nil)
}

// Force ends the work in the member at every door. See abswap.ForcingDrainer.
func (f *Fleet) Force(ctx context.Context, s abswap.Slot, how abswap.Force) error {
	done := f.log.begin(Call{Method: "Force", Slot: nameOf(s), Force: how})
	var errs []error
	for _, d := range f.doors {
		errs = append(errs, d.Force(ctx, s, how))
	}
	return done(multi.Join(errs...))
}

// Check refuses members that the fleet does not know. See abswap.Checker.
func (f *Fleet) Check(ctx context.Context, r abswap.CheckRequest) error {
	done := f.log.begin(Call{Method: "Check"})
	return done(f.doors[0].Check(ctx, r))
}
