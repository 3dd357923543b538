package h1

import (
	"errors"
	"io"
)

// Large bodies of known length go from socket to socket inside the kernel, where the system can. That takes a pipe, which is held only while
// data is in it: so a transfer that stands still, for either side, costs no descriptor.
const (
	spliceAfter = 256 << 10 // bytes that are copied before
	spliceFrom  = 64 << 10  // bytes that must be left
)

// errNoPipe is why splice has not gone on: there is no pipe to be had. Then a piece is copied.
var errNoPipe = errors.New("no pipe")

// worth reports whether the rest of the body is to be spliced.
func (b *Body) worth() bool {
	return b.framing == sized && b.data >= spliceAfter && b.left >= spliceFrom
}

func (b *Body) skip(n int64) {
	b.left -= n
	b.data += n
}

// splice carries the rest of a large upload; done says that it has come to its end.
func (b *upload) splice(x *Exchange, u *Upstream) (done bool, err error) {
	c := x.conn
	if !x.body.worth() || b.lost.Load() || !canSplice(&u.link, &c.link) {
		return false, nil
	}
	rerr, werr := c.srv.splice(&u.link, &c.link, x.body.left, func(n int64) {
		x.body.skip(n)
		x.In.Add(n)
		b.touch()
	})
	switch {
	case rerr == errNoPipe:
		return false, nil
	case rerr == io.EOF:
		return false, io.ErrUnexpectedEOF
	case rerr != nil:
		return false, rerr
	case werr != nil:
		b.unsent = werr
		b.lost.Store(true)
	}
	if x.body.left > 0 {
		return false, nil // what comes is dropped
	}
	x.bodyRead()
	return true, io.EOF
}

// spliceAnswer carries the rest of a large answer; done says that it has come to its end.
func (x *Exchange) spliceAnswer(u *Upstream, body *Body) (done bool, rerr, werr error) {
	if !body.worth() || !canSplice(&x.conn.link, &u.link) {
		return false, nil, nil
	}
	rerr, werr = x.conn.srv.splice(&x.conn.link, &u.link, body.left, func(n int64) {
		body.skip(n)
		x.Out.Add(n)
	})
	switch rerr {
	case errNoPipe:
		return false, nil, nil
	case io.EOF:
		rerr = io.ErrUnexpectedEOF
	}
	return rerr == nil && werr == nil, rerr, werr
}
