package tcp

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// acceptor accepts connections on several listeners and knows which are under way.
type acceptor struct {
	mu     sync.Mutex
	shut   bool // no more listeners
	closed bool // nor connections
	open   map[net.Listener]bool
	wake   chan struct{} // closed by close; nil until somebody waits for it
	under  int           // connections under way
	fewer  chan struct{} // closed when one of them, or of open, has ended; nil until somebody waits for it
}

// enter counts a connection, unless it is too late.
func (a *acceptor) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.under++
	return true
}

func (a *acceptor) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under--
	a.ring()
}

// ring tells those who wait that there is less under way. a.mu is held.
func (a *acceptor) ring() {
	if a.fewer != nil {
		close(a.fewer)
		a.fewer = nil
	}
}

// wait waits until no connection is under way, and, if all is set, until nobody accepts any more who may have one that is not counted yet.
func (a *acceptor) wait(ctx context.Context, all bool) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.mu.Lock()
		over := a.under == 0 && (!all || len(a.open) == 0)
		if a.fewer == nil {
			a.fewer = make(chan struct{})
		}
		fewer := a.fewer
		a.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-fewer:
		case <-ctx.Done():
		}
	}
}

func (a *acceptor) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// close closes the listeners, and for good lets no connection in any more.
func (a *acceptor) close(forGood bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.shut {
		a.shut = true
		close(a.woken())
	}
	a.closed = a.closed || forGood
	for l := range a.open {
		l.Close()
	}
}

// woken returns a channel that close closes. a.mu is held.
func (a *acceptor) woken() chan struct{} {
	if a.wake == nil {
		a.wake = make(chan struct{})
	}
	return a.wake
}

// serve accepts on l until it fails for good, and gives each connection to handle, on a goroutine of its own; when the connection has ended
// leave must be called. It returns net.ErrClosed after close.
func (a *acceptor) serve(l net.Listener, handle func(net.Conn)) error {
	a.mu.Lock()
	if a.shut {
		a.mu.Unlock()
		l.Close()
		return net.ErrClosed
	}
	if a.open == nil {
		a.open = map[net.Listener]bool{}
	}
	a.open[l] = true
	wake := a.woken()
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.open, l)
		l.Close()
		a.ring()
	}()

	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-wake:
				return net.ErrClosed
			default:
			}
			if temporary(err) { // out of descriptors or memory, or the client has gone already
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				t := time.NewTimer(pause)
				select {
				case <-t.C:
				case <-wake:
					t.Stop()
				}
				continue
			}
			return err
		}
		pause = 0
		if !a.enter() {
			c.Close()
			return net.ErrClosed
		}
		go handle(c)
	}
}

// Windows' own numbers for no more sockets, and no room for one. No other system has such.
const (
	wsaMFile  syscall.Errno = 10024
	wsaNoBufs syscall.Errno = 10055
)

// temporary reports whether accepting may work again by itself.
func temporary(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.ENOBUFS, syscall.ENOMEM, wsaMFile, wsaNoBufs} {
		if errors.Is(err, e) {
			return true
		}
	}
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary() && !errors.Is(err, net.ErrClosed)
}
