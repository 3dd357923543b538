package route

import (
	"sync/atomic"
	"time"
)

// Traffic is what an entry carries at the moment, beside a request: bits, which come and go.
type Traffic uint32

const (
	Uploading   Traffic = 1 << iota // a body is on its way in
	Downloading                     // a body is on its way out
	Streaming                       // that body is an event stream
	Upgraded                        // it has left HTTP
	Opaque                          // the ends of the stream's events cannot be seen
)

// Mark says that e carries that from now on.
func (e *Entry[T]) Mark(t Traffic) { e.traffic.Or(uint32(t)) }

// Unmark says that it does not any more.
func (e *Entry[T]) Unmark(t Traffic) { e.traffic.And(^uint32(t)) }

// Traffic returns what e carries.
func (e *Entry[T]) Traffic() Traffic { return Traffic(e.traffic.Load()) }

// Look notes whether bytes have moved since the last look. So the data path needs no clock: how long work has been quiet is known as exactly as
// it is looked at often.
func (e *Entry[T]) Look(now time.Time) {
	if n := e.In.Load() + e.Out.Load(); e.seen.Load() != n {
		e.seen.Store(n)
		e.moved.Store(now.UnixNano())
	}
}

// ids gives numbers that were not given before, also not by an earlier process on this machine.
type ids struct{ last atomic.Uint64 }

func (i *ids) next() uint64 {
	i.last.CompareAndSwap(0, uint64(time.Now().UnixNano()))
	return i.last.Add(1)
}

// Due reports whether e was asked to leave, and nobody has taken that back.
func (e *Entry[T]) Due() bool { return Order(e.order.Load()) == leave }

// Go begins to leave, as e was asked to. It is false if that was taken back; afterwards it cannot be.
func (e *Entry[T]) Go() bool { return e.order.CompareAndSwap(uint32(leave), uint32(left)) }

// End asks the entries of the slot with these IDs to leave, or cuts them. If one of them lies in a generation that takes new work it does
// nothing and returns false. It is atomic with Set: what Set then takes back never happens.
func (t *Table[T]) End(name string, cut bool, ids map[uint64]bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, st := t.slots[name], t.state.Load()
	for _, g := range s.gens {
		live := false
		if st.part(g) > 0 {
			g.each(func(e *Entry[T]) { live = live || e.id != 0 && ids[e.id] })
		}
		if live {
			return false
		}
	}
	o := leave
	if cut {
		o = Cut
	}
	for _, g := range s.gens {
		g.each(func(e *Entry[T]) {
			if e.id != 0 && ids[e.id] {
				e.obey(o)
			}
		})
	}
	return true
}
