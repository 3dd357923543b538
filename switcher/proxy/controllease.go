package proxy

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// leases are the holds that other processes have asked for. One that is not renewed ends.
type leases struct {
	mu    sync.Mutex
	byID  map[string]*lease
	lasts time.Duration
}

type lease struct {
	hold  *hold
	timer *time.Timer // ends it
}

func newLeases(lasts time.Duration) *leases {
	if lasts == 0 {
		lasts = 5 * time.Second
	}
	return &leases{byID: map[string]*lease{}, lasts: lasts}
}

// give returns the name of a lease of h.
func (l *leases) give(s *Switcher, h *hold) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := rand.Text()
	l.byID[id] = &lease{h, time.AfterFunc(l.lasts, func() { l.end(s, id) })}
	return id
}

// hold returns the hold of that lease, nil if that has ended.
func (l *leases) hold(id string) *hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x, ok := l.byID[id]; ok {
		return x.hold
	}
	return nil
}

// renew is false if the hold has ended.
func (l *leases) renew(s *Switcher, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.byID[id]
	if !ok || !x.timer.Stop() { // it is just ending
		return false
	}
	if !s.inForce(x.hold) {
		delete(l.byID, id)
		return false
	}
	x.timer.Reset(l.lasts)
	return true
}

// end releases the hold, if it is in force.
func (l *leases) end(s *Switcher, id string) {
	l.mu.Lock()
	x, ok := l.byID[id]
	delete(l.byID, id)
	l.mu.Unlock()
	if ok {
		x.timer.Stop()
		s.release(x.hold)
	}
}

func (c *control) hold(x call) (any, error) {
	var o holdOrder
	v, err := x.order(&o, &o.Revision)
	if err != nil {
		return nil, err
	}
	beyond, err := beyondOf(o.Beyond)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	h, err := c.s.hold(x.ctx, v, abswap.HoldOptions{Each: o.Each, Total: o.Total, Max: o.Max, Bytes: o.Bytes, Beyond: beyond})
	if err != nil {
		return nil, err
	}
	return holdAnswer{Revision: o.Revision, ID: c.leases.give(c.s, h), Lease: c.leases.lasts}, nil
}

func (c *control) renew(x call) (any, error) {
	var o leaseOrder
	if err := x.into(&o); err != nil {
		return nil, err
	}
	if !c.leases.renew(c.s, o.ID) {
		return nil, errNoHold
	}
	return leaseAnswer{c.leases.lasts}, nil
}

// release says nothing of whether the hold was in force: it is not any more.
func (c *control) release(x call) (any, error) {
	var o leaseOrder
	if err := x.into(&o); err != nil {
		return nil, err
	}
	c.leases.end(c.s, o.ID)
	return leaseAnswer{}, nil
}
