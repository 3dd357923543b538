package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	keepIdle     = time.Minute // a connection to a slot that nobody used for so long is closed
	maxAnswer    = 1 << 20     // bytes of an answer's head
	upstreamRead = 16 << 10
)

// upstream is the way to one generation of a slot: its address and its idle connections. A generation never uses another's.
type upstream struct {
	addr  string
	mark  string // value of Config.ReleaseHeader
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	limit time.Duration // of dial

	mu     sync.Mutex
	open   bool // connections may be kept
	idle   []*upstreamConn
	expiry *time.Timer // runs expire; nil: not set
}

// upstreamConn is one connection to a slot. One exchange at a time owns it.
type upstreamConn struct {
	net.Conn
	br       *bufio.Reader // reads from the upstreamConn, not from Conn
	bw       *bufio.Writer
	headLeft int       // bytes that may still be read; -1: no limit
	idleFrom time.Time // when it was put back
	heard    bool      // the slot has said something since the connection was taken
}

var errHeadTooLarge = errors.New("head of the answer is larger than 1 MiB")

// Read reads from the connection, within the limit for an answer's head while one is being read.
func (c *upstreamConn) Read(p []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLarge
	}
	if c.headLeft > 0 && len(p) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.Conn.Read(p)
	c.heard = c.heard || n > 0
	if c.headLeft > 0 {
		c.headLeft -= n
	}
	return n, err
}

// setOpen says whether connections may be kept. At return of setOpen(false) no idle one is left, and none will be.
func (u *upstream) setOpen(open bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open = open
	if !open {
		u.closeIdle(0)
	}
}

// closeIdle closes the idle connections except the newest keep ones. It is called with the lock held.
func (u *upstream) closeIdle(keep int) {
	n := len(u.idle) - keep
	for _, c := range u.idle[:n] {
		c.Close()
	}
	u.idle = append(u.idle[:0], u.idle[n:]...)
	clear(u.idle[len(u.idle):cap(u.idle)])
	if len(u.idle) == 0 && u.expiry != nil {
		u.expiry.Stop()
		u.expiry = nil
	}
}

// expire closes what has been idle too long; it runs on the timer.
func (u *upstream) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.expiry == nil {
		return
	}
	old := 0
	for old < len(u.idle) && time.Since(u.idle[old].idleFrom) >= keepIdle {
		old++
	}
	u.closeIdle(len(u.idle) - old)
	if len(u.idle) > 0 {
		u.expiry.Reset(keepIdle - time.Since(u.idle[0].idleFrom))
	}
}

// take returns the idle connection that was used last, or nil. Connections at which a look shows that the slot has closed them, or has said
// something unasked, are closed. within bounds how long it may have been idle, and then only one whose look proves it quiet is returned;
// negative: any.
//
// Why that is enough: a slot that closes a kept connection just when a request is on its way to it cannot be told from one that died over
// the request, so a request that cannot be repeated must not meet it. Servers close idle connections after seconds or minutes (IIS: 120 s;
// common minimum: 5 s); one that is younger than ReuseBefore and shows no end is not about to be closed for idleness.
func (u *upstream) take(within time.Duration) *upstreamConn {
	for {
		u.mu.Lock()
		n := len(u.idle)
		if n == 0 || within >= 0 && time.Since(u.idle[n-1].idleFrom) >= within {
			u.mu.Unlock()
			return nil // all others have been idle for longer
		}
		c := u.idle[n-1]
		u.idle[n-1] = nil
		u.idle = u.idle[:n-1]
		u.mu.Unlock()
		switch v := look(c.Conn); {
		case v == stale:
			c.Close()
		case v == unknown && within >= 0:
			u.keep(c)
			return nil
		default:
			c.heard = false
			return c
		}
	}
}

// put keeps c for the next request, or closes it if none may come.
func (u *upstream) put(c *upstreamConn) {
	c.idleFrom = time.Now()
	u.keep(c)
}

func (u *upstream) keep(c *upstreamConn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		c.Close()
		return
	}
	u.idle = append(u.idle, c)
	if u.expiry == nil {
		u.expiry = time.AfterFunc(keepIdle, u.expire)
	}
}

// connect dials a fresh connection.
func (u *upstream) connect(ctx context.Context) (*upstreamConn, error) {
	if u.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, u.limit)
		defer cancel()
	}
	nc, err := u.dial(ctx, "tcp", u.addr)
	if err != nil {
		return nil, err
	}
	c := &upstreamConn{Conn: nc, bw: bufio.NewWriterSize(nc, 4<<10), headLeft: -1}
	c.br = bufio.NewReaderSize(c, upstreamRead)
	return c, nil
}

// verdict is what a look at an idle connection shows.
type verdict int

const (
	unknown verdict = iota // this kind of connection cannot be looked at
	quiet                  // neither data nor an end
	stale                  // data, an end or an error: not to be used again
)
