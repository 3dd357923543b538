//go:build linux

// backend is a very cheap HTTP/1.1 server that states which version it is, in
// the X-Version header and in the first byte of every body. One epoll loop,
// one read and one write for a small request.
//
//	GET  /            128 bytes (also any unknown path, and /up for health checks)
//	GET  /bytes/N     N bytes
//	GET  /drip/MS     128 bytes, spread over MS milliseconds
//	PUT  /anything    takes the body (length or chunked), answers "A <bytes>"
//	GET  /ws          Upgrade: websocket, then echoes raw bytes
//	GET  /__stats     counters as JSON
package main

import (
	"crypto/sha1"
	"encoding/base64"
	"flag"
	"fmt"
	"log"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/peers/internal/ep"
)

type conn struct {
	fd      int
	buf     []byte // unparsed input
	ws      bool
	close   bool
	inBody  bool
	chunked bool
	left    int64 // body bytes to come (length bodies)
	got     int64
	inChunk int64  // bytes left in the current chunk, counting its CRLF
	out     int64  // zero bytes still to send
	pend    []byte // bytes to send before out
	wantOut bool
	drip    int // body bytes still to drip
	dripGap time.Duration
	dripAt  time.Time
}

var (
	version  = flag.String("version", "A", "what this backend says it is")
	addr     = flag.String("listen", "127.0.0.1:9001", "address")
	small    []byte
	smallCl  []byte
	body     []byte
	zeros    = make([]byte, 256<<10)
	scratch  = make([]byte, 256<<10)
	epfd     int
	conns    = make([]*conn, 1<<16)
	free     []*conn
	nOpen    int
	nAccept  int64
	nReq     int64
	nBodies  int
	dripping = map[*conn]bool{}
)

