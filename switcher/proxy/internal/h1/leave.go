package h1

import (
	"errors"
	"os"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/bye"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// closeWait is how long a client that was told to go may keep a tunnel's connection.
const closeWait = 30 * time.Second

// askNow is what Entry.Ask points to: it wakes who reads from the slot, if that can end between two events or frames. Whoever is woken looks
// whether the order still stands.
func (x *Exchange) askNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asks != nil {
		x.asks.SetReadDeadline(past)
	}
}

// hear lets askNow wake who reads from u. An order given before is seen by Due.
func (x *Exchange) hear(u *Upstream) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asks = u
}

// deaf ends what hear began. The connection may have a deadline then, and is not to be kept.
func (x *Exchange) deaf() { x.hear(nil) }

// woken reports whether a read from the slot ended only since askNow has woken it. It can go on then.
func (x *Exchange) woken(u *link, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || x.ended() {
		return false
	}
	u.SetReadDeadline(noDeadline) // before Due is asked: an order that comes later sets it anew
	return true
}

// isEventStream reports whether an answer's head says that its body is server-sent events; whole says that their ends can be seen.
func (r *Response) isEventStream(head []byte) (is, whole bool) {
	const name, value = "text/event-stream", "Content-Type"
	whole = true
	for i := range r.fields {
		f := &r.fields[i]
		switch n := f.name(head); {
		case len(n) == len(value) && fold(n, "content-type"):
			v := f.text(head)
			is = len(v) >= len(name) && fold(v[:len(name)], name) && (len(v) == len(name) || v[len(name)] == ';' || v[len(name)] == ' ')
		case len(n) == len("Content-Encoding") && fold(n, "content-encoding"):
			whole = false
		}
	}
	return is, whole
}

// stream is an answer that is an event stream, as it passes.
type stream struct {
	is, whole bool
	events    bye.Events
}

// pass follows p, a piece of the stream's data that is about to be written, and returns how much of it is to be, and whether the stream then
// ends, as it was asked to.
func (s *stream) pass(x *Exchange, p []byte) (n int, over bool) {
	if !s.is || !s.whole {
		return len(p), false
	}
	if x.Due() {
		if n = s.events.Next(p); s.events.Whole() || x.hooks().Anywhere {
			if x.Go() {
				return n, true
			}
			s.events.Pass(p[n:])
			return len(p), false
		}
		return n, false
	}
	s.events.Pass(p)
	return len(p), false
}

// over reports whether the stream is to end before anything more is read.
func (s *stream) over(x *Exchange) bool {
	return s.is && s.whole && x.Due() && (s.events.Whole() || x.hooks().Anywhere) && x.Go()
}

// endAsked ends an event stream that was asked to end, as if the slot had ended it.
func (x *Exchange) endAsked(wrapped bool) (Ending, error) {
	if x.hooks().Bare {
		return Broken, errLeft
	}
	return x.endWrapped(wrapped)
}

// downward carries what the slot says to the client, until that ends or the tunnel is asked to end.
func (t *tunnel) downward() {
	defer t.x.deaf()
	for {
		if p := t.slot.pending(); len(p) > 0 {
			if n, err := t.pass1(p); err != nil {
				t.slot.drop()
				return
			} else if n < len(p) {
				t.slot.take(n)
				continue
			}
			t.slot.large = len(p) == len(t.slot.in.data) // one read filled it: much is coming
			t.slot.take(len(p))
		}
		if t.x.Due() && (t.down.Whole() || t.x.hooks().Anywhere) && t.x.Go() {
			t.leave()
			return
		}
		if err := t.slot.fill(!t.slot.more); err != nil && !t.x.woken(t.slot, err) {
			t.slot.drop()
			t.pass(t.client, err)
			return
		}
	}
}

// pass1 passes p on, or less of it where the tunnel is to end at the end of a frame.
func (t *tunnel) pass1(p []byte) (int, error) {
	n := len(p)
	switch {
	case !t.framed:
	case t.x.Due():
		n = t.down.Next(p)
	default:
		t.down.Pass(p)
	}
	if _, err := t.client.Write(p[:n]); err != nil {
		return 0, err
	}
	t.out.Add(int64(n))
	if n < len(p) && t.down.Whole() && t.x.Go() {
		t.slot.take(n)
		t.leave()
		return 0, errLeft
	}
	return n, nil
}

// errLeft says that the tunnel has ended as it was asked to.
var errLeft = errors.New("asked to end")

// leave tells the client to go: a websocket by a close frame, another protocol by the end of what it is sent. What the client still says goes on
// to the slot, its own close frame too; what the slot still says is dropped, up to its end or its close frame.
func (t *tunnel) leave() {
	if t.x.hooks().Bare {
		t.breakOff()
		t.slot.drop()
		return
	}
	t.said.Store(true)
	if t.framed {
		t.client.Write(bye.Close(t.x.gen.Target.cfg.closeStatus(), false))
	} else if ok, _ := closeWrite(t.client.Conn); !ok {
		t.breakOff()
	}
	t.x.mu.Lock()
	if !t.x.ended() {
		t.client.SetReadDeadline(time.Now().Add(closeWait))
	}
	t.x.mu.Unlock()
	for {
		if p := t.slot.pending(); len(p) > 0 {
			if t.framed {
				t.down.Pass(p)
			}
			t.slot.take(len(p))
		}
		if t.down.Closed {
			break
		}
		if err := t.slot.fill(true); err != nil && !t.x.woken(t.slot, err) {
			break
		}
	}
	t.slot.drop()
	if t.framed {
		if ok, _ := closeWrite(t.client.Conn); !ok || t.closed.Load() {
			t.breakOff() // both have said that it is over
		}
	}
}

// gone says goodbye to the slot for a client that went without doing so after it was told to go.
func (t *tunnel) gone() {
	if t.framed && t.said.Load() && t.up.Whole() && !t.up.Closed {
		t.slot.Write(bye.Close(t.x.gen.Target.cfg.closeStatus(), true))
	}
}

func (x *Exchange) hooks() Hooks { return x.gen.Target.cfg.Hooks }

// closeStatus is what websockets are told that are asked to end.
func (c *PoolConfig) closeStatus() uint16 {
	if c.CloseStatus == 0 {
		return 1001
	}
	return c.CloseStatus
}

// carries notes what the rest of an answer is.
func (x *Exchange) carries(s *stream) {
	switch {
	case s.is && s.whole:
		x.Mark(route.Downloading | route.Streaming)
	case s.is:
		x.Mark(route.Downloading | route.Streaming | route.Opaque)
	default:
		x.Mark(route.Downloading)
	}
}
