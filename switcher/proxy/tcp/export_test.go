package tcp

import (
	"sync"
	"sync/atomic"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// NewStaller hooks into s, which has had no connection yet, and returns a function that makes the next connection stop between "picked" and
// "counted".
func NewStaller(s *Switcher) func() (reached <-chan struct{}, resume func()) {
	type stall struct{ reached, goOn chan struct{} }
	var next atomic.Pointer[stall]
	s.table.SetHooks(route.Hooks[target]{Picked: func(*generation) {
		if x := next.Swap(nil); x != nil {
			close(x.reached)
			<-x.goOn
		}
	}})
	return func() (<-chan struct{}, func()) {
		x := &stall{make(chan struct{}), make(chan struct{})}
		next.Store(x)
		return x.reached, sync.OnceFunc(func() {
			next.CompareAndSwap(x, nil)
			close(x.goOn)
		})
	}
}

// Disturb sends all new connections to the slot behind the Switcher's back; "": to none.
func Disturb(s *Switcher, slot string) {
	var parts []route.Part[target]
	if slot != "" {
		gens := s.table.Generations(slot)
		parts = append(parts, route.Part[target]{Gen: gens[len(gens)-1], Part: 100})
	}
	s.table.Set(parts...)
}
