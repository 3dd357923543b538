package arr_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load is traffic from many clients, and what became of it.
type load struct {
	t      *testing.T
	front  string
	serves atomic.Pointer[string] // the release that all new work must be answered by; nil: not for certain

	sent, lost, late, uploads, cut, sessions, moved atomic.Int64

	mu    sync.Mutex
	first error

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// startLoad begins requests on fresh and on kept connections, with affinity of clients without a cookie and, unless sessions are kept, with one;
// and uploads, one after another.
func startLoad(t *testing.T, b *box) *load {
	t.Helper()
	front, err := b.srv.URL("http/*:80:" + host)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, front: front, stop: cancel}
	for i := range 6 {
		tr := &http.Transport{DisableKeepAlives: i%2 == 0}
		var jar *cookies
		if i >= 4 && !b.cfg.KeepSessions {
			jar = &cookies{}
		}
		l.wg.Go(func() {
			defer tr.CloseIdleConnections()
			for ctx.Err() == nil {
				l.short(jar, tr)
				pause(ctx, 10*time.Millisecond)
			}
		})
	}
	for range 2 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				left := 30
				l.upload(&http.Transport{DisableKeepAlives: true}, "/", "", func() bool {
					pause(ctx, 20*time.Millisecond)
					left--
					return left > 0 && ctx.Err() == nil
				})
			}
		})
	}
	return l
}

// pause waits between requests: clients think.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// answers says which release answers from now on.
func (l *load) answers(release string) { l.serves.Store(&release) }

// cookies are those of one client.
type cookies struct{ all []*http.Cookie }

// post sends a body once, and returns the release that answered, if its answer is sum. c nil: without cookies.
func (l *load) post(tr *http.Transport, path string, c *cookies, body io.Reader, sum func() string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // a request that hangs is lost
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.front+path, body)
	if err != nil {
		return "", err
	}
	r.Host = host
	if c != nil {
		for _, x := range c.all {
			r.AddCookie(x)
		}
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s: %.100q", resp.Status, text)
	} else if err == nil && string(text) != sum() {
		err = fmt.Errorf("answered %.100q, which is of another body", text)
	}
	if c != nil && len(resp.Cookies()) > 0 {
		c.all = resp.Cookies()
	}
	return resp.Header.Get("X-Release"), err
}

func (l *load) fail(count *atomic.Int64, err error) {
	count.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// end waits for what is on its way.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d requests, %d lost, %d late; %d uploads, %d cut; %d sessions, %d requests of them moved (first: %v)", l.sent.Load(), l.lost.Load(), l.late.Load(),
		l.uploads.Load(), l.cut.Load(), l.sessions.Load(), l.moved.Load(), l.first)
}
