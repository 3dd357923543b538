package iistest

import (
	"maps"
	"slices"
	"strings"
)

// state is that of a site or pool.
type state uint8

const (
	starting state = iota
	started
	stopping
	stopped
	unknown
)

func (s state) String() string {
	return [...]string{"Starting", "Started", "Stopping", "Stopped", "Unknown"}[s]
}

// site is the runtime side of a site. mu of the Server guards it.
type site struct {
	conf  siteConf
	state state
}

// boot starts the services with a configuration. mu is held.
func (s *Server) boot(data []byte, conf *hostConf) error {
	s.up = true
	s.conf = &hostConf{}
	s.sites, s.pools = map[int]*site{}, map[string]*pool{}
	s.apply(data, conf)
	return s.openPorts()
}

// down ends everything at once: requests are cut, worker processes killed, connections closed. mu is held.
func (s *Server) down() {
	s.up = false
	for _, t := range s.sites {
		t.state = stopped
	}
	for p := range s.everyPool() {
		p.state = stopped
		for r := range p.queue {
			r.cutNow()
		}
		for w := range p.workers {
			s.kill(w)
		}
	}
	clear(s.leaving)
	for _, p := range s.ports {
		p.dropAll()
	}
	s.rebuild()
}

// apply makes the runtime follow a configuration. mu is held.
func (s *Server) apply(data []byte, next *hostConf) {
	old := s.conf
	s.applied, s.conf = data, next
	s.cfg.Logger.Debug("configuration applied", "sites", len(next.sites), "pools", len(next.pools))
	s.applyPools(next)

	before := map[int]site{}
	for id, t := range s.sites {
		before[id] = *t
	}
	s.applySites(next, before)
	s.rebuild()
	for _, t := range s.sites {
		s.applyApps(before[t.conf.id], t)
	}
	for id, was := range before {
		if s.sites[id] == nil && s.q.SiteStopShutsCoreApps == On {
			s.shutCore(was.conf.id)
		}
	}
	if len(old.sites)+len(old.pools) > 0 {
		s.restartCore(old, next)
		s.applyFarms(old, next)
	}
	s.wake()
	if err := s.openPorts(); err != nil {
		s.cfg.Logger.Debug("port not opened", "err", err)
	}
}

func (s *Server) applyPools(next *hostConf) {
	known := map[string]bool{}
	for _, conf := range next.pools {
		key := strings.ToLower(conf.name)
		known[key] = true
		p := s.pools[key]
		if p == nil {
			p = newPool(conf)
			s.pools[key] = p
			if conf.autoStart {
				s.startPool(p)
			}
			continue
		}
		changed := p.conf.raw != conf.raw
		p.conf = conf
		if changed && !conf.noRotation && p.state == started {
			s.recycle(p)
		}
		if p.state == started && conf.alwaysRunning {
			s.ensureWorker(p)
		}
	}
	for key, p := range maps.Clone(s.pools) {
		if !known[key] {
			s.leaving[p] = struct{}{}
			delete(s.pools, key)
			s.stopPool(p)
			if p.state == stopped {
				delete(s.leaving, p)
			}
		}
	}
}

// applySites takes over the sites of a configuration: new ones start by serverAutoStart; a running one whose new binding is another's, or
// was another running one's until this very commit, is deactivated as W3SVC does.
func (s *Server) applySites(next *hostConf, before map[int]site) {
	names := map[string]bool{}
	for _, t := range before {
		names[strings.ToLower(t.conf.name)] = true
	}
	sites := map[int]*site{}
	var fresh []*site
	for _, conf := range next.sites {
		t := &site{conf: conf, state: stopped}
		if was, ok := before[conf.id]; ok {
			t.state = was.state
		} else if conf.autoStart && !names[strings.ToLower(conf.name)] { // a running site that gets another id stops
			fresh = append(fresh, t)
		}
		sites[conf.id] = t
	}
	s.sites = sites
	for _, id := range slices.Sorted(maps.Keys(sites)) {
		t := sites[id]
		was := before[id]
		if t.state != started {
			continue
		}
		for _, b := range t.conf.bindings {
			if !slices.ContainsFunc(was.conf.bindings, b.same) && (s.taken(t, b) || s.movedFrom(before, id, b)) {
				t.state = stopped
				s.cfg.Logger.Debug("site deactivated", "site", t.conf.name, "binding", b.String())
			}
		}
	}
	for _, t := range fresh {
		t.state = started
		for _, b := range t.conf.bindings {
			if s.taken(t, b) || s.movedFrom(before, t.conf.id, b) {
				t.state = stopped
			}
		}
	}
	if s.q.MovedBindingLosesCertificate == On {
		for id, was := range before {
			for _, b := range was.conf.bindings {
				if now := sites[id]; b.secure() && (now == nil || !slices.ContainsFunc(now.conf.bindings, b.same)) {
					delete(s.certs, b.certificateKey())
				}
			}
		}
	}
}

// taken tells whether another started site has registered b.
func (s *Server) taken(t *site, b binding) bool {
	for _, o := range s.sites {
		if o != t && o.conf.id != t.conf.id && o.state == started && slices.ContainsFunc(o.conf.bindings, b.same) {
			return true
		}
	}
	return false
}

// movedFrom tells whether a running site other than id had b before this commit, and that matters.
func (s *Server) movedFrom(before map[int]site, id int, b binding) bool {
	if s.q.MovedBindingStopsNewOwner != On {
		return false
	}
	for other, t := range before {
		if other != id && t.state == started && slices.ContainsFunc(t.conf.bindings, b.same) {
			return true
		}
	}
	return false
}

// applyApps follows changes of a site's applications: pool and folder. before is the zero site for a new one.
func (s *Server) applyApps(before site, t *site) {
	for _, was := range before.conf.apps {
		key := appKey{t.conf.id, strings.ToLower(was.path)}
		now, stays := t.conf.app(was.path)
		oldPool := s.pools[strings.ToLower(was.pool)]
		moved := stays && !strings.EqualFold(was.pool, now.pool)
		elsewhere := stays && was.root() != now.root()
		if moved {
			s.cfg.Logger.Debug("application has another pool", "site", t.conf.name, "application", was.path, "from", was.pool, "to", now.pool)
			if oldPool != nil && s.q.PoolChangeCuts == On {
				s.cutApp(oldPool, key)
			}
			if oldPool != nil && elsewhere && s.q.OldWorkerSeesPathChange == On {
				s.unload(oldPool, key, "")
			}
		}
		if !stays && oldPool != nil {
			s.unload(oldPool, key, "")
		}
		if p := s.pools[strings.ToLower(now.pool)]; stays && p != nil {
			s.unload(p, key, s.folder(now.root())) // what is there of another folder
			if w := p.current; s.q.PreloadsMovedApps == On && (moved || elsewhere) && now.preload && p.conf.alwaysRunning && w != nil && w.state == running {
				s.instance(w, key, s.folder(now.root()))
			}
		}
	}
}

// startSite starts a site; false: another started one has one of its bindings. mu is held.
func (s *Server) startSite(t *site) bool {
	for _, b := range t.conf.bindings {
		if s.taken(t, b) {
			return false
		}
	}
	t.state = started
	s.rebuild()
	s.wake()
	return true
}

// stopSite stops a site: its bindings are given up, its requests go on. mu is held.
func (s *Server) stopSite(t *site) {
	t.state = stopped
	s.rebuild()
	if s.q.SiteStopShutsCoreApps == On {
		s.shutCore(t.conf.id)
	}
	s.wake()
}
