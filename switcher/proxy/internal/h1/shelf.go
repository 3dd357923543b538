package h1

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Life tells one running application from all others: two pools of the same one may use the same connections.
type Life struct {
	Addr    string
	Release string
	Started int64 // nanoseconds; 0: unknown
}

// Shared are idle connections that pools of several sites have in common: where a thousand sites lead to one application, a request finds a
// connection that another site has used. They are kept as long as one of these pools is open. The zero value has none.
type Shared struct {
	mu sync.Mutex
	of map[Life]*shelf
}

// shelf is where idle connections are kept. It begins with one shard and gets more where exchanges meet.
type shelf struct {
	users  int // pools; guarded by Shared.mu
	shards atomic.Pointer[[]*poolShard]
	mu     sync.Mutex // held while there come more
	closed bool       // guarded by mu
}

// poolShard holds a part of the idle connections, oldest first, so that exchanges on different cores seldom meet at one lock.
type poolShard struct {
	poolShardState
	_ [128 - unsafe.Sizeof(poolShardState{})%128]byte
}

type poolShardState struct {
	shelf  *shelf
	mu     sync.Mutex
	open   bool // connections may be kept
	idle   []*Upstream
	expiry *time.Timer // runs expire; nil: not set
}

// open returns the shelf of that life, of which the caller is a user from then on. A nil Shared has one for each caller.
func (c *Shared) open(l Life) *shelf {
	if c == nil {
		return newShelf()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of[l]
	if s == nil {
		s = newShelf()
		if c.of == nil {
			c.of = map[Life]*shelf{}
		}
		c.of[l] = s
	}
	s.users++
	return s
}

// close says that the caller uses s no longer. At return of the last one no idle connection is left in it.
func (c *Shared) close(l Life, s *shelf) {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.users--; s.users > 0 {
			return
		}
		delete(c.of, l)
	}
	s.close()
}

func newShelf() *shelf {
	s := &shelf{}
	s.shards.Store(&[]*poolShard{{poolShardState: poolShardState{shelf: s, open: true}}})
	return s
}

// shard returns one of the shards, the same for the same number as long as there come no more.
func (s *shelf) shard(n uint32) *poolShard {
	all := *s.shards.Load()
	return all[int(n)&(len(all)-1)]
}

// mostShards is so large that exchanges on all cores seldom meet: two per core, as a power of two, 4 to 64.
func mostShards() int {
	return min(max(1<<bits.Len(uint(2*runtime.GOMAXPROCS(0)-1)), 4), 64)
}

// grow makes the shards twice as many, up to mostShards.
func (s *shelf) grow() {
	if len(*s.shards.Load()) >= mostShards() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	old := *s.shards.Load()
	if s.closed || len(old) >= mostShards() {
		return
	}
	all := append(make([]*poolShard, 0, 2*len(old)), old...)
	for range old {
		all = append(all, &poolShard{poolShardState: poolShardState{shelf: s, open: true}})
	}
	s.shards.Store(&all)
}

// close closes all connections, and lets none be kept.
func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sh := range *s.shards.Load() {
		sh.mu.Lock()
		sh.open = false
		sh.closeIdle(0)
		sh.mu.Unlock()
	}
}

// lock locks the shard, and lets there be more of them if another one has it.
func (s *poolShard) lock() {
	if !s.mu.TryLock() {
		s.shelf.grow()
		s.mu.Lock()
	}
}
