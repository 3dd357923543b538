package route

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Generation is one life of one slot: what was started at one time, at one address, with one release. It has its own counters, which begin at
// zero and are never reset.
type Generation[T any] struct {
	Key    Key
	Target T // how the data path reaches it

	watch  *watch
	order  atomic.Uint32 // Order for those that were on their way in when it was given
	shards []shard[T]
}

// shard is a part of a generation's counters that few requests at a time touch. Entered and left only grow, so that adding them up while they
// change has a meaning; see Generation.count.
type shard[T any] struct {
	shardState[T]
	_ [128 - unsafe.Sizeof(shardState[struct{}]{})%128]byte // no cache line is shared, nor a pair of them that is fetched together
}

type shardState[T any] struct {
	entered  atomic.Uint64
	left     atomic.Uint64
	upgraded atomic.Uint64 // of those that entered: left HTTP
	upgrLeft atomic.Uint64 // of those upgraded: left
	mu       sync.Mutex    // guards the list
	first    *Entry[T]
}

func newGeneration[T any](k Key, target T, w *watch, shards int) *Generation[T] {
	return &Generation[T]{Key: k, Target: target, watch: w, shards: make([]shard[T], shards)}
}

// shardCount is so large that requests on all cores seldom meet: four per core, as a power of two, 8 to 128.
func shardCount() int {
	n := 4 * runtime.GOMAXPROCS(0)
	return min(max(1<<bits.Len(uint(n-1)), 8), 128)
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
	for i := range g.shards {
		left += g.shards[i].left.Load()
		upLeft += g.shards[i].upgrLeft.Load()
	}
	for i := range g.shards {
		upgraded += g.shards[i].upgraded.Load()
		entered += g.shards[i].entered.Load()
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
