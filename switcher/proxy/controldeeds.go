package proxy

import (
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
)

// remembered is how many orders the proxy knows again.
const remembered = 1024

// deeds are the orders that were carried out, or refused, by their keys: one that comes again gets the same answer and does nothing.
type deeds struct {
	mu    sync.Mutex
	byKey map[string]*deed
	order []string // oldest first
}

// deed is one order. What follows done is set before that is closed.
type deed struct {
	content [32]byte
	done    chan struct{}
	answer  any
	err     error
	undone  bool // it was broken off and counts as never given
}

func newDeeds() *deeds { return &deeds{byKey: map[string]*deed{}} }

// begin returns the deed of that key; mine says that the caller is to do it and to call end.
func (d *deeds) begin(key string, content [32]byte) (x *deed, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x, ok := d.byKey[key]; ok {
		return x, false
	}
	x = &deed{content: content, done: make(chan struct{})}
	d.byKey[key] = x
	d.order = append(d.order, key)
	if len(d.order) > remembered {
		delete(d.byKey, d.order[0])
		d.order = d.order[1:]
	}
	return x, true
}

// end tells all who wait for x how it ended; broken means that it was not.
func (d *deeds) end(key string, x *deed, broken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if broken && d.byKey[key] == x {
		x.undone = true
		delete(d.byKey, key) // its place in order is taken by whoever brings it again, or runs out
	}
	close(x.done)
}

// once makes h do an order once, however often it comes.
func (c *control) once(h handler) handler {
	return func(x call) (any, error) {
		if len(x.key) < 16 || len(x.key) > 128 {
			return nil, refuse(http.StatusBadRequest, "an order needs one %s of 16 to 128 characters", keyHeader)
		}
		content := sha256.Sum256(append([]byte(x.path+"\n"), x.body...))
		for {
			d, mine := c.deeds.begin(x.key, content)
			if mine {
				return c.do(h, x, d)
			}
			if d.content != content {
				return nil, refuse(http.StatusUnprocessableEntity, "the %s was used for another order", keyHeader)
			}
			select {
			case <-d.done:
				if !d.undone {
					return d.answer, d.err
				}
			case <-x.ctx.Done():
				return nil, context.Cause(x.ctx)
			}
		}
	}
}

func (c *control) do(h handler, x call, d *deed) (any, error) {
	broken := true // also if h panics
	defer func() { c.deeds.end(x.key, d, broken) }()
	d.answer, d.err = h(x)
	broken = d.err != nil && x.ctx.Err() != nil // the caller went away before its turn came
	return d.answer, d.err
}
