package h1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What a connection does, for sweep. The word in conn.state is the number of the change, shifted, and the phase.
const (
	phaseIdle    uint64 = iota // it waits for a request
	phaseHead                  // a part of a head has come
	phaseBusy                  // a request is carried, and its body read
	phaseWaiting               // a request is carried, and nothing read from the client
	phaseWatched               // the same, and a goroutine reads to see it go
	phaseTunnel
	phaseLinger
	phaseExpired // it was idle, or had a part of a head, for too long
	phaseMoving  // it was idle for a while: a new goroutine is to wait on
	phaseMask    = 15
	phaseBits    = 4
)

// firstWait is the word of a connection's first wait.
const firstWait = phaseIdle + 2<<phaseBits

// freshChanges is how many changes of state a connection has behind it, at the most, that idles for the first time after a request.
const freshChanges = 8

// movedBy is how many changes of state lie between an idle connection's wait and the same wait on its next goroutine: the end of the first,
// its being taken back, and the second.
const movedBy = 3

// conn is a client's connection. Its goroutine reads a head, carries the request to its end, and so on; see Exchange for what else may read.
type conn struct {
	link
	srv    *Server
	tls    bool
	given  bool // to Config.HTTP2
	fresh  byte // the change of state that lookFresh has seen; 0: none
	number uint32
	peer   string
	sender Sender
	client presence
	x      Exchange

	change uint64 // of state; whoever reads from the client owns it
	state  atomic.Uint64

	lastWord uint64        // of state, as sweep saw it
	lastTime time.Duration // when, since Server.began
	settled  uint64        // the word of a wait whose goroutine has carried nothing

	mu      sync.Mutex    // guards what follows; taken seldom
	watched chan struct{} // closed when the watching has ended
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, peer: nc.RemoteAddr().String(), sender: s.front.Sender(nc.RemoteAddr()), number: s.number.Add(1)}
	if t, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok && t != nil {
		c.tls = true
	}
	c.sender.TLS = c.tls
	c.link.open(nc, c.tls, true)
	c.x.open(c)
	c.enter(phaseBusy) // until its goroutine waits: sweep must not end a wait that has not begun
	c.lastTime = time.Since(s.began)
	return c
}

// enter says what the connection does from now on.
func (c *conn) enter(phase uint64) (word uint64) {
	c.change++
	word = c.change<<phaseBits | phase
	c.state.Store(word)
	return word
}

// run is the goroutine of the connection, until it moves or ends. One that has carried requests has a larger stack than it takes to wait, and keeps it: where the
// connection is idle for a while, another one takes over.
func (c *conn) run() {
	if c.serve() {
		go c.run()
		return
	}
	c.srv.all.Done()
}

// serve reads requests and carries them, one after the other. It returns true if another goroutine is to go on.
func (c *conn) serve() (move bool) {
	defer func() {
		if v := recover(); v != nil {
			c.srv.logPanic(c, v)
			move = false
		}
		if move {
			return
		}
		c.client.leave()
		if !c.given {
			c.Conn.Close()
		}
		c.stopWatch()
		c.drop()
		c.srv.remove(c)
	}()
	if !c.shakeHands() {
		return false
	}
	for c.awaitRequest(&move) {
		c.srv.front.Forward(&c.x)
		if !c.x.finish() {
			return false
		}
	}
	return move
}

// shakeHands does TLS's handshake, within the time for a head. Where it has been done it does nothing.
func (c *conn) shakeHands() bool {
	h, ok := c.Conn.(interface{ HandshakeContext(context.Context) error })
	if !ok || c.change > 1 {
		return true
	}
	c.enter(phaseHead)
	return h.HandshakeContext(context.Background()) == nil && !c.giveH2() // cutOff ends it too
}

// giveH2 gives the connection away if its client has chosen HTTP/2 in the handshake.
func (c *conn) giveH2() bool {
	t, ok := c.Conn.(*tls.Conn)
	if !ok || c.srv.cfg.HTTP2 == nil || t.ConnectionState().NegotiatedProtocol != "h2" {
		return false
	}
	c.give()
	return true
}

// give gives the connection away, with what was read of it.
func (c *conn) give() {
	c.given = true
	c.enter(phaseTunnel) // nothing is left here to be timed, or to be waited for
	c.mu.Lock()
	c.SetReadDeadline(time.Time{})
	c.mu.Unlock()
	c.srv.cfg.HTTP2(c.Conn, bytes.Clone(c.pending()))
}

