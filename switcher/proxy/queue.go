package proxy

import (
	"container/list"
	"net/http"
	"slices"
	"sync"
)

// queue is where requests wait for a place in a slot. A request comes here when Enter has found no place for it, and is let go by whoever gives
// one back, or changes what is in force: it enters a slot then, by the state of that moment, and is counted from then on. It is served as a
// hold serves its own: see waiter.
type queue struct {
	s *Switcher

	mu      sync.Mutex // taken after holds.mu, and under the lock of the table
	waiting list.List  // of *waiter, in the order in which their requests came
	bytes   int64
}

// limit sets Config.MaxInFlight in force, before there is any slot to be entered.
func (s *Switcher) limit() {
	if s.cfg.MaxInFlight > 0 {
		s.queue = &queue{s: s}
		s.table.Limit(s.cfg.MaxInFlight, func() { s.queue.pass(false) })
	}
}

// Queued returns how many requests wait for a place in a slot; see Config.MaxInFlight.
func (s *Switcher) Queued() int {
	if s.queue == nil {
		return 0
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.waiting.Len()
}

// waitIn keeps a request that could not enter: in the hold, or in the queue. It returns what Enter would if there were neither; ok is false if
// the request has been answered, or needs none.
func (s *Switcher) waitIn(x guest, avoid *generation) (gen *generation, ok bool) {
	if x.Work().Held {
		return s.wait(x, avoid)
	}
	return s.waitForPlace(x, avoid, nil)
}

// waitForPlace keeps a request in the queue; passes is a hold that does not keep it, if there is one. It returns what waitIn does.
func (s *Switcher) waitForPlace(x guest, avoid *generation, passes *hold) (gen *generation, ok bool) {
	q := s.queue
	w := newWaiter(x, avoid)
	w.passes = passes
	if q.enter(w) {
		x.StopAhead(false)
		return w.gen, true
	}
	x.PutAhead()
	if !q.join(w) {
		q.refuse(x)
		return nil, false
	}
	gen, how := s.stay(nil, w)
	if how == outwaited {
		q.refuse(x)
		return nil, false
	}
	return gen, s.letGo(x, how)
}

// enter lets w enter where nobody waits before it. It is true too if no slot takes work, or a hold has begun.
func (q *queue) enter(w *waiter) bool {
	work := w.x.Work()
	q.mu.Lock()
	defer q.mu.Unlock()
	return work.Full.Awaited() == 0 && q.try(w, false) || work.Held || work.Away
}

// join takes w in. It is false if there is no room.
func (q *queue) join(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.push(w) {
		return false
	}
	q.passLocked(false) // a place may have become free since
	return true
}

// adopt takes in what a hold has let go and what has found no place.
func (q *queue) adopt(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.away = !q.push(w); w.away {
		close(w.served)
		return
	}
	w.moved <- struct{}{}
	q.passLocked(true)
}

// push puts w where it belongs by the time of its request. It is false if there is no room.
func (q *queue) push(w *waiter) bool {
	if q.waiting.Len() >= q.s.cfg.MaxQueue || w.bytes > q.s.cfg.QueueBytes-q.bytes {
		return false
	}
	q.bytes += w.bytes
	w.at = w.x.Work().Full
	w.at.Await(1)
	e := q.waiting.Back()
	for e != nil && e.Value.(*waiter).x.Work().Started.After(w.x.Work().Started) {
		e = e.Prev()
	}
	if e == nil {
		w.place = q.waiting.PushFront(w)
	} else {
		w.place = q.waiting.InsertAfter(w, e)
	}
	return true
}

// remove takes w out.
func (q *queue) remove(w *waiter) {
	q.waiting.Remove(w.place)
	w.place = nil
	q.bytes -= w.bytes
	w.at.Await(-1)
}

// leave takes w out. It is false if w has been let go already.
func (q *queue) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		return false
	}
	q.remove(w)
	return true
}

// reserve says whether w may read n bytes of a body whose length is not known.
func (q *queue) reserve(w *waiter, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil || n > q.s.cfg.QueueBytes-q.bytes {
		return false
	}
	q.bytes += n
	w.bytes += n
	return true
}

// pass lets go who can. held says that a hold is about to end: it keeps nobody here any more.
func (q *queue) pass(held bool) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passLocked(held)
}

func (q *queue) passLocked(held bool) {
	var full []*generation // a place there that becomes free now is for the one that has just been refused it
	var next *list.Element
	for e := q.waiting.Front(); e != nil; e = next {
		next = e.Next()
		w := e.Value.(*waiter)
		work := w.x.Work()
		if found := slices.Contains(full, w.at); found || !q.s.table.Worth(work) {
			if !found {
				full = append(full, w.at)
			}
			if w.at.Awaited() == q.waiting.Len() {
				return // all wait for the same
			}
			continue
		}
		if w.gone = w.lost(); w.gone || q.try(w, held) {
			q.remove(w)
			close(w.served)
			continue
		}
		if work.Held {
			continue // until the hold ends; who passes it may be behind
		}
		if work.Full != w.at { // the state has changed
			w.at.Await(-1)
			w.at = work.Full
			w.at.Await(1)
		}
		full = append(full, w.at)
	}
}

// try lets w enter, ahead of all that have not come here. It is true too if no slot takes work.
func (q *queue) try(w *waiter, held bool) bool {
	work := w.x.Work()
	work.Turn, work.Pass = true, held || w.passes != nil && !w.passes.over.Load()
	w.gen = q.s.table.Enter(work, w.avoid)
	work.Turn, work.Pass = false, false
	return w.gen != nil || !work.Held && work.Full == nil
}

// refuse answers a request that cannot wait.
func (q *queue) refuse(x guest) {
	q.s.stats.refused.Add(1)
	x.Work().Full = nil
	x.StopAhead(true)
	x.Fail(http.StatusServiceUnavailable, "the application has as many requests as it may", 1, false)
}
