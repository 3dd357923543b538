package h1

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// crowd makes connections wait that are more than may be served.
type crowd struct {
	mu      sync.Mutex    // held by the listener that adds a connection
	waiting atomic.Int32  // 1: it has one in its hands for which there is no room
	room    chan struct{} // rung when a connection has ended while one waits
}

const (
	crowdLook = 100 * time.Millisecond // how often one who waits looks whether the server is leaving
	crowdIdle = 10 * time.Second       // how long a connection may be idle while another one waits for room
)

func newCrowd() *crowd { return &crowd{room: make(chan struct{}, 1)} }

// waits reports whether a connection waits for room: then clients that have been answered are told to go.
func (c *crowd) waits() bool { return c.waiting.Load() > 0 }

// Crowded reports whether a connection waits for room.
func (s *Server) Crowded() bool { return s.crowd.waits() }

func (c *crowd) ring() {
	if c.waits() {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
}

// addToCrowd serves nc as soon as there is room for it, or the server is leaving: what was accepted is answered then, too.
func (s *Server) addToCrowd(nc net.Conn) {
	s.crowd.mu.Lock() // one after the other, so that two listeners do not take the same room
	defer s.crowd.mu.Unlock()
	if s.full() {
		s.awaitRoom()
	}
	s.add(nc)
}

func (s *Server) full() bool {
	n := s.Conns()
	if s.cfg.Others != nil {
		n += s.cfg.Others()
	}
	return n >= s.cfg.MaxConns
}

func (s *Server) awaitRoom() {
	s.crowd.waiting.Add(1)
	defer s.crowd.waiting.Add(-1)
	look := time.NewTicker(crowdLook)
	defer look.Stop()
	for s.full() && !s.closing.Load() && !s.front.Leaving() {
		select {
		case <-s.crowd.room:
		case <-look.C:
		}
	}
}
