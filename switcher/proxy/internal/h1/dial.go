package h1

import (
	"context"
	"fmt"
	"time"
)

// connect returns a connection to the slot: a kept one if that is safe for this request, else a fresh one. kept says that it still needs a
// look.
func (x *Exchange) connect(fresh bool) (u *Upstream, kept bool, err error) {
	pool := x.gen.Target
	if !fresh {
		within := time.Duration(-1)
		if !x.facts.Idempotent || x.facts.Length != 0 {
			within = pool.cfg.ReuseBefore
		}
		if u := pool.take(within, x.shard, false); u != nil {
			x.attach(u)
			return u, within < 0, nil
		}
	}
	if u = pool.connectNow(); u == nil {
		if u, err = x.dial(pool); err != nil {
			return nil, false, err
		}
	}
	x.attach(u)
	return u, false, nil
}

// dial makes a fresh connection by waiting for it, on a goroutine of its own: it takes a deep stack, which the connection's goroutine would keep.
func (x *Exchange) dial(pool *Pool) (*Upstream, error) {
	d := &dialing{over: make(chan struct{})}
	ctx, cancel := pool.bounded(context.Background())
	x.setDial(cancel)
	go d.run(ctx, pool)
	<-d.over
	x.setDial(nil)
	cancel()
	return d.u, d.err
}

// dialing is the making of one connection.
type dialing struct {
	u    *Upstream
	err  error
	over chan struct{} // closed once u and err are valid
}

func (d *dialing) run(ctx context.Context, pool *Pool) {
	defer func() {
		if v := recover(); v != nil { // on this goroutine it would end the process
			d.u, d.err = nil, fmt.Errorf("dialing the slot panicked: %v", v)
		}
		close(d.over)
	}()
	d.u, d.err = pool.connect(ctx)
}

func (x *Exchange) setDial(cancel context.CancelFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endDial = cancel
	if cancel != nil && x.ended() {
		cancel()
	}
}
