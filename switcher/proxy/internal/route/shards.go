package route

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

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

// shards are those of a generation. It begins with one, as most of ten thousand sites need no more, and gets as many again each time that two
// requests have met at one, up to most. They are never fewer, and whoever has loaded all sees those that anybody had loaded before.
type shards[T any] struct {
	all  atomic.Pointer[[]*shard[T]] // a power of two
	most int
	mu   sync.Mutex // held while there come more
}

func (s *shards[T]) init(most int) {
	s.all.Store(&[]*shard[T]{new(shard[T])})
	s.most = most
}

// any returns one by chance.
func (s *shards[T]) any() *shard[T] {
	all := *s.all.Load()
	return all[rand.Uint32()&uint32(len(all)-1)]
}

// grow makes them twice as many.
func (s *shards[T]) grow() {
	if len(*s.all.Load()) >= s.most || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	old := *s.all.Load()
	if len(old) >= s.most {
		return
	}
	all := make([]*shard[T], len(old), 2*len(old))
	copy(all, old)
	more := make([]shard[T], len(old))
	for i := range more {
		all = append(all, &more[i])
	}
	s.all.Store(&all)
}

// shardCount is so large that requests on all cores seldom meet: four per core, as a power of two, 8 to 128.
func shardCount() int {
	n := 4 * runtime.GOMAXPROCS(0)
	return min(max(1<<bits.Len(uint(n-1)), 8), 128)
}
