package fake

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap"
)

// hold is a Hold in force. All is guarded by Switcher.mu.
type hold struct {
	options abswap.HoldOptions
	bytes   int64
	waiting []*waiter // in the order in which they came
	total   *time.Timer
}

// waiter is a request that a hold keeps.
type waiter struct {
	request Request
	gone    <-chan struct{} // the client's context
	served  chan struct{}   // closed when work and err are set
	work    *Work
	err     error
}

// Hold makes all new work wait, previews and sessions too. See abswap.HoldingSwitcher. Held work is in no slot's count.
func (s *Switcher) Hold(ctx context.Context, o abswap.HoldOptions) (release func(), err error) {
	done := s.log.begin(Call{Method: "Hold", Hold: o})
	if s.HoldFunc != nil {
		release, err = s.HoldFunc(ctx, o, s.holdNow)
	} else {
		release, err = s.holdNow(ctx, o)
	}
	return release, done(err)
}

func (s *Switcher) holdNow(ctx context.Context, o abswap.HoldOptions) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Each < 0 || o.Total < 0 || o.Max < 0 || o.Bytes < 0 {
		return nil, fmt.Errorf("hold: Each %s, Total %s, Max %d, Bytes %d: none may be below 0", o.Each, o.Total, o.Max, o.Bytes)
	}
	o = o.WithDefaults()
	defer s.lock()()
	if s.hold != nil {
		return nil, fmt.Errorf("a hold is in force: %w", abswap.ErrBusy)
	}
	h := &hold{options: o}
	release := func() {
		defer s.lock()()
		s.release(h)
	}
	h.total = time.AfterFunc(o.Total, release)
	s.hold = h
	return release, nil
}

// release ends h, if it is still in force, and lets those who wait go on in order; s.mu is held.
func (s *Switcher) release(h *hold) {
	if s.hold != h {
		return
	}
	s.hold = nil
	h.total.Stop()
	for _, w := range h.waiting {
		select {
		case <-w.gone:
			continue // its client is not there any more: it is never served
		default:
		}
		var name string
		if name, w.err = s.pick(w.request); w.err == nil {
			w.work = s.enter(name, w.request)
		}
		close(w.served)
	}
	h.waiting = nil
}

// enqueue lets r wait while a hold is in force. done is false if r shall go on by itself.
func (s *Switcher) enqueue(ctx context.Context, r Request) (work *Work, err error, done bool) {
	unlock := s.lock()
	h := s.hold
	if h == nil {
		unlock()
		return nil, nil, false
	}
	if len(h.waiting) >= h.options.Max || h.bytes+r.Body > h.options.Bytes {
		unlock()
		return nil, refusal(h, "it is full"), h.options.Beyond == abswap.HoldRefuse
	}
	w := &waiter{request: r, gone: ctx.Done(), served: make(chan struct{})}
	h.waiting, h.bytes = append(h.waiting, w), h.bytes+r.Body
	unlock()

	var outwaits <-chan time.Time
	if h.options.Each < h.options.Total { // else the end of the hold comes first, also for the first one
		each := time.NewTimer(h.options.Each)
		defer each.Stop()
		outwaits = each.C
	}
	select {
	case <-w.served:
		return w.work, w.err, true
	case <-ctx.Done():
		if s.giveUp(h, w) {
			return nil, ctx.Err(), true
		}
	case <-outwaits:
		if s.giveUp(h, w) {
			return nil, refusal(h, "it waited too long"), h.options.Beyond == abswap.HoldRefuse
		}
	}
	select {
	case <-w.served: // it was let go before it gave up
		return w.work, w.err, true
	default:
		return nil, ctx.Err(), true // it was gone when the others were let go
	}
}

// giveUp takes w out of the queue. It is false if w is not there any more.
func (s *Switcher) giveUp(h *hold, w *waiter) bool {
	defer s.lock()()
	i := slices.Index(h.waiting, w)
	if i < 0 {
		return false
	}
	h.waiting, h.bytes = slices.Delete(h.waiting, i, i+1), h.bytes-w.request.Body
	return true
}

func refusal(h *hold, why string) error {
	if h.options.Beyond == abswap.HoldPass {
		return nil
	}
	return fmt.Errorf("the hold cannot keep the request: %s: %w", why, ErrRefused)
}

// Held returns how many requests the hold in force keeps; 0 if there is none.
func (s *Switcher) Held() int {
	defer s.lock()()
	if s.hold == nil {
		return 0
	}
	return len(s.hold.waiting)
}
