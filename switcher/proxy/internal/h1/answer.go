package h1

import (
	"io"
	"strconv"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// answer passes the final answer on to the client, then sees the upload to its end. It gives r back.
func (x *Exchange) answer(u *Upstream, r *Response) (how Ending, keep bool, err error) {
	// A body that has not begun never will, and a cut from here on breaks off the answer.
	if !x.beginAnswer() {
		putResponse(r)
		return Cut, false, nil
	}
	x.refused = x.refused || !x.begun
	body := responseBody(r, x.facts.Head)
	style := Style{Minor: x.facts.Minor, Mark: x.gen.Target.cfg.mark, MarkAs: x.gen.Target.cfg.MarkAs, Marked: x.gen.Target.Mark}
	if x.extra != nil {
		style.Cookie = x.extra.answered(r, u.pending())
	}
	endless := body.framing == chunked || body.framing == toTheEnd
	if style.Minor > 0 {
		style.Chunked = endless
		style.Close = x.closing()
	} else {
		body.chunks.Bare = true
		style.Close = false
		x.last = x.last || endless || x.closing()
		style.Keep = !x.last
	}
	x.last = x.last || style.Close
	style.Close = style.Close || x.last && style.Minor > 0
	closes := r.Close
	x.streamed = false
	how, err = x.relay(u, r, body, style)
	if how != Done {
		return how, false, err
	}
	keep = !closes && !x.streamed && len(u.pending()) == 0 && body.framing != toTheEnd
	u.release()
	if x.facts.Length == 0 {
		return Done, keep, nil
	}
	if b := x.upload; b == nil {
		if !x.whole {
			return x.verdict(Early), false, nil
		}
	} else if !b.wait(x.over()) {
		return x.verdict(Early), false, nil
	} else if !b.sent() {
		keep = false // the slot misses a part of the body: nothing can follow on its connection
	}
	return Done, keep, nil
}

// beginAnswer says that the final answer is on its way. It is false if a cut came before: then there is none, and the client can be told.
func (x *Exchange) beginAnswer() bool {
	for {
		old := x.flags.Load()
		if old&flagCut != 0 {
			return false
		}
		if x.flags.CompareAndSwap(old, old|flagAnswered) {
			return true
		}
	}
}

// closing reports whether the client is to open another connection for its next request.
func (x *Exchange) closing() bool {
	if x.conn.srv.front.Leaving() || x.conn.srv.crowd.waits() || x.Order() == route.HandOver {
		return true
	}
	if b := x.upload; b != nil {
		return b.lost.Load() && !b.isWhole()
	}
	return !x.whole
}

// relay writes the answer to the client as it comes, and gives r back. What the slot has sent is given to the client before more is waited for.
func (x *Exchange) relay(u *Upstream, r *Response, body Body, style Style) (Ending, error) {
	c := x.conn
	out := getBuffer(smallSize)
	data := r.Append(out.data[:0], u.pending(), style)
	var events stream
	if body.framing == chunked || body.framing == toTheEnd {
		events.is, events.whole = r.isEventStream(u.pending())
		x.streamed = events.is
	}
	u.take(r.Len())
	putResponse(r)
	// An event stream goes in chunks of our own, so that it can end between two events.
	wrapped := style.Chunked && (body.framing == toTheEnd || events.is)
	body.chunks.Bare = body.chunks.Bare || events.is
	data, done, fault := x.next(data, u, &body, wrapped, &events)
	if fault != nil { // what came before it is the client's
		c.Write(data)
		putBuffer(out)
		return x.verdict(Broken), fault
	}
	_, err := c.Write(data)
	putBuffer(out)
	if err != nil {
		return x.verdict(Gone), err
	}
	x.Out.Store(body.data)
	if body.framing == noBody || done {
		return Done, nil
	}
	x.carries(&events)
	if events.is {
		x.hear(u)
		defer x.deaf()
	}
	defer func() { u.large = false }()
	for {
		if events.over(x) {
			return x.endAsked(wrapped)
		}
		switch done, rerr, werr := x.spliceAnswer(u, &body); {
		case rerr != nil:
			return x.verdict(Broken), rerr
		case werr != nil:
			return x.verdict(Gone), werr
		case done:
			return Done, nil
		}
		if err := u.fill(false); err != nil {
			if events.is && x.woken(&u.link, err) {
				continue
			}
			if err == io.EOF && body.framing == toTheEnd {
				return x.endWrapped(wrapped)
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return x.verdict(Broken), err
		}
		before := body.data
		p, n, done, fault := body.take(u.pending())
		u.large = u.in.w == len(u.in.data) // one read filled it: much is coming
		k, leaves := events.pass(x, p)
		for k < len(p) && !leaves { // up to the end of an event at a time, as the order came and went
			more, over := events.pass(x, p[k:])
			k, leaves = k+more, over
		}
		if k > 0 {
			if err := x.write(p[:k], wrapped); err != nil {
				return x.verdict(Gone), err
			}
		}
		x.Out.Add(body.data - before)
		if leaves {
			return x.endAsked(wrapped)
		}
		if fault != nil {
			return x.verdict(Broken), fault
		}
		u.take(n)
		u.release()
		if done {
			return x.endWrapped(wrapped)
		}
	}
}

// endWrapped ends an answer that is complete, where its chunks are ours.
func (x *Exchange) endWrapped(wrapped bool) (Ending, error) {
	if wrapped {
		if _, err := x.conn.Write([]byte(lastChunk)); err != nil {
			return x.verdict(Gone), err
		}
	}
	return Done, nil
}

// write writes a piece of the answer's body to the client, in chunks that fit a buffer if it is to be wrapped.
func (x *Exchange) write(p []byte, wrapped bool) error {
	if !wrapped {
		_, err := x.conn.Write(p)
		return err
	}
	const most = largeSize - chunkRoom
	out := getBuffer(min(len(p), most) + chunkRoom)
	defer putBuffer(out)
	for len(p) > 0 {
		n := min(len(p), most)
		if _, err := x.conn.Write(wrap(out.data[:0], p[:n])); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// next appends what has come of the body with the head.
func (x *Exchange) next(data []byte, u *Upstream, body *Body, wrapped bool, events *stream) (_ []byte, done bool, fault *Fault) {
	in := u.pending()
	if body.framing == noBody || len(in) == 0 {
		u.release()
		return data, false, nil
	}
	p, n, done, fault := body.take(in)
	if fault != nil {
		return data, false, fault
	}
	if events.is && events.whole {
		events.events.Pass(p)
	}
	if wrapped {
		data = wrap(data, p)
		if done {
			data = append(data, lastChunk...)
		}
	} else {
		data = append(data, p...)
	}
	u.take(n)
	u.release()
	return data, done, nil
}

// End does what is left when the slot has nothing to do with the request any more, and no answer of our own is due.
func (x *Exchange) End(how Ending) {
	switch how {
	case Done:
	case Early, Finished:
		x.last = true
		x.linger = x.linger || how == Early
	case Broken, Cut:
		// The client sees that the answer is not whole by the end that is missing; where there is none to miss (HTTP/1.0), only by a reset.
		x.last = true
		x.linger = how == Broken && !x.whole && x.facts.Minor > 0
		x.reset = x.facts.Minor == 0
	default:
		x.last = true
	}
}

// Answered reports whether an answer has begun.
func (x *Exchange) Answered() bool { return x.flags.Load()&flagAnswered != 0 }

// Abort ends the exchange without an answer: nobody is there to get one.
func (x *Exchange) Abort() { x.last = true }

// Fail answers with an error of our own. retryAfter is in seconds; 0: it says nothing. last ends the connection behind it.
func (x *Exchange) Fail(status int, text string, retryAfter int, last bool) {
	c := x.conn
	whole := x.whole && !x.broke
	if x.upload != nil {
		whole = x.upload.isWhole() && !x.broke
	}
	x.last = x.last || last || !whole || c.srv.front.Leaving() || c.srv.crowd.waits()
	x.linger = !whole
	c.SetWriteDeadline(noDeadline) // a cut may have set one that has passed
	if _, err := c.Write(failure(status, text, retryAfter, x.last, x.facts)); err != nil {
		x.last, x.linger = true, false
	}
}

// refuse answers a head that is none. Nothing behind it can be read.
func (x *Exchange) refuse(f *Fault) {
	x.facts = x.req.Facts
	if !x.req.Begun() {
		x.facts.Minor = 1
	}
	putRequest(x.req)
	x.req = nil
	x.conn.enter(phaseBusy)
	if _, err := x.conn.Write(failure(f.Status, f.text, 0, true, x.facts)); err == nil {
		x.conn.linger()
	}
}

// failure is an answer of our own.
func failure(status int, text string, retryAfter int, last bool, to Facts) []byte {
	title := strconv.Itoa(status) + " " + statusText(status)
	body := title + ": " + text + "\n"
	b := make([]byte, 0, 512)
	if to.Minor == 0 {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = append(append(b, title...), "\r\n"...)
	b = appendField(b, "Content-Type", "text/plain; charset=utf-8")
	b = appendField(b, "Content-Length", strconv.Itoa(len(body)))
	b = appendField(b, "X-Content-Type-Options", "nosniff")
	b = appendField(b, "Cache-Control", "no-store")
	if retryAfter > 0 {
		b = appendField(b, "Retry-After", strconv.Itoa(retryAfter))
	}
	switch {
	case last:
		b = appendField(b, "Connection", "close")
	case to.Minor == 0:
		b = appendField(b, "Connection", "keep-alive")
	}
	b = append(b, "\r\n"...)
	if !to.Head {
		b = append(b, body...)
	}
	return b
}
