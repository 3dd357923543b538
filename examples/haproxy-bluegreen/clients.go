package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/abswap/abswap/examples/internal/haproxydemo"
)

// felt is what the clients felt.
type felt struct {
	sent, lost, back int64
	first            error
}

// clients post small requests as fast as they are answered, half of them on connections that they keep.
type clients struct {
	over   atomic.Bool
	wg     sync.WaitGroup
	mu     sync.Mutex
	felt   felt
	newest int           // the newest release that was seen
	news   chan struct{} // closed, and made anew, when newest grows
}

func startClients(ctx context.Context, front string) *clients {
	c := &clients{news: make(chan struct{})}
	for i := range 4 {
		c.wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			for !c.over.Load() && ctx.Err() == nil {
				c.one(ctx, tr, front)
			}
		})
	}
	return c
}

// one sends a request. A release older than one that was seen before the request began must not answer it.
func (c *clients) one(ctx context.Context, tr *http.Transport, front string) {
	c.mu.Lock()
	least := c.newest
	c.mu.Unlock()
	text, err := haproxydemo.Post(ctx, tr, "http://"+front+"/", strings.NewReader("x"))
	n := 0
	if err == nil {
		n, err = number(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.felt.sent++
	switch {
	case err != nil && ctx.Err() != nil:
	case err != nil:
		c.felt.lost++
		if c.felt.first == nil {
			c.felt.first = err
		}
	case n < least:
		c.felt.back++
	case n > c.newest:
		c.newest = n
		close(c.news)
		c.news = make(chan struct{})
	}
}

// await waits until a release has answered.
func (c *clients) await(ctx context.Context, release string) error {
	want, err := number(release)
	if err != nil {
		return err
	}
	for {
		c.mu.Lock()
		newest, news := c.newest, c.news
		c.mu.Unlock()
		if newest >= want {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%s has answered nobody: %w", release, context.Cause(ctx))
		}
	}
}

func (c *clients) stop() felt {
	c.over.Store(true)
	c.wg.Wait()
	return c.felt
}

func number(release string) (int, error) {
	digits, ok := strings.CutPrefix(release, "v")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, fmt.Errorf("%w: %q", errNotOurs, release)
	}
	return n, nil
}
