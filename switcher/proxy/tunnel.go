package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// tunnel answers the client with the slot's 101 and carries bytes both ways until both directions have ended. Bytes that came with either
// head are carried too, and each direction ends by itself.
func (x *exchange) tunnel(resp *http.Response) (h1.Ending, error) {
	got := strings.Join(resp.Header["Upgrade"], ", ")
	if x.upgrade == "" || !sameProtocol(x.upgrade, got) {
		return x.verdict(h1.Failed), fmt.Errorf("slot changed to protocol %q, the client asked for %q", got, x.upgrade)
	}
	if x.ws != nil && !x.ws.accepts(resp.Header) {
		return x.verdict(h1.Failed), fmt.Errorf("slot's Sec-WebSocket-Accept %q is not that of our key", resp.Header["Sec-Websocket-Accept"])
	}
	if how := x.beginAnswer(); how != h1.Done {
		return how, nil
	}
	t, l := &tunnel{slot: x.conn.Upstream.Conn}, &leaver{x: x, framed: strings.EqualFold(got, websocketName)}
	var buf *bufio.ReadWriter // around a connection that was taken over
	if x.ws != nil {
		x.ws.l = l
		t.client = x.ws
	} else {
		client, b, err := x.rc.Hijack()
		if err != nil {
			return x.verdict(h1.Failed), fmt.Errorf("client's connection cannot be taken over: %w", err)
		}
		x.client = client // closed by whoever called attempt, after the count
		client.SetDeadline(time.Time{})
		t.client, buf = client, b
	}
	x.mu.Lock()
	x.endConn = t
	ended := x.ended
	x.mu.Unlock()
	if ended {
		t.Close()
		return h1.Finished, nil
	}
	x.Upgrade()
	// Both heads have been read through buffers: what these still hold comes first.
	var fromClient io.Reader = t.client
	if x.ws != nil {
		if err := x.open(resp); err != nil {
			t.Close()
			return h1.Finished, err
		}
	} else {
		x.writeSwitch(buf.Writer, resp, got)
		if err := buf.Flush(); err != nil {
			return h1.Finished, err
		}
		fromClient = io.MultiReader(io.LimitReader(buf.Reader, int64(buf.Reader.Buffered())), t.client)
	}
	fromSlot := io.MultiReader(io.LimitReader(x.conn.br, int64(x.conn.br.Buffered())), x.conn.Upstream.Conn)
	var both sync.WaitGroup
	unread := false
	both.Go(func() { unread = !t.carry(t.slot, l.follow(fromClient), &x.In) })
	t.downward(l, fromSlot)
	both.Wait()
	x.linger = unread && !x.isEnded()
	return h1.Finished, nil
}

// sameProtocol reports whether the slot chose one of the protocols that the client offered.
func sameProtocol(asked, got string) bool {
	if got == "" {
		return false
	}
	for p := range strings.SplitSeq(asked, ",") {
		if strings.EqualFold(strings.TrimSpace(p), got) {
			return true
		}
	}
	return strings.EqualFold(asked, got)
}

func (x *exchange) writeSwitch(bw *bufio.Writer, resp *http.Response, protocol string) {
	bw.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	drop := named(resp.Header)
	for name, values := range resp.Header {
		if hopByHop(name) || slices.Contains(drop, name) || name == http.CanonicalHeaderKey(x.s.cfg.ReleaseHeader) {
			continue
		}
		for _, v := range values {
			writeField(bw, name, v)
		}
	}
	if x.s.cfg.ReleaseHeader != "" {
		writeField(bw, x.s.cfg.ReleaseHeader, x.gen.Target.Mark)
	}
	if set := x.answeredBy(resp.Header); set != "" {
		writeField(bw, "Set-Cookie", set)
	}
	writeField(bw, "Upgrade", protocol)
	writeField(bw, "Connection", "Upgrade")
	bw.WriteString("\r\n")
}

// tunnel is an upgraded connection: the two that it joins.
type tunnel struct {
	client tunnelClient
	slot   net.Conn
}

// tunnelClient is the client's connection, or its stream.
type tunnelClient interface {
	io.ReadWriter
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
}

// Close breaks off both directions without waiting: closing a TLS connection could.
func (t *tunnel) Close() error {
	return errors.Join(t.client.SetDeadline(past), t.slot.Close())
}

// carry copies one direction and reports whether it came to its end, or had to leave something unread. An end is passed on as an end of that
// direction only, and the other one lives on. A broken source breaks off both. If dst is broken, the other direction finds that by itself,
// after what is still on its way there.
func (t *tunnel) carry(dst net.Conn, src io.Reader, count *atomic.Int64) bool {
	rerr, werr := copyStream(dst, src, count)
	if werr != nil {
		return false
	}
	t.pass(dst, rerr)
	return true
}

// pass passes the end of one direction on, or breaks off both.
func (t *tunnel) pass(dst any, rerr error) {
	if rerr != nil {
		t.Close()
	} else if ok, _ := closeWrite(dst); !ok {
		t.Close() // this kind of connection has no halves
	}
}

// downward is carry from the slot to the client.
func (t *tunnel) downward(l *leaver, src io.Reader) {
	if told, rerr, werr := l.downward(t, src); werr == nil && !told {
		t.pass(t.client, rerr)
	}
}

// smallBuffer holds what a mostly quiet connection says at a time.
const smallBuffer = 4 << 10

// copyStream copies src to dst up to its end, and says which side failed. It begins with a small buffer, as most upgraded connections say
// little, and takes a large one when one read fills it.
func copyStream(dst io.Writer, src io.Reader, count *atomic.Int64) (rerr, werr error) {
	buf := make([]byte, smallBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return nil, werr
			}
			count.Add(int64(n))
			if n == len(buf) && n == smallBuffer {
				large := copyBuffers.Get().(*[]byte)
				defer copyBuffers.Put(large)
				buf = *large
			}
		}
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}
