package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/bye"
)

var noDeadline time.Time

func statusText(status int) string { return http.StatusText(status) }

// tunnel answers the client with the slot's 101 and carries bytes both ways until both directions have ended. Bytes that came with either
// head are carried too, and each direction ends by itself. It gives r back.
func (x *Exchange) tunnel(u *Upstream, r *Response) (Ending, error) {
	t, how, err := x.openTunnel(u, r)
	if t != nil {
		t.join()
		x.linger = t.unread && !x.ended()
	}
	return how, err
}

// openTunnel does what comes before the first byte is carried. Where there is nothing to carry the tunnel is nil. It is a function of its own
// since its frame is large, and a tunnel may be open for hours.
//
//go:noinline
func (x *Exchange) openTunnel(u *Upstream, r *Response) (*tunnel, Ending, error) {
	defer func() {
		if r != nil {
			putResponse(r)
		}
	}()
	got := r.Upgrade(u.pending())
	var asked []byte
	if x.facts.Upgrades && x.req != nil {
		asked = x.req.Upgrade(x.head)
	}
	if !sameProtocol(asked, got) {
		return nil, x.verdict(Failed), fmt.Errorf("slot changed to protocol %q, the client asked for %q", got, asked)
	}
	if !x.beginAnswer() {
		return nil, Cut, nil
	}
	c := x.conn
	c.stopWatch()
	c.enter(phaseTunnel)
	c.srv.ring()
	if x.flags.Or(flagTunnel)&flagEnded != 0 {
		return nil, Finished, nil
	}
	x.last = true
	x.Upgrade()
	style := Style{Minor: 1, Mark: x.gen.Target.cfg.mark, MarkAs: x.gen.Target.cfg.MarkAs, Marked: x.gen.Target.Mark, Protocol: got}
	if x.extra != nil {
		style.Cookie = x.extra.answered(r, u.pending())
	}
	switched := r.Append(nil, u.pending(), style)
	u.take(r.Len())
	putResponse(r)
	r = nil
	x.dropHead()
	if _, err := c.Write(switched); err != nil {
		return nil, Finished, err
	}
	x.hear(u)
	c.widen()
	return &tunnel{x: x, client: &c.link, slot: &u.link, in: &x.In, out: &x.Out, framed: fold(got, "websocket")}, Finished, nil
}

// sameProtocol reports whether the slot chose one of the protocols that the client offered.
func sameProtocol(asked, got []byte) bool {
	if len(asked) == 0 || len(got) == 0 {
		return false
	}
	for list, more := asked, true; more; {
		var e []byte
		if e, list, more = nextElement(list); len(e) == len(got) && foldBoth(e, got) {
			return true
		}
	}
	return len(asked) == len(got) && foldBoth(asked, got)
}

// tunnel is an upgraded connection: the two that it joins. Many are open for hours and idle, so what waits for them waits on small stacks: few
// calls deep, with small frames.
type tunnel struct {
	x            *Exchange
	framed       bool        // it is a websocket
	down, up     bye.Frames  // of it: from the slot, and from the client
	said         atomic.Bool // the client was told to go
	closed       atomic.Bool // the client has said that it goes
	client, slot *link
	in, out      *atomic.Int64  // bytes from the client, and to it
	other        sync.WaitGroup // the direction from client to slot
	unread       bool           // it left something unread; valid once it has ended
}

// join carries both directions to their ends.
func (t *tunnel) join() {
	t.other.Add(1)
	go t.upward()
	t.downward()
	t.other.Wait()
}

func (t *tunnel) upward() {
	t.unread = !t.carry(t.slot, t.client, t.in)
	t.other.Done()
}

// breakOff ends both directions without waiting: closing a TLS connection could.
func (t *tunnel) breakOff() error {
	return errors.Join(t.client.SetDeadline(past), t.slot.Close())
}

// carry copies what the client says up to its end and reports whether it came to that, or had to leave something unread. An end is passed on as an end
// of that direction only, and the other one lives on. A broken source breaks off both. If dst is broken, the other direction finds that by
// itself, after what is still on its way there. While nothing comes it holds no buffer.
func (t *tunnel) carry(dst, src *link, count *atomic.Int64) bool {
	for {
		if p := src.pending(); len(p) > 0 {
			if t.framed {
				if t.up.Pass(p); t.up.Closed {
					t.closed.Store(true)
				}
			}
			if _, err := dst.Write(p); err != nil {
				src.drop()
				return false
			}
			count.Add(int64(len(p)))
			src.large = len(p) == len(src.in.data) // one read filled it: much is coming
			src.take(len(p))
		}
		if err := src.fill(!src.more); err != nil {
			src.drop()
			t.gone()
			t.pass(dst, err)
			return true
		}
	}
}

// pass passes the end of one direction on, or breaks off both.
func (t *tunnel) pass(dst *link, err error) {
	if err != io.EOF {
		t.breakOff()
	} else if ok, _ := closeWrite(dst.Conn); !ok {
		t.breakOff() // this kind of connection has no halves
	}
}
