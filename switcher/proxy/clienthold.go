package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

var _ abswap.HoldingSwitcher = (*Client)(nil)

// releaseWithin bounds a release whose answer does not come: the hold ends by itself then.
const releaseWithin = 10 * time.Second

// Hold makes new requests wait. It is a lease, which the Client renews until release, or Close: when this process dies, or loses the proxy,
// the hold ends after ControlOptions.Lease, and after o.Total at the latest. release returns when the hold has ended; if the proxy cannot be
// told, the lease runs out. See Switcher.Hold, and Client for its errors.
func (c *Client) Hold(ctx context.Context, o abswap.HoldOptions) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	beyond, err := beyondText(o.Beyond)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if !c.begin() {
		return nil, fmt.Errorf("proxy: client: hold: the Client is closed: %w", net.ErrClosed)
	}
	defer func() {
		if err != nil {
			c.holds.Done()
		}
	}()
	var a holdAnswer
	began := time.Now()
	err = c.order(ctx, pathHold, func(rev uint64) any {
		return holdOrder{Revision: rev, Each: o.Each, Total: o.Total, Max: o.Max, Bytes: o.Bytes, Beyond: beyond}
	}, &a)
	if err != nil {
		return nil, err
	}
	mine := &holding{a.ID, began.Add(o.WithDefaults().Total)} // it ends there not sooner than it does here
	c.holding.Store(mine)
	renewing, stop := context.WithCancel(c.closing)
	var renewal sync.WaitGroup
	renewal.Go(func() { c.renew(renewing, a) })
	once := sync.OnceFunc(func() {
		defer c.holds.Done()
		c.holding.CompareAndSwap(mine, nil)
		stop()
		renewal.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), releaseWithin)
		defer cancel()
		_ = c.tell(ctx, pathRelease, "", leaseOrder{a.ID}, nil) // if it does not arrive the lease runs out
	})
	forget := context.AfterFunc(c.closing, once)
	return func() {
		forget()
		once()
	}, nil
}

// holding is a hold that the proxy gave and that has not been released.
type holding struct {
	lease string
	ends  time.Time
}

// id returns what an order that is to be carried out under h says of it.
func (h *holding) id() string {
	if h == nil || !time.Now().Before(h.ends) {
		return ""
	}
	return h.lease
}

// begin lets Close wait for one more hold; false if it waits already.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Err() != nil {
		return false
	}
	c.holds.Add(1)
	return true
}

// renew renews the lease until ctx ends or the hold has ended.
func (c *Client) renew(ctx context.Context, a holdAnswer) {
	every := max(a.Lease/4, time.Millisecond)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		one, cancel := context.WithTimeout(ctx, every)
		err := c.tell(one, pathRenew, "", leaseOrder{a.ID}, nil)
		cancel()
		if errors.Is(err, errNoHold) {
			return
		}
	}
}
