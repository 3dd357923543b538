package tcp

import (
	"context"
	"net"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Stats are counts since New.
type Stats struct {
	Carried   int64 // connections that were carried to a slot and have ended, in whatever way
	Failed    int64 // connections closed since no slot could be reached
	Refused   int64 // connections closed since no slot took new ones
	Redialled int64 // connections that another slot got since the first could not be reached
	Cut       int64 // connections broken by ForceCut or Close
}

// Stats returns the counts.
func (s *Switcher) Stats() Stats {
	return Stats{Carried: s.stats.carried.Load(), Failed: s.stats.failed.Load(), Refused: s.stats.refused.Load(),
		Redialled: s.stats.redialled.Load(), Cut: s.stats.cut.Load()}
}

// Serve accepts connections on l and carries them until Shutdown or Close is called, then returns net.ErrClosed. It may be called for several
// listeners. It closes l. Connections of a tls.Listener are carried decrypted.
func (s *Switcher) Serve(l net.Listener) error {
	return s.doors.serve(l, func(c net.Conn) { s.carry(c, nil, s.doors.leave) })
}

// ServeConn carries one connection and returns when it has ended. It closes c.
func (s *Switcher) ServeConn(c net.Conn) {
	ended := make(chan struct{})
	s.adopt(c, nil, func() { close(ended) })
	<-ended
}

// adopt carries a connection, after the bytes that were read of it already. It returns at once; Close waits. done is called at the end.
func (s *Switcher) adopt(c net.Conn, read []byte, done func()) {
	if !s.doors.enter() {
		c.Close()
		done()
		return
	}
	go s.carry(c, read, func() {
		done()
		s.doors.leave()
	})
}

// Shutdown closes the listeners and waits until all connections have ended by themselves. Meanwhile slots can still be switched. If ctx ends
// first its error is returned and what is left goes on; Close ends that.
func (s *Switcher) Shutdown(ctx context.Context) error {
	s.doors.close(false)
	// The counts of the slots would not do: a connection is in none before it has entered one, and on its way from one to another.
	if err := s.doors.wait(ctx, true); err != nil {
		return err
	}
	return s.Close()
}

// Close closes the listeners, breaks all connections and waits until nothing of them is left. Afterwards Activate, SetWeights and Seal return
// net.ErrClosed. A second call does nothing.
func (s *Switcher) Close() error {
	s.doors.close(true)
	s.turn.TakeAnyway()
	s.table.Set() // nothing can enter any more
	s.turn.Give()
	for name := range s.cfg.Slots {
		s.table.Order(name, route.Cut)
	}
	s.doors.wait(context.Background(), false)
	s.flow.close()
	return nil
}
