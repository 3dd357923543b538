package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/internal/bye"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// How work by ServeHTTP ends where it is asked to. Package h1 does the same for Serve.

// errLeft is why reading from the slot ended: the work was asked to end, and could.
var errLeft = errors.New("asked to end")

// closeWait is how long a client that was told to go may keep an upgraded connection.
const closeWait = 30 * time.Second

// askNow is what entry.Ask points to: it wakes who reads from the slot.
func (x *exchange) askNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asks != nil {
		x.asks.SetReadDeadline(past)
	}
}

// hear lets askNow wake who reads from u; nil: nobody any more. The connection may have a deadline then, and is not to be kept.
func (x *exchange) hear(u *h1.Upstream) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asks = u
}

// woken reports whether a read from the slot ended only since askNow has woken it. It can go on then.
func (x *exchange) woken(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || x.isEnded() {
		return false
	}
	x.conn.SetReadDeadline(time.Time{}) // before Due is asked: an order that comes later sets it anew
	return true
}

// eventStream is an answer that is server-sent events, as it passes.
type eventStream struct {
	x      *exchange
	events bye.Events
	whole  bool // the ends of its events can be seen
}

// streamOf returns what resp is if it is an event stream, else nil.
func (x *exchange) streamOf(resp *http.Response) *eventStream {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if resp.ContentLength >= 0 || !strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
		return nil
	}
	return &eventStream{x: x, whole: resp.Header.Get("Content-Encoding") == ""}
}

// traffic is what it is for the books.
func (s *eventStream) traffic() route.Traffic {
	if !s.whole {
		return route.Downloading | route.Streaming | route.Opaque
	}
	return route.Downloading | route.Streaming
}

// wake is asked about an error of a read from the slot: again says that the read is to be done again.
func (s *eventStream) wake(err error) (again bool, _ error) {
	if !s.x.woken(err) {
		return false, err
	}
	if s.whole && s.x.Due() && (s.events.Whole() || s.x.s.pools.Hooks.Anywhere) && s.x.Go() {
		return false, errLeft
	}
	return true, nil
}

// pass follows p and returns how much of it is to be written, and whether the stream then ends.
func (s *eventStream) pass(p []byte) (n int, over bool) {
	if !s.whole {
		return len(p), false
	}
	for n < len(p) && s.x.Due() {
		n += s.events.Next(p[n:])
		if (s.events.Whole() || s.x.s.pools.Hooks.Anywhere) && s.x.Go() {
			return n, true
		}
	}
	s.events.Pass(p[n:])
	return len(p), false
}

// endAsked ends an event stream that was asked to end, as if the slot had ended it.
func (x *exchange) endAsked() *answerError {
	if x.s.pools.Hooks.Bare {
		return &answerError{h1.Broken, errLeft}
	}
	return nil
}

// leaver follows a tunnel, so that it can end where it is asked to.
type leaver struct {
	x        *exchange
	framed   bool // it is a websocket
	down, up bye.Frames
	said     atomic.Bool // the client was told to go
	closed   atomic.Bool // the client has said that it goes
}

// downward carries what the slot says to the client, up to its end; told says that it is the end of the tunnel, as it was asked to.
func (l *leaver) downward(t *tunnel, src io.Reader) (told bool, rerr, werr error) {
	x := l.x
	x.hear(x.conn.Upstream)
	defer x.hear(nil)
	buf := make([]byte, smallBuffer)
	for {
		if x.Due() && (l.down.Whole() || x.s.pools.Hooks.Anywhere) && x.Go() {
			l.leave(t, src, nil)
			return true, nil, nil
		}
		n, err := src.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			k := len(p)
			switch {
			case !l.framed:
			case x.Due():
				k = l.down.Next(p)
			default:
				l.down.Pass(p)
			}
			if _, werr := t.client.Write(p[:k]); werr != nil {
				return false, nil, werr
			}
			x.Out.Add(int64(k))
			if p = p[k:]; len(p) > 0 && l.down.Whole() && x.Go() {
				l.leave(t, src, p)
				return true, nil, nil
			}
		}
		if n == len(buf) && n == smallBuffer {
			large := copyBuffers.Get().(*[]byte)
			defer copyBuffers.Put(large)
			buf = *large
		}
		switch {
		case err == nil || x.woken(err):
		case err == io.EOF:
			return false, nil, nil
		default:
			return false, err, nil
		}
	}
}

