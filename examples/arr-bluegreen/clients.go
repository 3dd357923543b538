package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/iis"
)

// clients send requests all the time.
type clients struct {
	host             string
	client           *http.Client
	end              context.CancelFunc
	all              sync.WaitGroup
	sent, lost, late atomic.Int64
	uploads, cut     atomic.Int64
	expect           atomic.Pointer[string] // the release that has to answer; nil: any
	mu               sync.Mutex
	first            error // that a request failed with
	longest          time.Duration
}

func newClients(app *iis.App, o options) *clients {
	dial := (&net.Dialer{}).DialContext
	if app.Server != nil && app.Server.Dial != nil {
		dial = app.Server.Dial
	}
	ctx, end := context.WithCancel(context.Background())
	c := &clients{host: o.host, end: end, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, o.front) }}}}
	for range 8 {
		c.all.Go(func() {
			t := time.NewTicker(40 * time.Millisecond)
			defer t.Stop()
			for ctx.Err() == nil {
				c.one()
				select {
				case <-t.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return c
}

// ask sends one request and returns the release that answered.
func (c *clients) ask(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.host+"/release.txt", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

func (c *clients) one() {
	want, began := c.expect.Load(), time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	got, err := c.ask(ctx)
	c.sent.Add(1)
	c.mu.Lock()
	c.longest = max(c.longest, time.Since(began))
	if err != nil {
		c.lost.Add(1)
		if c.first == nil {
			c.first = err
		}
	}
	c.mu.Unlock()
	if err == nil && want != nil && want == c.expect.Load() && got != *want {
		c.late.Add(1)
	}
}

// answeredBy wants the release to answer from now on.
func (c *clients) answeredBy(ctx context.Context, release string) error {
	got, err := c.ask(ctx)
	if err == nil && got != release {
		err = fmt.Errorf("the front door is answered by release %q, not by %q", got, release)
	}
	c.expect.Store(&release)
	return err
}

// upload is a long request.
type upload struct {
	finish func() // lets it come to its end
	done   chan error
	c      *clients
}

// upload begins one.
func (c *clients) upload(ctx context.Context) *upload {
	c.expect.Store(nil) // a deploy begins
	body, w := io.Pipe()
	u := &upload{done: make(chan error, 1), c: c}
	stop := make(chan struct{})
	u.finish = sync.OnceFunc(func() { close(stop) })
	c.uploads.Add(1)
	var sent atomic.Int64
	go func() {
		defer w.Close()
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			n, err := io.WriteString(w, strings.Repeat("x", 1000))
			sent.Add(int64(n))
			if err != nil {
				return
			}
			select {
			case <-t.C:
			case <-stop:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer body.Close()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.host+"/upload", body)
		if err != nil {
			u.done <- err
			return
		}
		resp, err := c.client.Do(r)
		if err != nil {
			u.done <- err
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if want := fmt.Sprint(sent.Load()); err == nil && (resp.StatusCode != http.StatusOK || strings.TrimSpace(string(text)) != want) {
			err = fmt.Errorf("status %s: %.100q after %s bytes", resp.Status, text, want)
		}
		u.done <- err
	}()
	return u
}

// wait waits for its end.
func (u *upload) wait() error {
	if err := <-u.done; err != nil {
		u.c.cut.Add(1)
		return fmt.Errorf("upload: %w", err)
	}
	return nil
}

func (c *clients) stop() {
	c.end()
	c.all.Wait()
	c.client.CloseIdleConnections()
}

// verdict tells what the clients felt.
func (c *clients) verdict(out io.Writer) error {
	c.stop()
	fmt.Fprintf(out, "clients: %d requests, %d lost, %d late; %d uploads, %d cut; the longest request took %s\n", c.sent.Load(), c.lost.Load(), c.late.Load(),
		c.uploads.Load(), c.cut.Load(), c.longest.Round(time.Millisecond))
	if c.lost.Load()+c.late.Load()+c.cut.Load() > 0 {
		return fmt.Errorf("a promise was broken; the first failure: %w", c.first)
	}
	return nil
}
