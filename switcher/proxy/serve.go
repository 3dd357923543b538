package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Stats are counts since New.
type Stats struct {
	Failed  int64 // requests answered 502, and answers of a slot that broke off
	Refused int64 // requests answered 503 since no slot took work, or a hold could not keep them
	Retried int64 // attempts that went to another connection, or another slot, without the client noticing
	Cut     int64 // pieces of work ended by ForceCut or Close
}

// Stats returns the counts.
func (s *Switcher) Stats() Stats {
	return Stats{Failed: s.stats.failed.Load(), Refused: s.stats.refused.Load(), Retried: s.stats.retried.Load(), Cut: s.stats.cut.Load()}
}

// doors are the listeners of Serve.
type doors struct {
	mu     sync.Mutex
	shut   bool // no more listeners
	closed bool // Close has begun
	open   map[net.Listener]bool
}

func (d *doors) add(l net.Listener) bool {
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

func (d *doors) remove(l net.Listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, l)
}

// close closes the listeners.
func (d *doors) close(forGood bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut, d.closed = true, d.closed || forGood
	for l := range d.open {
		l.Close()
	}
}

func (d *doors) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

func (s *Switcher) newServer() *h1.Server {
	return h1.NewServer(h1.Config{HeadTimeout: s.cfg.HeadTimeout, IdleTimeout: s.cfg.IdleTimeout, ReuseBefore: s.cfg.ReuseBefore,
		Mark: s.cfg.ReleaseHeader, Logger: s.cfg.Logger}, front{s})
}

// front is what the HTTP/1.1 server knows of the Switcher.
type front struct{ s *Switcher }

func (f front) Leaving() bool { return f.s.leaving.Load() }

func (f front) Sender(addr net.Addr) h1.Sender {
	by := f.s.forwardedBy(addr.String())
	return h1.Sender{IP: by.ip, Trusted: by.trusted}
}

// Serve accepts connections on l and forwards their requests until Shutdown or Close is called, then returns http.ErrServerClosed. It may be
// called for several listeners. It closes l. For TLS give it a tls.Listener.
func (s *Switcher) Serve(l net.Listener) error {
	l = &onceListener{Listener: l}
	defer l.Close()
	if !s.doors.add(l) {
		return http.ErrServerClosed
	}
	defer s.doors.remove(l)
	err := s.server.Serve(l)
	if s.leaving.Load() {
		return http.ErrServerClosed
	}
	return err
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

// Shutdown ends the proxy without breaking anything: it closes the listeners, says "Connection: close" in every answer for Config.Farewell, so
// that clients in the midst of a conversation leave by themselves, then closes idle client connections, and waits until all requests and
// upgraded connections have ended. While it waits, requests are still served and slots can still be switched. If ctx ends first its error
// is returned and what is left goes on; Close ends that.
func (s *Switcher) Shutdown(ctx context.Context) error {
	s.leaving.Store(true)
	s.doors.close(false)
	if s.server.Conns() > 0 && s.cfg.Farewell > 0 {
		t := time.NewTimer(s.cfg.Farewell)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.server.Shutdown(ctx); err != nil {
		return err
	}
	for name := range s.cfg.Slots {
		if err := s.table.WaitIdle(ctx, name); err != nil {
			return err
		}
	}
	return s.Close()
}

// Close ends the proxy at once: listeners, connections and all work in flight. It waits until nothing of it is left. Afterwards requests are
// answered 503, and Activate, SetWeights and Seal return http.ErrServerClosed. A second call does nothing.
func (s *Switcher) Close() error {
	s.leaving.Store(true)
	s.doors.close(true)
	s.busy <- struct{}{}
	s.publish() // nobody can enter any more
	s.endHold()
	s.unlock()
	for name := range s.cfg.Slots {
		s.table.Order(name, route.Cut)
	}
	s.server.Close()
	s.loose.close()
	for name := range s.cfg.Slots {
		s.table.WaitIdle(context.Background(), name)
	}
	return s.closeStore()
}
