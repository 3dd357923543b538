package h1

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// uploadLinger is how long an upload may stand still once the answer to it is complete.
const uploadLinger = 5 * time.Second

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

// beginBody starts to carry what is still to come of the client's body to u. The head is not needed any more.
func (x *Exchange) beginBody(u *Upstream) {
	x.begun = true
	x.dropHead()
	b := &upload{done: make(chan struct{})}
	b.touch()
	x.upload = b
	x.Mark(route.Uploading)
	go b.run(x, u)
}

// run carries the body to its end. A client may leave that for hours, so it waits on a small stack, as a tunnel does.
func (b *upload) run(x *Exchange, u *Upstream) {
	defer b.end(x, u)
	if x.ahead != nil {
		b.atEnd = b.runAhead(x, u)
		return
	}
	for b.atEnd == nil {
		if b.atEnd = x.awaitPiece(); b.atEnd == nil {
			b.atEnd = b.pass(x, u)
		}
	}
}

// end is what run does last.
func (b *upload) end(x *Exchange, u *Upstream) {
	if v := recover(); v != nil {
		x.conn.srv.logPanic(x.conn, v)
		b.atEnd = io.ErrUnexpectedEOF
	}
	if b.atEnd != io.EOF {
		// The client is gone, or what it sends is no body: the slot must not take what it has for all there was.
		b.bad.Store(true)
		u.Close()
	}
	x.Unmark(route.Uploading)
	close(b.done)
}

// pass passes on what has come of the body. The error is io.EOF at its end.
//
//go:noinline
func (b *upload) pass(x *Exchange, u *Upstream) error {
	c := x.conn
	before := x.body.data
	p, over, err := x.piece()
	x.In.Add(x.body.data - before)
	if err != nil {
		return err
	}
	if c.in != nil {
		c.large = c.in.w == len(c.in.data) // one read filled it: much is coming
	}
	b.send(u, p)
	if over {
		c.large = false
		x.bodyRead()
		return io.EOF
	}
	if len(c.pending()) == 0 {
		if done, err := b.splice(x, u); done || err != nil {
			return err
		}
	}
	return nil
}

// runAhead carries a body of which a part was read ahead.
func (b *upload) runAhead(x *Exchange, u *Upstream) error {
	buf := getBuffer(smallSize)
	defer putBuffer(buf)
	for {
		n, err := x.ahead.Read(buf.data)
		x.In.Add(int64(n))
		b.send(u, buf.data[:n])
		if err != nil {
			return err
		}
	}
}

func (b *upload) send(u *Upstream, p []byte) {
	if len(p) == 0 || b.lost.Load() {
		return
	}
	if _, err := u.Write(p); err != nil {
		b.unsent = err
		b.lost.Store(true)
		return
	}
	b.touch()
}

// touch says that the upload has moved.
func (b *upload) touch() { b.moved.Store(time.Now().UnixNano()) }

// isWhole reports whether the body has been read to its end.
func (b *upload) isWhole() bool {
	select {
	case <-b.done:
		return b.atEnd == io.EOF
	default:
		return false
	}
}

// sent reports whether the slot has got the whole body.
func (b *upload) sent() bool { return b.isWhole() && b.unsent == nil }

// wait waits for the end of the upload, once the answer is complete, as long as it moves and over is not closed. It reports whether the body
// was read to its end.
func (b *upload) wait(over <-chan struct{}) bool {
	for {
		if b.lost.Load() {
			return b.isWhole()
		}
		still := time.Since(time.Unix(0, b.moved.Load()))
		if still >= uploadLinger {
			return b.isWhole()
		}
		t := time.NewTimer(uploadLinger - still)
		select {
		case <-b.done:
			t.Stop()
			return b.isWhole()
		case <-over:
			t.Stop()
			return b.isWhole()
		case <-t.C:
		}
	}
}

// endBody waits until nobody reads the client's body. If it has not been read to its end by now the read is broken off, and the client's
// connection cannot carry another request.
func (x *Exchange) endBody() {
	b := x.upload
	x.refused = true
	if b == nil {
		return
	}
	select {
	case <-b.done:
		return
	default:
	}
	x.broke = true
	x.conn.SetReadDeadline(past)
	<-b.done
}
