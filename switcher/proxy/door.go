package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// door is where requests come in: the listeners, the servers that read HTTP/1.1 and HTTP/2 from their connections, and what holds for all alike.
// A Switcher of New has one of its own; the sites of a Sites share theirs.
type door struct {
	cfg     doorConfig
	server  *h1.Server
	h2      *h2Server
	leaving atomic.Bool // Shutdown or Close has begun
	loose   looseConns

	mu   sync.Mutex
	shut bool // no more listeners
	open map[net.Listener]bool
}

// doorConfig is what a door needs. Durations are as Config has them after withDefaults: 0 is none.
type doorConfig struct {
	headTimeout, idleTimeout, farewell time.Duration
	maxConns, maxHead, maxFields       int

	trusted []netip.Prefix
	logger  *slog.Logger
	forward func(*h1.Exchange) // carries a request that Serve has read
	handler http.Handler       // does the same for one that another server has read, and for HTTP/2
	noHTTP2 bool
}

// door returns what a door needs to know of c.
func (c Config) door(forward func(*h1.Exchange), handler http.Handler) doorConfig {
	return doorConfig{headTimeout: c.HeadTimeout, idleTimeout: c.IdleTimeout, farewell: c.Farewell, trusted: c.TrustedPeers, logger: c.Logger,
		maxConns: c.MaxConns, maxHead: c.MaxHead, maxFields: c.MaxFields, forward: forward, handler: handler, noHTTP2: c.DisableHTTP2}
}

func newDoor(cfg doorConfig) *door {
	d := &door{cfg: cfg}
	first := h1.Config{HeadTimeout: cfg.headTimeout, IdleTimeout: cfg.idleTimeout, MaxConns: cfg.maxConns, MaxHead: cfg.maxHead,
		MaxFields: cfg.maxFields, Logger: cfg.logger}
	d.h2 = newH2Server(h2Config{handler: cfg.handler, headTimeout: cfg.headTimeout, idleTimeout: cfg.idleTimeout, maxHead: cfg.maxHead, logger: cfg.logger})
	if !cfg.noHTTP2 {
		first.HTTP2, first.Others = d.h2.take, d.h2.conns
	}
	d.server = h1.NewServer(first, d)
	return d
}

// conns returns how many connections there are.
func (d *door) conns() int { return d.server.Conns() + d.h2.conns() }

// Forward is called by the HTTP/1.1 server for each request.
func (d *door) Forward(x *h1.Exchange) { d.cfg.forward(x) }

// Leaving reports whether clients are to be told to go.
func (d *door) Leaving() bool { return d.leaving.Load() }

// Sender tells whom a connection from addr comes from.
func (d *door) Sender(addr net.Addr) h1.Sender {
	by := d.forwardedBy(addr.String())
	return h1.Sender{IP: by.ip, Trusted: by.trusted}
}

// serve accepts connections on l and forwards their requests until shutdown or close, then returns http.ErrServerClosed. It closes l.
func (d *door) serve(l net.Listener) error {
	l = &onceListener{Listener: l}
	defer l.Close()
	if !d.add(l) {
		return http.ErrServerClosed
	}
	defer d.remove(l)
	err := d.server.Serve(l)
	if d.Leaving() {
		return http.ErrServerClosed
	}
	return err
}

func (d *door) add(l net.Listener) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return false
	}
	if d.open == nil {
		d.open = map[net.Listener]bool{}
	}
	d.open[l] = true
	return true
}

func (d *door) remove(l net.Listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, l)
}

// leave closes the listeners, and lets every answer say that its client is to go.
func (d *door) leave() {
	d.leaving.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	for l := range d.open {
		l.Close()
	}
}

// shutdown leaves, gives clients in the midst of a conversation the time to see that, closes idle connections, and waits until no other one
// carries a request. Upgraded connections are not waited for.
func (d *door) shutdown(ctx context.Context) error {
	d.leave()
	d.h2.farewell()
	if d.conns() > 0 && d.cfg.farewell > 0 {
		t := time.NewTimer(d.cfg.farewell)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h2 := make(chan error, 1)
	go func() { h2 <- d.h2.shutdown(ctx) }()
	err := d.server.Shutdown(ctx)
	if err2 := <-h2; err == nil {
		err = err2
	}
	return err
}

// close closes all connections at once, and waits until nothing of them is left.
func (d *door) close() {
	d.leave()
	d.server.Close()
	d.h2.close()
	d.loose.close()
}

// onceListener closes its listener once.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}
