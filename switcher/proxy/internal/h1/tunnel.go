package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

var noDeadline time.Time

func statusText(status int) string { return http.StatusText(status) }

// tunnel answers the client with the slot's 101 and carries bytes both ways until both directions have ended. Bytes that came with either
// head are carried too, and each direction ends by itself.
func (x *Exchange) tunnel(u *Upstream, r *Response) (Ending, error) {
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
		return x.verdict(Failed), fmt.Errorf("slot changed to protocol %q, the client asked for %q", got, asked)
	}
	if x.flags.Or(flagAnswered)&flagCut != 0 {
		return Cut, nil
	}
	c := x.conn
	c.stopWatch()
	c.enter(phaseTunnel)
	c.srv.ring()
	if x.flags.Or(flagTunnel)&flagEnded != 0 {
		return Finished, nil
	}
	x.last = true
	x.Upgrade()
	switched := r.Append(nil, u.pending(), Style{Minor: 1, Mark: c.srv.mark, MarkAs: c.srv.cfg.Mark, Marked: x.gen.Target.Mark, Protocol: got})
	u.take(r.Len())
	putResponse(r)
	r = nil
	x.dropHead()
	if _, err := c.Write(switched); err != nil {
		return Finished, err
	}
	t := &tunnel{client: c.Conn, slot: u.Conn}
	var both sync.WaitGroup
	unread := false
	both.Go(func() { unread = !t.carry(u.Conn, &c.link, &x.In) })
	t.carry(c.Conn, &u.link, &x.Out)
	both.Wait()
	x.linger = unread && !x.ended()
	return Finished, nil
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

// tunnel is an upgraded connection: the two that it joins.
type tunnel struct{ client, slot net.Conn }

// breakOff ends both directions without waiting: closing a TLS connection could.
func (t *tunnel) breakOff() error {
	return errors.Join(t.client.SetDeadline(past), t.slot.Close())
}

// carry copies one direction and reports whether it came to its end, or had to leave something unread. An end is passed on as an end of that
// direction only, and the other one lives on. A broken source breaks off both. If dst is broken, the other direction finds that by itself,
// after what is still on its way there.
func (t *tunnel) carry(dst net.Conn, src *link, count *atomic.Int64) bool {
	rerr, werr := copyStream(dst, src, count)
	src.drop()
	if werr != nil {
		return false
	}
	if rerr != nil {
		t.breakOff()
	} else if ok, _ := closeWrite(dst); !ok {
		t.breakOff() // this kind of connection has no halves
	}
	return true
}

// copyStream copies src to dst up to its end, and says which side failed. While nothing comes it holds no buffer.
func copyStream(dst net.Conn, src *link, count *atomic.Int64) (rerr, werr error) {
	for {
		if p := src.pending(); len(p) > 0 {
			if _, err := dst.Write(p); err != nil {
				return nil, err
			}
			count.Add(int64(len(p)))
			src.large = len(p) == len(src.in.data) // one read filled it: much is coming
			src.take(len(p))
		}
		if err := src.fill(true); err != nil {
			if err == io.EOF {
				return nil, nil
			}
			return err, nil
		}
	}
}
