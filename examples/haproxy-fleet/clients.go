package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/examples/internal/haproxydemo"
)

// felt is what the clients felt.
type felt struct {
	sent, lost int64
	first      error
}

// clients post small requests to both front doors, half of them on connections that they keep.
type clients struct {
	over atomic.Bool
	wg   sync.WaitGroup
	mu   sync.Mutex
	felt felt
}

func startClients(ctx context.Context, fronts []string) *clients {
	c := &clients{}
	for i := range 2 * len(fronts) {
		c.wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i < len(fronts)}
			defer tr.CloseIdleConnections()
			tick := time.NewTicker(5 * time.Millisecond) // the machines, the balancers and the tool live on this computer too
			defer tick.Stop()
			for !c.over.Load() && ctx.Err() == nil {
				c.one(ctx, tr, fronts[i%len(fronts)])
				<-tick.C
			}
		})
	}
	return c
}

func (c *clients) one(ctx context.Context, tr *http.Transport, front string) {
	_, err := haproxydemo.Post(ctx, tr, "http://"+front+"/", strings.NewReader("x"))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.felt.sent++
	if err != nil && ctx.Err() == nil {
		c.felt.lost++
		if c.felt.first == nil {
			c.felt.first = err
		}
	}
}

// so is what they have felt so far.
func (c *clients) so() felt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.felt
}

func (c *clients) stop() felt {
	c.over.Store(true)
	c.wg.Wait()
	return c.felt
}

// slowUpload is one that sends a part each moment.
type slowUpload struct{ *haproxydemo.Upload }

func startUpload(ctx context.Context, front string) (*slowUpload, error) {
	u, err := haproxydemo.StartUpload(ctx, "http://"+front+"/")
	if err != nil {
		return nil, err
	}
	return &slowUpload{u}, nil
}

// send sends one more part, a moment later.
func (u *slowUpload) send(ctx context.Context) error {
	select {
	case <-time.After(50 * time.Millisecond):
		return u.Send()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish ends the upload and makes sure that it was taken whole.
func (u *slowUpload) finish() error {
	_, err := u.Finish()
	return err
}
