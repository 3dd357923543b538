package proxy

import (
	"maps"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// PutAhead puts a body that can be read ahead in the place of the body of x. Until it is started it is as that.
func (x *exchange) PutAhead() {
	if x.ahead != nil || x.r.ContentLength == 0 {
		return
	}
	whole, given := x.r, *x.r
	x.ahead = h1.NewAhead(whole.Body, func() { given.Trailer = whole.Trailer })
	given.Body = readAhead{x.ahead}
	given.Trailer = maps.Clone(whole.Trailer) // the other one is filled when the end is read, which may be while the head is written
	x.r = &given
}

// readAhead is the body of a request that waits, as net/http wants it.
type readAhead struct{ *h1.Ahead }

// Close is the server's to do.
func (readAhead) Close() error { return nil }

// Ahead is what PutAhead made; nil: nothing.
func (x *exchange) Ahead() *h1.Ahead { return x.ahead }

// StopAhead ends the reading ahead. If the body is not wanted any more, the client's connection cannot carry another request, and nobody reads
// from it at return.
func (x *exchange) StopAhead(unwanted bool) {
	x.ahead.Stop(unwanted, func() {
		x.brokeOff = true
		x.rc.SetReadDeadline(past)
	})
}
