package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// answer passes the final answer on to the client, then sees the upload to its end.
func (x *exchange) answer(resp *http.Response) (h1.Ending, error) {
	if how := x.beginAnswer(); how != h1.Done {
		return how, nil
	}
	x.copyHead(resp)
	if err := x.copyBody(resp); err != nil {
		return err.how, err.err
	}
	if x.r.ContentLength == 0 {
		return h1.Done, nil
	}
	if b := x.body; b == nil || !b.wait(x.over(), x.uploadLinger(resp)) {
		return x.verdict(h1.Early), nil
	} else if !b.sent() {
		resp.Close = true // the slot misses a part of the body: nothing can follow on its connection
	}
	return h1.Done, nil
}

// beginAnswer makes sure that a body which has not begun never will, and that a cut from here on breaks off the answer. It returns done, or
// cut if that came before.
func (x *exchange) beginAnswer() h1.Ending {
	x.interims.Lock() // not while a 100 is being written
	defer x.interims.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wasCut.Load() {
		return h1.Cut
	}
	x.answered = true
	x.refused = x.refused || x.body == nil
	return h1.Done
}

// copyHead writes status and fields of the answer.
func (x *exchange) copyHead(resp *http.Response) {
	h := x.w.Header()
	drop := named(resp.Header)
	for name, values := range resp.Header {
		if !hopByHop(name) && !slices.Contains(drop, name) {
			h[name] = values
		}
	}
	if set := x.answeredBy(resp.Header); set != "" {
		h.Add("Set-Cookie", set)
	}
	for _, name := range [...]string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // the server shall not invent one
		}
	}
	for name := range resp.Trailer {
		if trailerField(name) {
			h.Add("Trailer", name)
		}
	}
	if x.s.cfg.ReleaseHeader != "" {
		h.Set(x.s.cfg.ReleaseHeader, x.gen.Target.Mark)
	}
	if x.closing() {
		tellToLeave(x.r, h)
	}
	x.status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)
}

// closing reports whether the client is to open another connection for its next request.
func (x *exchange) closing() bool {
	if x.s.door.Leaving() || x.Order() == route.HandOver {
		return true
	}
	if x.r.ContentLength == 0 || x.r.ProtoMajor == 2 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.body == nil || x.body.lost.Load() && !x.body.whole()
}

// uploadLinger is how long an upload may stand still once the answer to it is complete. On HTTP/2 the client learns only then that it is, and
// one that waits for that with its sending side open, as gRPC does, is not to wait longer.
func (x *exchange) uploadLinger(resp *http.Response) time.Duration {
	switch {
	case x.r.ProtoMajor == 1:
		return uploadLinger
	case len(resp.Trailer) > 0 || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc"):
		return 0
	}
	return h2UploadLinger
}

// tellToLeave makes the client open another connection for what follows, by h, the answer's head. On HTTP/2 other streams go on.
func tellToLeave(r *http.Request, h http.Header) {
	if c := h2ConnOf(r); c != nil {
		c.goAway()
		return
	}
	h.Set("Connection", "close")
}

type answerError struct {
	how h1.Ending
	err error
}

