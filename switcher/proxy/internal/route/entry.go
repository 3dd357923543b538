package route

import (
	"sync/atomic"
	"time"
)

// Entry is one piece of work: it is counted from Enter to Leave. It may be used again after Leave. The fields without Atomic in their type
// are set before Enter and not changed before Leave.
type Entry[T any] struct {
	Method  string
	Path    string // without query
	Peer    string
	Started time.Time
	In, Out atomic.Int64 // body bytes
	Pass    bool         // it enters although the table is held
	Held    bool         // set by Enter: it did not enter since the table is held
	Away    bool         // set by Enter: it did not enter since the table is away
	Wish    Wish         // where it wants to go, if the state grants that
	Turn    bool         // it takes a place although others wait for one; see Limit
	Cut     func()       // called when the work is to be ended at once; it does not block, and may be called more than once
	Ask     func()       // called when it is asked to leave, which Due tells from then on; it does not block. nil: Due is enough

	Full   *Generation[T] // set by Enter: it did not enter since there is no place in it; see Limit
	fullAt *state[T]
	placed bool // it has a place

	gen        *Generation[T]
	shard      *shard[T]
	traffic    atomic.Uint32
	order      atomic.Uint32
	seen       atomic.Int64 // bytes at the last Look
	moved      atomic.Int64 // when a Look last saw more; Unix nanoseconds. What is older than Started is another work's
	prev, next *Entry[T]    // guarded by shard.mu
	id         uint64       // guarded by shard.mu; 0: not listed yet
}

// Enter picks a generation, that of e.Wish if the state grants it, counts e there, and returns it; nil if no slot takes work. From before its
// return until Leave no count of that generation is without e. While the table is held it returns nil too, and sets e.Held. avoid, which may be nil, is a generation that could not be reached just now; another one is preferred to it.
func (t *Table[T]) Enter(e *Entry[T], avoid *Generation[T]) *Generation[T] {
	for {
		st := t.state.Load()
		if e.Held, e.Away = false, false; st.shut != 0 && e.shutOut(st.shut) {
			return nil
		}
		g := e.awaited(st)
		if g == nil {
			e.Full = nil
			if e.Wish.Kind != NoWish {
				g = st.grant(&e.Wish, avoid)
			}
		}
		if g == nil {
			if g = st.pick(avoid); g == nil {
				return nil
			}
		}
		if t.hooks != nil && t.hooks.Picked != nil {
			t.hooks.Picked(g)
		}
		if g.places != nil && !g.places.take(e.Turn) {
			e.full(g, st)
			return nil
		}
		sh := g.shards.any()
		sh.entered.Add(1)
		if t.hooks != nil && t.hooks.Counted != nil {
			t.hooks.Counted(g)
		}
		if t.state.Load() == st {
			e.gen, e.shard = g, sh
			e.Full, e.placed = nil, g.places != nil
			e.traffic.Store(0)
			e.order.Store(uint32(NoOrder))
			e.link()
			if t.hooks != nil && t.hooks.Entered != nil {
				t.hooks.Entered(e)
			}
			return g
		}
		sh.left.Add(1)
		if g.places != nil {
			g.places.give(e.Turn)
		}
		g.watch.wake()
	}
}

// Upgrade moves e from the requests to the upgraded connections. It is counted all the while.
func (e *Entry[T]) Upgrade() {
	e.shard.upgraded.Add(1)
	e.Mark(Upgraded)
	e.leavePlace(e.gen)
}

// Leave ends the counting of e, on the shard on which it entered. When it returns, e.Cut is not running and will not be called again. A
// second call does nothing.
func (e *Entry[T]) Leave() {
	g, sh := e.gen, e.shard
	if g == nil {
		return
	}
	e.unlink()
	e.gen, e.shard = nil, nil
	if e.Traffic()&Upgraded != 0 {
		sh.upgrLeft.Add(1)
	}
	sh.left.Add(1)
	e.leavePlace(g)
	g.watch.wake()
}

// Order returns what the work was told to do: NoOrder, HandOver or Cut.
func (e *Entry[T]) Order() Order {
	switch o := Order(e.order.Load()); o {
	case leave, left:
		return HandOver
	default:
		return o
	}
}

func (e *Entry[T]) link() {
	sh := e.shard
	if !sh.mu.TryLock() {
		e.gen.shards.grow()
		sh.mu.Lock()
	}
	e.id = 0
	e.prev, e.next = nil, sh.first
	if sh.first != nil {
		sh.first.prev = e
	}
	sh.first = e
	// Whoever gives an order writes it here first and walks the lists afterwards: this entry is in the list by then, or sees it here.
	o := Order(e.gen.order.Load())
	if o != NoOrder {
		e.obey(o)
	}
	sh.mu.Unlock()
}

func (e *Entry[T]) unlink() {
	sh := e.shard
	sh.mu.Lock()
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		sh.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
	sh.mu.Unlock()
}

// obey is called with the shard's lock held.
func (e *Entry[T]) obey(o Order) {
	for old := e.order.Load(); Order(old) < o; old = e.order.Load() {
		if e.order.CompareAndSwap(old, uint32(o)) {
			break
		}
	}
	switch {
	case o == Cut && e.Cut != nil:
		e.Cut()
	case o == leave && e.Ask != nil:
		e.Ask()
	}
}
