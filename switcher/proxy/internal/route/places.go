package route

import "sync/atomic"

// limits bound what is in flight in each generation at a time. Upgraded connections are not in it: they may live for days.
type limits struct {
	each  int64
	line  atomic.Int64 // entries that wait for a place, in all generations
	moved func()
}

// places are those of one generation.
type places struct {
	*limits
	used    atomic.Int64
	waiting atomic.Int64 // entries that wait for one
}

// Limit bounds the requests that are in flight in a generation. moved is called when a place has become free while somebody waits for one
// there, or when the state has changed: then Worth may have become true. It must not change the table. Limit is called before Generation.
func (t *Table[T]) Limit(each int, moved func()) { t.limits = &limits{each: int64(each), moved: moved} }

func (t *Table[T]) newPlaces() *places {
	if t.limits == nil {
		return nil
	}
	return &places{limits: t.limits}
}

// changed is called when another state has been published.
func (t *Table[T]) changed() {
	if t.limits != nil && t.limits.line.Load() > 0 {
		t.limits.moved()
	}
}

// take takes a place. An entry whose turn it is not takes none while others wait, for whatever: it could be ahead of one.
func (p *places) take(turn bool) bool {
	if !turn && p.line.Load() > 0 {
		return false
	}
	for {
		n := p.used.Load()
		if n >= p.each {
			return false
		}
		if p.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give gives a place back. Who waits says so first and looks for a place afterwards: it finds this one, or is found waiting.
func (p *places) give(turn bool) {
	p.used.Add(-1)
	if !turn && p.waiting.Load() > 0 {
		p.moved()
	}
}

// leavePlace gives the place of e back, if it has one.
func (e *Entry[T]) leavePlace(g *Generation[T]) {
	if e.placed {
		e.placed = false
		g.places.give(false)
	}
}

// full notes that e found no place in g, which it picked from st.
func (e *Entry[T]) full(g *Generation[T], st *state[T]) {
	e.Full, e.fullAt = g, st
}

// awaited returns the generation where e found no place, if that was in the state st: it picks once, however long it waits.
func (e *Entry[T]) awaited(st *state[T]) *Generation[T] {
	if e.Full != nil && e.fullAt == st {
		return e.Full
	}
	return nil
}

// Await says that somebody waits for a place in g, or, with -1, no longer.
func (g *Generation[T]) Await(n int64) {
	g.places.waiting.Add(n)
	g.places.line.Add(n)
}

// Awaited returns how many wait for a place in g.
func (g *Generation[T]) Awaited() int { return int(g.places.waiting.Load()) }

// Worth reports whether Enter may give e, which has found e.Full full, something else by now.
func (t *Table[T]) Worth(e *Entry[T]) bool {
	return t.state.Load() != e.fullAt || e.Full.places.used.Load() < e.Full.places.each
}
