package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iistest"
)

var full = flag.Bool("full", false, "50 switches instead of 3")

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each emulated appcmd, being this program, lasts a second longer under the race detector
	iistest.Main()
	os.Exit(m.Run())
}

// crowd are clients beside those of the demo: forms, which cannot be sent twice, on kept-alive connections and fresh ones; and uploads, of
// which some live over a switch.
type crowd struct {
	door           iisdemo.Door
	forms, uploads atomic.Int64
	lost, cut      atomic.Int64

	mu  sync.Mutex
	why []string
}

func (c *crowd) note(what *atomic.Int64, err error) {
	what.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.why) < 10 {
		c.why = append(c.why, err.Error())
	}
}

func (c *crowd) begin(door iisdemo.Door) (stop func()) {
	c.door = door
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { c.sendForms(ctx, i%2 == 0) })
	}
	for i := range 3 {
		all.Go(func() {
			for ctx.Err() == nil {
				c.upload(ctx, time.Duration(10+12*i)*100*time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

func (c *crowd) client() *http.Client {
	return &http.Client{Timeout: 90 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.door.Dial(ctx, network, c.door.Address)
		}}}
}

// post sends a body of unknown length, so that nobody can send it again, and checks the receipt.
func (c *crowd) post(client *http.Client, fresh bool, body io.Reader) error {
	sent := &receipt{sum: sha256.New()}
	r, err := http.NewRequest(http.MethodPost, "http://www.example.test/upload", io.TeeReader(body, sent))
	if err != nil {
		return err
	}
	r.Close = fresh
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if want := sent.text(); resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(text), want) {
		return fmt.Errorf("answered %s %q", resp.Status, text)
	}
	return nil
}

// receipt is what the application says of a body. The goroutine that sends one may still be about to end when the answer is there.
type receipt struct {
	mu  sync.Mutex
	n   int64
	sum hash.Hash
}

func (r *receipt) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += int64(len(p))
	return r.sum.Write(p)
}

func (r *receipt) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf(" %d %x\n", r.n, r.sum.Sum(nil))
}

func (c *crowd) sendForms(ctx context.Context, fresh bool) {
	client := c.client()
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		c.forms.Add(1)
		if err := c.post(client, fresh, strings.NewReader("name=value")); err != nil {
			c.note(&c.lost, fmt.Errorf("form: %w", err))
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// upload sends a body a piece at a time. One that could not begin counts as lost, one that broke off as cut.
func (c *crowd) upload(ctx context.Context, lasts time.Duration) {
	client := c.client()
	defer client.CloseIdleConnections()
	end := time.Now().Add(lasts)
	moved := false
	body := read(func(p []byte) (int, error) {
		if time.Now().After(end) || ctx.Err() != nil {
			return 0, io.EOF
		}
		if moved {
			time.Sleep(20 * time.Millisecond) // a slow client
		}
		moved = true
		return copy(p, bytes.Repeat([]byte("upload "), 300)), nil
	})
	c.uploads.Add(1)
	if err := c.post(client, true, body); err != nil {
		what := &c.lost
		if time.Since(end.Add(-lasts)) > time.Second {
			what = &c.cut
		}
		c.note(what, fmt.Errorf("upload: %w", err))
		time.Sleep(100 * time.Millisecond)
	}
}

type read func(p []byte) (int, error)

func (f read) Read(p []byte) (int, error) { return f(p) }

// TestTheHoldClosesTheGap deploys and toggles under a mixed load, with the proxy in front and without it.
func TestTheHoldClosesTheGap(t *testing.T) {
	held, direct := "1", "0" // and two deploys
	if *full {
		held = "48"
	}
	for _, tc := range []struct {
		name string
		args []string
		hold bool
	}{
		{"held", []string{"-toggles", held}, true},
		{"direct", []string{"-toggles", direct, "-direct"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			var c crowd
			s := &story{clients: c.begin}
			code := s.example().Run(t.Context(), append([]string{"-emulate", "-rate", "60", "-linger", "300ms", "-settle", "3s"}, tc.args...), &out, &out)
			t.Log(out.String())
			t.Logf("%d forms and %d uploads more: %d lost, %d cut: %q", c.forms.Load(), c.uploads.Load(), c.lost.Load(), c.cut.Load(), c.why)
			assert.Zero(t, code)
			assert.Contains(t, out.String(), "every promise was kept")
			assert.NotZero(t, c.uploads.Load())
			if tc.hold {
				assert.Zero(t, c.cut.Load(), "uploads that were under way")
				assert.Contains(t, out.String(), ": 0 lost, 0 late, 0 cut")
				assert.Zero(t, c.lost.Load(), "of %d forms", c.forms.Load())
				for _, h := range s.held {
					assert.NoError(t, h.Err)
					assert.False(t, h.Expired)
				}
				assert.NotEmpty(t, s.held)
				return
			}
			assert.NotContains(t, out.String(), ": 0 lost", "the gap shows")
			assert.NotZero(t, c.lost.Load(), "the gap shows")
		})
	}
}

// TestCoreApplicationsAreRefused: a hold does not mend what a toggle cuts.
func TestCoreApplicationsAreRefused(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	code := (&story{}).example().Run(t.Context(), []string{"-emulate", "-appcmd", "0", "-mode", "outofprocess", "-no-rotation"}, &out, &out)
	t.Log(out.String())
	assert.Equal(t, 1, code)
	assert.Contains(t, out.String(), "stopping a site shuts its ASP.NET Core applications down")
}
