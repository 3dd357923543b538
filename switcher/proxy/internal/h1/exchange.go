package h1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// continueWait is how long a slot may leave an "Expect: 100-continue" unanswered before the body is sent to it all the same.
const continueWait = time.Second

// Ending says how an attempt ended.
type Ending int

const (
	Done     Ending = iota // the exchange is complete, or as complete as it can be
	Redial                 // the slot could not be reached: nothing was sent
	Repeat                 // sent, no answer, and the request may be repeated
	Failed                 // no answer, and the request may not be repeated
	Gone                   // the client went away
	Broken                 // the answer has begun and cannot be finished
	BadBody                // the client's body cannot be read
	Cut                    // the work was ordered to end
	Early                  // complete, but the client is still sending: its connection needs a gentle end
	Finished               // an upgraded connection has come to its end
)

// What has happened to an exchange, in Exchange.flags.
const (
	flagEnded    uint32 = 1 << iota // from outside: cut, or the client went away
	flagCut                         // cut
	flagWriting                     // something is being written to the client that is not the final answer
	flagAnswered                    // the final answer's head is on its way to the client
	flagTunnel                      // both connections carry another protocol
)

// Exchange carries one request to a slot, and to another one if the first cannot be reached, and the answer back. A connection has one, for
// all its requests.
//
// The connection's goroutine writes the request, reads the answer and writes it to the client. A body that had not come whole with the head
// is carried by a second goroutine at the same time. What reads from the client is that one, or else a watcher, once the exchange lasts.
type Exchange struct {
	Entry
	conn *conn

	facts   Facts
	req     *Request // nil once the head is not needed any more
	head    []byte   // in conn.in, or a copy
	skip    int      // bytes in conn.in that belong to this request
	body    Body     // how far the request's body has been read
	ahead   *Ahead   // what a hold has read of the body; nil: it did not wait
	extra   *extra   // nil: nothing of that was asked for on this connection
	path    [pathMax]byte
	shard   uint32
	flags   atomic.Uint32
	up      atomic.Pointer[Upstream] // what end closes; whoever takes it out closes it, or keeps it
	upload  *upload                  // nil: there is none, or it has not begun
	gen     *Generation
	heard   bool // the slot has said something in this attempt
	begun   bool // a byte of the body has gone to a slot
	whole   bool // the request's body has been read to its end
	refused bool // the answer came before the body was asked for
	broke   bool // the reading of the client's body was broken off
	last    bool // the client was told that the connection ends behind the answer, or asked for it
	linger  bool // and it needs a gentle end
	reset   bool // and only a reset tells that the answer is not whole

	lingered bool // over was called
	streamed bool // the answer is an event stream: its connection to the slot is not kept

	mu      sync.Mutex // guards what follows, against end; never held while waiting
	asks    *Upstream  // what askNow wakes; nil: nobody
	endDial context.CancelFunc
	endedCh chan struct{} // closed by end; nil: nobody waits for it
}

// pathMax bounds what an Entry tells of a path.
const pathMax = 96

func (x *Exchange) open(c *conn) {
	x.conn = c
	x.Entry.Peer = c.peer
	x.Entry.Cut = x.cutNow
	x.Entry.Ask = x.askNow
	x.shard = c.number
}

// begin starts the exchange whose head lies at the beginning of p, and whose request is in x.req.
func (x *Exchange) begin(p []byte) {
	r := x.req
	x.facts = r.Facts
	x.skip = r.Len()
	x.head = p[:x.skip]
	x.body = requestBody(r.Length)
	x.ahead, x.upload, x.gen = nil, nil, nil
	x.begun, x.refused, x.broke, x.linger, x.reset = false, false, false, false, false
	x.whole = r.Length == 0
	x.last = r.Close || r.Minor == 0 && !r.KeepAlive
	x.flags.Store(0)
	if x.lingered {
		x.lingered = false
		x.mu.Lock()
		x.endedCh = nil
		x.mu.Unlock()
	}
	x.Entry.Method = methodName(r.Method(x.head))
	x.Entry.Path = x.keepPath(r.Path(x.head))
	x.Entry.Started = time.Now()
	x.Entry.In.Store(0)
	x.Entry.Out.Store(0)
	x.Entry.Pass = false
	if x.extra != nil {
		x.extra.reset()
	}
	if x.whole {
		x.conn.enter(phaseWaiting)
	}
}