// leave tells the client to go, and drops what the slot still says, of which rest has been read, up to its end or its close frame.
func (l *leaver) leave(t *tunnel, src io.Reader, rest []byte) {
	if l.x.s.pools.Hooks.Bare {
		t.Close()
		return
	}
	l.said.Store(true)
	if l.framed {
		t.client.Write(bye.Close(l.x.s.closeStatus(), false))
		l.down.Pass(rest)
	} else if ok, _ := closeWrite(t.client); !ok {
		t.Close()
	}
	l.x.mu.Lock()
	if !l.x.ended {
		t.client.SetReadDeadline(time.Now().Add(closeWait))
	}
	l.x.mu.Unlock()
	buf := make([]byte, smallBuffer)
	for !l.down.Closed {
		n, err := src.Read(buf)
		if l.framed {
			l.down.Pass(buf[:n])
		}
		if err != nil && !l.x.woken(err) {
			break
		}
	}
	if ok, _ := closeWrite(t.client); !ok || l.closed.Load() && l.x.ws == nil { // a stream ends by itself then
		t.Close() // both have said that it is over
	}
}

// follow follows what the client says, and says goodbye to the slot for one that went without doing so after it was told to go.
func (l *leaver) follow(src io.Reader) io.Reader { return &followed{l, src} }

type followed struct {
	l   *leaver
	src io.Reader
}

func (f *followed) Read(p []byte) (int, error) {
	n, err := f.src.Read(p)
	if f.l.framed {
		if f.l.up.Pass(p[:n]); f.l.up.Closed {
			f.l.closed.Store(true)
		}
		if err != nil && f.l.said.Load() && f.l.up.Whole() && !f.l.up.Closed {
			f.l.x.conn.Upstream.Write(bye.Close(f.l.x.s.closeStatus(), true))
		}
	}
	return n, err
}

func (s *Switcher) closeStatus() uint16 {
	if s.cfg.CloseStatus == 0 {
		return 1001
	}
	return s.cfg.CloseStatus
}

// End ends pieces of work in sl, by the IDs that List tells. ForceHandOver asks them: a websocket gets a close frame of Config.CloseStatus
// between two frames, and what its client still says, its own close frame too, goes on to the slot; another upgraded connection is half closed;
// an event stream ends between two events, with its last chunk; an answer that has not begun gets "Connection: close", or GOAWAY on HTTP/2.
// Uploads and downloads go on: they have no end but their own. ForceCut closes them, as Force does.
//
// A generation that takes new work is not touched: if one of the IDs lies there nothing is done and the error is abswap.ErrSlotLive. What was
// asked and has not begun to end when the slot gets a part again goes on as if it had not been asked.
func (s *Switcher) End(ctx context.Context, sl abswap.Slot, how abswap.Force, ids ...uint64) error {
	return s.end(ctx, nil, sl, how, ids...)
}

// end is End, if the view of the caller is still the state in force.
func (s *Switcher) end(ctx context.Context, at *view, sl abswap.Slot, how abswap.Force, ids ...uint64) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if at != nil {
		if err := s.lock(ctx, "end"); err != nil {
			return err
		}
		defer s.turn.Give()
		if err := at.check(s); err != nil {
			return err
		}
	}
	if how != abswap.ForceHandOver && how != abswap.ForceCut {
		return fmt.Errorf("proxy: slot %q: %d is no way to end work in it: ForceHandOver and ForceCut are", sl.Name(), how)
	}
	set := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	if !s.table.End(sl.Name(), how == abswap.ForceCut, set) {
		return fmt.Errorf("proxy: slot %q: %w: none of %d pieces of work was told to end", sl.Name(), abswap.ErrSlotLive, len(ids))
	}
	return nil
}

// classOf returns the class of what an entry carries.
func classOf(t route.Traffic) abswap.Class {
	switch {
	case t&route.Upgraded != 0:
		return abswap.ClassTunnel
	case t&route.Streaming != 0:
		return abswap.ClassStream
	case t&route.Uploading != 0:
		return abswap.ClassUpload
	case t&route.Downloading != 0:
		return abswap.ClassDownload
	}
	return abswap.ClassRequest
}
