package h1

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// link is one connection as the data path reads it: it has no buffer while nothing comes. One goroutine at a time reads; another may write.
type link struct {
	net.Conn
	in     *buffer // what was read and not taken; nil: nothing
	client bool    // what is read first is the head of a request, and seldom long
	large  bool    // much is coming: take large buffers
	short  bool    // of ask: step could not write all of out
	peek   bool    // of ask: step looks first whether the connection is still quiet

	raw   syscall.RawConn // nil: only Conn's own methods
	step  func(fd uintptr) bool
	out   []byte        // of ask: what step has to write first
	err   error         // of step
	later syscall.Errno // what step has met behind what it returned; 0: nothing
	first []byte        // without raw: where the first bytes of something are read to
	more  bool          // without raw: the last read filled its room, so more of the same is coming

	flush  func(fd uintptr) bool
	put    []byte // of Write: what flush has still to write
	putErr error  // of flush
}

// errStale is why ask has sent nothing: the other side has closed the connection, or said something unasked.
var errStale = errors.New("kept connection was closed by the slot")

// open makes l read nc.
func (l *link) open(nc net.Conn, tls, client bool) {
	l.Conn = nc
	l.client = client
	if l.raw = rawConn(nc); l.raw != nil {
		l.step, l.flush = l.onReady, l.onWritable // made once: a method value is an allocation
		return
	}
	n := firstSize
	if tls {
		n = 1 // it keeps the rest of a record itself
	}
	l.first = make([]byte, n)
}

// firstSize is how much is read of what comes to a connection that has waited without a buffer.
const firstSize = 512

// widen makes l one whose bytes are passed on as they are read, a tunnel's: they are not to go one by one.
func (l *link) widen() {
	if l.raw == nil && len(l.first) < firstSize {
		l.first = make([]byte, firstSize)
	}
}

// pending returns what was read and not taken.
func (l *link) pending() []byte {
	if l.in == nil {
		return nil
	}
	return l.in.data[l.in.r:l.in.w]
}

// take takes the first n bytes of what was read.
func (l *link) take(n int) {
	if n > 0 {
		l.in.r += n
	}
}

// release gives the buffer back if nothing is in it.
func (l *link) release() {
	if l.in != nil && l.in.r == l.in.w {
		putBuffer(l.in)
		l.in = nil
	}
}

// drop gives the buffer back with what is in it.
func (l *link) drop() {
	if l.in != nil {
		putBuffer(l.in)
		l.in = nil
	}
}

// fresh returns the buffer that the next bytes are read into.
func (l *link) fresh() *buffer {
	switch {
	case l.large:
		return getBuffer(largeSize)
	case l.client && l.raw != nil:
		return getBuffer(tinySize)
	}
	return getBuffer(smallSize)
}

// room makes sure that fill can read something behind what is there, which may move for it. It is false if a head is as long as it may be.
func (l *link) room() bool {
	b := l.in
	if b == nil || b.w < len(b.data) {
		return true
	}
	if b.r > 0 {
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
		return true
	}
	if len(b.data) >= MaxHead+smallSize {
		return false
	}
	l.in = b.grow(min(4*len(b.data), MaxHead+smallSize))
	return true
}

// fill waits until there is something to read, and reads it behind what is there. idle says that it may be long.
func (l *link) fill(idle bool) error {
	l.release()
	if l.raw == nil {
		return l.fillPlain(idle)
	}
	l.err = nil
	if err := l.raw.Read(l.step); err != nil {
		return err
	}
	return l.err
}

// fillPlain is fill by Conn's own methods.
func (l *link) fillPlain(idle bool) error {
	if l.in == nil && idle {
		n, err := readSome(l.Conn, l.first)
		l.more = n == len(l.first)
		if n > 0 {
			l.in = getBuffer(smallSize)
			l.in.w = copy(l.in.data, l.first[:n])
			return nil
		}
		return err
	}
	if l.in == nil {
		l.in = l.fresh()
	}
	room := l.in.data[l.in.w:]
	n, err := readSome(l.Conn, room)
	l.more = n == len(room)
	l.in.w += n
	if n > 0 {
		return nil
	}
	l.release()
	return err
}

// readSome reads at least one byte, or returns why it cannot.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// Write writes all of p.
func (l *link) Write(p []byte) (int, error) {
	if l.raw == nil {
		return l.Conn.Write(p)
	}
	l.put, l.putErr = p, nil
	err := l.raw.Write(l.flush)
	n := len(p) - len(l.put)
	l.put = nil
	if err == nil {
		err = l.putErr
	}
	return n, err
}

// ask writes out and then waits for the first bytes that come back. werr says that not all could be written; there may be something to
// read all the same. peek says that the connection was kept: where a look shows that it can carry no request, nothing is written, and err is
// errStale.
func (l *link) ask(out []byte, peek bool) (werr, err error) {
	if l.raw == nil {
		if peek && look(l.Conn) == stale {
			return nil, errStale
		}
		if _, werr = l.Conn.Write(out); werr != nil {
			return werr, nil
		}
		return nil, l.fill(false)
	}
	// The connection is written while its poller is armed for reading already: so the answer cannot be missed, and need not be looked for
	// before it has come, which would be one more read for each request.
	l.out, l.short, l.err, l.peek = out, false, nil, peek
	err = l.raw.Read(l.step)
	rest := l.out
	l.out = nil
	switch {
	case l.err == errStale:
		return nil, errStale
	case err != nil && rest == nil: // all is written
		return nil, err
	case err != nil:
		return err, nil
	case !l.short:
		return nil, l.err
	case l.err != nil:
		return l.err, nil
	}
	if _, werr = l.Write(rest); werr != nil {
		return werr, nil
	}
	return nil, l.fill(false)
}
