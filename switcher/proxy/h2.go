package proxy

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What a connection for HTTP/2 may take. A client that sends faster than the slot reads is held back stream by stream; what the connection as a
// whole may have in flight is as much as net/http allows, so that few uploads that stand still do not hold back the others.
const (
	h2Streams      = 250 // at once, on one connection
	h2FrameSize    = 64 << 10
	h2Head         = 128 << 10 // bytes of a header block; there can be one for each stream
	h2StreamWindow = 256 << 10
	h2ConnWindow   = 4<<20 - 1
)

// h2Config says how an h2Server serves. Zero durations mean no limit.
type h2Config struct {
	handler     http.Handler
	headTimeout time.Duration // from the first byte of a header block to its last, and of the preface
	idleTimeout time.Duration // of a connection without a stream
	maxHead     int           // bytes of a header block; 0: as many as h2Head says, and never more
	logger      *slog.Logger
}

// h2Server serves HTTP/2 on connections that another server has accepted. The protocol is net/http's; what is ours, and why, says h2Conn.
type h2Server struct {
	cfg    h2Config
	http   *http.Server
	start  sync.Once
	given  chan net.Conn
	done   chan struct{} // closed when no connection is served any more that comes now
	ended  sync.Once     // closes done
	bell   chan struct{} // rung while closing, when something has ended
	inside atomic.Int64  // requests, and goroutines of ours
	count  atomic.Int64  // connections
	ring   atomic.Bool   // somebody listens for the bell
	hasty  bool          // a fault for tests: GOAWAY is said, and the connection closed

	mu      sync.Mutex
	leaving bool // clients are told to go
	closed  bool
	open    map[*h2Conn]bool
}

func newH2Server(cfg h2Config) *h2Server {
	s := &h2Server{cfg: cfg, given: make(chan net.Conn), done: make(chan struct{}), bell: make(chan struct{}, 1), open: map[*h2Conn]bool{}}
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true) // TLS, where there is any, is below an h2Conn
	head := h2Head
	if cfg.maxHead > 0 {
		head = min(cfg.maxHead, head)
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), Protocols: only, ReadHeaderTimeout: cfg.headTimeout, IdleTimeout: cfg.idleTimeout, MaxHeaderBytes: head,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: h2Streams, MaxReadFrameSize: h2FrameSize, MaxReceiveBufferPerStream: h2StreamWindow,
			MaxReceiveBufferPerConnection: h2ConnWindow},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, h2Key{}, c) },
		ErrorLog:    log.New(h2Log{cfg.logger}, "", 0),
	}
	return s
}

// h2Log tells what net/http has to say of clients that do not keep to the protocol.
type h2Log struct{ to *slog.Logger }

func (l h2Log) Write(p []byte) (int, error) {
	l.to.Debug("HTTP/2: " + string(p))
	return len(p), nil
}

// h2Key is that of the h2Conn in the context of a request.
type h2Key struct{}

// h2ConnOf returns the connection of ours on which r came; nil: another server's.
func h2ConnOf(r *http.Request) *h2Conn {
	c, _ := r.Context().Value(h2Key{}).(*h2Conn)
	return c
}

// take serves nc, of which early has been read already. It waits for nothing.
func (s *h2Server) take(nc net.Conn, early []byte) {
	c := &h2Conn{Conn: nc, srv: s, early: early}
	c.in.skip = len(h2Preface)
	if t, ok := nc.(*tls.Conn); ok {
		st := t.ConnectionState()
		if !h2Adequate(&st) {
			s.cfg.logger.Debug("HTTP/2 refused: the cipher is not one for it", "peer", nc.RemoteAddr(), "cipher", tls.CipherSuiteName(st.CipherSuite))
			nc.Close()
			return
		}
		c.tls = &st
	}
	s.start.Do(func() {
		s.inside.Add(1)
		go func() {
			defer s.leave()
			s.http.Serve(h2Listener{s})
		}()
	})
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.open[c] = true
		s.count.Add(1)
		if s.leaving {
			c.wanted.Store(true)
		}
	}
	s.mu.Unlock()
	if closed {
		nc.Close()
		return
	}
	select {
	case s.given <- c:
	case <-s.done:
		c.decline()
		c.Close()
	}
}

// h2Listener gives the connections that were taken to net/http.
type h2Listener struct{ s *h2Server }

func (l h2Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.given:
		return c, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}

func (l h2Listener) Close() error {
	l.s.ended.Do(func() { close(l.s.done) })
	return nil
}

func (l h2Listener) Addr() net.Addr { return &net.TCPAddr{} }

// conns returns how many connections there are.
func (s *h2Server) conns() int { return int(s.count.Load()) }

func (s *h2Server) serve(w http.ResponseWriter, r *http.Request) {
	s.inside.Add(1)
	defer s.leave()
	if c := h2ConnOf(r); c != nil {
		r.TLS = c.tls // net/http goes by what :scheme says
	}
	s.cfg.handler.ServeHTTP(w, r)
}

func (s *h2Server) leave() {
	s.inside.Add(-1)
	s.tell()
}

// tell wakes wait.
func (s *h2Server) tell() {
	if s.ring.Load() {
		select {
		case s.bell <- struct{}{}:
		default:
		}
	}
}

func (s *h2Server) remove(c *h2Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c] {
		delete(s.open, c)
		s.count.Add(-1)
		s.tell()
	}
}

// farewell tells all clients, also those that are still to come, to open no more streams on their connections. Those that they open before
// they hear it are served.
func (s *h2Server) farewell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	for c := range s.open {
		s.inside.Add(1)
		go func() { // the client may not read at the moment
			defer s.leave()
			c.goAway()
		}()
	}
}

// shutdown says on each connection which stream was the last, and waits until these have ended and all connections are closed. Streams behind
// the last one reach no handler, and clients know that.
func (s *h2Server) shutdown(ctx context.Context) error {
	s.farewell()
	if s.hasty {
		s.close()
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return err
	}
	return s.wait(ctx)
}

// wait waits until there is no connection any more.
func (s *h2Server) wait(ctx context.Context) error {
	s.ring.Store(true)
	defer s.tell() // somebody else may wait too, and one ring wakes one
	for s.count.Load() > 0 || s.inside.Load() > 0 {
		select {
		case <-s.bell:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// close closes all connections at once, and waits until nothing of them is left.
func (s *h2Server) close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.cutOff()
	}
	s.mu.Unlock()
	h2Listener{s}.Close()
	s.http.Close()
	s.wait(context.Background())
}

// h2Adequate reports whether a TLS connection is fit for HTTP/2 (RFC 9113, 9.2): TLS 1.3, or 1.2 with an ephemeral key and an AEAD.
func h2Adequate(st *tls.ConnectionState) bool {
	if st.Version != tls.VersionTLS12 {
		return st.Version > tls.VersionTLS12
	}
	switch st.CipherSuite {
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return false
}