func main() {
	flag.Parse()
	debug.SetGCPercent(-1) // it allocates only per connection
	ep.Raw = true
	body = []byte(*version + strings.Repeat("x", 126) + "\n")
	small = []byte("HTTP/1.1 200 OK\r\nX-Version: " + *version + "\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(body))
	smallCl = []byte("HTTP/1.1 200 OK\r\nX-Version: " + *version + "\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(body))
	for i := range zeros {
		zeros[i] = (*version)[0]
	}
	lfd, err := ep.Listen(*addr)
	if err != nil {
		log.Fatal(err)
	}
	ep.Pin()
	epfd, _ = syscall.EpollCreate1(0)
	ep.Add(epfd, lfd, syscall.EPOLLIN)
	evs := make([]ep.Event, 512)
	for {
		d := time.Duration(-1)
		if len(dripping) > 0 {
			d = 5 * time.Millisecond
		}
		n := ep.Wait(epfd, evs, d)
		for i := range n {
			fd := int(evs[i].Fd)
			if fd == lfd {
				accept(lfd)
				continue
			}
			c := conns[fd]
			if c == nil {
				continue
			}
			if evs[i].Events&syscall.EPOLLOUT != 0 && !c.flush() {
				continue
			}
			if evs[i].Events&^syscall.EPOLLOUT != 0 {
				c.readable()
			}
		}
		if len(dripping) > 0 {
			now := time.Now()
			for c := range dripping {
				for c.drip > 0 && !now.Before(c.dripAt) {
					c.drip--
					c.dripAt = c.dripAt.Add(c.dripGap)
					if !c.send([]byte{'d'}, 0) {
						break
					}
				}
				if c.drip <= 0 {
					delete(dripping, c)
				}
			}
		}
	}
}

func accept(lfd int) {
	for {
		fd, _, err := syscall.Accept4(lfd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		var c *conn
		if n := len(free); n > 0 {
			c, free = free[n-1], free[:n-1]
			*c = conn{buf: c.buf[:0]}
		} else {
			c = &conn{}
		}
		c.fd = fd
		conns[fd] = c
		nOpen++
		nAccept++
		ep.Add(epfd, fd, syscall.EPOLLIN)
	}
}

func (c *conn) shut() {
	if c.inBody {
		nBodies--
	}
	delete(dripping, c)
	conns[c.fd] = nil
	syscall.Close(c.fd)
	nOpen--
	free = append(free, c)
}

// readable takes what has come. It reports nothing: a closed conn is gone.
func (c *conn) readable() {
	if c.inBody && !c.chunked && c.left > 0 {
		n, e := ep.Discard(c.fd, int(min(c.left, 4<<20)))
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 || n <= 0 {
			c.shut()
			return
		}
		c.left -= int64(n)
		c.got += int64(n)
		if c.left == 0 {
			c.bodyDone()
		}
		return
	}
	n, e := ep.Read(c.fd, scratch)
	if e == syscall.EAGAIN {
		return
	}
	if e != 0 || n <= 0 {
		c.shut()
		return
	}
	in := scratch[:n]
	if c.ws {
		c.send(in, 0)
		return
	}
	if len(c.buf) > 0 {
		c.buf = append(c.buf, in...)
		in = c.buf
	}
	for len(in) > 0 {
		if c.inBody {
			if in = c.eatBody(in); c.inBody || in == nil {
				break
			}
			continue
		}
		end := ep.IndexHeaderEnd(in, 0)
		if end < 0 {
			break
		}
		h := in[:end]
		in = in[end:]
		if !c.request(h) {
			return
		}
	}
	if len(in) > 0 {
		c.buf = append(c.buf[:0], in...)
	} else {
		c.buf = c.buf[:0]
	}
}

func (c *conn) eatBody(in []byte) []byte {
	if !c.chunked {
		k := min(int64(len(in)), c.left)
		c.left -= k
		c.got += k
		in = in[k:]
		if c.left == 0 && !c.bodyDone() {
			return nil
		}
		return in
	}
	for len(in) > 0 {
		if c.inChunk > 0 {
			k := min(int64(len(in)), c.inChunk)
			c.inChunk -= k
			in = in[k:]
			continue
		}
		e := strings.Index(string(in[:min(len(in), 32)]), "\r\n")
		if e < 0 {
			return in
		}
		size, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(string(in[:e]), ";", 2)[0]), 16, 64)
		if err != nil {
			c.shut()
			return nil
		}
		if size == 0 {
			if len(in) < e+4 {
				return in
			}
			in = in[e+4:]
			if !c.bodyDone() {
				return nil
			}
			return in
		}
		c.got += size
		c.inChunk = size + 2
		in = in[e+2:]
	}
	return in
}

func (c *conn) bodyDone() bool {
	c.inBody = false
	nBodies--
	b := fmt.Sprintf("%s %d\n", *version, c.got)
	return c.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nX-Version: %s\r\nContent-Length: %d\r\n\r\n%s", *version, len(b), b), 0)
}

func (c *conn) request(h []byte) bool {
	nReq++
	if h[0] == 'G' && h[4] == '/' && h[5] == ' ' {
		if cl := ep.Header(h, "connection:"); len(cl) == 5 && (cl[0]|0x20) == 'c' {
			c.close = true
			return c.send(smallCl, 0)
		}
		return c.send(small, 0)
	}
	line := string(h[:strings.IndexByte(string(h), '\r')])
	f := strings.Fields(line)
	if len(f) < 3 {
		c.shut()
		return false
	}
	path := f[1]
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	switch {
	case f[0] == "POST" || f[0] == "PUT":
		if ep.Header(h, "expect:") != nil {
			if !c.send([]byte("HTTP/1.1 100 Continue\r\n\r\n"), 0) {
				return false
			}
		}
		c.inBody, c.got = true, 0
		nBodies++
		c.chunked = ep.Header(h, "transfer-encoding:") != nil
		if !c.chunked {
			if c.left = ep.Atoi(ep.Header(h, "content-length:")); c.left == 0 {
				return c.bodyDone()
			}
		}
		return true
	case strings.HasPrefix(path, "/bytes/"):
		n, _ := strconv.ParseInt(path[7:], 10, 64)
		return c.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nX-Version: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", *version, n), n)
	case strings.HasPrefix(path, "/drip/"):
		ms, _ := strconv.Atoi(path[6:])
		c.drip, c.dripGap, c.dripAt = 127, time.Duration(ms)*time.Millisecond/127, time.Now()
		dripping[c] = true
		return c.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nX-Version: %s\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n%s", *version, *version), 0)
	case path == "/ws" && ep.Header(h, "sec-websocket-key:") != nil:
		s := sha1.Sum(append(append([]byte{}, ep.Header(h, "sec-websocket-key:")...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
		c.ws = true
		return c.send([]byte("HTTP/1.1 101 Switching Protocols\r\nX-Version: "+*version+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(s[:])+"\r\n\r\n"), 0)
	case path == "/__stats":
		b := fmt.Sprintf(`{"version":%q,"open":%d,"accepted":%d,"requests":%d,"bodies":%d}`+"\n", *version, nOpen, nAccept, nReq, nBodies)
		return c.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(b), b), 0)
	case f[0] == "HEAD":
		return c.send(small[:len(small)-128], 0)
	default:
		return c.send(small, 0)
	}
}

func (c *conn) send(b []byte, fill int64) bool {
	if c.wantOut {
		c.pend = append(c.pend, b...)
		c.out += fill
		return true
	}
	n, e := ep.Write(c.fd, b)
	if e == syscall.EAGAIN {
		n = 0
	} else if e != 0 {
		c.shut()
		return false
	}
	if n < len(b) {
		c.pend = append(c.pend[:0], b[n:]...)
	}
	c.out = fill
	if len(c.pend) > 0 || fill > 0 {
		return c.flush()
	}
	if c.close {
		c.shut()
		return false
	}
	return true
}

func (c *conn) flush() bool {
	for len(c.pend) > 0 || c.out > 0 {
		b := c.pend
		if len(b) == 0 {
			b = zeros[:min(c.out, int64(len(zeros)))]
		}
		n, e := ep.Write(c.fd, b)
		if e == syscall.EAGAIN {
			if !c.wantOut {
				c.wantOut = true
				ep.Mod(epfd, c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
			}
			return true
		}
		if e != 0 {
			c.shut()
			return false
		}
		if len(c.pend) > 0 {
			c.pend = c.pend[n:]
		} else {
			c.out -= int64(n)
		}
	}
	if c.wantOut {
		c.wantOut = false
		ep.Mod(epfd, c.fd, syscall.EPOLLIN)
	}
	if c.close {
		c.shut()
		return false
	}
	return true
}
