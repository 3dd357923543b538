package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/internal/multi"
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

// doors are the listeners of Serve, and how many client connections they have let in.
type doors struct {
	mu     sync.Mutex
	shut   bool // no more listeners
	closed bool // Close has begun
	open   map[net.Listener]bool
	guests atomic.Int64
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

func (s *Switcher) newServer() *http.Server {
	srv := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            s.cfg.HeadTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the application
		ErrorLog:                     slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		Protocols:                    new(http.Protocols),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				s.doors.guests.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.doors.guests.Add(-1)
			}
		},
	}
	srv.Protocols.SetHTTP1(true)
	return srv
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
	if s.doors.guests.Load() > 0 && s.cfg.Farewell > 0 {
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
	err := s.server.Close()
	s.loose.close()
	for name := range s.cfg.Slots {
		s.table.WaitIdle(context.Background(), name)
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return multi.Join(err, s.closeStore())
}
