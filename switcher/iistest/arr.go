package iistest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// memberState is the runtime state of a server in a farm.
type memberState uint8

const (
	memberActive   memberState = iota // gets requests
	memberDraining                    // gets only those with its affinity cookie
	memberInactive                    // gets none
)

func (m memberState) String() string { return [...]string{"Active", "Draining", "Inactive"}[m] }

// arr is Application Request Routing as it runs in one worker process. All of it is lost with that. mu of the Server guards it.
type arr struct {
	s         *Server
	worker    *worker
	began     time.Time
	members   map[string]*member // by lower-case "farm/address"
	transport *http.Transport
}

// member is the runtime side of a server in a farm.
type member struct {
	state      memberState
	graceful   bool // it became inactive so
	healthy    bool
	current    int64
	sockets    int64 // upgraded connections
	total      int64
	failed     int64
	epoch      int       // counts resets: what began before one does not count after it
	reset      time.Time // of the counters
	credit     int64     // of weighted round robin
	requests   map[*request]struct{}
	firstFail  time.Time // of live traffic, in its period
	recentFail int
}

// arrOf returns ARR in a worker process, which begins when it is first used. mu is held.
func (s *Server) arrOf(w *worker) *arr {
	if w.arr == nil {
		a := &arr{s: s, worker: w, began: time.Now(), members: map[string]*member{},
			transport: &http.Transport{DialContext: s.DialContext, MaxIdleConnsPerHost: 64, DisableCompression: true}}
		w.arr = a
		s.wg.Go(a.watchHealth)
	}
	return w.arr
}

// member returns the runtime side of a server; one that is not known yet is available and healthy, since nobody has tested it. mu is held.
func (a *arr) member(farm, address string) *member {
	key := strings.ToLower(farm + "/" + address)
	m := a.members[key]
	if m == nil {
		m = &member{healthy: true, reset: a.began, requests: map[*request]struct{}{}}
		a.members[key] = m
	}
	return m
}

// applyFarms is what a commit to webFarms does to what runs. mu is held.
func (s *Server) applyFarms(old, next *hostConf) {
	if !s.cfg.ARR.FarmCommitForgets || old.farms == next.farms {
		return
	}
	for p := range s.everyPool() {
		for w := range p.workers {
			if w.arr != nil {
				for _, m := range w.arr.members {
					m.state = memberActive
				}
			}
		}
	}
}

// resetCounters begins the statistics of a member anew.
func (a *arr) resetCounters(m *member) {
	m.total, m.failed, m.reset = 0, 0, time.Now()
	if !a.s.cfg.ARR.ResetKeepsCurrent {
		m.current, m.sockets = 0, 0
		m.epoch++
	}
}

// setHealth notes what a test, or a caller, says of a member.
func (a *arr) setHealth(m *member, healthy bool) {
	if m.healthy != healthy {
		m.healthy = healthy
		a.resetCounters(m)
		a.s.wake()
	}
}

// pick chooses the member for a request and counts it there. mu is held.
func (a *arr) pick(f farmConf, req *request, r *http.Request) (memberConf, *member, bool) {
	if f.affinity {
		if c, err := r.Cookie(f.cookie); err == nil {
			for _, s := range f.servers {
				if m := a.member(f.name, s.address); affinityOf(f, s) == c.Value && s.enabled && m.healthy && m.state != memberInactive {
					return s, a.enter(m, req), true
				}
			}
		}
	}
	var open []memberConf
	for _, s := range f.servers {
		if m := a.member(f.name, s.address); s.enabled && m.healthy && m.state == memberActive {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return memberConf{}, nil, false
	}
	if f.hash {
		h := fnv.New32a()
		_, _ = io.WriteString(h, r.URL.RequestURI()) // cannot fail
		s := open[int(h.Sum32()%uint32(len(open)))]
		return s, a.enter(a.member(f.name, s.address), req), true
	}
	var best memberConf
	var top *member
	var sum int64
	for _, s := range open { // the one with the most credit; all earn their weight, the chosen one pays for all
		m := a.member(f.name, s.address)
		m.credit += s.weight
		sum += s.weight
		if top == nil || m.credit > top.credit {
			best, top = s, m
		}
	}
	top.credit -= sum
	return best, a.enter(top, req), true
}

func (a *arr) enter(m *member, req *request) *member {
	m.current++
	m.total++
	m.requests[req] = struct{}{}
	return m
}

// affinityOf is the value of the cookie that leads to a member.
func affinityOf(f farmConf, s memberConf) string {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strings.ToLower(f.name+"/"+s.address)) // cannot fail
	return strconv.FormatUint(h.Sum64(), 16)
}

// errFarmTimeout is a member that has not begun to answer in the farm's time.
var errFarmTimeout = errors.New("502.3 - Bad Gateway: the operation timed out")

