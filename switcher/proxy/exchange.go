package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// continueWait is how long a slot may leave an "Expect: 100-continue" unanswered before the body is sent to it all the same.
const continueWait = time.Second

// exchange carries one request to a slot, and to another one if the first cannot be reached. Its goroutine writes the request's head, reads
// the answer and writes it to the client; a second goroutine, if there is a body, carries that to the slot at the same time.
type exchange struct {
	entry
	s       *Switcher
	w       http.ResponseWriter
	rc      *http.ResponseController
	r       *http.Request
	ws      *h2Websocket // the client's stream, if it is to be a websocket; else nil
	upgrade string       // the protocol that the client wants; "": none
	expect  bool         // the client waits for a 100
	ahead   *h1.Ahead    // what a hold has read of the body; nil: it did not wait
	visit   session.Visit
	cookie  string // a Set-Cookie field for the answer; "": none

	gen    *generation
	conn   *upstreamConn
	client net.Conn // the client's connection, once a tunnel has taken it over
	linger bool     // and it may have sent what nobody read
	status int      // of the answer

	brokeOff bool // the reading of the client's body was broken off

	interims sync.Mutex // held while an interim answer is written; taken before mu

	mu       sync.Mutex   // guards what follows, against Cut and the timer of a 100; never held while waiting
	ended    bool         // by Cut, or since the client went away
	asks     *h1.Upstream // what askNow wakes; nil: nobody
	endConn  io.Closer    // what end closes: the connection to the slot, or a tunnel
	endDial  context.CancelFunc
	body     *upload       // nil: there is none, or it has not begun
	refused  bool          // the answer came before the body was asked for: do not begin
	answered bool          // the final answer's head is on its way to the client
	writing  bool          // an interim answer is being written
	endedCh  chan struct{} // closed by end; nil: nobody waits for it
	inside   bool          // Attempt runs: later the client's stream may be no more
	wasCut   atomic.Bool
}

// Work is the entry under which x is counted.
func (x *exchange) Work() *entry { return &x.entry }

// Context ends when the client goes away.
func (x *exchange) Context() context.Context { return x.r.Context() }

// Length is that of the body; 0: none, -1: unknown.
func (x *exchange) Length() int64 { return x.r.ContentLength }

// Answered reports whether an answer has begun.
func (x *exchange) Answered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered
}

// Watch has nothing to do: net/http sees a client go by itself.
func (x *exchange) Watch() {}

// Continue tells a client that waits for it to send its body. It is not left to the first read of the body, which would write it while another
// goroutine writes an interim answer.
func (x *exchange) Continue() {
	if x.expect {
		x.expect = false
		x.writeInterim(http.StatusContinue)
	}
}

// Attempt carries the request through one generation, in which it has been counted. When it returns, nothing of it is left there: the
// connection to the slot is closed or put back, and no goroutine reads the client's body.
func (x *exchange) Attempt(gen *generation, fresh bool) (how h1.Ending, err error) {
	x.gen, x.conn, x.body, x.refused = gen, nil, nil, false
	if x.ws != nil && x.s.cfg.Protocols[gen.Key.Slot] == H2C {
		x.Fail(http.StatusNotImplemented, "the application speaks HTTP/2, to which websockets cannot be passed on", 0, false)
		return h1.Done, nil
	}
	ctx := x.r.Context()
	if err := x.connect(ctx, fresh); err != nil {
		return x.verdict(h1.Redial), err
	}
	keep := false
	x.setInside(true)
	stop := context.AfterFunc(ctx, x.end)
	defer func() {
		x.setInside(false)
		if !stop() || x.isEnded() || how != h1.Done {
			keep = false
		}
		x.setConn(nil, nil)
		if keep {
			gen.Target.Put(x.conn.Upstream, 0)
		} else {
			x.conn.Close()
		}
		x.endBody()
		x.conn.free()
	}()

	if err := writeRequest(x.conn.bw, x.r, x.s.door.forwardedBy(x.r.RemoteAddr), x.upgrade, x.expect); err != nil && !x.conn.answers() {
		return x.unanswered(fresh), err
	}
	if x.r.ContentLength != 0 {
		if x.expect {
			conn := x.conn
			t := time.AfterFunc(continueWait, func() { x.beginBody(conn) })
			defer t.Stop()
		} else {
			x.beginBody(x.conn)
		}
	}
	resp, err := x.answerHead()
	if err != nil {
		return x.unanswered(fresh), err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return x.tunnel(resp)
	}
	if x.ws != nil && resp.StatusCode < 300 {
		// In HTTP/2 that would say that the websocket is open.
		return x.verdict(h1.Failed), fmt.Errorf("slot answered %d to a websocket, and did not open it", resp.StatusCode)
	}
	how, err = x.answer(resp)
	keep = !resp.Close && x.conn.br.Buffered() == 0
	return how, err
}

// connect sets x.conn to a connection to the slot: a kept one if that is safe for this request, else a fresh one.
func (x *exchange) connect(ctx context.Context, fresh bool) error {
	if !fresh {
		within := time.Duration(-1)
		if !idempotent(x.r.Method) || x.r.ContentLength != 0 {
			within = x.s.cfg.ReuseBefore
		}
		if c := takeUpstream(x.gen, within); c != nil {
			x.conn = c
			x.setConn(c, nil)
			return nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x.setConn(nil, cancel)
	c, err := dialUpstream(ctx, x.gen)
	if err != nil {
		x.setConn(nil, nil)
		return err
	}
	x.conn = c
	x.setConn(c, nil)
	return nil
}

// setConn says what end has to close or to cancel; at once if it has been called already.
func (x *exchange) setConn(c *upstreamConn, dial context.CancelFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endConn, x.endDial = nil, dial
	if c != nil {
		x.endConn = c
	}
	if x.ended {
		x.closeLocked()
	}
}

func (x *exchange) setInside(yes bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.inside = yes
}

func (x *exchange) closeLocked() {
	if x.endConn != nil {
		x.endConn.Close()
	}
	if x.endDial != nil {
		x.endDial()
	}
}

// end ends the exchange from outside: the client went away, or the work was cut. It does not block.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended && x.endedCh != nil {
		close(x.endedCh)
	}
	x.ended = true
	x.closeLocked()
	if x.inside && x.wasCut.Load() && (x.answered || x.writing) {
		x.rc.SetWriteDeadline(past) // the goroutine may be waiting for the client to read
	}
}

