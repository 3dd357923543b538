package iisdemo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a client waits for a short request, or for the end of an upload that is all sent, before it counts as lost.
const patience = 15 * time.Second

// request is what became of one request.
type request struct {
	upload  bool
	reused  bool // it came on a kept-alive connection
	sent    time.Time
	ended   time.Time
	release string // that answered; of an upload: the one it was begun with
	err     error
}

// load is what the clients do: short requests at a constant rate, whether or not the earlier ones are answered, a third of them on fresh
// connections; and uploads.
type load struct {
	host, front string
	rate        int
	receipts    bool // the application answers uploads as OpenRelease's does
	client      *http.Client
	cancel      context.CancelFunc
	all         sync.WaitGroup

	mu       sync.Mutex
	requests []request
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// newLoad begins the load on the front door. stop ends it.
func newLoad(host, front string, dial dialer, rate int, receipts bool) *load {
	l := &load{host: host, front: front, rate: rate, receipts: receipts, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, ExpectContinueTimeout: patience,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, front) }},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.all.Go(func() { l.run(ctx) })
	return l
}

// stop ends the load and returns when all that had begun has ended.
func (l *load) stop() {
	l.cancel()
	l.all.Wait()
	l.client.CloseIdleConnections()
}

func (l *load) run(ctx context.Context) {
	every := time.NewTicker(time.Second / time.Duration(l.rate))
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			l.all.Go(func() { l.short(n%3 == 0) })
		}
	}
}

// short asks who answers.
func (l *load) short(fresh bool) {
	r := request{sent: time.Now()}
	r.release, r.reused, r.err = l.ask(fresh)
	r.ended = time.Now()
	l.record(r)
}

func (l *load) record(r request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

// recorded is what has ended so far.
func (l *load) recorded() []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]request(nil), l.requests...)
}

// ask asks the front door for the release that answers.
func (l *load) ask(fresh bool) (release string, reused bool, err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("no answer for %s", patience))
	defer cancel()
	var conns, kept atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if conns.Add(1); i.Reused {
			kept.Add(1)
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.host+MarkPath, nil)
	if err != nil {
		return "", false, err
	}
	req.Close = fresh
	resp, err := l.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", kept.Load() > 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch {
	case err == nil && resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("answered %s", resp.Status)
	case err == nil && conns.Load() > 1: // Go's client does that by itself for a GET; others do not
		err = errors.New("it had to be sent a second time")
	}
	return strings.TrimSpace(string(body)), kept.Load() > 0, err
}

// upload is a body under way.
type upload struct {
	begun  chan struct{} // closed when the server has asked for the body
	finish chan struct{} // closed when it is to end
	ended  chan struct{} // closed when it has
	once   sync.Once
}

// begin begins an upload, and returns when the application is at it. release is who should answer.
func (l *load) begin(ctx context.Context, path, release string) (*upload, error) {
	u := &upload{begun: make(chan struct{}), finish: make(chan struct{}), ended: make(chan struct{})}
	l.all.Go(func() {
		defer close(u.ended)
		r := request{upload: true, sent: time.Now(), release: release}
		r.err = l.post(path, u, release)
		r.ended = time.Now()
		l.record(r)
	})
	select {
	case <-u.begun:
		return u, nil
	case <-u.ended:
		return nil, errors.New("the upload ended before its body was asked for")
	case <-ctx.Done():
		u.end(0)
		return nil, context.Cause(ctx)
	}
}

// end lets the upload end after some more time, and waits for it.
func (u *upload) end(linger time.Duration) {
	u.once.Do(func() { time.AfterFunc(linger, func() { close(u.finish) }) })
	<-u.ended
}

func (l *load) post(path string, u *upload, release string) error {
	sum, n := sha256.New(), int64(0)
	body := reader(func(p []byte) (int, error) {
		select {
		case <-u.begun:
		default:
			close(u.begun)
		}
		select {
		case <-u.finish:
			return 0, io.EOF
		case <-time.After(20 * time.Millisecond):
		}
		piece := bytes.Repeat([]byte{byte(n)}, min(len(p), 4096))
		copy(p, piece)
		sum.Write(piece)
		n += int64(len(piece))
		return len(piece), nil
	})
	req, err := http.NewRequest(http.MethodPost, "http://"+l.host+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Expect", "100-continue") // the body is sent when somebody reads it
	req.Close = true
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("answered %s", resp.Status)
	}
	if want := receipt(release, n, sum.Sum(nil)); l.receipts && string(answer) != want {
		return fmt.Errorf("the answer is %q, not %q", answer, want)
	}
	return nil
}

// reader is a function as an io.Reader.
type reader func(p []byte) (int, error)

func (f reader) Read(p []byte) (int, error) { return f(p) }