// speaksH2 reports whether the client has begun with the preface of HTTP/2, p. It is asked only about what is no request, and no other request
// may have come before.
func (c *conn) speaksH2(p []byte, blank int) bool {
	return c.srv.cfg.HTTP2 != nil && !c.tls && blank == 0 && c.x.Started.IsZero() && bytes.HasPrefix(p, []byte("PRI * HTTP/2.0\r\n"))
}

// awaitRequest reads the head of the next request. It is false if the connection is to be closed, or, with move set, another goroutine is to
// wait for it.
func (c *conn) awaitRequest(move *bool) bool {
	c.release()
	if c.in == nil {
		c.large = false
		word := c.enter(phaseIdle)
		if c.srv.closing.Load() {
			return false
		}
		err := c.fill(true)
		c.change++
		if busy := c.change<<phaseBits | phaseBusy; !c.state.CompareAndSwap(word, busy) {
			*move = err != nil && c.state.Load()&phaseMask == phaseMoving
			c.revive()
		}
		if err != nil {
			return false
		}
	} else {
		c.enter(phaseBusy) // the client did not wait for the answer to the last one
	}
	return c.readHead()
}

// revive takes back what ended the waiting: something came at the same moment.
func (c *conn) revive() {
	c.mu.Lock()
	c.SetReadDeadline(time.Time{})
	c.enter(phaseBusy)
	c.mu.Unlock()
}

// readHead reads a head to its end, of which something has come.
func (c *conn) readHead() bool {
	x := &c.x
	x.req = getRequest()
	x.req.limit(c.srv.cfg.MaxHead, c.srv.cfg.MaxFields)
	blank := 0
	for {
		p := c.pending()
		for !x.req.Begun() && len(p) > 0 && p[0] == '\r' && blank < 2 { // empty lines before a request are none of it (RFC 9112, 2.2)
			if len(p) == 1 {
				break
			}
			if p[1] != '\n' {
				break
			}
			blank++
			c.take(2)
			p = p[2:]
		}
		if len(p) > 0 && !(len(p) == 1 && p[0] == '\r' && !x.req.Begun() && blank < 2) {
			done, fault := x.req.Scan(p)
			if fault == errVersion && c.speaksH2(p, blank) {
				putRequest(x.req)
				x.req = nil
				c.give()
				return false
			}
			if fault != nil {
				x.refuse(fault)
				return false
			}
			if done {
				break
			}
		}
		if c.state.Load()&phaseMask != phaseHead {
			c.enter(phaseHead)
		}
		if !c.room() {
			x.refuse(errHeadSize)
			return false
		}
		word := c.state.Load()
		if err := c.fill(false); err != nil {
			putRequest(x.req)
			x.req = nil
			return false
		}
		if c.state.Load() != word {
			c.revive()
		}
	}
	c.headEnds()
	x.begin(c.pending())
	return true
}

// headEnds says that no time runs for the head any more: a body that follows may take as long as it likes.
func (c *conn) headEnds() {
	word := c.state.Load()
	if word&phaseMask == phaseBusy {
		return
	}
	c.change++
	if word&phaseMask != phaseHead || !c.state.CompareAndSwap(word, c.change<<phaseBits|phaseBusy) {
		c.revive() // it ran out at the same moment
	}
}

// look is sweep's look at the connection.
func (c *conn) look(now time.Time) {
	word := c.state.Load()
	switch word & phaseMask {
	case phaseBusy, phaseWaiting, phaseWatched, phaseTunnel:
		c.x.Look(now)
	}
	if word != c.lastWord {
		if word != c.settled {
			c.lastTime = now.Sub(c.srv.began)
		}
		c.lastWord = word
		return
	}
	var limit time.Duration
	switch word & phaseMask {
	case phaseWaiting:
		c.startWatch(word)
		return
	case phaseIdle:
		if limit = c.srv.cfg.IdleTimeout; c.srv.crowd.waits() && (limit == 0 || limit > crowdIdle) {
			limit = crowdIdle
		}
		if c.raw != nil && word != c.settled && c.moveOn(word) {
			return
		}
	case phaseHead:
		limit = c.srv.cfg.HeadTimeout
	}
	if limit > 0 && now.Sub(c.srv.began)-c.lastTime >= limit {
		c.interrupt(word, phaseExpired)
	}
}

