package iistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// request is one on its way. mu of the Server guards it.
type request struct {
	id       string
	key      appKey
	site     *site
	verb     string
	url      string
	client   string
	begin    time.Time
	worker   *worker   // nil: in the queue
	instance *instance // nil: none yet
	farm     string    // server farm that ARR sends it to; "": it is for the application

	conn     net.Conn
	cancel   context.CancelFunc
	cut      bool
	upgraded bool // its connection was taken over
	open     int  // the handler, and the connection it took over
}

// cutNow ends a request the hard way, as the end of its process does. mu is held.
func (r *request) cutNow() {
	if r.cut {
		return
	}
	r.cut = true
	r.cancel()
	reset(r.conn)
}

// Origin tells an application where it runs.
type Origin struct {
	PID         int    // of the worker process
	Pool        string // application pool
	SiteID      int
	Site        string
	Application string // path, such as "/"
}

type originKey struct{}

// From returns where the handler of a request runs: ctx is the request's context, in a handler of Config.Host.
func From(ctx context.Context) (Origin, bool) {
	o, ok := ctx.Value(originKey{}).(Origin)
	return o, ok
}

// ServeHTTP does what HTTP.sys and a worker process do with a request: route it by itself, queue it, have a worker process pull it, serve it.
func (p *port) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s := p.s
	c, _ := r.Context().Value(connKey{}).(*conn)
	s.mu.Lock()
	if s.closed || !s.up {
		s.mu.Unlock()
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	s.wg.Add(1)
	defer s.wg.Done()
	t := s.match(p.at, c.secure, r.Host)
	if s.q.ConnectionsStick == On && c.site != 0 {
		if old := s.sites[c.site]; old != nil && old.state == started {
			t = old
		}
	}
	if t == nil {
		s.mu.Unlock()
		httpSys(rw, s.q.UnmatchedStatus)
		return
	}
	app, ok := t.conf.serving(r.URL.Path)
	pl := s.pools[strings.ToLower(app.pool)]
	if s.q.ConnectionsStick == On {
		if c.site == t.conf.id && c.pool != nil && c.pool.state == started {
			pl = c.pool
		}
		c.site, c.pool = t.conf.id, pl
	}
	if !ok || pl == nil || pl.state != started || len(pl.queue) >= pl.conf.queueLength {
		s.mu.Unlock()
		httpSys(rw, http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s.lastRequest++
	req := &request{
		id: fmt.Sprintf("%016x", s.lastRequest), key: appKey{t.conf.id, strings.ToLower(app.path)}, site: t, verb: r.Method, url: r.URL.RequestURI(),
		client: remote(r.RemoteAddr), begin: time.Now(), conn: c.raw, cancel: cancel,
	}
	if s.conf.routing.proxy {
		req.farm = s.conf.routing.farmFor(p.at.port, r)
	}
	pl.queue[req] = struct{}{}
	s.mu.Unlock()

	inst := s.pull(ctx, pl, req, app)
	if req.instanceless(s) {
		s.fail(req, rw, http.StatusServiceUnavailable)
		return
	}
	defer s.finish(req)
	rw.Header().Set("Server", "Microsoft-IIS/10.0")
	if req.farm != "" {
		s.call(s.balancer(req), &response{ResponseWriter: rw, s: s, req: req}, r.WithContext(ctx), req)
		return
	}
	if inst == nil { // app_offline.htm
		s.offline(rw, app)
		return
	}
	select {
	case <-inst.up:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	h, status, cut := inst.handler, inst.status, req.cut || ctx.Err() != nil
	if inst.refusing {
		status = http.StatusServiceUnavailable
	}
	s.mu.Unlock()
	switch {
	case cut || h == nil && status == 0:
		panic(http.ErrAbortHandler)
	case status != 0:
		http.Error(rw, fmt.Sprintf("HTTP Error %d - the application did not start", status), status)
		return
	}
	ctx = context.WithValue(ctx, originKey{}, Origin{req.worker.pid, req.worker.pool.name, req.key.site, t.conf.name, app.path})
	s.call(h, &response{ResponseWriter: rw, s: s, req: req}, r.WithContext(ctx), req)
}

func remote(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// pull moves a request from the queue into a worker process and the application there, whose start it does not await. nil: see
// instanceless; or the application is offline.
func (s *Server) pull(ctx context.Context, pl *pool, req *request, app appConf) *instance {
	dwelt := s.sleep(ctx, s.q.QueueDwell)
	for {
		s.mu.Lock()
		w := pl.current
		switch {
		case !dwelt || req.cut || ctx.Err() != nil || pl.state != started:
			delete(pl.queue, req)
			s.mu.Unlock()
			return nil
		case w != nil && w.state == running:
			delete(pl.queue, req)
			req.worker, req.open = w, 1
			w.requests[req] = struct{}{}
			folder := s.folder(app.root())
			if now := s.sites[req.key.site]; now != nil { // it may have changed while the request waited
				if a, ok := now.conf.app(app.path); ok && (strings.EqualFold(a.pool, pl.name) || s.q.OldWorkerSeesPathChange == On) {
					folder = s.folder(a.root())
				}
			}
			defer s.mu.Unlock()
			if req.farm != "" || isOffline(folder) {
				return nil
			}
			req.instance = s.instance(w, req.key, folder)
			req.instance.requests[req] = struct{}{}
			return req.instance
		case w == nil:
			s.ensureWorker(pl)
		}
		ch := s.changed
		s.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
		case <-s.ctx.Done():
			dwelt = false
		}
	}
}

// instanceless tells whether the request never came into a worker process.
func (r *request) instanceless(s *Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.worker == nil
}

// fail answers a request that was still in the queue.
func (s *Server) fail(req *request, rw http.ResponseWriter, status int) {
	s.mu.Lock()
	cut := req.cut || s.closed
	s.mu.Unlock()
	if cut {
		panic(http.ErrAbortHandler)
	}
	httpSys(rw, status)
}

// offline answers with app_offline.htm.
func (s *Server) offline(rw http.ResponseWriter, app appConf) {
	page, err := os.ReadFile(filepath.Join(s.folder(app.root()), "app_offline.htm"))
	if err != nil {
		page = nil // it has just been removed
	}
	rw.Header().Set("Content-Type", "text/html")
	rw.WriteHeader(http.StatusServiceUnavailable)
	_, _ = rw.Write(page) // the client may be gone
}

// call runs the application. A panic in it is answered with 500, or with a closed connection if the answer had begun.
func (s *Server) call(h http.Handler, rw *response, r *http.Request, req *request) {
	defer func() {
		p := recover()
		s.mu.Lock()
		cut := req.cut
		s.mu.Unlock()
		switch {
		case rw.upgraded():
		case p == nil && !cut:
		case p != nil && p != http.ErrAbortHandler && !rw.begun && !cut:
			s.cfg.Logger.Debug("application panics", "url", req.url, "panic", p)
			http.Error(rw, "HTTP Error 500.0 - the application failed", http.StatusInternalServerError)
		default:
			panic(http.ErrAbortHandler)
		}
	}()
	h.ServeHTTP(rw, r)
}

// finish takes a request, or one of the two things that keep it, out of its worker process.
func (s *Server) finish(req *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.open--; req.open > 0 {
		return
	}
	w := req.worker
	delete(w.requests, req)
	w.used = time.Now()
	if req.instance != nil {
		delete(req.instance.requests, req)
	}
	if w.state == ending || w.state == gone || req.instance != nil && req.instance.closing {
		s.wake()
	}
}

// response is what the application writes to.
type response struct {
	http.ResponseWriter
	s     *Server
	req   *request
	begun bool
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	w.begun = w.begun || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

func (w *response) Flush() {
	w.begun = true
	_ = http.NewResponseController(w.ResponseWriter).Flush() // as http.Flusher, which cannot fail
}

func (w *response) upgraded() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.req.upgraded
}

// Hijack hands the connection over; the request lasts until that is closed and the handler has returned.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.req.upgraded = true
	w.req.open++
	return &tunnel{Conn: c, done: func() { w.s.finish(w.req) }}, rw, nil
}

// tunnel is a connection that the application took over.
type tunnel struct {
	net.Conn
	once sync.Once
	done func()
}

func (t *tunnel) Close() error {
	err := t.Conn.Close()
	t.once.Do(t.done)
	return err
}

// CloseWrite ends the application's side only.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return t.Close()
}
