package proxy

import (
	"container/list"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// holds is the hold in force, if any. Requests come here only while the routing state says that it is held.
type holds struct {
	mu  sync.Mutex
	now *hold // nil: none
}

// hold is a Hold. What follows total is guarded by holds.mu.
type hold struct {
	options abswap.HoldOptions
	ends    time.Time
	total   *time.Timer
	bytes   int64
	waiting list.List // of *waiter, in the order in which they came
	over    atomic.Bool
}

// waiter is a request that a hold keeps.
type waiter struct {
	x      guest
	avoid  *generation
	place  *list.Element // nil: it waits no longer; guarded by holds.mu
	bytes  int64         // reserved for its body; guarded by holds.mu
	sized  bool          // the body's length is known
	served chan struct{} // closed when it was let go
	gen    *generation   // which it has entered then; nil: none takes work, or it was turned away
	gone   bool          // its client was not there any more: it was not let in
	away   bool          // there was no room for it in the queue
	passes *hold         // of the queue: it does not keep this one; nil: any does
	queued bool          // a hold has let it go into the queue, which has it now; guarded by holds.mu
	moved  chan struct{} // told then
	at     *generation   // of the queue: where it waits for a place; guarded by queue.mu
}

// newWaiter returns a waiter for x.
func newWaiter(x guest, avoid *generation) *waiter {
	w := &waiter{x: x, avoid: avoid, sized: x.Length() > 0, served: make(chan struct{}), moved: make(chan struct{}, 1)}
	if w.sized {
		w.bytes = x.Length()
	}
	return w
}

// lost reports whether nobody waits for the answer any more.
func (w *waiter) lost() bool { return w.x.Context().Err() != nil || w.x.Ahead().Broken() }

// Hold makes new requests wait at the front door, before they pick a slot, and counts them in none. From its return on nothing enters a slot
// but what Beyond lets pass; what had picked one and was not counted yet waits too. At the release they pick, by the state that is in force
// then, in the order in which they came, and before any that comes later.
//
// What a client has sent of a body is read meanwhile, o.Bytes for all requests together, so that it shows when the client goes away: such a
// request is never delivered. A body of more than is left of o.Bytes cannot wait.
func (s *Switcher) Hold(ctx context.Context, o abswap.HoldOptions) (release func(), err error) {
	h, err := s.hold(ctx, nil, o)
	if err != nil {
		return nil, err
	}
	return func() { s.release(h) }, nil
}

func (s *Switcher) hold(ctx context.Context, at *view, o abswap.HoldOptions) (*hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Each < 0 || o.Total < 0 || o.Max < 0 || o.Bytes < 0 {
		return nil, fmt.Errorf("proxy: hold: Each %s, Total %s, Max %d, Bytes %d: none may be below 0", o.Each, o.Total, o.Max, o.Bytes)
	}
	if _, err := beyondText(o.Beyond); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	o = o.WithDefaults()
	if err := s.lock(ctx, "hold"); err != nil {
		return nil, err
	}
	defer s.turn.Give()
	if err := at.check(s); err != nil {
		return nil, err
	}
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if s.holds.now != nil {
		return nil, fmt.Errorf("proxy: a hold is in force, for %s at the most: %w", time.Until(s.holds.now.ends).Round(time.Millisecond), abswap.ErrBusy)
	}
	h := &hold{options: o, ends: time.Now().Add(o.Total)}
	h.total = time.AfterFunc(o.Total, func() { s.release(h) })
	s.holds.now = h
	s.table.SetHeld(true)
	return h, nil
}

// release ends h, if it is in force, and lets in those who wait, one after the other. Whoever comes meanwhile waits for the lock.
func (s *Switcher) release(h *hold) {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if s.holds.now != h {
		return
	}
	h.total.Stop()
	s.queue.pass(true) // they were there before
	for e := h.waiting.Front(); e != nil; e = e.Next() {
		w := e.Value.(*waiter)
		w.place = nil
		if w.gone = w.lost(); !w.gone {
			work := w.x.Work()
			work.Pass = true
			w.gen = s.table.Enter(work, w.avoid)
			work.Pass = false
			if w.gen == nil && work.Full != nil {
				w.queued = true
				s.queue.adopt(w)
				continue
			}
		}
		close(w.served)
	}
	h.over.Store(true)
	s.holds.now = nil
	s.table.SetHeld(false)
}

// endHold ends the hold in force.
func (s *Switcher) endHold() {
	s.holds.mu.Lock()
	h := s.holds.now
	s.holds.mu.Unlock()
	if h != nil {
		s.release(h)
	}
}

// inForce reports whether h has not ended.
func (s *Switcher) inForce(h *hold) bool {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	return s.holds.now == h
}

// Held returns how many requests the hold in force keeps; 0 if there is none.
func (s *Switcher) Held() int { return s.holdStatus().Waiting }

func (s *Switcher) holdStatus() holdStatus {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if s.holds.now == nil {
		return holdStatus{}
	}
	return holdStatus{InForce: true, Waiting: s.holds.now.waiting.Len()}
}

// wait keeps a request that has found the table held. It returns what Enter would without a hold; ok is false if the request has been
// answered, or needs none.
func (s *Switcher) wait(x guest, avoid *generation) (gen *generation, ok bool) {
	x.PutAhead()
	work := x.Work()
	for {
		h, w := s.join(x, avoid)
		switch {
		case w != nil:
			if gen, how := s.stay(h, w); how != outwaited {
				return gen, s.letGo(x, how)
			}
			if w.queued {
				s.queue.refuse(x)
				return nil, false
			}
			fallthrough
		case h != nil:
			work.Pass = h.options.Beyond != abswap.HoldRefuse
		}
		var passes *hold
		if work.Pass {
			passes = h
		}
		gen = s.table.Enter(work, avoid)
		work.Pass = false
		if h != nil && passes == nil && work.Held { // else the hold has ended, or another site has the host now
			x.StopAhead(true)
			s.refuseHeld(x, h)
			return nil, false
		}
		if gen == nil && work.Full != nil {
			return s.waitForPlace(x, avoid, passes)
		}
		if gen != nil || !work.Held {
			x.StopAhead(false)
			return gen, true
		}
	}
}

// join takes x into the hold in force. w is nil if that is full, and h too if there is none any more.
func (s *Switcher) join(x guest, avoid *generation) (h *hold, w *waiter) {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if h = s.holds.now; h == nil {
		return nil, nil
	}
	w = newWaiter(x, avoid)
	if h.waiting.Len() >= h.options.Max || w.bytes > h.options.Bytes-h.bytes {
		return h, nil
	}
	h.bytes += w.bytes
	w.place = h.waiting.PushBack(w)
	return h, w
}

// reserve says whether w may read n bytes of a body whose length is not known. h is nil for one that has come to the queue at once.
func (s *Switcher) reserve(h *hold, w *waiter, n int64) bool {
	if w.sized {
		return true // it was reserved at once
	}
	if h == nil {
		return s.queue.reserve(w, n)
	}
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if w.queued {
		return s.queue.reserve(w, n)
	}
	if w.place == nil || n > h.options.Bytes-h.bytes {
		return false
	}
	h.bytes += n
	w.bytes += n
	return true
}

// leave takes w out of where it waits. It is false if w has been let go already.
func (s *Switcher) leave(h *hold, w *waiter) bool {
	if h == nil {
		return s.queue.leave(w)
	}
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	if w.queued {
		return s.queue.leave(w)
	}
	if w.place == nil {
		return false
	}
	h.waiting.Remove(w.place)
	h.bytes -= w.bytes
	w.place = nil
	return true
}

// staying says how the waiting of a request ended.
type staying int

const (
	released  staying = iota // it has entered, or no slot takes work
	outwaited                // it cannot wait any longer
	goneAway                 // its client has gone
	badAhead                 // its body is none
)

// stay waits until w is let go, or cannot wait any longer. h is nil for one that has come to the queue at once.
func (s *Switcher) stay(h *hold, w *waiter) (*generation, staying) {
	x := w.x
	ahead := x.Ahead()
	if s.hooks.blind {
		// a fault
	} else if ahead == nil {
		x.Watch()
	} else {
		if !ahead.Started() {
			x.Continue()
		}
		ahead.Start(func(n int) bool { return s.reserve(h, w, int64(n)) })
	}
	var outwaits <-chan time.Time
	var each *time.Timer
	bound := func(d time.Duration) {
		each = time.NewTimer(d)
		outwaits = each.C
	}
	defer func() {
		if each != nil {
			each.Stop()
		}
	}()
	switch {
	case h == nil && s.cfg.QueueWait > 0:
		bound(s.cfg.QueueWait)
	case h != nil && h.options.Each < h.options.Total: // else the end of the hold comes first, also for the first one
		bound(h.options.Each)
	}
	body := ahead.Stopped()
	for {
		how := released
		select {
		case <-w.served:
		case <-x.Context().Done():
			how = goneAway
		case <-outwaits:
			how = outwaited
		case <-w.moved:
			if outwaits = nil; each != nil {
				each.Stop()
			}
			if s.cfg.QueueWait > 0 {
				bound(s.cfg.QueueWait)
			}
			continue
		case <-body:
			body = nil
			switch ahead.State() {
			case h1.AheadWhole, h1.AheadReading:
				x.Watch() // when all is read, only that shows whether the client goes
				continue
			case h1.AheadFull:
				how = outwaited
			default:
				how = badAhead
			}
		}
		if how != released && s.leave(h, w) {
			return nil, how
		}
		<-w.served
		switch {
		case w.away:
			return nil, outwaited
		case w.gone && ahead.Broken() && x.Context().Err() == nil:
			return nil, badAhead
		case w.gone:
			return nil, goneAway
		case x.Context().Err() != nil: // between being let in and now
			if w.gen != nil {
				x.Work().Leave()
			}
			return nil, goneAway
		}
		return w.gen, released
	}
}

// letGo does what is left when a request waits no longer; it is false if the request is over.
func (s *Switcher) letGo(x guest, how staying) bool {
	switch how {
	case released:
		x.StopAhead(false)
		return true
	case badAhead:
		x.StopAhead(true)
		x.Fail(http.StatusBadRequest, "the request's body cannot be read", 0, true)
		return false
	default:
		x.StopAhead(true)
		x.Abort()
		return false
	}
}

// refuseHeld answers a request that cannot wait.
func (s *Switcher) refuseHeld(x guest, h *hold) {
	s.stats.refused.Add(1)
	wait := max(time.Until(h.ends), 0)
	x.Fail(http.StatusServiceUnavailable, "requests wait for a change of the application, and no more can", int(wait/time.Second)+1, false)
}
