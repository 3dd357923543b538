package proxy

import (
	"bufio"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

const (
	maxAnswer    = 1 << 20 // bytes of an answer's head
	upstreamRead = 16 << 10
)

type (
	generation = h1.Generation
	entry      = h1.Entry
)

// upstreamConn is one connection to a slot, as an exchange of ServeHTTP reads and writes it.
type upstreamConn struct {
	*h1.Upstream
	br       *bufio.Reader // reads from the upstreamConn, not from Upstream
	bw       *bufio.Writer
	headLeft int  // bytes that may still be read; -1: no limit
	heard    bool // the slot has said something since the connection was taken

	wake func(error) (again bool, _ error) // asked about an error of a read; nil: nobody
}

var errHeadTooLarge = errors.New("head of the answer is larger than 1 MiB")

var (
	upstreamReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, upstreamRead) }}
	upstreamWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
)

// newUpstreamConn puts buffers around u.
func newUpstreamConn(u *h1.Upstream) *upstreamConn {
	c := &upstreamConn{Upstream: u, headLeft: -1, br: upstreamReaders.Get().(*bufio.Reader), bw: upstreamWriters.Get().(*bufio.Writer)}
	c.br.Reset(c)
	c.bw.Reset(u)
	return c
}

// free gives the buffers back. Nobody uses the upstreamConn any more.
func (c *upstreamConn) free() {
	c.br.Reset(nil)
	c.bw.Reset(nil)
	upstreamReaders.Put(c.br)
	upstreamWriters.Put(c.bw)
}

// Read reads from the connection, within the limit for an answer's head while one is being read.
func (c *upstreamConn) Read(p []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLarge
	}
	if c.headLeft > 0 && len(p) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.Upstream.Read(p)
	for again := true; n == 0 && err != nil && c.wake != nil; n, err = c.Upstream.Read(p) {
		if again, err = c.wake(err); !again {
			break
		}
	}
	c.heard = c.heard || n > 0
	if c.headLeft > 0 {
		c.headLeft -= n
	}
	return n, err
}

// takeUpstream returns a kept connection to the generation, idle for less than within; nil if there is none.
func takeUpstream(g *generation, within time.Duration) *upstreamConn {
	if u := g.Target.Take(within, 0); u != nil {
		return newUpstreamConn(u)
	}
	return nil
}

// dialUpstream returns a fresh one.
func dialUpstream(ctx context.Context, g *generation) (*upstreamConn, error) {
	u, err := g.Target.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return newUpstreamConn(u), nil
}
