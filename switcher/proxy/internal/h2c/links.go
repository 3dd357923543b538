package h2c

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keepIdle      = time.Minute // a connection without a stream
	continueWait  = time.Second // for the answer to an "Expect: 100-continue"
	streamWindow  = 1 << 20
	maxAnswerHead = 1 << 20
)

// DialFunc connects to an address.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Links are the connections to one generation of a slot.
type Links struct {
	addr     string
	tr       *http.Transport
	dialling chan struct{} // held while a connection is made: others wait for what it brings
	server   *http.Server  // reads what the front door writes

	mu    sync.Mutex
	open  bool // connections may be kept
	links []*link
}

// link is one connection. What follows cc is guarded by Links.mu.
type link struct {
	cc      *http.ClientConn
	streams int
	expiry  *time.Timer // runs while there is no stream
}

// New returns Links that keep no connection until SetOpen. dial makes the connections, all to addr.
func New(addr string, dial DialFunc) *Links {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	l := &Links{addr: addr, dialling: make(chan struct{}, 1)}
	l.tr = &http.Transport{Protocols: only, DisableCompression: true, ExpectContinueTimeout: continueWait, MaxResponseHeaderBytes: maxAnswerHead,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow}, DialContext: dial}
	l.server = &http.Server{Handler: http.HandlerFunc(l.serve), ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }}
	return l
}

// Dial reserves a stream and returns a connection on which it is one request and its answer.
func (l *Links) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	k, err := l.reserve(ctx)
	if err != nil {
		return nil, err
	}
	front, back := net.Pipe()
	s := &stream{Conn: back, on: k}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	l.server.Serve(&once{conn: s}) // returns at once
	return &end{Conn: front, links: l, inner: s}, nil
}

// SetOpen says whether connections may be kept. At return of SetOpen(false) none without a stream is left, and none will be.
func (l *Links) SetOpen(open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = open
	if !open {
		l.closeIdle()
	}
}

// Idle returns how many connections there are without a stream.
func (l *Links) Idle() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.links {
		if k.streams == 0 {
			n++
		}
	}
	return n
}

// closeIdle closes the connections without a stream. It is called with the lock held.
func (l *Links) closeIdle() {
	for i := 0; i < len(l.links); {
		if l.links[i].streams > 0 {
			i++
			continue
		}
		l.drop(i)
	}
}

// drop closes a connection. It is called with the lock held.
func (l *Links) drop(i int) {
	k := l.links[i]
	if k.expiry != nil {
		k.expiry.Stop()
	}
	k.cc.Close()
	last := len(l.links) - 1
	l.links[i], l.links[last] = l.links[last], nil
	l.links = l.links[:last]
}

var errGone = errors.New("new connection to the slot takes no stream")

// reserve returns a connection on which one more stream may be opened. It counts that stream until release.
func (l *Links) reserve(ctx context.Context) (*link, error) {
	if k := l.take(); k != nil {
		return k, nil
	}
	select {
	case l.dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.dialling }()
	if k := l.take(); k != nil {
		return k, nil
	}
	cc, err := l.tr.NewClientConn(ctx, "http", l.addr)
	if err != nil {
		return nil, err
	}
	if err := cc.Reserve(); err != nil {
		cc.Close()
		return nil, errors.Join(errGone, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := &link{cc: cc, streams: 1}
	l.links = append(l.links, k)
	return k, nil
}

// take reserves a stream on a connection that there is; nil if none takes one.
func (l *Links) take() *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; i < len(l.links); i++ {
		k := l.links[i]
		if k.cc.Reserve() == nil {
			if k.streams++; k.expiry != nil {
				k.expiry.Stop()
				k.expiry = nil
			}
			return k
		}
		if k.streams == 0 && k.cc.Err() != nil {
			l.drop(i)
			i--
		}
	}
	return nil
}

// release takes a stream out of the count. The last one closes the connection if none is to be kept, or it can carry no more. It is called with
// the lock held.
func (l *Links) release(k *link) {
	if k.streams--; k.streams > 0 {
		return
	}
	if l.open && k.cc.Err() == nil {
		k.expiry = time.AfterFunc(keepIdle, func() { l.expire(k) })
		return
	}
	l.forget(k)
}

// expire closes a connection that has been idle too long.
func (l *Links) expire(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.streams == 0 && k.expiry != nil {
		l.forget(k)
	}
}

// forget closes k. It is called with the lock held.
func (l *Links) forget(k *link) {
	for i := range l.links {
		if l.links[i] == k {
			l.drop(i)
			return
		}
	}
}

// end is the front door's end of a connection.
type end struct {
	net.Conn
	links *Links
	inner *stream
	once  sync.Once
}

// Close ends the stream, if it still runs. It does not block.
func (e *end) Close() error {
	err := e.Conn.Close()
	e.once.Do(func() {
		e.inner.cancel()
		e.links.end(e.inner)
	})
	return err
}

// stream is our end of it.
type stream struct {
	net.Conn
	ctx    context.Context // ends when the front door has closed its end
	cancel context.CancelFunc
	used   atomic.Bool // the reservation is, or was given back

	on   *link // guarded by Links.mu
	over bool  // the front door has closed its end; guarded by Links.mu
}

// Close is called by the server.
func (s *stream) Close() error {
	if !s.used.Swap(true) {
		s.on.cc.Release()
	}
	return s.Conn.Close()
}

// end takes the stream of s out of the count.
func (l *Links) end(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.over = true
	l.release(s.on)
}

// move gives the stream of s another connection, on which it has been counted. It is false if s is over.
func (l *Links) move(s *stream, to *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.over {
		l.release(to)
		return false
	}
	l.release(s.on)
	s.on = to
	return true
}

// key is that of the stream in the context of a request.
type key struct{}

// once is a listener that accepts one connection.
type once struct {
	mu   sync.Mutex
	conn net.Conn
}

func (o *once) Accept() (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.conn; c != nil {
		o.conn = nil
		return c, nil
	}
	return nil, net.ErrClosed
}

func (o *once) Close() error   { return nil }
func (o *once) Addr() net.Addr { return &net.TCPAddr{} }
