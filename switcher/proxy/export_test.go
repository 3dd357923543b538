package proxy

import (
	"sync"
	"sync/atomic"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Staller stops requests of a Switcher between "picked" and "counted".
type Staller struct {
	next atomic.Pointer[stall]

	mu      sync.Mutex
	entered map[string]int64 // by the client's address: the number of its last request
	last    int64
}

type stall struct{ reached, goOn chan struct{} }

// NewStaller hooks a Staller into s, which has had no request yet.
func NewStaller(s *Switcher) *Staller {
	st := &Staller{entered: map[string]int64{}}
	s.table.SetHooks(route.Hooks[*h1.Pool]{
		Picked: func(*generation) {
			if x := st.next.Swap(nil); x != nil {
				close(x.reached)
				<-x.goOn
			}
		},
		Entered: func(e *entry) {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.last++
			st.entered[e.Peer] = st.last
		},
	})
	return st
}

// Order returns the number of the last request of the client at that address, among all that went on to a slot.
func (st *Staller) Order(peer string) int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.entered[peer]
}

// Stall makes the next request stop there. reached is closed when it has; resume lets it go on.
func (st *Staller) Stall() (reached <-chan struct{}, resume func()) {
	x := &stall{make(chan struct{}), make(chan struct{})}
	st.next.Store(x)
	return x.reached, sync.OnceFunc(func() {
		st.next.CompareAndSwap(x, nil)
		close(x.goOn)
	})
}

// Disturb changes what s does without its methods.
func Disturb(s *Switcher, slot string) {
	if slot == "" {
		s.publish()
		return
	}
	g := s.table.Generations(slot)
	s.publish(route.Part[*h1.Pool]{Gen: g[len(g)-1], Part: 100})
}

// Generations returns how many generations of the slot may have work in them.
func (s *Switcher) Generations(slot string) int { return len(s.table.Generations(slot)) }

// IdleConns returns how many idle connections are kept to all generations of the slot.
func (s *Switcher) IdleConns(slot string) (n int) {
	for _, g := range s.table.Generations(slot) {
		n += g.Target.Idle()
	}
	return n
}
