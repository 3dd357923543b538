package route

import (
	"strings"
	"time"
)

// Order tells the work in a slot to end.
type Order uint32

const (
	NoOrder  Order = iota
	HandOver       // at the next chance, without breaking anything
	leave          // the same, and also where that takes more than a word: a stream, an upgraded connection. Only for one entry; see Entry.Due
	left           // it has begun to leave, which cannot be taken back
	Cut            // at once
)

// Order gives o to all that is in flight in the slot, and, if nothing leads there any more, to what was on its way in. It returns when each
// piece of work has been told. Set cancels it for the slots that get a part, Preview for the one that is previewed.
func (t *Table[T]) Order(name string, o Order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, st := t.slots[name], t.state.Load()
	for _, g := range s.gens {
		if !st.leads(g) {
			g.order.Store(uint32(o))
		}
		g.each(func(e *Entry[T]) { e.obey(o) })
	}
}

// cancelOrders takes back what has not been carried out. A cut has been, by the time that this can run.
func (g *Generation[T]) cancelOrders() {
	g.order.Store(uint32(NoOrder))
	g.each(func(e *Entry[T]) {
		if !e.order.CompareAndSwap(uint32(HandOver), uint32(NoOrder)) {
			e.order.CompareAndSwap(uint32(leave), uint32(NoOrder))
		}
	})
}

func (g *Generation[T]) each(f func(*Entry[T])) {
	for _, sh := range *g.shards.all.Load() {
		sh.mu.Lock()
		for e := sh.first; e != nil; e = e.next {
			f(e)
		}
		sh.mu.Unlock()
	}
}

// Work describes one piece of work in flight.
type Work struct {
	ID                 uint64 // no other piece has it, or will have it
	Traffic            Traffic
	Method, Path, Peer string
	Started            time.Time
	Moved              time.Time // when a byte of it last moved, as far as looks have shown; see Entry.Look
	In, Out            int64
}

// List returns what is in flight in the slot, in no order.
func (t *Table[T]) List(name string) []Work {
	var out []Work
	now := time.Now()
	for _, g := range t.Generations(name) {
		g.each(func(e *Entry[T]) {
			if e.id == 0 && !(t.hooks != nil && t.hooks.Nameless) {
				e.id = t.ids.next()
			}
			e.Look(now)
			moved := time.Unix(0, e.moved.Load())
			if moved.Before(e.Started) || t.hooks != nil && t.hooks.ByAge {
				moved = e.Started
			}
			// The data path may keep the path where the next one will lie, once the entry has left.
			out = append(out, Work{ID: e.id, Traffic: e.Traffic(), Moved: moved, Method: e.Method, Path: strings.Clone(e.Path), Peer: e.Peer, Started: e.Started,
				In: e.In.Load(), Out: e.Out.Load()})
		})
	}
	return out
}
