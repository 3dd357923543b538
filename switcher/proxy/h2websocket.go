package proxy

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Websockets over HTTP/2 (RFC 8441): a CONNECT that names the protocol. The slot gets it as an upgrade of HTTP/1.1, and what both say goes over the
// stream. net/http offers that only in a process that was started with GODEBUG=http2xconnect=1.

const (
	protocolField = ":protocol" // where net/http puts the pseudo-header; no field of a client can have that name
	websocketName = "websocket"
	websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
)

// h2Websocket is the stream of a client, as the client's end of a tunnel.
type h2Websocket struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	body io.Reader
	key  string
	l    *leaver // of its tunnel

	ended atomic.Bool // the slot has said its last
	broke atomic.Bool // the stream is to be reset
}

// newH2Websocket returns the stream of r, which judgeH2 has let through, and r as it goes to the slot. The client has no Sec-WebSocket-Key, or one
// that means nothing: the slot's answer to ours is checked here.
func newH2Websocket(w http.ResponseWriter, r *http.Request) (*h2Websocket, *http.Request) {
	var nonce [16]byte
	rand.Read(nonce[:])
	s := &h2Websocket{w: w, rc: http.NewResponseController(w), body: r.Body, key: base64.StdEncoding.EncodeToString(nonce[:])}
	c := *r
	c.Method, c.Body, c.ContentLength, c.Trailer = http.MethodGet, http.NoBody, 0, nil
	c.Header = maps.Clone(r.Header)
	delete(c.Header, protocolField)
	c.Header["Sec-Websocket-Key"] = []string{s.key}
	return s, &c
}

// accepts reports whether h, the head of a 101, comes from one that has read our key.
func (s *h2Websocket) accepts(h http.Header) bool {
	sum := sha1.Sum([]byte(s.key + websocketGUID))
	got := h["Sec-Websocket-Accept"]
	return len(got) == 1 && got[0] == base64.StdEncoding.EncodeToString(sum[:])
}

// open tells the client that the slot has opened the websocket, as resp says.
func (x *exchange) open(resp *http.Response) error {
	h := x.w.Header()
	drop := named(resp.Header)
	for name, values := range resp.Header {
		if !hopByHop(name) && !slices.Contains(drop, name) && name != "Content-Length" && name != "Sec-Websocket-Accept" {
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
	if x.s.cfg.ReleaseHeader != "" {
		h.Set(x.s.cfg.ReleaseHeader, x.gen.Target.Mark)
	}
	if x.s.door.Leaving() || x.Order() == route.HandOver {
		tellToLeave(x.r, h)
	}
	x.w.WriteHeader(http.StatusOK)
	return x.rc.Flush()
}

// Read reads what the client says.
func (s *h2Websocket) Read(p []byte) (int, error) {
	if s.over() {
		return 0, io.EOF
	}
	n, err := s.body.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && s.ended.Load() {
		err = io.EOF
	}
	return n, err
}

// Write tells the client, at once.
func (s *h2Websocket) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.rc.Flush()
	}
	return n, err
}

// CloseWrite is called when the slot has said its last. net/http ends its half of a stream together with the whole, so the client hears that when both
// directions have ended: at once, unless the client still owes the slot a close frame.
func (s *h2Websocket) CloseWrite() error {
	s.ended.Store(true)
	if s.l.down.Closed && !s.over() {
		return s.rc.SetReadDeadline(time.Now().Add(closeWait))
	}
	return s.rc.SetReadDeadline(past) // what has come by now is still read
}

// over reports whether neither has anything to say any more.
func (s *h2Websocket) over() bool { return s.ended.Load() && s.l.closed.Load() }

// SetReadDeadline is that of what the client says.
func (s *h2Websocket) SetReadDeadline(t time.Time) error { return s.rc.SetReadDeadline(t) }

// SetDeadline breaks the stream off: it is called with a deadline that has passed, and with no other.
func (s *h2Websocket) SetDeadline(t time.Time) error {
	s.broke.Store(true)
	return errors.Join(s.rc.SetReadDeadline(t), s.rc.SetWriteDeadline(t))
}

// isWebsocket reports whether a :protocol is the one that can be carried.
func isWebsocket(protocol []string) bool {
	return len(protocol) == 1 && strings.EqualFold(protocol[0], websocketName)
}