// over returns a channel that is closed when the exchange is ended from outside. It is called once.
func (x *exchange) over() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endedCh = make(chan struct{})
	if x.ended {
		close(x.endedCh)
	}
	return x.endedCh
}

// writeInterim writes the head of an interim answer, which may wait for the client to read.
func (x *exchange) writeInterim(status int) {
	set := func(writing bool) (ended bool) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.writing = writing
		return x.ended
	}
	if !set(true) {
		x.w.WriteHeader(status)
	}
	set(false)
}

// cutNow is what entry.Cut points to.
func (x *exchange) cutNow() {
	x.wasCut.Store(true)
	x.end()
}

// past is a deadline that has passed on every clock.
var past = time.Unix(1, 0)

func (x *exchange) isEnded() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended
}

// verdict is how, unless the exchange was ended from outside.
func (x *exchange) verdict(how h1.Ending) h1.Ending {
	switch {
	case x.wasCut.Load():
		return h1.Cut
	case x.r.Context().Err() != nil:
		return h1.Gone
	case how == h1.Broken && x.body != nil && x.body.bad.Load():
		return h1.Gone // its broken body made us end the answer
	}
	return how
}

// unanswered tells what may be done about a request that was sent, or begun to be, and got no byte of an answer. It may be repeated only if
// doing it twice is doing it once, and its body, if any, is still whole: not a byte of it read.
func (x *exchange) unanswered(fresh bool) h1.Ending {
	x.interims.Lock() // a 100 that is being written means that the body begins
	x.mu.Lock()
	b := x.body
	x.refused = x.refused || b == nil
	x.mu.Unlock()
	x.interims.Unlock()
	switch {
	case b != nil && b.bad.Load():
		return x.verdict(h1.BadBody)
	case b == nil && idempotent(x.r.Method) && !fresh && !x.conn.heard:
		return x.verdict(h1.Repeat)
	}
	return x.verdict(h1.Failed)
}

// answers reports whether the slot has said something although the request could not be written: it refuses to read on, and says why.
func (c *upstreamConn) answers() bool {
	_, err := c.br.Peek(1)
	return err == nil
}

// answerHead reads answers until a final one and passes on the interim ones.
func (x *exchange) answerHead() (*http.Response, error) {
	for {
		x.conn.headLeft = maxAnswer
		resp, err := http.ReadResponse(x.conn.br, x.r)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("slot closed the connection without an answer: %w", err)
			}
			return nil, err
		}
		switch code := resp.StatusCode; {
		case code == http.StatusContinue:
			x.beginBody(x.conn)
		case code == http.StatusSwitchingProtocols, code >= 200:
			x.conn.headLeft = -1
			return resp, nil
		case x.r.ProtoAtLeast(1, 1):
			x.interim(resp)
		}
	}
}

// interim passes on an answer that comes before the final one, such as 103.
func (x *exchange) interim(resp *http.Response) {
	h := x.w.Header()
	drop := named(resp.Header)
	var set []string
	for name, values := range resp.Header {
		if _, ours := h[name]; !ours && !hopByHop(name) && !slices.Contains(drop, name) && name != "Content-Length" {
			h[name] = values
			set = append(set, name)
		}
	}
	x.interims.Lock() // not at the same time as a 100
	x.writeInterim(resp.StatusCode)
	x.interims.Unlock()
	for _, name := range set {
		delete(h, name)
	}
}

// beginBody starts to carry the client's body to the slot over conn, unless that has begun, or will not be, or conn is no longer the one. A
// client that waits for a 100 gets it.
func (x *exchange) beginBody(conn *upstreamConn) {
	x.interims.Lock()
	defer x.interims.Unlock()
	if !x.mayBegin(conn) {
		return
	}
	if x.expect {
		// Said here and not left to the first read of the body, which would write it while another goroutine writes an interim answer.
		x.writeInterim(http.StatusContinue)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mayBeginLocked(conn) {
		x.Mark(route.Uploading)
		x.body = startUpload(x.r, conn, &x.entry)
	}
}

func (x *exchange) mayBegin(conn *upstreamConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.mayBeginLocked(conn)
}

func (x *exchange) mayBeginLocked(conn *upstreamConn) bool {
	return x.body == nil && !x.refused && !x.ended && x.r.ContentLength != 0 && x.endConn == io.Closer(conn)
}

// endBody waits until nobody reads the client's body. If it has not been read to its end by now the read is broken off, and the client's
// connection cannot carry another request.
func (x *exchange) endBody() {
	x.mu.Lock()
	b := x.body
	x.refused = true
	x.mu.Unlock()
	if b == nil {
		return
	}
	select {
	case <-b.done:
		return
	default:
	}
	x.brokeOff = true
	x.rc.SetReadDeadline(past)
	<-b.done
}

// bodyWhole reports whether the client's body has been read to its end, or there is none.
func (x *exchange) bodyWhole() bool {
	if x.r.ContentLength == 0 {
		return true
	}
	x.mu.Lock()
	b := x.body
	x.mu.Unlock()
	return b != nil && b.whole()
}