// lookFresh is look's part in a burst of new connections: one that has carried its first request, and has been idle since the last time, moves.
func (c *conn) lookFresh() {
	word := c.state.Load()
	if c.raw == nil || word&phaseMask != phaseIdle || word>>phaseBits > freshChanges || word == c.settled {
		return
	}
	if change := byte(word >> phaseBits); change != c.fresh {
		c.fresh = change
		return
	}
	c.moveOn(word)
}

// moveOn lets another goroutine wait on, if the connection is still idle as word says.
func (c *conn) moveOn(word uint64) bool {
	if !c.interrupt(word, phaseMoving) {
		return false
	}
	c.settled = word + movedBy<<phaseBits
	return true
}

// interrupt ends a wait of the connection for its client, if it still does what word says; phase says what for.
func (c *conn) interrupt(word, phase uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.state.CompareAndSwap(word, word&^phaseMask|phase) {
		return false
	}
	c.SetReadDeadline(past)
	return true
}

// cutOff ends the connection from outside.
func (c *conn) cutOff() {
	c.gone()
	c.SetDeadline(past) // first: to close a TLS connection may take a while
	if c.tls {
		if t, ok := c.Conn.(*tls.Conn); ok {
			t.NetConn().Close()
			return
		}
	}
	c.Conn.Close()
}

// startWatch begins to read ahead, to see whether the client goes away, if the connection still does what word says.
func (c *conn) startWatch(word uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.state.CompareAndSwap(word, word&^phaseMask|phaseWatched) {
		return
	}
	done := make(chan struct{})
	c.watched = done
	go func() {
		defer close(done)
		c.watch()
	}()
}

// watch reads what a client sends while its request is carried; that is the beginning of the next one. As long as there is room for it, its
// going away is seen.
func (c *conn) watch() {
	for c.in == nil || c.in.w < len(c.in.data) {
		if err := c.fill(true); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.gone()
			}
			return
		}
	}
}

// gone says that nobody waits for the answer any more.
func (c *conn) gone() {
	c.client.leave()
	c.x.end(0)
}

// stopWatch makes sure that nobody else reads from the client.
func (c *conn) stopWatch() {
	word := c.state.Load()
	for word&phaseMask == phaseWaiting {
		if c.state.CompareAndSwap(word, word&^phaseMask|phaseBusy) {
			return
		}
		word = c.state.Load()
	}
	if word&phaseMask != phaseWatched {
		return
	}
	c.mu.Lock()
	done := c.watched
	c.mu.Unlock()
	c.SetReadDeadline(past)
	<-done
	c.SetReadDeadline(time.Time{})
	c.enter(phaseBusy)
}

// past is a deadline that has passed on every clock.
var past = time.Unix(1, 0)

// How long a connection is kept to drop what its client still sends: in all, and while nothing comes.
const (
	lingerFor  = 30 * time.Second
	lingerIdle = 5 * time.Second
)

// linger tells the client that our side has ended, and drops what it sends until it ends too: to close at once would reset the connection,
// and the client would lose the answer.
func (c *conn) linger() {
	c.enter(phaseLinger)
	c.srv.ring()
	c.drop()
	if ok, err := closeWrite(c.Conn); !ok || err != nil {
		return
	}
	for end := time.Now().Add(lingerFor); c.client.Err() == nil; {
		now := time.Now()
		if !now.Before(end) {
			return
		}
		until := now.Add(lingerIdle)
		if until.After(end) {
			until = end
		}
		if c.SetDeadline(until) != nil || c.fill(false) != nil {
			return
		}
		c.drop()
	}
}

// reset closes the connection so that the client sees that something is missing.
func (c *conn) reset() {
	nc := c.Conn
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // TLS's own end says that all is there
	}
	if t, ok := nc.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	nc.Close()
}

// closeWrite ends the writing side of c; ok is false if it has no way to.
func closeWrite(c net.Conn) (ok bool, err error) {
	h, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return false, nil
	}
	return true, h.CloseWrite()
}

// reader reads a client's body as it goes to the slot, for what wants an io.Reader.
type reader struct {
	x    *Exchange
	rest []byte // of the last piece
	over bool   // that was the last one
	told bool
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.over {
			if !r.told {
				r.told = true
				r.x.bodyRead()
			}
			return 0, io.EOF
		}
		err := r.x.awaitPiece()
		if err == nil {
			r.rest, r.over, err = r.x.piece()
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
