package route

import "sync/atomic"

// Generation is one life of one slot: what was started at one time, at one address, with one release. It has its own counters, which begin at
// zero and are never reset.
type Generation[T any] struct {
	Key    Key
	Target T // how the data path reaches it

	watch  *watch
	places *places       // nil: no limit
	sick   bool          // guarded by Table.mu; see SetSick
	order  atomic.Uint32 // Order for those that were on their way in when it was given
	shards shards[T]
}

func newGeneration[T any](k Key, target T, w *watch, shards int) *Generation[T] {
	g := &Generation[T]{Key: k, Target: target, watch: w}
	g.shards.init(shards)
	return g
}

// Count is what is in flight in a generation or in a slot.
type Count struct{ Requests, Upgraded int }

func (c Count) total() int { return c.Requests + c.Upgraded }

// Total is the sum of both.
func (c Count) Total() int { return c.total() }

// Count counts what is in flight.
func (g *Generation[T]) Count() Count { return g.count() }

// count reads all departures first and all arrivals afterwards. Call t the moment between the two passes. No departure after t is in the
// first sum, every arrival before t is in the second, so the difference is at least what was in flight at t: a zero is a true zero, of one
// moment, also while requests enter. It may be too large by what comes and goes while it is read. For a generation that no state leads to,
// only a request that picked before the change and has not yet looked again can come, and it goes at once.
func (g *Generation[T]) count() Count {
	var left, upLeft, entered, upgraded uint64
	for _, sh := range *g.shards.all.Load() {
		left += sh.left.Load()
		upLeft += sh.upgrLeft.Load()
	}
	for _, sh := range *g.shards.all.Load() { // loaded again: every arrival before t was on one that was there at t
		upgraded += sh.upgraded.Load()
		entered += sh.entered.Load()
	}
	all, up := int(entered-left), int(upgraded-upLeft)
	// What is upgraded is part of what entered; read at different moments the parts may not fit, and the larger sum is told.
	return Count{Requests: max(all-up, 0), Upgraded: up}
}

// Count counts what is in flight in the slot, all its generations together. Zero means: nothing was in flight at one moment of the call. The
// count of a slot that takes no new work only falls, but for requests that picked it before the last change and are about to pick again:
// these may be seen for an instant. Nothing in flight is ever missed.
func (t *Table[T]) Count(name string) Count {
	var c Count
	for _, g := range t.Generations(name) {
		x := g.count()
		c.Requests += x.Requests
		c.Upgraded += x.Upgraded
	}
	return c
}
