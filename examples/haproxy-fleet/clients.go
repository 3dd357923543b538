package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
	_, err := post(ctx, tr, front, strings.NewReader("x"))
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

// post is one POST, which a client does not try again by itself.
func post(ctx context.Context, tr *http.Transport, front string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+front+"/", body)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, text)
	}
	return string(text), err
}

// upload is one whose body comes in parts.
type upload struct {
	body *io.PipeWriter
	sent int
	done chan struct{}
	text string
	err  error
}

const part = 64 << 10

// startUpload begins one, and returns when a node has begun to take it.
func startUpload(ctx context.Context, front string) (*upload, error) {
	r, w := io.Pipe()
	u := &upload{body: w, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		u.text, u.err = post(ctx, &http.Transport{DisableKeepAlives: true}, front, r)
		r.CloseWithError(io.ErrClosedPipe)
	}()
	for range 8 { // more than the buffers on the way hold
		if err := u.write(); err != nil {
			<-u.done
			return nil, fmt.Errorf("upload: %w", u.err)
		}
	}
	return u, nil
}

func (u *upload) write() error {
	n, err := u.body.Write(make([]byte, part))
	u.sent += n
	return err
}

// send sends one more part, a moment later.
func (u *upload) send(ctx context.Context) error {
	select {
	case <-time.After(50 * time.Millisecond):
		return u.write()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish ends the upload and makes sure that it was taken whole.
func (u *upload) finish() error {
	_ = u.body.Close()
	<-u.done
	if u.err != nil {
		return fmt.Errorf("upload: %w", u.err)
	}
	if !strings.HasSuffix(u.text, " "+strconv.Itoa(u.sent)) {
		return fmt.Errorf("upload: %q of %d bytes", u.text, u.sent)
	}
	return nil
}
