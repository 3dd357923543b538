package proxy

import (
	"context"
	"errors"
	"net"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Stats are counts since New.
type Stats struct {
	Failed  int64 // requests answered 502, and answers of a slot that broke off
	Refused int64 // requests answered 503 since no slot took work, or a hold or the queue could not keep them
	Retried int64 // attempts that went to another connection, or another slot, without the client noticing
	Cut     int64 // pieces of work ended by ForceCut or Close
}

// Stats returns the counts.
func (s *Switcher) Stats() Stats {
	return Stats{Failed: s.stats.failed.Load(), Refused: s.stats.refused.Load(), Retried: s.stats.retried.Load(), Cut: s.stats.cut.Load()}
}

// Serve accepts connections on l and forwards their requests until Shutdown or Close is called, then returns http.ErrServerClosed. It may be
// called for several listeners. It closes l. For TLS give it a tls.Listener.
func (s *Switcher) Serve(l net.Listener) error {
	if s.sites != nil {
		l.Close()
		return errors.New("proxy: serve: a site of a Sites has no listener of its own: give it to the Sites")
	}
	return s.door.serve(l)
}

// Shutdown ends the proxy without breaking anything: it closes the listeners, says "Connection: close" in every answer for Config.Farewell, so
// that clients in the midst of a conversation leave by themselves, then closes idle client connections, and waits until all requests and
// upgraded connections have ended. While it waits, requests are still served and slots can still be switched. If ctx ends first its error
// is returned and what is left goes on; Close ends that.
//
// One that Sites.New has made is taken out of its Sites instead, as Sites.Remove does, and clients stay where they are.
func (s *Switcher) Shutdown(ctx context.Context) error {
	if s.sites != nil {
		s.sites.end(s)
	} else if err := s.door.shutdown(ctx); err != nil {
		return err
	}
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	return s.Close()
}

// waitIdle waits until nothing is in flight in any slot.
func (s *Switcher) waitIdle(ctx context.Context) error {
	for name := range s.cfg.Slots {
		if err := s.table.WaitIdle(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the proxy at once: listeners, connections and all work in flight. It waits until nothing of it is left. Afterwards requests are
// answered 503, and Activate, SetWeights and Seal return http.ErrServerClosed. A second call does nothing.
func (s *Switcher) Close() error {
	if s.sites != nil {
		s.sites.end(s)
	} else {
		s.door.leave()
	}
	s.closed.Store(true)
	s.prober.Load().close()
	s.turn.TakeAnyway()
	s.table.Empty() // nobody can enter any more
	s.steer(nil)
	s.closeIdle()
	s.endHold()
	s.turn.Give()
	for name := range s.cfg.Slots {
		s.table.Order(name, route.Cut)
	}
	if s.sites == nil {
		s.door.close()
	}
	s.waitIdle(context.Background())
	if s.sites != nil {
		s.sites.forget(s)
	}
	var err error
	if s.sessions != nil {
		err = s.sessions.Close()
	}
	return multi.Join(err, s.closeStore())
}
