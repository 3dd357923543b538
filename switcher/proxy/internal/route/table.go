// Package route decides which slot a request goes to, and counts what is in flight. It knows nothing of HTTP or of sockets.
//
// The rule that makes a switch exact: the routing state is one immutable value behind an atomic pointer. A request enters the count of the
// generation it picked and then looks at the pointer again; if the state has changed it leaves and picks again. Publishing a state and then
// reading the counts therefore misses nothing: a request that saw the old state at its second look had entered before the new state was
// published, so the reader sees it; any other picks again, from the new state. There is no grace period.
//
// What this rests on, each point with a test of its own:
//
//   - The pointer and the counters are sync/atomic values, whose operations have one total order.
//   - A state value is never used twice, so that A, B, A is seen as a change.
//   - Counters belong to a generation (slot, release, address, start) and are never reset; they only grow.
//   - A request leaves on the shard on which it entered.
//   - Whoever wants another slot, for a redial, goes through Enter again. Nothing remembers a pick.
//   - A wish, of a session or a preview, is granted by the same value, and so it ends with it: a generation to which nothing leads any more, as
//     after Seal, is entered by nobody, whatever it wishes.
package route

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Key says what a generation is a generation of. A slot whose release, address or start differs is a new one: it inherits nothing.
type Key struct {
	Slot    string
	Release string
	Address string
	Started time.Time
}

// Same reports whether k and o are the same generation.
func (k Key) Same(o Key) bool {
	return k.Slot == o.Slot && k.Release == o.Release && k.Address == o.Address && k.Started.Equal(o.Started)
}

// Part is one generation's part of the new work.
type Part[T any] struct {
	Gen  *Generation[T]
	Part int // 1 to 100
}

// Table holds the slots, their generations and the state that says which of them takes new work. T is what the data path needs to reach a
// generation. All methods are safe for concurrent use.
type Table[T any] struct {
	state  atomic.Pointer[state[T]]
	mu     sync.Mutex // serialises changes; Enter does not take it
	slots  map[string]*slot[T]
	ids    ids       // of entries that are listed
	hooks  *Hooks[T] // nil but in tests
	shards int       // per generation, a power of two
	keeps  bool      // KeepSessions was called
	limits *limits   // nil: none
}

// Hooks let tests stop a request at the two places where a careless table loses it, and see it enter. The others are faults of a careless list.
type Hooks[T any] struct {
	Picked  func(*Generation[T]) // between "picked" and "counted"
	Counted func(*Generation[T]) // between "counted" and the second look
	Entered func(*Entry[T])      // after it

	ByAge    bool // work has been still for as long as it is there
	Nameless bool // no piece of work can be told from another
}

// SetHooks is for tests. It is called before the first Enter.
func (t *Table[T]) SetHooks(h Hooks[T]) { t.hooks = &h }

// slot is what the table knows of one slot. Its fields are guarded by Table.mu.
type slot[T any] struct {
	gens      []*Generation[T] // oldest first; the last one is the known one
	sealed    bool             // by Seal; a preview leads to it all the same
	letGo     bool             // it keeps no sessions
	previewed bool
	watch     watch
}

// New returns a table of the slots named, none of which takes work.
func New[T any](names ...string) *Table[T] {
	t := &Table[T]{slots: make(map[string]*slot[T]), shards: shardCount()}
	for _, n := range names {
		t.slots[n] = &slot[T]{}
	}
	t.state.Store(newState[T](nil))
	return t
}

// Has reports whether the table has a slot of that name.
func (t *Table[T]) Has(name string) bool {
	_, ok := t.slots[name] // the map never changes
	return ok
}

// Generation returns the known generation of k.Slot if k is the same, else a new one with the target that makeTarget returns. The slot must
// exist. Earlier generations stay counted as long as work is left in them; one that has none and that nothing leads to is forgotten as a
// whole, its counters untouched. Sessions and previews lead to an earlier one until the next state is published.
func (t *Table[T]) Generation(k Key, makeTarget func() T) *Generation[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slots[k.Slot]
	if n := len(s.gens); n > 0 && s.gens[n-1].Key.Same(k) {
		return s.gens[n-1]
	}
	live := t.state.Load()
	s.gens = slices.DeleteFunc(slices.Clone(s.gens), func(g *Generation[T]) bool { return !live.leads(g) && g.count().total() == 0 })
	g := newGeneration(k, makeTarget(), &s.watch, t.shards)
	g.places = t.newPlaces()
	s.gens = append(s.gens, g)
	return g
}

// Set publishes a state in which each generation named has its part and nothing else leads anywhere, except wishes that others grant: see
// KeepSessions and Preview. Parts of 0 are left out. At return no other request that begins afterwards enters another generation. A slot that gets a part is no longer sealed, and orders given to it are
// cancelled. No parts: no slot takes work.
func (t *Table[T]) Set(parts ...Part[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	parts = slices.DeleteFunc(slices.Clone(parts), func(p Part[T]) bool { return p.Part <= 0 })
	for _, p := range parts {
		s := t.slots[p.Gen.Key.Slot]
		s.sealed, s.letGo = false, false
		for _, g := range s.gens {
			g.cancelOrders()
		}
	}
	t.publish(parts)
}

// publish puts a new state in force, as shut as the last one was; t.mu is held.
func (t *Table[T]) publish(parts []Part[T]) {
	st := newState(withoutSick(parts))
	st.set = parts
	st.shut = t.state.Load().shut
	t.bind(st)
	t.state.Store(st)
	t.changed()
}

// Seal publishes a state in which nothing leads to the slot, no part, no session and no preview; the others keep their ratio. From its return on no request enters the slot, so
// that a count of zero stays zero (but see Count).
func (t *Table[T]) Seal(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[name].sealed, t.slots[name].previewed = true, false
	left := slices.DeleteFunc(slices.Clone(t.state.Load().set), func(p Part[T]) bool { return p.Gen.Key.Slot == name })
	t.publish(scale(left))
}

// Sealed reports whether the slot was sealed and has got no part since. It may have got a preview.
func (t *Table[T]) Sealed(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slots[name].sealed
}

// Parts returns the parts of the generations that take new work, as they are in force: see SetSick. The caller does not change the slice.
func (t *Table[T]) Parts() []Part[T] { return t.state.Load().parts }

// Generations returns all generations of the slot that may have work in them, oldest first.
func (t *Table[T]) Generations(name string) []*Generation[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slots[name].gens // replaced, never changed in place, when it shrinks; appended to otherwise
}

// Each calls f for all generations of all slots, and says whether anything leads there.
func (t *Table[T]) Each(f func(g *Generation[T], led bool)) {
	t.mu.Lock()
	st := t.state.Load()
	var all []*Generation[T]
	for _, s := range t.slots {
		all = append(all, s.gens...)
	}
	t.mu.Unlock()
	for _, g := range all {
		f(g, st.leads(g))
	}
}