// maxForwards is how often a request may come back before ARR is taken to feed itself.
const maxForwards = 8

// balancer is ARR as the handler of one request, which a worker process has pulled.
func (s *Server) balancer(req *request) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		f, ok := s.conf.routing.farm(req.farm)
		a := s.arrOf(req.worker)
		var to memberConf
		var m *member
		if ok = ok && f.enabled && len(r.Header.Values("X-ARR-LOG-ID")) < maxForwards; ok {
			to, m, ok = a.pick(f, req, r)
		}
		epoch := 0
		if ok {
			epoch = m.epoch
		}
		s.mu.Unlock()
		if !ok {
			http.Error(rw, "HTTP Error 503.0 - no server of the farm is available", http.StatusServiceUnavailable)
			return
		}
		upgraded := false
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(m.requests, req)
			if m.epoch == epoch && upgraded {
				m.sockets--
			} else if m.epoch == epoch {
				m.current--
			}
			s.wake()
		}()
		a.forward(f, to, m, rw, r, func() { // it left HTTP; mu is held
			if upgraded = true; m.epoch == epoch {
				m.current--
				m.sockets++
			}
		})
	})
}

// forward sends a request to a member and its answer back.
func (a *arr) forward(f farmConf, to memberConf, m *member, rw http.ResponseWriter, r *http.Request, upgrades func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	limit := time.AfterFunc(a.s.real(f.timeout), func() { cancel(errFarmTimeout) })
	defer limit.Stop()
	p := &httputil.ReverseProxy{
		Transport: a.transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", to.target()
			if p.Out.Host = to.target(); f.preserveHost {
				p.Out.Host = p.In.Host
			}
			p.Out.Header["X-Forwarded-For"] = append(p.In.Header["X-Forwarded-For"], remote(p.In.RemoteAddr))
			p.Out.Header["X-Arr-Log-Id"] = append(p.In.Header["X-Arr-Log-Id"], "iistest")
		},
		ModifyResponse: func(resp *http.Response) error {
			limit.Stop()
			if f.affinity {
				resp.Header.Add("Set-Cookie", (&http.Cookie{Name: f.cookie, Value: affinityOf(f, to), Path: "/", HttpOnly: true}).String())
			}
			a.s.mu.Lock()
			defer a.s.mu.Unlock()
			if resp.StatusCode == http.StatusSwitchingProtocols {
				upgrades()
			}
			a.live(f, m, resp.StatusCode)
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			a.s.mu.Lock()
			m.failed++
			a.live(f, m, http.StatusBadGateway)
			a.s.mu.Unlock()
			a.s.cfg.Logger.Debug("farm member fails", "farm", f.name, "member", to.address, "err", err, "cause", context.Cause(ctx))
			rw.WriteHeader(http.StatusBadGateway)
			_, _ = fmt.Fprintln(rw, "HTTP Error 502.3 - Bad Gateway") // the client may be gone
		},
	}
	p.ServeHTTP(rw, r.WithContext(ctx))
}

// live is the health test by live traffic: failures too many in a period make a member unhealthy. mu is held.
func (a *arr) live(f farmConf, m *member, status int) {
	if f.health.period <= 0 || status < http.StatusInternalServerError {
		return
	}
	if now := time.Now(); m.recentFail == 0 || now.Sub(m.firstFail) > a.s.real(f.health.period) {
		m.firstFail, m.recentFail = now, 0
	}
	if m.recentFail++; m.recentFail >= f.health.maxFailures {
		m.recentFail = 0
		a.setHealth(m, false)
	}
}

// watchHealth tests all members of all farms by their clocks, until the worker process has gone.
func (a *arr) watchHealth() {
	defer a.transport.CloseIdleConnections()
	due := map[string]time.Time{}
	for {
		a.s.mu.Lock()
		farms, gone := a.s.conf.routing.farms, a.worker.state == gone
		a.s.mu.Unlock()
		if gone {
			return
		}
		next := a.s.real(time.Second)
		for _, f := range farms {
			if f.health.url == "" || !f.enabled {
				continue
			}
			if _, known := due[f.name]; !known && a.s.cfg.ARR.FirstTestLater {
				due[f.name] = time.Now().Add(a.s.real(f.health.interval))
			}
			if left := time.Until(due[f.name]); left > 0 {
				next = min(next, left)
				continue
			}
			a.test(f)
			due[f.name] = time.Now().Add(a.s.real(f.health.interval))
			next = min(next, a.s.real(f.health.interval))
		}
		t := time.NewTimer(max(next, 2*time.Millisecond))
		select {
		case <-t.C:
		case <-a.s.ctx.Done():
			t.Stop()
			return
		}
	}
}

