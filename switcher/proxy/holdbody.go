package proxy

import (
	"io"
	"maps"
	"net/http"
	"sync"
)

// aheadPiece is how much is read ahead at a time.
const aheadPiece = 16 << 10

// aheadBody is the body of a request that waits: what its client sends is read before anybody wants it.
type aheadBody struct {
	from  io.ReadCloser
	whole *http.Request // whose trailer fields come with its body
	given *http.Request // which gets them
	quiet chan struct{} // closed when nothing is read ahead any more

	started bool

	mu   sync.Mutex
	buf  []byte // read ahead, and not yet taken
	stop bool   // read no more ahead
	full bool   // no more could be reserved
	err  error  // of from
}

// aheadState says how far reading ahead has come.
type aheadState int

const (
	aheadReading aheadState = iota // it goes on, or was stopped
	aheadWhole                     // to the end
	aheadFull                      // as far as it may
	aheadBroken                    // the client went away, or what it sends is no body
)

// newAhead puts an aheadBody in the place of the body of x. Until start it is as that.
func newAhead(x *exchange) *aheadBody {
	given := *x.r
	b := &aheadBody{from: x.r.Body, whole: x.r, given: &given, quiet: make(chan struct{})}
	close(b.quiet)
	given.Body = b
	given.Trailer = maps.Clone(x.r.Trailer) // the other one is filled when the end is read, which may be while the head is written
	x.r = &given
	return b
}

// start begins to read. reserve is asked before each piece. It is called once, before the first Read.
func (b *aheadBody) start(reserve func(int) bool) {
	b.started = true
	quiet := make(chan struct{})
	b.quiet = quiet
	go func() {
		defer close(quiet)
		b.run(reserve)
	}()
}

func (b *aheadBody) run(reserve func(int) bool) {
	piece := make([]byte, aheadPiece)
	for {
		b.mu.Lock()
		stop := b.stop
		b.mu.Unlock()
		if stop {
			return
		}
		if !reserve(len(piece)) {
			b.mu.Lock()
			b.full = true
			b.mu.Unlock()
			return
		}
		n, err := b.from.Read(piece)
		b.mu.Lock()
		b.buf = append(b.buf, piece[:n]...)
		b.err = err
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read gives what was read ahead, and then what comes.
func (b *aheadBody) Read(p []byte) (int, error) {
	for {
		b.mu.Lock()
		n := copy(p, b.buf)
		b.buf = b.buf[n:]
		err := b.err
		b.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case err == io.EOF:
			b.given.Trailer = b.whole.Trailer
			return 0, err
		case err != nil:
			return 0, err
		}
		select {
		case <-b.quiet:
		default:
			<-b.quiet // the piece that is on its way
			continue
		}
		b.mu.Lock()
		more := len(b.buf) > 0 || b.err != nil
		b.mu.Unlock()
		if more {
			continue
		}
		if n, err = b.from.Read(p); err != nil {
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
			if n == 0 {
				continue
			}
		}
		return n, nil
	}
}

// Close is the server's to do.
func (b *aheadBody) Close() error { return nil }

// stopped returns a channel that is closed when nothing is read ahead any more; nil if there is no body.
func (b *aheadBody) stopped() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.quiet
}

func (b *aheadBody) state() aheadState {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err == io.EOF:
		return aheadWhole
	case b.err != nil:
		return aheadBroken
	case b.full:
		return aheadFull
	}
	return aheadReading
}

// broken reports whether the body cannot be had whole any more.
func (b *aheadBody) broken() bool { return b != nil && b.state() == aheadBroken }

// stopAhead ends the reading ahead: after the piece that is on its way, or, if the body is not wanted any more, at once. Then the client's
// connection cannot carry another request, and nobody reads from it at return.
func (x *exchange) stopAhead(unwanted bool) {
	b := x.ahead
	if b == nil {
		return
	}
	b.mu.Lock()
	b.stop = true
	over := b.err != nil || b.full
	b.mu.Unlock()
	if !unwanted {
		return
	}
	select {
	case <-b.quiet:
		return
	default:
	}
	if !over {
		x.brokeOff = true
		x.rc.SetReadDeadline(past)
	}
	<-b.quiet
}
