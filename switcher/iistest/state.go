package iistest

import (
	"cmp"
	"slices"
	"time"
)

// State is what runs on the machine at one moment, for a test to look at: more than appcmd shows.
type State struct {
	Sites []SiteState // by id
	Pools []PoolState // by name
}

// SiteState is a site as the runtime has it, which may be older than the file.
type SiteState struct {
	Name     string
	ID       int
	State    string // Started or Stopped
	Bindings []string
}

// PoolState is an application pool.
type PoolState struct {
	Name    string
	State   string        // Started, Stopping or Stopped
	Queued  int           // requests in its queue
	Workers []WorkerState // by process id
}

// WorkerState is a worker process.
type WorkerState struct {
	PID          int
	State        string // Starting, Running, Stopping or Gone
	Applications []AppState
	Requests     []RequestState // that it has pulled, by id
}

// AppState is an application in a worker process.
type AppState struct {
	SiteID int
	Path   string // lower case
	Folder string
	Mode   Mode
	Up     bool // its start is over
}

// RequestState is a request in a worker process.
type RequestState struct {
	ID     string
	SiteID int
	Verb   string
	URL    string
	Age    time.Duration // real time
}

// State returns what runs now.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st State
	for _, t := range s.sites {
		one := SiteState{Name: t.conf.name, ID: t.conf.id, State: t.state.String()}
		for _, b := range t.conf.bindings {
			one.Bindings = append(one.Bindings, b.String())
		}
		st.Sites = append(st.Sites, one)
	}
	for p := range s.everyPool() {
		one := PoolState{Name: p.name, State: p.state.String(), Queued: len(p.queue)}
		for w := range p.workers {
			one.Workers = append(one.Workers, w.snapshot())
		}
		slices.SortFunc(one.Workers, func(a, b WorkerState) int { return cmp.Compare(a.PID, b.PID) })
		st.Pools = append(st.Pools, one)
	}
	slices.SortFunc(st.Sites, func(a, b SiteState) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(st.Pools, func(a, b PoolState) int { return cmp.Compare(a.Name, b.Name) })
	return st
}

func (w *worker) snapshot() WorkerState {
	one := WorkerState{PID: w.pid, State: [...]string{"Starting", "Running", "Stopping", "Gone"}[w.state]}
	for _, inst := range w.instances {
		up := false
		select {
		case <-inst.up:
			up = true
		default:
		}
		one.Applications = append(one.Applications, AppState{inst.key.site, inst.key.path, inst.folder, inst.release.mode, up})
	}
	for r := range w.requests {
		one.Requests = append(one.Requests, RequestState{r.id, r.key.site, r.verb, r.url, time.Since(r.begin)})
	}
	slices.SortFunc(one.Applications, func(a, b AppState) int {
		return cmp.Or(cmp.Compare(a.SiteID, b.SiteID), cmp.Compare(a.Path, b.Path))
	})
	slices.SortFunc(one.Requests, func(a, b RequestState) int { return cmp.Compare(a.ID, b.ID) })
	return one
}
