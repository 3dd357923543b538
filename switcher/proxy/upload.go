package proxy

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// upload carries one request's body from the client to the slot as it comes: every piece is sent on before the next is read. When the slot
// no longer takes it, the rest is read and dropped, so that a client that sends all before it reads gets to the answer.
type upload struct {
	done   chan struct{} // closed when the client's body is no longer read
	atEnd  error         // why reading ended; io.EOF: the body was whole. Valid after done
	unsent error         // why the slot did not take all of it; valid after done
	lost   atomic.Bool   // the slot no longer takes it
	bad    atomic.Bool   // the client broke it off, or sent what is no body
	moved  atomic.Int64  // when a piece was last sent, in Unix nanoseconds
}

const (
	copyBuffer   = 32 << 10
	chunkHead    = 18 // room for a chunk's size: 16 hex digits and CRLF
	chunkTail    = 2
	lastChunk    = "0\r\n"
	uploadLinger = 5 * time.Second // how long an upload may stand still once the answer to it is complete

	h2UploadLinger = 50 * time.Millisecond
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// startUpload begins to carry the body of r to conn, whose head has been written.
func startUpload(r *http.Request, conn *upstreamConn, e *entry) *upload {
	u := &upload{done: make(chan struct{})}
	u.moved.Store(time.Now().UnixNano())
	go func() {
		defer close(u.done)
		defer e.Unmark(route.Uploading)
		u.run(r, conn, &e.In)
	}()
	return u
}

func (u *upload) run(r *http.Request, conn *upstreamConn, in *atomic.Int64) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	chunked := r.ContentLength < 0
	body := (*buf)[chunkHead : copyBuffer-chunkTail]
	for {
		n, err := r.Body.Read(body)
		in.Add(int64(n))
		if n > 0 && !u.lost.Load() {
			piece := body[:n]
			if chunked {
				piece = frame(*buf, n)
			}
			u.send(conn, piece)
		}
		if err == nil {
			continue
		}
		u.atEnd = err
		if err != io.EOF {
			// The client is gone, or what it sends is no body: the slot must not take what it has for all there was.
			u.bad.Store(true)
			conn.Close()
		} else if chunked && !u.lost.Load() {
			u.send(conn, trailer(r.Trailer))
		}
		return
	}
}

func (u *upload) send(conn *upstreamConn, p []byte) {
	if _, err := conn.Upstream.Write(p); err != nil {
		u.unsent = err
		u.lost.Store(true)
		return
	}
	u.moved.Store(time.Now().UnixNano())
}

// frame makes a chunk of the n bytes that lie in buf behind the room for its head, and returns it.
func frame(buf []byte, n int) []byte {
	var size [chunkHead]byte
	head := append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n')
	from := chunkHead - len(head)
	copy(buf[from:], head)
	copy(buf[chunkHead+n:], "\r\n")
	return buf[from : chunkHead+n+chunkTail]
}

// trailer is the end of a chunked body: the last chunk and the trailer fields.
func trailer(t http.Header) []byte {
	b := []byte(lastChunk)
	for name, values := range t {
		if !trailerField(name) {
			continue
		}
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// trailerField reports whether a field may stand in a trailer: those that say how to read the message may not.
func trailerField(name string) bool {
	return !hopByHop(name) && name != "Content-Length" && name != "Host" && name != "Content-Encoding" && name != "Content-Type" && name != "Content-Range"
}

// whole reports whether the body has been read to its end.
func (u *upload) whole() bool {
	select {
	case <-u.done:
		return u.atEnd == io.EOF
	default:
		return false
	}
}

// sent reports whether the slot has got the whole body.
func (u *upload) sent() bool { return u.whole() && u.unsent == nil }

// wait waits for the end of the upload, once the answer is complete, as long as it moves and over is not closed. It reports whether the body
// was read to its end.
func (u *upload) wait(over <-chan struct{}, linger time.Duration) bool {
	for {
		if u.lost.Load() {
			return u.whole()
		}
		still := time.Since(time.Unix(0, u.moved.Load()))
		if still >= linger {
			return u.whole()
		}
		t := time.NewTimer(linger - still)
		select {
		case <-u.done:
			t.Stop()
			return u.whole()
		case <-over:
			t.Stop()
			return u.whole()
		case <-t.C:
		}
	}
}