// headRoom is more than what is added to a head, as a rule.
const headRoom = 1 << 10

// methodName returns the method as a string, for the usual ones without an allocation.
func methodName(m []byte) string {
	switch string(m) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	}
	return string(m)
}

// keepPath keeps the beginning of a path, without its escapes. It stays valid until the next exchange begins: whoever lists entries copies it.
func (x *Exchange) keepPath(p []byte) string {
	n := 0
	for i := 0; i < len(p) && n < len(x.path); i++ {
		c := p[i]
		if c == '%' && i+2 < len(p) {
			if hi, lo := hexOf(p[i+1]), hexOf(p[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		x.path[n] = c
		n++
	}
	return unsafe.String(&x.path[0], n)
}

// Work is the entry under which the exchange is counted.
func (x *Exchange) Work() *Entry { return &x.Entry }

// Context ends when the client goes away.
func (x *Exchange) Context() context.Context { return &x.conn.client }

// Length is that of the body; 0: none, -1: unknown.
func (x *Exchange) Length() int64 { return x.facts.Length }

// finish does what is left when the exchange is over, and reports whether the connection can carry another one.
func (x *Exchange) finish() bool {
	c := x.conn
	c.stopWatch()
	x.dropHead()
	again := !x.last && x.whole && !x.broke && c.client.Err() == nil
	if !again {
		switch {
		case x.linger:
			c.linger()
		case x.reset:
			c.reset()
		}
	} else if x.wasCut() {
		c.SetWriteDeadline(noDeadline) // the cut came when all was written, and is not the next request's
	}
	return again
}

// dropHead takes the head, and what went with it, out of what was read; it is not needed any more.
func (x *Exchange) dropHead() {
	if x.req != nil {
		putRequest(x.req)
		x.req = nil
	}
	x.head = nil
	x.conn.take(x.skip)
	x.skip = 0
}

// Attempt carries the request through one generation, in which it has been counted. When it returns, nothing of it is left there: the
// connection to the slot is closed or put back, and no goroutine reads the client's body.
func (x *Exchange) Attempt(gen *Generation, fresh bool) (how Ending, err error) {
	x.gen, x.heard, x.refused = gen, false, false
	for {
		u, kept, err := x.connect(fresh)
		if err != nil {
			return x.verdict(Redial), err
		}
		how, err := x.through(u, kept, fresh)
		if err != errStale {
			return how, err
		}
	}
}

// through is Attempt over one connection. The error is errStale if it turns out that it can carry no request: then nothing has happened.
func (x *Exchange) through(u *Upstream, kept, fresh bool) (Ending, error) {
	how, keep, err := x.carry(u, kept, fresh)
	switch {
	case x.up.Swap(nil) == nil: // end has closed it
		u.drop()
	case keep && how == Done:
		x.gen.Target.Put(u, x.shard)
	default:
		u.Close()
		u.drop()
	}
	x.endBody()
	return how, err
}

// attach says what end has to close; at once if it has been called already.
func (x *Exchange) attach(u *Upstream) {
	x.up.Store(u)
	if x.ended() && x.up.Swap(nil) != nil {
		u.Close()
	}
}

func (x *Exchange) ended() bool  { return x.flags.Load()&flagEnded != 0 }
func (x *Exchange) wasCut() bool { return x.flags.Load()&flagCut != 0 }

// end ends the exchange from outside: the client went away, or, with flagCut, the work was cut. It does not block.
func (x *Exchange) end(flag uint32) {
	old := x.flags.Or(flag | flagEnded)
	if u := x.up.Swap(nil); u != nil {
		u.Close()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.endDial != nil {
		x.endDial()
	}
	if x.endedCh != nil {
		close(x.endedCh)
		x.endedCh = nil
	}
	switch {
	case old&flagTunnel != 0:
		x.conn.SetDeadline(past)
	case (old|flag)&flagCut != 0 && old&(flagAnswered|flagWriting) != 0:
		x.conn.SetWriteDeadline(past) // the goroutine may be waiting for the client to read
	}
}

// cutNow is what Entry.Cut points to.
func (x *Exchange) cutNow() { x.end(flagCut) }

// over returns a channel that is closed when the exchange is ended from outside. It is called once.
func (x *Exchange) over() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lingered = true
	over := make(chan struct{})
	if x.ended() {
		close(over) // end may not have come here yet
	} else {
		x.endedCh = over
	}
	return over
}

// verdict is how, unless the exchange was ended from outside.
func (x *Exchange) verdict(how Ending) Ending {
	switch {
	case x.wasCut():
		return Cut
	case x.conn.client.Err() != nil:
		return Gone
	case how == Broken && x.upload != nil && x.upload.bad.Load():
		return Gone // its broken body made us end the answer
	}
	return how
}

// carry sends the request on and brings the answer back. keep says that the connection to the slot can carry another request. It may wait for
// the answer for minutes, on a stack that counts: what takes room comes before that, or after.
func (x *Exchange) carry(u *Upstream, kept, fresh bool) (how Ending, keep bool, err error) {
	if err = x.send(u, kept); err == errStale {
		return Repeat, false, err
	}
	if err == nil {
		err = x.awaitAnswer(u)
	}
	if _, bad := err.(*Fault); bad {
		return x.verdict(BadBody), false, err
	}
	if err != nil {
		return x.unanswered(fresh), false, err
	}
	return x.receive(u, fresh)
}

// send sends the request. A body of which not all has come is carried from then on; without one, the first bytes of the answer are there
// at return. The error says that there is no answer: errStale that nothing has happened, a Fault that the body is none.
//
//go:noinline
func (x *Exchange) send(u *Upstream, kept bool) (err error) {
	async := x.facts.Length != 0 // the body, or a part of it, is still to come
	first := async && !x.facts.Expects && x.ahead == nil && !x.begun
	room := len(x.head) + headRoom
	if first { // else somebody may be reading there
		room += len(x.conn.pending()) - x.skip
	}
	out := getBuffer(min(room, smallSize)) // often held until the answer comes
	data := x.req.Append(out.data[:0], x.head, x.conn.sender)
	if first {
		x.begun = true
		piece, n, done, fault := x.body.take(x.conn.pending()[x.skip:])
		if fault != nil {
			putBuffer(out)
			return fault
		}
		x.skip += n
		x.Entry.In.Store(x.body.data)
		data = append(data, piece...)
		if done {
			async = false
			x.bodyRead() // what is in the buffer stays there until the exchange is over
		}
	}
	var werr error
	switch {
	case async && !x.facts.Expects:
		_, werr = u.Write(data)
		x.beginBody(u)
	case async:
		if _, werr = u.Write(data); werr == nil {
			u.SetReadDeadline(time.Now().Add(continueWait)) // only now: where it runs out the head must have gone
			err = u.fill(false)
		}
	default:
		werr, err = u.ask(data, kept)
	}
	putBuffer(out)
	if err == errStale {
		return err
	}
	if err != nil || werr != nil {
		if werr != nil { // it refuses to read on; perhaps it says why
			err = u.fill(false)
		}
		if err != nil && !x.waited(u, &err) {
			if werr != nil {
				err = werr
			}
			return err
		}
	}
	return nil
}

// receive brings the answer back, of which something has come.
func (x *Exchange) receive(u *Upstream, fresh bool) (how Ending, keep bool, err error) {
	r := getResponse() // only now: it may have been a long wait
	if err := x.answerHead(u, r); err != nil {
		putResponse(r)
		return x.unanswered(fresh), false, err
	}
	if r.Status == 101 {
		how, err = x.tunnel(u, r)
		return how, false, err
	}
	return x.answer(u, r)
}

// awaitAnswer waits for the first bytes of an answer.
func (x *Exchange) awaitAnswer(u *Upstream) error {
	for len(u.pending()) == 0 {
		if err := u.fill(false); err != nil && !x.waited(u, &err) {
			return noAnswer(err)
		}
	}
	return nil
}

func noAnswer(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("slot closed the connection without an answer: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// waited reports whether err only says that the slot has not asked for the body in time. Then the body goes to it all the same.
func (x *Exchange) waited(u *Upstream, err *error) bool {
	if !x.facts.Expects || x.upload != nil || !errors.Is(*err, os.ErrDeadlineExceeded) || x.ended() {
		return false
	}
	u.SetReadDeadline(time.Time{})
	x.proceed(u)
	*err = nil
	return true
}

// proceed lets a client that waits for it send its body.
func (x *Exchange) proceed(u *Upstream) {
	if x.upload != nil || x.refused || x.ended() {
		return
	}
	x.writeInterim([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	x.begun = true
	x.beginBody(u)
}

// writeInterim writes something to the client that is not the final answer; it may have to wait for the client to read.
func (x *Exchange) writeInterim(p []byte) {
	if x.flags.Or(flagWriting)&flagEnded == 0 {
		x.conn.Write(p)
	}
	x.flags.And(^flagWriting)
}

// Continue tells a client that waits for it to send its body.
func (x *Exchange) Continue() {
	if x.facts.Expects {
		x.facts.Expects, x.req.Expects = false, false
		x.writeInterim([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
}

// Watch makes sure that Context ends soon when the client goes away.
func (x *Exchange) Watch() {
	if word := x.conn.state.Load(); word&phaseMask == phaseWaiting {
		x.conn.startWatch(word)
	}
}

// unanswered tells what may be done about a request that was sent, or begun to be, and got no byte of an answer. It may be repeated only if
// doing it twice is doing it once, and its body, if any, is still whole: not a byte of it read.
func (x *Exchange) unanswered(fresh bool) Ending {
	x.refused = x.refused || x.upload == nil
	switch {
	case x.upload != nil && x.upload.bad.Load():
		return x.verdict(BadBody)
	case !x.begun && x.facts.Idempotent && !fresh && !x.heard:
		return x.verdict(Repeat)
	}
	return x.verdict(Failed)
}

// answerHead reads answers until a final one and passes on the interim ones.
func (x *Exchange) answerHead(u *Upstream, r *Response) error {
	for {
		p := u.pending()
		x.heard = x.heard || len(p) > 0
		done, fault := r.Scan(p)
		if fault != nil {
			return fault
		}
		if done {
			if r.Status == 101 || r.Status >= 200 {
				if x.facts.Expects {
					u.SetReadDeadline(time.Time{})
				}
				return nil
			}
			if r.Status == 100 {
				if x.facts.Expects {
					u.SetReadDeadline(time.Time{})
					x.proceed(u)
				}
			} else if x.facts.Minor > 0 {
				x.writeInterim(r.Append(nil, p, Style{Minor: 1}))
			}
			u.take(r.Len())
			u.release()
			r.Reset()
			continue
		}
		if !u.room() {
			return errHeadSize
		}
		if err := u.fill(false); err != nil && !x.waited(u, &err) {
			return noAnswer(err)
		}
	}
}

// PutAhead makes the body one that can be read before anybody wants it.
func (x *Exchange) PutAhead() {
	if x.ahead != nil || x.whole {
		return
	}
	// What follows in the buffer is read over, so the head, which is still needed, moves out of it.
	x.head = append([]byte(nil), x.head...)
	x.conn.take(x.skip)
	x.skip = 0
	x.ahead = NewAhead(&reader{x: x}, func() {})
}

// Ahead is the body that PutAhead made; nil: none.
func (x *Exchange) Ahead() *Ahead { return x.ahead }

// StopAhead ends the reading ahead. A body that is unwanted is not read any more at return, and the connection carries no other request then.
func (x *Exchange) StopAhead(unwanted bool) {
	x.ahead.Stop(unwanted, func() {
		x.broke = true
		x.conn.SetReadDeadline(past)
	})
}

// awaitPiece waits until something of the client's body is there to be taken.
func (x *Exchange) awaitPiece() error {
	c := x.conn
	if len(c.pending()) > 0 {
		return nil
	}
	err := c.fill(false)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// piece returns what has come of the client's body as it goes to the slot, valid until the next call; over says that it is the last.
func (x *Exchange) piece() (p []byte, over bool, err error) {
	p, n, over, fault := x.body.take(x.conn.pending())
	if fault != nil {
		return nil, false, fault
	}
	x.conn.take(n)
	return p, over, nil
}

// bodyRead is called when the client's body has been read to its end, and all pieces of it have been used: from here on another goroutine may
// read from the client, into the same buffer.
func (x *Exchange) bodyRead() {
	x.whole = true
	x.conn.enter(phaseWaiting)
}