// test asks each member once, all at one time.
func (a *arr) test(f farmConf) {
	done := make(chan struct{})
	for _, to := range f.servers {
		go func() {
			defer func() { done <- struct{}{} }()
			if !to.enabled {
				return
			}
			healthy := a.asks(f, to)
			a.s.mu.Lock()
			defer a.s.mu.Unlock()
			a.setHealth(a.member(f.name, to.address), healthy)
		}()
	}
	for range f.servers {
		<-done
	}
}

// asks sends a health test to a member.
func (a *arr) asks(f farmConf, to memberConf) bool {
	u, err := url.Parse(f.health.url)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(a.s.ctx, a.s.real(f.health.timeout))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.target()+u.RequestURI(), nil)
	if err != nil {
		return false
	}
	r.Host, r.Close = u.Host, true
	resp, err := a.transport.RoundTrip(r)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return err == nil && resp.StatusCode >= f.health.from && resp.StatusCode <= f.health.to && strings.Contains(string(body), f.health.match)
}

// MemberState is a server of a farm at one moment.
type MemberState struct {
	Address string
	State   string // Active, Draining or Inactive
	Healthy bool
	Current int64 // requests
	Sockets int64 // upgraded connections
	Total   int64
	Failed  int64
	Reset   time.Duration // emulated time since the counters began
}

// arrWorker is the worker process whose ARR answers calls for a farm: the one that serves a site whose rules feed it. mu is held.
func (s *Server) arrWorker(farm string) *worker {
	for _, t := range s.sites {
		app, ok := t.conf.app("/")
		p := s.pools[strings.ToLower(app.pool)]
		if !ok || p == nil || p.current == nil || p.current.state != running || t.state != started {
			continue
		}
		for _, b := range t.conf.bindings {
			_, port, host, ok := b.web()
			r := &http.Request{Method: http.MethodGet, Host: host, URL: &url.URL{Path: "/"}}
			if ok && strings.EqualFold(s.conf.routing.farmFor(port, r), farm) {
				return p.current
			}
		}
	}
	return nil
}

// Members tells the servers of a farm as ARR has them now, in the worker process that serves; without one, as a fresh process would.
func (s *Server) Members(farm string) ([]MemberState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.conf.routing.farm(farm)
	if !ok {
		return nil, errNoFarm
	}
	var all []MemberState
	w := s.arrWorker(farm)
	for _, c := range f.servers {
		m := &member{healthy: true, reset: time.Now()}
		if w != nil {
			m = s.arrOf(w).member(f.name, c.address)
		}
		all = append(all, MemberState{c.address, m.state.String(), m.healthy, m.current, m.sockets, m.total, m.failed, s.emulated(time.Since(m.reset))})
	}
	return all, nil
}

// runtimeMember finds a member for a runtime call, which needs a worker process. mu is held.
func (s *Server) runtimeMember(farm, address string) (*arr, *member, error) {
	f, ok := s.conf.routing.farm(farm)
	if !ok {
		return nil, nil, errNoFarm
	}
	for _, c := range f.servers {
		if strings.EqualFold(c.address, address) {
			w := s.arrWorker(farm)
			if w == nil {
				return nil, nil, errors.New("no worker process runs the web farm")
			}
			return s.arrOf(w), s.arrOf(w).member(f.name, c.address), nil
		}
	}
	return nil, nil, errNoFarm
}

// SetState is ARR's runtime method of that name: Start, Drain, GracefulStop or ForcefulStop, which cuts what runs. It is lost with the worker
// process.
func (s *Server) SetState(farm, address, state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, m, err := s.runtimeMember(farm, address)
	if err != nil {
		return err
	}
	s.cfg.Logger.Debug("member state", "farm", farm, "member", address, "state", state, "pid", a.worker.pid)
	switch state {
	case "Start":
		m.state = memberActive
	case "Drain":
		m.state = memberDraining
	case "GracefulStop", "ForcefulStop":
		m.state, m.graceful = memberInactive, state == "GracefulStop"
		if !m.graceful {
			for r := range m.requests {
				r.cutNow()
			}
		}
	default:
		return fmt.Errorf("state %q: the value does not fall within the expected range", state)
	}
	s.wake()
	return nil
}

// SetHealthy is ARR's runtime method of that name, or SetUnhealthy. A member that was made unhealthy returns with its next good test.
func (s *Server) SetHealthy(farm, address string, healthy bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, m, err := s.runtimeMember(farm, address)
	if err == nil {
		a.setHealth(m, healthy)
	}
	return err
}

// ResetCounters is ARR's runtime method of that name.
func (s *Server) ResetCounters(farm, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, m, err := s.runtimeMember(farm, address)
	if err == nil {
		a.resetCounters(m)
	}
	return err
}
