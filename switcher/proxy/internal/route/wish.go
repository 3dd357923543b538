package route

import "slices"

// Wish is where an entry wants to go. The state decides whether it may: a wish that it does not grant is none.
type Wish struct {
	Kind    WishKind
	Slot    string
	Release string // that the slot's known generation must have; "": whatever it has
}

// WishKind says by what right an entry wants to go somewhere.
type WishKind uint8

const (
	NoWish  WishKind = iota
	Stay             // granted while the generation has a part
	Session          // the same, and also while it keeps its sessions
	Preview          // granted while the slot is previewed; the release does not count
)

// KeepSessions makes the table one whose slots keep their sessions: the known generation of a slot that has lost its part grants wishes of
// sessions until the slot is sealed, gets another generation, or LetGo. It is called before the first Set.
func (t *Table[T]) KeepSessions() { t.keeps = true }

// LetGo publishes a state in which the slot keeps no sessions, until it has got a part again. What has entered is not touched. A slot that has a
// part is left as it is, and LetGo returns false.
func (t *Table[T]) LetGo(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.state.Load().set {
		if p.Gen.Key.Slot == name {
			return false
		}
	}
	t.slots[name].letGo = true
	t.publish(t.state.Load().set)
	return true
}

// Preview publishes a state in which g grants wishes of previews, until Seal or StopPreview of its slot. g is the known generation of the slot,
// or has a part. Orders given to the slot are cancelled.
func (t *Table[T]) Preview(g *Generation[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[g.Key.Slot].previewed = true
	g.cancelOrders()
	t.publish(t.state.Load().set)
}

// StopPreview publishes a state in which the slot is not previewed. At its return nothing that begins afterwards enters it by such a wish.
func (t *Table[T]) StopPreview(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.slots[name].previewed {
		t.slots[name].previewed = false
		t.publish(t.state.Load().set)
	}
}

// Given returns the parts as they were set, whether all are in force or not. The caller does not change the slice.
func (t *Table[T]) Given() []Part[T] { return t.state.Load().set }

// Empty publishes a state in which nothing leads anywhere, and no later one keeps sessions. At its return nothing enters any more.
func (t *Table[T]) Empty() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keeps = false
	for _, s := range t.slots {
		s.previewed = false
	}
	t.publish(nil)
}

// bind notes in st, which is about to be published, which generations grant wishes without having a part; t.mu is held.
func (t *Table[T]) bind(st *state[T]) {
	for name, s := range t.slots {
		if len(s.gens) == 0 || !t.keeps && !s.previewed {
			continue
		}
		g := s.gens[len(s.gens)-1]
		for _, p := range st.set { // of a slot with a part the generation that has it
			if p.Gen.Key.Slot == name {
				g = p.Gen
			}
		}
		if s.previewed {
			st.previewed = append(st.previewed, g)
		}
		if t.keeps && !s.sealed && !s.letGo && st.part(g) == 0 {
			st.keeping = append(st.keeping, g)
		}
	}
}

// grant returns the generation that w leads to; nil if it leads nowhere. avoid, which could not be reached just now, is returned for a preview
// alone, as whoever looks at a release is not to be shown another one.
func (s *state[T]) grant(w *Wish, avoid *Generation[T]) *Generation[T] {
	if w.Kind == Preview {
		for _, g := range s.previewed {
			if g.Key.Slot == w.Slot {
				return g
			}
		}
		return nil
	}
	parts := s.parts
	if w.Kind == Session {
		parts = s.set // a sick slot keeps what it has
	}
	for i := range parts {
		if g := parts[i].Gen; w.fits(&g.Key) && g != avoid {
			return g
		}
	}
	if w.Kind == Session {
		for _, g := range s.keeping {
			if w.fits(&g.Key) && g != avoid {
				return g
			}
		}
	}
	return nil
}

func (w *Wish) fits(k *Key) bool {
	return k.Slot == w.Slot && (w.Release == "" || k.Release == w.Release)
}

// leads reports whether anything leads to g.
func (s *state[T]) leads(g *Generation[T]) bool {
	return s.part(g) > 0 || slices.Contains(s.keeping, g) || slices.Contains(s.previewed, g)
}
