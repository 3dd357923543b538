package route

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
)

// The faults of other balancers. Each is Enter, or Set, as it would be with it.

var (
	stopSpinning atomic.Bool
	spins        atomic.Int64
)

// Spinning says whether EnterSpinning may go on, in all tables.
func (t *Table[T]) Spinning(on bool) {
	stopSpinning.Store(!on)
	spins.Store(0)
}

// Spins returns how often EnterSpinning has looked in vain.
func (t *Table[T]) Spins() int64 { return spins.Load() }

// EnterSpinning looks for a healthy one among those with a part until there is one, with the lock in its hands (Traefik's wrr.nextServer).
func (t *Table[T]) EnterSpinning(e *Entry[T], avoid *Generation[T]) *Generation[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !stopSpinning.Load() {
		for _, p := range t.state.Load().set {
			if !p.Gen.sick {
				return t.EnterCareless(e, avoid)
			}
		}
		spins.Add(1)
		runtime.Gosched()
	}
	return nil
}

// SetAtLeastOne gives a slot with a part of 0 the default (oxy's UpsertServer).
func (t *Table[T]) SetAtLeastOne(parts ...Part[T]) {
	for i := range parts {
		parts[i].Part = max(parts[i].Part, 1)
	}
	t.Set(scale(parts)...)
}

// EnterIndexed draws a place over all weights and takes it in the list of the healthy (Caddy's weighted round robin).
func (t *Table[T]) EnterIndexed(e *Entry[T], _ *Generation[T]) *Generation[T] {
	st := t.state.Load()
	n, i := rand.IntN(pickCount), 0
	for n >= st.set[i].Part {
		n -= st.set[i].Part
		i++
	}
	return t.enterAt(e, st.parts[i%len(st.parts)].Gen)
}

// EnterInPanic takes any of all if none with a part is healthy (YARP's HealthyOrPanic, where draining is being unhealthy).
func (t *Table[T]) EnterInPanic(e *Entry[T], avoid *Generation[T]) *Generation[T] {
	for _, p := range t.state.Load().set {
		if !p.Gen.sick {
			return t.Enter(e, avoid)
		}
	}
	var all []*Generation[T]
	t.Each(func(g *Generation[T], _ bool) { all = append(all, g) })
	return t.enterAt(e, all[rand.IntN(len(all))])
}

func (t *Table[T]) enterAt(e *Entry[T], g *Generation[T]) *Generation[T] {
	e.gen, e.shard = g, g.shards.any()
	e.shard.entered.Add(1)
	e.link()
	return g
}
