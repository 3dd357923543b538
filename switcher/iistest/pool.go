package iistest

import (
	"iter"
	"time"
)

// pool is the runtime side of an application pool: a request queue of HTTP.sys and the worker processes that pull from it. mu of the Server
// guards it.
type pool struct {
	name    string // never changes
	conf    poolConf
	state   state
	queue   map[*request]struct{}
	workers map[*worker]struct{} // all that are listed
	current *worker              // pulls from the queue; may still be starting
	next    *worker              // starts to take over from current
	blocked *worker              // must be gone before the next one starts
	ended   time.Time            // when it was Stopped
	crashes []time.Time
}

func newPool(conf poolConf) *pool {
	return &pool{name: conf.name, conf: conf, state: stopped, queue: map[*request]struct{}{}, workers: map[*worker]struct{}{}}
}

// startPool puts a stopped pool into service.
func (s *Server) startPool(p *pool) {
	p.state = started
	p.crashes = nil
	if p.conf.alwaysRunning {
		s.ensureWorker(p)
	}
	s.wake()
}

// stopPool takes a pool out of service: what waits in its queue gets 503, what runs has until shutdownTimeLimit; then it is Stopped.
func (s *Server) stopPool(p *pool) {
	if p.state == stopped || p.state == stopping {
		return
	}
	p.state = stopping
	for w := range p.workers {
		s.retire(w)
	}
	p.current, p.next, p.blocked = nil, nil, nil
	s.settleStop(p)
	s.wake()
}

// settleStop makes a stopping pool Stopped once its processes have gone.
func (s *Server) settleStop(p *pool) {
	if p.state != stopping {
		return
	}
	for w := range p.workers {
		if w.state != gone {
			return
		}
	}
	p.state = stopped
	p.ended = time.Now()
	delete(s.leaving, p)
	s.wake()
}

// ensureWorker starts a worker process if the pool has none and may have one.
func (s *Server) ensureWorker(p *pool) {
	if p.state == started && p.current == nil && p.blocked == nil && s.up {
		p.current = s.startWorker(p)
	}
}

// recycle replaces the pool's worker process: overlapped, so that the old one pulls until the new one is ready, or one after the other.
func (s *Server) recycle(p *pool) {
	old := p.current
	if old == nil || p.next != nil || old.state != running {
		return // none, or a fresh one is on its way
	}
	s.cfg.Logger.Debug("recycle", "pool", p.conf.name, "pid", old.pid)
	if p.conf.noOverlap {
		p.current, p.blocked = nil, old
		s.retire(old)
		return
	}
	if s.q.RecycleAnswers503 == On {
		for _, inst := range old.instances {
			if inst.release.mode != Classic {
				inst.refusing = true
			}
		}
	}
	p.next = s.startWorker(p)
}

// crashed counts the end of a worker process that nobody asked for; too many of them stop the pool.
func (s *Server) crashed(p *pool) {
	now := time.Now()
	p.crashes = append(p.crashes, now)
	recent := 0
	for _, t := range p.crashes {
		if now.Sub(t) < s.real(5*time.Minute) {
			recent++
		}
	}
	if p.conf.maxCrashes > 0 && recent >= p.conf.maxCrashes {
		s.cfg.Logger.Debug("rapid-fail protection stops the pool", "pool", p.conf.name)
		s.stopPool(p)
		return
	}
	if p.conf.alwaysRunning {
		s.ensureWorker(p)
	}
}

// everyPool goes through all pools, also those that are in no configuration any more and still have worker processes. mu is held.
func (s *Server) everyPool() iter.Seq[*pool] {
	return func(yield func(*pool) bool) {
		for _, p := range s.pools {
			if !yield(p) {
				return
			}
		}
		for p := range s.leaving {
			if !yield(p) {
				return
			}
		}
	}
}
