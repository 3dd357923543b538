package proxy_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/proxy"
)

var plainGet = fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/slow"}, {":authority", "site.test"}}

// TestRapidResetIsBounded opens streams and resets them at once, as many as it may. What the application has to do at a time is bounded, others are
// served meanwhile, and nothing of it is left.
func TestRapidResetIsBounded(t *testing.T) {
	var now, most atomic.Int64
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-r.Context().Done()
			return
		}
		hello(w, r)
	}, hello)
	c := f.h2raw(t)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, _, _, _, err := c.next(); err != nil {
				return
			}
		}
	})
	client := newClient(t)
	block := plainGet.block()
	sent := 0
	for begin := time.Now(); time.Since(begin) < 2*time.Second; sent++ {
		id := uint32(2*sent + 1)
		if c.frame(frameHeaders, endHeaders|endStream, id, block) != nil || c.frame(frameReset, 0, id, []byte{0, 0, 0, 8}) != nil {
			break // the server has had enough
		}
		if sent%1000 == 0 {
			status, _, _ := ask(t, client, f.url)
			assert.Equal(t, 200, status, "another client is served")
		}
	}
	status, _, _ := ask(t, client, f.url)
	assert.Equal(t, 200, status)
	c.Close()
	reading.Wait()
	f.idle(t, "blue")
	soon(t, "the application is told of every end", func() bool { return now.Load() == 0 })
	assert.Less(t, most.Load(), int64(600), "at a time: those that are carried, and those whose end is on its way")
	t.Logf("%d streams were opened and reset; at most %d at a time at the application", sent, most.Load())
}

// TestContinuationFloodIsEnded sends a header block without an end: large pieces end it by their size, empty ones by the time that a head may take.
func TestContinuationFloodIsEnded(t *testing.T) {
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue", HeadTimeout: 500 * time.Millisecond})
	for name, piece := range map[string][]byte{"large": fields{{"x", string(make([]byte, 15<<10))}}.block(), "empty": nil} {
		t.Run(name, func(t *testing.T) {
			c := f.h2raw(t)
			ended := make(chan bool)
			go func() {
				defer close(ended)
				for {
					kind, _, _, _, err := c.next()
					if err != nil || kind == frameGoAway {
						return
					}
				}
			}()
			c.frame(frameHeaders, endStream, 1, plainGet.block())
			sent := 0
			for c.frame(frameContinuation, 0, 1, piece) == nil && sent < 64<<20 {
				sent += len(piece) + 9
				select {
				case <-ended:
					c.Close()
				default:
				}
			}
			within(t, ended, "the connection is ended")
			assert.Less(t, sent, 64<<20)
			t.Logf("%d KiB were sent", sent>>10)
		})
	}
}

// TestHeaderBlockMustComeInTime begins a header block and stops, while another stream of the client's other connection is quiet and lives.
func TestHeaderBlockMustComeInTime(t *testing.T) {
	release := make(chan bool)
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		<-release
		hello(w, r)
	})
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", HeadTimeout: 200 * time.Millisecond})
	quiet := make(chan int, 1)
	go func() {
		status, _, _ := ask(t, h2Client(t, nil), f.url)
		quiet <- status
	}()
	soon(t, "it is in the slot", func() bool { return f.load(t, "blue").Requests == 1 })
	for _, partial := range [][]byte{{0, 0, 40, frameHeaders}, append([]byte{0, 0, 40, frameHeaders, 0, 0, 0, 0, 1}, "half"...)} {
		c := f.h2raw(t)
		begin := time.Now()
		c.Write(partial)
		for {
			if _, _, _, _, err := c.next(); err != nil {
				break
			}
		}
		assert.Less(t, time.Since(begin), patience/2)
	}
	release <- true
	assert.Equal(t, 200, within(t, quiet, "the quiet one"))
}
