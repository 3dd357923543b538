package h1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Front says what becomes of requests.
type Front interface {
	// Forward carries x to its end: by Attempt and End, Fail or Abort. It is called on the goroutine of the client's connection.
	Forward(x *Exchange)

	// Leaving reports whether clients are to be told to go.
	Leaving() bool

	// Sender tells whom a connection from addr comes from.
	Sender(addr net.Addr) Sender
}

// Config says how a Server serves. Zero means no limit.
type Config struct {
	MaxConns    int           // connections that are served at a time, with Others
	Others      func() int    // how many of those given to HTTP2 there are; nil: none
	MaxHead     int           // bytes of a request's head; 0: as many as the constant MaxHead says, and never more
	MaxFields   int           // fields of a request's head; 0: as many as the constant MaxFields says, and never more
	HeadTimeout time.Duration // from the first byte of a request's head to its last; TLS handshakes too
	IdleTimeout time.Duration // of a connection without a request
	Logger      *slog.Logger

	// HTTP2 is given each connection whose client speaks HTTP/2, by ALPN or from the first byte, and early, which has been read of it. It
	// does not wait, and nc is its own from then on. nil: such a client is refused.
	HTTP2 func(nc net.Conn, early []byte)
}

// Server accepts connections and reads HTTP/1.1 from them.
type Server struct {
	cfg   Config
	front Front
	began time.Time

	closing atomic.Bool // no connection waits for another request any more
	count   atomic.Int64
	number  atomic.Uint32 // of the last connection
	bell    chan struct{} // rung while closing, when something has ended
	crowd   *crowd
	all     sync.WaitGroup
	pipes   pipes

	hands   chan *conn   // to a goroutine that waits for a connection
	waiting atomic.Int32 // how many do, or are about to
	workers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	conns   map[*conn]bool
	stop    chan struct{} // ends sweep; nil: it does not run
	sweeper sync.WaitGroup
}

// NewServer returns a Server that gives its requests to front.
func NewServer(cfg Config, front Front) *Server {
	return &Server{cfg: cfg, front: front, began: time.Now(), conns: map[*conn]bool{}, bell: make(chan struct{}, 1), hands: make(chan *conn), crowd: newCrowd()}
}

// Conns returns how many connections there are.
func (s *Server) Conns() int { return int(s.count.Load()) }

// Serve accepts connections on l until that fails, and returns why. It waits for nothing.
func (s *Server) Serve(l net.Listener) error {
	if !s.startSweep() {
		return http.ErrServerClosed
	}
	var pause time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			if !exhausted(err) {
				return err
			}
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); !s.rest(pause) {
				return http.ErrServerClosed
			}
			continue
		}
		pause = 0
		if s.cfg.MaxConns > 0 {
			s.addToCrowd(nc)
			continue
		}
		s.add(nc)
	}
}

// exhausted reports whether Accept has failed since the process, or the system, has no descriptor or memory left, or since the client has
// gone again: the next call may do better.
func exhausted(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET,
		wsaMFile, wsaNoBufs, wsaConnAborted, wsaConnReset} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// What Windows says instead (winsock2.h); package syscall has values of its own there, which no call returns. No other system has these.
const (
	wsaMFile       syscall.Errno = 10024
	wsaConnAborted syscall.Errno = 10053
	wsaConnReset   syscall.Errno = 10054
	wsaNoBufs      syscall.Errno = 10055
)

// rest waits; it is false if the server was closed meanwhile.
func (s *Server) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

// add serves nc on a goroutine of its own.
func (s *Server) add(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.conns[c] = true
	s.count.Add(1)
	s.all.Add(1)
	select {
	case s.hands <- c:
	default:
		c.settled = firstWait // on a new stack
		s.workers.Add(1)
		go s.work(c)
	}
	s.mu.Unlock()
}

// keptWorkers is for how many processors' worth of goroutines it pays to wait for another connection once theirs has ended.
const keptWorkers = 16

// work serves c, and then others, as long as not too many goroutines wait for one. Where clients make a connection for each request it costs
// less to wake one, whose stack has grown to what it takes, than to make one.
func (s *Server) work(c *conn) {
	defer s.workers.Done()
	for ok := true; ok; {
		c.run()
		if s.waiting.Add(1) > keptWorkers*int32(runtime.GOMAXPROCS(0)) {
			s.waiting.Add(-1)
			return
		}
		c, ok = <-s.hands
		s.waiting.Add(-1)
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.count.Add(-1)
	s.crowd.ring()
	s.ring()
}

// ring tells Shutdown that something may have ended.
func (s *Server) ring() {
	if s.closing.Load() {
		select {
		case s.bell <- struct{}{}:
		default:
		}
	}
}

// Shutdown closes the connections that wait for a request, and waits until no other carries one. Upgraded connections are not waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	for {
		busy := 0
		s.mu.Lock()
		for c := range s.conns {
			switch word := c.state.Load(); word & phaseMask {
			case phaseIdle:
				busy++
				c.interrupt(word, phaseExpired)
			case phaseTunnel, phaseLinger:
			default:
				busy++
			}
		}
		s.mu.Unlock()
		if busy == 0 {
			s.ring() // for who else waits here
			return nil
		}
		select {
		case <-s.bell:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes all connections at once, and waits until nothing of them is left.
func (s *Server) Close() {
	s.closing.Store(true)
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.hands)
	}
	for c := range s.conns {
		c.cutOff()
	}
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		close(stop)
	}
	s.all.Wait()
	s.workers.Wait()
	s.sweeper.Wait()
	s.pipes.close()
}

// startSweep starts sweep, once. It is false after Close.
func (s *Server) startSweep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.stop == nil {
		s.stop = make(chan struct{})
		stop := s.stop
		s.sweeper.Go(func() { s.sweep(stop) })
	}
	return true
}

// sweepEvery is how often the connections are looked at, if no timeout asks for more.
const sweepEvery = 200 * time.Millisecond

// In a burst of new connections each has a stack that its first request has made larger. While there come new ones they are looked at so often,
// and as many times more, to have them wait on small stacks soon, whose room the next ones then use.
const (
	freshEvery = 50 * time.Millisecond
	freshFor   = 4
)

// sweep sees to everything that has to do with time, for all connections: so an exchange costs no timer, and a connection only says by one
// store what it does now. One that is found as it was for as long as it may be is ended. One that has been carrying a request since the last
// look is watched from then on, so that its client's going away is noticed.
func (s *Server) sweep(stop chan struct{}) {
	every := sweepEvery
	for _, d := range [...]time.Duration{s.cfg.HeadTimeout, s.cfg.IdleTimeout} {
		if d > 0 {
			every = max(min(every, d/4), time.Millisecond)
		}
	}
	step := min(every, freshEvery)
	tick := time.NewTicker(step)
	defer tick.Stop()
	var all []*conn
	number, fresh := s.number.Load(), 0
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		fresh--
		if now := s.number.Load(); now != number {
			number, fresh = now, freshFor
		}
		full := n%int(every/step) == 0
		if !full && fresh <= 0 {
			continue
		}
		all = all[:0]
		s.mu.Lock()
		for c := range s.conns {
			all = append(all, c)
		}
		s.mu.Unlock()
		now := time.Now()
		for _, c := range all {
			if full {
				c.look(now)
			} else {
				c.lookFresh()
			}
		}
		clear(all)
	}
}

// logPanic says that serving a connection has failed by a fault of ours.
func (s *Server) logPanic(c *conn, v any) {
	s.cfg.Logger.Error("request ended by a fault of the proxy", "peer", c.peer, "err", fmt.Sprint(v))
}
