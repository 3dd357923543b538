package h2c

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// maxTries bounds how often a request is sent that the slot has refused.
const maxTries = 3

// serve carries the one request of a connection, as a stream.
func (l *Links) serve(w http.ResponseWriter, r *http.Request) {
	s := r.Context().Value(key{}).(*stream)
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex() // an answer may come before the request has ended
	resp, err := l.send(s, w, r)
	if err != nil {
		panic(http.ErrAbortHandler) // there is no answer: the front door sees just that
	}
	defer resp.Body.Close()
	h := w.Header()
	for name, values := range resp.Header {
		h[name] = values
	}
	for _, name := range [...]string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // the server shall not invent one
		}
	}
	for name := range resp.Trailer {
		h.Add("Trailer", name)
		delete(h, "Content-Length") // in HTTP/1.1 a trailer stands behind chunks only
	}
	if resp.ContentLength == 0 && r.Method != http.MethodHead && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified {
		h.Set("Content-Length", "0") // the answer ended with its head
	}
	h.Set("Connection", "close")
	w.WriteHeader(resp.StatusCode)
	if resp.ContentLength != 0 {
		rc.Flush() // it may be long until the first byte
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				panic(http.ErrAbortHandler)
			}
			rc.Flush()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	for name, values := range resp.Trailer {
		if announced(h["Trailer"], name) {
			h[name] = values
		} else {
			h[http.TrailerPrefix+name] = values
		}
	}
}

func announced(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// send sends the request and returns the head of the answer.
func (l *Links) send(s *stream, w http.ResponseWriter, r *http.Request) (*http.Response, error) {
	early := &interims{w: w}
	defer early.end()
	body := &kept{from: r.Body, until: func(t time.Time) { http.NewResponseController(w).SetReadDeadline(t) }}
	s.used.Store(true)
	k := s.on
	for try := 1; ; try++ {
		resp, err := k.cc.RoundTrip(l.outgoing(s.ctx, early, r, body))
		if err == nil || try == maxTries || !refused(err) || s.ctx.Err() != nil || !body.rewind() {
			return resp, err
		}
		// The slot has not seen it. Another connection, or the same if it still takes streams.
		again, rerr := l.reserve(s.ctx)
		if rerr != nil {
			return nil, err
		}
		if !l.move(s, again) {
			again.cc.Release()
			return nil, err
		}
		k = again
	}
}

// outgoing is r as it goes to the slot.
func (l *Links) outgoing(ctx context.Context, early *interims, r *http.Request, body *kept) *http.Request {
	h := make(http.Header, len(r.Header)+1)
	for name, values := range r.Header {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Te": // HTTP/2 has none of these
		default:
			h[name] = values
		}
	}
	for _, v := range r.Header["Te"] {
		if strings.Contains(v, "trailers") {
			h["Te"] = []string{"trailers"} // the one that it has
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // the transport shall not invent one
	}
	target := r.RequestURI
	if strings.HasPrefix(target, "//") {
		target = "//" + r.Host + target // or it would be taken for a host
	}
	out := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "http", Host: l.addr, Opaque: target}, Host: r.Host, Header: h,
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: r.ContentLength, Body: http.NoBody, Trailer: r.Trailer}
	if r.ContentLength != 0 {
		out.Body = body
	}
	return out.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != http.StatusContinue { // which the first read of the body says
			early.add(code, h)
		}
		return nil
	}}))
}

// streamError has the fields of net/http's own, which fills it for errors.As.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream refused" }

const codeRefused = 0x7 // REFUSED_STREAM (RFC 9113, 7)

// refused reports whether err says that the slot has not seen the request: it reset the stream for that, or its GOAWAY names an earlier one as
// the last, or the connection could take none any more. For the last two net/http has no values: it is their text.
func refused(err error) bool {
	if se := (streamError{}); errors.As(err, &se) {
		return se.Code == codeRefused
	}
	text := err.Error()
	return strings.Contains(text, "graceful shutdown GOAWAY") || strings.Contains(text, "client conn not usable")
}

// past is a deadline that has passed on every clock.
var past = time.Unix(1, 0)

// keptBody is how much of a body is kept while the slot may still refuse the request.
const keptBody = 64 << 10

// kept is a body that can be read again from its beginning, as long as it has come whole and is not large.
type kept struct {
	from  io.Reader
	seen  []byte
	at    int         // in seen: what is read next
	lost  bool        // more came than is kept
	over  bool        // seen is all
	whole atomic.Bool // the end was read
	used  bool
	until func(time.Time) // sets the deadline of Reads
}

func (b *kept) Read(p []byte) (int, error) {
	b.used = true
	if b.at < len(b.seen) {
		n := copy(p, b.seen[b.at:])
		b.at += n
		return n, nil
	}
	if b.over {
		return 0, io.EOF
	}
	n, err := b.from.Read(p)
	if !b.lost && len(b.seen)+n <= keptBody {
		b.seen = append(b.seen, p[:n]...)
		b.at = len(b.seen)
	} else {
		b.lost, b.seen, b.at = true, nil, 0
	}
	if err == io.EOF {
		b.whole.Store(true)
		b.over = !b.lost
	}
	return n, err
}

// Close ends a Read that waits: nobody wants more of the body, unless it is there already.
func (b *kept) Close() error {
	if b.whole.Load() {
		return nil
	}
	b.until(past)
	return nil
}

// rewind makes b begin anew. It is false if it cannot.
func (b *kept) rewind() bool {
	if b.used && !b.over {
		return false
	}
	b.at = 0
	b.until(time.Time{}) // Close has ended it also if nobody had begun to read
	return true
}
