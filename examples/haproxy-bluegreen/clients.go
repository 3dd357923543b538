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
	text, err := post(ctx, tr, "http://"+front+"/", strings.NewReader("x"))
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

// post is one POST, which a client does not try again by itself.
func post(ctx context.Context, tr *http.Transport, to string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
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

// startUpload begins one and sends its first parts.
func startUpload(ctx context.Context, front string) (*upload, error) {
	r, w := io.Pipe()
	u := &upload{body: w, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		tr := &http.Transport{DisableKeepAlives: true}
		u.text, u.err = post(ctx, tr, "http://"+front+"/upload", r)
		r.CloseWithError(io.ErrClosedPipe)
	}()
	for range 8 { // more than the buffers on the way hold: the slot has begun it
		if err := u.send(); err != nil {
			<-u.done
			return nil, fmt.Errorf("upload: %w", u.err)
		}
	}
	return u, nil
}

func (u *upload) send() error {
	n, err := u.body.Write(make([]byte, part))
	u.sent += n
	return err
}

// finish sends the rest and tells which release has taken it.
func (u *upload) finish(context.Context) (release string, err error) {
	for range 8 {
		if err := u.send(); err != nil {
			break // the answer says why
		}
	}
	_ = u.body.Close()
	<-u.done
	if u.err != nil {
		return "", fmt.Errorf("upload: %w", u.err)
	}
	release, n, _ := strings.Cut(u.text, " ")
	if n != strconv.Itoa(u.sent) {
		return "", fmt.Errorf("upload: %q of %d bytes", u.text, u.sent)
	}
	return release, nil
}
