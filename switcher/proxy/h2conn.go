package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// h2Preface is what a client that speaks HTTP/2 begins with (RFC 9113, 3.4).
const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Of the frames (RFC 9113, 6) these are what an h2Conn has to know.
const (
	h2Headers      = 0x1
	h2PushPromise  = 0x5
	h2GoAway       = 0x7
	h2Continuation = 0x9
	h2EndHeaders   = 0x4
	h2FrameHead    = 9
)

// h2LeaveSoon is the GOAWAY that names no last stream yet: what the client has opened before it reads it is served (RFC 9113, 6.8). net/http
// says at once which stream is the last, and drops what was on its way: then a client that cannot send its request again has lost it.
var h2LeaveSoon = []byte{0, 0, 8, h2GoAway, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// h2Declined is the whole of a server's part on a connection that comes too late: no settings, and a GOAWAY that no stream was served.
var h2Declined = []byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, h2GoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// h2Conn stands between a client's connection and net/http, and follows the frames of both directions for what net/http does not do: to say
// GOAWAY twice, the first time without a last stream; and to limit the time that a header block may take.
type h2Conn struct {
	net.Conn
	srv   *h2Server
	tls   *tls.ConnectionState // nil: no TLS
	early []byte               // read before it came here
	in    h2Frames
	timed bool // the deadline of a header block is set

	mu     sync.Mutex // held while something is written
	out    h2Frames
	wanted atomic.Bool // the client is to be told to leave
	told   bool        // and was
	gone   sync.Once
}

// Read reads, for net/http.
func (c *h2Conn) Read(p []byte) (n int, err error) {
	if len(c.early) > 0 {
		n = copy(p, c.early)
		c.early = c.early[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.in.pass(p[:n])
	if limit := c.srv.cfg.headTimeout; limit > 0 && err == nil {
		if within := c.in.withinHead(); within != c.timed {
			c.timed = within
			var until time.Time
			if within {
				until = time.Now().Add(limit)
			}
			c.Conn.SetReadDeadline(until)
		}
	}
	return n, err
}

// Write writes, for net/http, and what else is to be said.
func (c *h2Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	n, err := c.Conn.Write(p)
	c.out.pass(p[:n])
	c.mu.Unlock()
	c.say()
	return n, err
}

// goAway tells the client to open no more streams on this connection, once; if that cannot be now, behind the frame that is being written.
func (c *h2Conn) goAway() {
	c.wanted.Store(true)
	c.say()
}

// say says what is wanted, unless somebody else is writing, who will.
func (c *h2Conn) say() {
	for c.wanted.Load() && c.mu.TryLock() {
		now := c.out.seen && c.out.between()
		if now {
			c.wanted.Store(false)
			if !c.told {
				c.told = true
				c.Conn.Write(h2LeaveSoon)
			}
		}
		c.mu.Unlock()
		if !now {
			return
		}
	}
}

// decline says that nothing is served here.
func (c *h2Conn) decline() {
	c.Conn.SetWriteDeadline(time.Now().Add(lingerIdle))
	c.Conn.Write(h2Declined)
}

// Close closes the connection.
func (c *h2Conn) Close() error {
	err := c.Conn.Close()
	c.gone.Do(func() { c.srv.remove(c) })
	return err
}

// cutOff ends the connection from outside, without waiting: to close a TLS connection may take a while.
func (c *h2Conn) cutOff() {
	c.Conn.SetDeadline(past)
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	c.Conn.Close()
}

// h2Frames follows frames as they come, in pieces of any size.
type h2Frames struct {
	skip  int // bytes before the first frame
	head  [h2FrameHead]byte
	got   int  // bytes of head
	left  int  // bytes of the payload that are still to come
	seen  bool // a frame has come whole
	block bool // a header block has begun and not ended
}

// pass takes in p.
func (f *h2Frames) pass(p []byte) {
	for len(p) > 0 {
		switch {
		case f.skip > 0:
			n := min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			continue
		case f.got < h2FrameHead:
			n := copy(f.head[f.got:], p)
			f.got += n
			p = p[n:]
			if f.got < h2FrameHead {
				return
			}
			f.left = int(binary.BigEndian.Uint32(f.head[:4]) >> 8)
		default:
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
		}
		if f.left == 0 {
			f.end()
		}
	}
}

// end is called when a frame is whole.
func (f *h2Frames) end() {
	f.got, f.seen = 0, true
	switch f.kind() {
	case h2Headers, h2PushPromise, h2Continuation:
		f.block = f.head[4]&h2EndHeaders == 0
	}
}

func (f *h2Frames) kind() byte { return f.head[3] }

// between reports whether another frame may stand here.
func (f *h2Frames) between() bool { return f.skip == 0 && f.got == 0 && !f.block }

// withinHead reports whether what comes next belongs to the head of a frame, or to a header block.
func (f *h2Frames) withinHead() bool {
	if f.block || f.got > 0 && f.got < h2FrameHead {
		return true
	}
	return f.got > 0 && (f.kind() == h2Headers || f.kind() == h2Continuation)
}
