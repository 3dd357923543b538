package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// load is what clients do, and what they feel.
type load struct {
	door   string
	client *http.Client
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu             sync.Mutex
	release        string // to which requests that begin now must go; "": one of two
	epoch          int    // grows when release changes
	requests, late int
	uploads        int
	lost, broken   []error
}

// begin lets clients ask until end: each request is a POST, which no client sends twice by itself, on a connection of its own.
func begin(ctx context.Context, door string, clients int) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{door: door, stop: stop, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	for range clients {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.one(ctx)
			}
		})
	}
	return l
}

func (l *load) one(ctx context.Context) {
	body := []byte(rand.Text())
	l.mu.Lock()
	want, epoch := l.release, l.epoch
	l.mu.Unlock()
	release, err := l.post(context.WithoutCancel(ctx), bytes.NewReader(body), func() []byte { sum := sha256.Sum256(body); return sum[:] })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.lost = append(l.lost, err)
	} else if want != "" && epoch == l.epoch && release != want {
		l.late++
	}
}

// post sends a body and checks that the answer is of all of it.
func (l *load) post(ctx context.Context, body io.Reader, sum func() []byte) (release string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.door+"/", body)
	if err != nil {
		return "", err
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	release = resp.Header.Get("X-Release")
	if want := fmt.Sprintf("%s %x", release, sum()); resp.StatusCode != http.StatusOK || string(text) != want {
		return "", fmt.Errorf("%s: %.100q, not %q", resp.Status, text, want)
	}
	return release, nil
}

// upload begins one that lasts for d. The function that it returns waits for it.
func (l *load) upload(ctx context.Context, d time.Duration) (wait func() error) {
	const parts = 40
	r, w := io.Pipe()
	sum := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range parts {
			part := bytes.Repeat([]byte{byte(i)}, 32<<10)
			sum.Write(part)
			if _, err := w.Write(part); err != nil {
				return
			}
			select {
			case <-time.After(d / parts):
			case <-ctx.Done():
				w.CloseWithError(ctx.Err())
				return
			}
		}
		w.Close()
	})
	var err error
	wg.Go(func() {
		_, err = l.post(ctx, r, func() []byte { return sum.Sum(nil) })
		r.CloseWithError(io.ErrClosedPipe)
	})
	l.mu.Lock()
	l.uploads++
	l.release, l.epoch = "", l.epoch+1 // a deploy begins: two releases answer
	l.mu.Unlock()
	return func() error { wg.Wait(); return err }
}

// expect says that from now on all is answered by that release; "": by one of two.
func (l *load) expect(release string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release, l.epoch = release, l.epoch+1
}

func (l *load) cut(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = append(l.broken, err)
}

// end ends the clients and waits for them.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// verdict tells what the clients felt.
func (l *load) verdict(out io.Writer) bool {
	fmt.Fprintf(out, "%d requests: %d lost, %d late; %d uploads: %d cut\n", l.requests, len(l.lost), l.late, l.uploads, len(l.broken))
	var texts []string
	for _, err := range append(l.lost, l.broken...) {
		texts = append(texts, "  "+err.Error())
	}
	if len(texts) > 10 {
		texts = append(texts[:10], "  ...")
	}
	fmt.Fprint(out, strings.Join(append(texts, ""), "\n"))
	return len(l.lost)+l.late+len(l.broken) == 0
}