// copyBody passes on the answer's body and trailer. What the slot has sent is given to the client before more is waited for.
func (x *exchange) copyBody(resp *http.Response) *answerError {
	// resp.Body is not closed: that would read the rest of an answer that nobody wants. The connection is closed instead.
	if resp.ContentLength < 0 || len(resp.Trailer) > 0 {
		x.rc.Flush() // it may be long until the first byte; and the answer must not get a length
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	left := resp.ContentLength
	stream := x.streamOf(resp)
	if stream != nil {
		x.Mark(stream.traffic())
		x.conn.wake = stream.wake
		x.hear(x.conn.Upstream)
		defer x.hear(nil)
		resp.Close = true // the connection may have got a deadline
		if x.Due() {
			x.askNow() // it came before there was anything to wake
		}
	}
	for {
		if left > 0 && x.conn.br.Buffered() == 0 {
			x.rc.Flush()
		}
		n, err := resp.Body.Read(*buf)
		if stream != nil {
			if errors.Is(err, errLeft) {
				return x.endAsked()
			}
			var over bool
			if n, over = stream.pass((*buf)[:n]); over {
				err = errLeft
			}
		} else if n > 0 && err == nil {
			x.Mark(route.Downloading)
		}
		if n > 0 {
			if _, werr := x.w.Write((*buf)[:n]); werr != nil {
				return &answerError{x.verdict(h1.Gone), werr}
			}
			x.Out.Add(int64(n))
			if left > 0 {
				left -= int64(n)
			} else {
				x.rc.Flush()
			}
		}
		if err == errLeft {
			return x.endAsked()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			x.rc.Flush() // what came is the client's
			return &answerError{x.verdict(h1.Broken), err}
		}
	}
	if resp.ContentLength > 0 && left == 0 {
		x.rc.Flush() // the last byte is on its way before the request leaves the count
	}
	h := x.w.Header()
	for name, values := range resp.Trailer {
		switch {
		case !trailerField(name):
		case hasToken(h["Trailer"], name):
			h[name] = values
		default: // not announced
			h[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

// chunkedToClient reports whether net/http frames the answer in chunks, the last of which it writes when the handler returns.
func chunkedToClient(r *http.Request, status int, h http.Header) bool {
	return r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) && r.Method != http.MethodHead && status >= 200 && status != http.StatusNoContent &&
		status != http.StatusNotModified && len(h["Content-Length"]) == 0
}

// endGently ends a client's connection on which an answer was given while the client still sends: a plain close would reset it, and the client
// would lose the answer. One that is not whole stays without its end. It reports whether it could. On HTTP/2 there is nothing to do: the
// stream's end says it, and a flush would take that from a head which is all there is, as gRPC's errors are.
func (s *Switcher) endGently(w http.ResponseWriter, r *http.Request, status int, whole bool) bool {
	if r.ProtoMajor == 2 {
		return false
	}
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return false
	}
	conn, buf, err := rc.Hijack()
	if err != nil {
		return false // the caller's writer is another one
	}
	if whole && chunkedToClient(r, status, w.Header()) {
		conn.SetDeadline(time.Now().Add(lingerIdle))
		buf.Write(trailer(nil))
		buf.Flush()
	}
	s.door.loose.linger(conn)
	return true
}

// End does what is left when there is an answer, or nobody for one.
func (x *exchange) End(how h1.Ending) {
	switch how {
	case h1.Done:
	case h1.Early:
		x.s.endGently(x.w, x.r, x.status, true)
	case h1.Finished:
		if x.ws != nil {
			if x.ws.broke.Load() {
				x.Abort()
			}
		} else if x.linger {
			x.s.door.loose.linger(x.client)
		} else {
			x.client.Close()
		}
	case h1.Broken:
		// The client sees that by the end that is missing; where there is none to miss (HTTP/1.0), only by a reset.
		if !x.bodyWhole() && x.r.ProtoAtLeast(1, 1) && x.s.endGently(x.w, x.r, x.status, false) {
			return
		}
		x.breakOff()
	case h1.Cut:
		x.breakOff()
	default:
		x.Abort()
	}
}

// breakOff ends an answer that is not whole. net/http closes the connection of an old client as it does behind a whole one, whose end is just
// that: so it is reset here.
func (x *exchange) breakOff() {
	if x.r.ProtoAtLeast(1, 1) {
		x.Abort()
	}
	c, _, err := x.rc.Hijack()
	if err != nil {
		x.Abort() // the caller's writer is another one
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // TLS's own end says that all is there
	}
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// Abort breaks off the client's connection.
func (x *exchange) Abort() { panic(http.ErrAbortHandler) }

// Fail answers with an error of our own. last ends the connection behind it.
func (x *exchange) Fail(status int, text string, retryAfter int, last bool) {
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + text + "\n"
	h := x.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	whole := x.bodyWhole() && !x.brokeOff
	if x.s.door.Leaving() || (last || !whole) && x.r.ProtoMajor == 1 {
		tellToLeave(x.r, h)
	}
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		io.WriteString(x.w, body)
	}
	if !whole {
		x.s.endGently(x.w, x.r, status, true)
	}
}

// How long a connection is kept to drop what its client still sends: in all, and while nothing comes.
const (
	lingerFor  = 30 * time.Second
	lingerIdle = 5 * time.Second
)

// looseConns are connections of clients that have their answer, and belong to no server any more.
type looseConns struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
	all    sync.WaitGroup
}

// linger tells the client that our side has ended, drops what it sends until it ends too, and closes c.
func (l *looseConns) linger(c net.Conn) {
	defer c.Close()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	if l.conns == nil {
		l.conns = map[net.Conn]bool{}
	}
	l.conns[c] = true
	l.all.Add(1)
	l.mu.Unlock()
	defer l.all.Done()
	if ok, err := closeWrite(c); ok && err == nil {
		buf := copyBuffers.Get().(*[]byte)
		for end := time.Now().Add(lingerFor); l.wait(c, end); {
			if _, err := c.Read(*buf); err != nil {
				break
			}
		}
		copyBuffers.Put(buf)
	}
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// wait sets the deadline of the next read, and reports whether there is to be one.
func (l *looseConns) wait(c net.Conn, end time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.closed || !now.Before(end) {
		return false
	}
	next := now.Add(lingerIdle)
	if next.After(end) {
		next = end
	}
	return c.SetDeadline(next) == nil
}

// close ends all at once and waits for them.
func (l *looseConns) close() {
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		c.SetDeadline(past)
	}
	l.mu.Unlock()
	l.all.Wait()
}

// closeWrite ends the writing side of c; ok is false if it has no way to.
func closeWrite(c any) (ok bool, err error) {
	h, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return false, nil
	}
	return true, h.CloseWrite()
}
