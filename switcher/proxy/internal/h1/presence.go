package h1

import (
	"context"
	"sync"
	"time"
)

// presence is the context of a connection, which ends when its client has gone. One of package context is far larger, and most connections
// are never asked for more than Err.
type presence struct {
	mu   sync.Mutex
	left bool
	done chan struct{} // nil: nobody has asked for it
}

// leave says that the client has gone.
func (p *presence) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left && p.done != nil {
		close(p.done)
	}
	p.left = true
}

func (p *presence) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.left {
			close(p.done)
		}
	}
	return p.done
}

func (p *presence) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return context.Canceled
	}
	return nil
}

func (p *presence) Deadline() (time.Time, bool) { return time.Time{}, false }
func (p *presence) Value(any) any               { return nil }
