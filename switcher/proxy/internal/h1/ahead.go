package h1

import (
	"io"
	"sync"
)

// aheadPiece is how much is read ahead at a time.
const aheadPiece = 16 << 10

// Ahead is the body of a request that waits: what its client sends is read before anybody wants it.
type Ahead struct {
	from  io.Reader
	whole func()        // called when Read has come to the end
	quiet chan struct{} // closed when nothing is read ahead any more

	started bool

	mu      sync.Mutex
	buf     []byte // read ahead, and not yet taken
	reserve func(int) bool
	turn    int   // how often Start was called
	running bool  // run looks at stop and reserve again before it ends
	stop    bool  // read no more ahead
	full    bool  // no more could be reserved
	err     error // of from
}

// AheadState says how far reading ahead has come.
type AheadState int

const (
	AheadReading AheadState = iota // it goes on, or was stopped
	AheadWhole                     // to the end
	AheadFull                      // as far as it may
	AheadBroken                    // the client went away, or what it sends is no body
)

// NewAhead returns an Ahead of the body that from reads. Until Start it is as that. whole is called when a Read has returned io.EOF.
func NewAhead(from io.Reader, whole func()) *Ahead {
	b := &Ahead{from: from, whole: whole, quiet: make(chan struct{})}
	close(b.quiet)
	return b
}

// Started reports whether Start was called.
func (b *Ahead) Started() bool { return b.started }

// Start begins to read, or goes on with it for another who waits. reserve is asked before each piece, and for what was read before. It is called
// before the first Read.
func (b *Ahead) Start(reserve func(int) bool) {
	b.started = true
	b.mu.Lock()
	n := len(b.buf)
	b.mu.Unlock()
	room := n == 0 || reserve(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	b.reserve, b.stop, b.full = reserve, !room, !room
	if b.running || b.err != nil || !room {
		return
	}
	b.running = true
	quiet := make(chan struct{})
	b.quiet = quiet
	go func() {
		defer close(quiet)
		b.run()
	}()
}

func (b *Ahead) run() {
	piece := make([]byte, aheadPiece)
	for {
		b.mu.Lock()
		stop, reserve, turn := b.stop, b.reserve, b.turn
		b.running = !stop
		b.mu.Unlock()
		if stop {
			return
		}
		if !reserve(len(piece)) {
			b.mu.Lock()
			over := b.turn == turn // else it was the earlier one's room
			if over {
				b.full, b.running = true, false
			}
			b.mu.Unlock()
			if over {
				return
			}
			continue
		}
		n, err := b.from.Read(piece)
		b.mu.Lock()
		b.buf = append(b.buf, piece[:n]...)
		b.err = err
		b.running = err == nil
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read gives what was read ahead, and then what comes.
func (b *Ahead) Read(p []byte) (int, error) {
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
			b.whole()
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

// Stopped returns a channel that is closed when nothing is read ahead any more; nil if there is no body.
func (b *Ahead) Stopped() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.quiet
}

// State says how far reading ahead has come.
func (b *Ahead) State() AheadState {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err == io.EOF:
		return AheadWhole
	case b.err != nil:
		return AheadBroken
	case b.full:
		return AheadFull
	}
	return AheadReading
}

// Broken reports whether the body cannot be had whole any more.
func (b *Ahead) Broken() bool { return b != nil && b.State() == AheadBroken }

// Stop ends the reading ahead: after the piece that is on its way, or, if the body is not wanted any more, at once. Then breakOff is called
// if somebody reads, who is to be woken by it, and nobody reads at return.
func (b *Ahead) Stop(unwanted bool, breakOff func()) {
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
		breakOff()
	}
	<-b.quiet
}
