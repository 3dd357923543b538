package abswap

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MemberSwitcher decides which members of a fleet take new work. All members serve at the same time, and each is a Slot. A Rolling takes
// one after the other out, updates it and puts it in again.
//
// A fleet may have several doors, such as two load balancers of which each knows all members. A member is in service only when every door
// says so, and out of it only when every door says so. The rules are those of Switcher, said of members:
//
//   - S1 in force at return: when TakeOut returns nil, no request that begins afterwards reaches the member, through whichever door, not even
//     one whose session is bound to it; when PutIn returns nil, every door leads new work to it.
//   - S2 nothing is lost: no request fails or is answered twice because a member was taken out or put in.
//   - S3 old work survives: what a member had begun when it was taken out, it finishes.
//   - S4 calls: idempotent; an unknown member is refused with ErrUnknownSlot; a context that has ended before the call changes nothing; all
//     methods are safe for concurrent use. If the context ends during the call its error is returned, wrapped with ErrUnknownOutcome once
//     the effect may have begun. With several doors an error may leave some changed and others not: Members says so, and the call can be
//     made again, either way.
//   - S5 honest: Members tells what the doors do now, also after a change behind our back. A door that cannot be asked is an error, since
//     nobody knows what it does.
//   - S6 touch only what we own: nothing but the one member's being in service changes. Its weight is afterwards what it was before.
type MemberSwitcher interface {
	// Members tells where each member stands, by name: those of all slots that it was given, whether in service or not.
	Members(ctx context.Context) (map[string]Member, error)

	// TakeOut leads no new work to s from its return on. What s has begun it finishes. The other members take the work over: whether they
	// are enough is the caller's to know; but the last one in service is refused, with ErrPermanent.
	TakeOut(ctx context.Context, s Slot) error

	// PutIn leads new work to s again, as much as it had before.
	PutIn(ctx context.Context, s Slot) error
}

// Member is where one member of a fleet stands, over all doors. Where neither In nor Out is true, some doors lead new work to it, or some
// new work still gets there.
type Member struct {
	In   bool   `json:"in"`             // every door leads new work to it
	Out  bool   `json:"out"`            // no new work gets there through any door
	Up   bool   `json:"up"`             // every door holds it to be healthy; true where doors do not look
	Note string `json:"note,omitempty"` // what the doors say, where they differ or it does not serve: "lb2: MAINT"
}

// Serves tells whether the member takes new work and the doors hold it to be healthy.
func (m Member) Serves() bool { return m.In && m.Up }

// WeightedMembers makes a MemberSwitcher of any WeightedSwitcher: slots that have a part of the new work are in service. A member is taken
// out by Seal, if sw is a SealingSwitcher, else by giving it no part; its part goes to the others in the ratio of theirs. One that is put in
// gets as much as the others have on average. Parts are whole per cents, so there can be no more than 100 members.
//
// sw has one door, and does not tell who is healthy: a Rolling probes the members itself. Abilities are those of sw.
func WeightedMembers(sw WeightedSwitcher, slots ...Slot) MemberSwitcher {
	m := &weightedMembers{sw: sw, slots: slots, turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	return m
}

type weightedMembers struct {
	sw    WeightedSwitcher
	slots []Slot
	turn  chan struct{} // holds one token: who has it changes things
}

// Unwrap leads to the abilities of the switcher behind it.
func (m *weightedMembers) Unwrap() Switcher { return m.sw }

func (m *weightedMembers) Members(ctx context.Context) (map[string]Member, error) {
	w, err := m.sw.Weights(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]Member{}
	for _, s := range m.slots {
		all[s.Name()] = Member{In: w[s.Name()] > 0, Out: w[s.Name()] == 0, Up: true}
	}
	return all, nil
}

// change reads the weights, with nobody else changing them through m, and hands them to f unless the member is as it shall be.
func (m *weightedMembers) change(ctx context.Context, s Slot, f func(w map[string]int) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if s == nil || !slices.ContainsFunc(m.slots, func(x Slot) bool { return x.Name() == s.Name() }) {
		return fmt.Errorf("member %q: %w", slotName(s), ErrUnknownSlot)
	}
	select {
	case <-m.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { m.turn <- struct{}{} }()
	w, err := m.sw.Weights(ctx)
	if err != nil {
		return err
	}
	return f(w)
}

func slotName(s Slot) string {
	if s == nil {
		return ""
	}
	return s.Name()
}

func (m *weightedMembers) TakeOut(ctx context.Context, s Slot) error {
	return m.change(ctx, s, func(w map[string]int) error {
		if w[s.Name()] > 0 && len(w) == 1 {
			return fmt.Errorf("member %q is the only one in service, and stays so: %w", s.Name(), ErrPermanent)
		}
		if seal, ok := As[SealingSwitcher](m.sw); ok {
			return seal.Seal(ctx, s)
		}
		if w[s.Name()] == 0 {
			return nil
		}
		delete(w, s.Name())
		return m.sw.SetWeights(ctx, m.parts(scaled(w, 100))...)
	})
}

func (m *weightedMembers) PutIn(ctx context.Context, s Slot) error {
	return m.change(ctx, s, func(w map[string]int) error {
		if w[s.Name()] > 0 {
			return nil
		}
		if len(w) >= 100 {
			return fmt.Errorf("member %q: %d members are in service, and there are only 100 per cents: %w", s.Name(), len(w), ErrPermanent)
		}
		part := 100 / (len(w) + 1)
		w = scaled(w, 100-part)
		w[s.Name()] = part
		return m.sw.SetWeights(ctx, m.parts(w)...)
	})
}

func (m *weightedMembers) parts(w map[string]int) []Weight {
	var all []Weight
	for _, s := range m.slots {
		if w[s.Name()] > 0 {
			all = append(all, Weight{Slot: s, Part: w[s.Name()]})
		}
	}
	return all
}

// scaled returns w in the same ratio with another sum. None becomes 0, as long as sum has room for all.
func scaled(w map[string]int, sum int) map[string]int {
	old, left, out := 0, sum, map[string]int{}
	for _, part := range w {
		old += part
	}
	names := slices.SortedFunc(maps.Keys(w), func(a, b string) int { // what rounding leaves goes to those who lose most by it
		return cmp.Or(cmp.Compare(w[b]*sum%old, w[a]*sum%old), strings.Compare(a, b))
	})
	for _, name := range names {
		out[name] = max(w[name]*sum/old, 1)
		left -= out[name]
	}
	for i := 0; left > 0 && len(names) > 0; i++ {
		out[names[i%len(names)]]++
		left--
	}
	for ; left < 0; left++ { // small ones were lifted to 1: the largest pays
		top := slices.MaxFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(out[a], out[b]), strings.Compare(a, b)) })
		out[top]--
	}
	return out
}
