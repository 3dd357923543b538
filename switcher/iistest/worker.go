package iistest

import (
	"strings"
	"time"
)

// workerState is that of a worker process.
type workerState uint8

const (
	launching workerState = iota
	running
	ending
	gone
)

// worker is a worker process, w3wp.exe. mu of the Server guards it.
type worker struct {
	pid       int
	pool      *pool
	state     workerState
	instances map[appKey]*instance
	requests  map[*request]struct{} // pulled and not finished
	closing   int                   // instances that are being shut down
	inProcess *instance             // the in-process ASP.NET Core application that has this process for itself
	core      Mode                  // hosting model of the first ASP.NET Core application; Classic: none yet
	warm      map[string]bool       // folders that it has run
	used      time.Time             // end of the last request
	arr       *arr                  // Application Request Routing in it; nil: not yet used
}

// startWorker starts a worker process of a pool: it becomes current when it is ready.
func (s *Server) startWorker(p *pool) *worker {
	s.lastPID += 4
	w := &worker{pid: s.lastPID, pool: p, instances: map[appKey]*instance{}, requests: map[*request]struct{}{}, warm: map[string]bool{}}
	p.workers[w] = struct{}{}
	s.cfg.Logger.Debug("worker process starts", "pool", p.name, "pid", w.pid)
	s.wg.Go(func() {
		if !s.sleep(s.ctx, s.cfg.WorkerStart) {
			return
		}
		s.mu.Lock()
		if w.state != launching {
			s.mu.Unlock()
			return
		}
		warming := s.preload(w)
		s.mu.Unlock()
		for _, inst := range warming { // a process takes over when its preloaded applications are up
			select {
			case <-inst.up:
			case <-s.ctx.Done():
				return
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.state != launching {
			return
		}
		w.state, w.used = running, time.Now()
		if p.next == w {
			old := p.current
			p.current, p.next = w, nil
			if old != nil {
				s.retire(old)
			}
		}
		s.wake()
	})
	return w
}

// preload starts the applications with preloadEnabled of an AlwaysRunning pool's process.
func (s *Server) preload(w *worker) []*instance {
	if !w.pool.conf.alwaysRunning {
		return nil
	}
	var all []*instance
	for _, t := range s.sites {
		for _, a := range t.conf.apps {
			if t.state == started && a.preload && strings.EqualFold(a.pool, w.pool.name) {
				all = append(all, s.instance(w, appKey{t.conf.id, strings.ToLower(a.path)}, s.folder(a.root())))
			}
		}
	}
	return all
}

// retire lets a worker process finish what it has and end; at its pool's shutdownTimeLimit it is killed.
func (s *Server) retire(w *worker) {
	if w.state == ending || w.state == gone {
		return
	}
	idle := w.state == launching
	w.state = ending
	s.cfg.Logger.Debug("worker process ends", "pool", w.pool.name, "pid", w.pid, "requests", len(w.requests))
	if idle {
		s.kill(w)
		return
	}
	limit := w.pool.conf.shutdownTimeLimit
	for _, inst := range w.instances {
		if inst.release.mode != Classic {
			s.closeInstance(inst, min(inst.release.shutdown, limit), false)
		}
	}
	s.wg.Go(func() {
		s.awaitFor(limit, func() bool { return len(w.requests) == 0 && w.closing == 0 || w.state == gone })
		s.mu.Lock()
		s.kill(w)
		s.mu.Unlock()
	})
}

// kill ends a worker process now; its requests are cut. mu is held.
func (s *Server) kill(w *worker) {
	if w.state == gone {
		return
	}
	w.state = gone
	for r := range w.requests {
		r.cutNow()
	}
	for _, inst := range w.instances {
		s.closeInstance(inst, 0, true)
	}
	p := w.pool
	for _, at := range []**worker{&p.current, &p.next, &p.blocked} {
		if *at == w {
			*at = nil
		}
	}
	linger := s.q.WorkerLingers
	if linger > 0 && p.state == stopping {
		s.wg.Go(func() {
			s.sleep(s.ctx, linger)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(p.workers, w)
		})
	} else {
		delete(p.workers, w)
	}
	s.settleStop(p)
	if p.state == started && (len(p.queue) > 0 || p.conf.alwaysRunning) {
		s.ensureWorker(p)
	}
	s.wake()
}

// CrashWorker ends a worker process as a crash would: its requests are cut. WAS starts another when one is needed; crashes too many stop the
// pool. It tells whether there was such a process.
func (s *Server) CrashWorker(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.everyPool() {
		for w := range p.workers {
			if w.pid == pid && w.state != gone {
				s.kill(w)
				if p.state == started {
					s.crashed(p)
				}
				return true
			}
		}
	}
	return false
}

// look does what goes by the clock or by files in release folders: idle worker processes end, applications follow app_offline.htm and
// web.config. mu is held.
func (s *Server) look() {
	for p := range s.everyPool() {
		if w := p.current; w != nil && w.state == running && p.next == nil && len(w.requests) == 0 && !p.conf.alwaysRunning && p.conf.idleTimeout > 0 &&
			time.Since(w.used) > s.real(p.conf.idleTimeout) {
			p.current = nil
			s.retire(w)
		}
		for w := range p.workers {
			for _, inst := range w.instances {
				if isOffline(inst.folder) || stamp(inst.folder) != inst.release.stamp {
					s.cfg.Logger.Debug("application follows its files", "folder", inst.folder)
					s.shut(inst, inst.limit())
				}
			}
		}
	}
}
