package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// gate is an application that answers when it is let, and tells what has come.
type gate struct {
	came chan string // the path of each request
	goOn chan struct{}
	now  atomic.Int64
	most atomic.Int64
}

func newGate() *gate { return &gate{came: make(chan string, 1000), goOn: make(chan struct{}, 1000)} }

func (g *gate) serve(w http.ResponseWriter, r *http.Request) {
	n := g.now.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	defer g.now.Add(-1)
	io.Copy(io.Discard, r.Body)
	g.came <- r.URL.Path
	select {
	case <-g.goOn:
	case <-r.Context().Done():
	}
}

// gated is a front with two slots of which each carries limit requests at a time; blue takes work.
func gated(t *testing.T, cfg proxy.Config) (f *front, blue, green *gate) {
	blue, green = newGate(), newGate()
	cfg.Slots = map[string]string{"blue": address(newBackend(t, "blue", blue.serve).Server), "green": address(newBackend(t, "green", green.serve).Server)}
	cfg.Active = "blue"
	return serve(t, cfg), blue, green
}

// post sends requests with a body, each on a connection of its own, one after the other: the next one when the last one is in a slot, or waits.
func (f *front) post(t *testing.T, from, to int) (all []*rawClient) {
	t.Helper()
	for i := from; i < to; i++ {
		seen := f.load(t, "blue").Requests + f.load(t, "green").Requests + f.Queued() + f.Held()
		c := f.raw(t)
		c.send(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", i))
		soon(t, "the request is there", func() bool {
			return f.load(t, "blue").Requests+f.load(t, "green").Requests+f.Queued()+f.Held() > seen
		})
		all = append(all, c)
	}
	return all
}

func (f *front) queued(t *testing.T, n int) {
	t.Helper()
	soon(t, fmt.Sprintf("%d requests wait", n), func() bool { return f.Queued() == n })
}

// TestQueueIsInOrder lets three more come than the slot may carry: they are counted nowhere, and go on one after the other, as they came.
func TestQueueIsInOrder(t *testing.T) {
	f, blue, _ := gated(t, proxy.Config{MaxInFlight: 2})
	clients := f.post(t, 0, 5)
	f.queued(t, 3)
	assert.Equal(t, 2, f.load(t, "blue").Requests)
	within(t, blue.came, "the first")
	within(t, blue.came, "the second")
	for i := 2; i < 5; i++ {
		blue.goOn <- struct{}{}
		assert.Equal(t, fmt.Sprintf("/%d", i), within(t, blue.came, "the next"))
	}
	blue.goOn <- struct{}{}
	blue.goOn <- struct{}{}
	for _, c := range clients {
		assert.Contains(t, c.head(), "200 OK")
	}
	f.idle(t, "blue")
	assert.EqualValues(t, 2, blue.most.Load())
	assert.Equal(t, proxy.Stats{}, f.Stats())
}

// TestQueueIsBounded in number, in time and in bytes: what cannot wait is told so, and is never delivered.
func TestQueueIsBounded(t *testing.T) {
	refused := func(c *rawClient) {
		h := c.head()
		assert.Contains(t, h, "HTTP/1.1 503 ")
		assert.Contains(t, h, "Retry-After: 1")
	}
	t.Run("number", func(t *testing.T) {
		f, _, _ := gated(t, proxy.Config{MaxInFlight: 1, MaxQueue: 1})
		f.post(t, 0, 2)
		c := f.raw(t)
		c.send(plainGET)
		refused(c)
		assert.Equal(t, 1, f.Queued())
	})
	t.Run("none", func(t *testing.T) {
		f, _, _ := gated(t, proxy.Config{MaxInFlight: 1, MaxQueue: -1})
		f.post(t, 0, 1)
		c := f.raw(t)
		c.send(plainGET)
		refused(c)
	})
	t.Run("time", func(t *testing.T) {
		f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1, QueueWait: 300 * time.Millisecond})
		f.post(t, 0, 1)
		c := f.raw(t)
		begun := time.Now()
		c.send(plainGET)
		refused(c)
		assert.GreaterOrEqual(t, time.Since(begun), 290*time.Millisecond)
		assert.Zero(t, f.Queued())
		assert.Len(t, blue.came, 1)
	})
	t.Run("bytes", func(t *testing.T) {
		f, _, _ := gated(t, proxy.Config{MaxInFlight: 1, QueueBytes: 10})
		f.post(t, 0, 2)
		c := f.raw(t)
		c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
		refused(c)
		assert.Equal(t, 1, f.Queued())
	})
}

// TestQueuedClientGoesAway in the midst of its body, behind it, and without one: none is delivered, and its room is free.
func TestQueuedClientGoesAway(t *testing.T) {
	for name, text := range map[string]string{
		"no body": plainGET, "whole": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"a part": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", "chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1, MaxQueue: 1})
			f.post(t, 0, 1)
			within(t, blue.came, "the first")
			c := f.raw(t)
			c.send(text)
			f.queued(t, 1)
			c.Close()
			f.queued(t, 0)
			next := f.post(t, 1, 2)
			blue.goOn <- struct{}{}
			assert.Equal(t, "/1", within(t, blue.came, "the next"))
			blue.goOn <- struct{}{}
			assert.Contains(t, next[0].head(), "200 OK")
			assert.Empty(t, blue.came, "a ghost")
		})
	}
}

// TestS1QueuedPickWhenTheyAreLetGo switches while requests wait: none of them goes to the old slot, and they need not wait for it.
func TestS1QueuedPickWhenTheyAreLetGo(t *testing.T) {
	f, blue, green := gated(t, proxy.Config{MaxInFlight: 2})
	clients := f.post(t, 0, 5)
	within(t, blue.came, "the first")
	within(t, blue.came, "the second")
	f.activate(t, plain("green"))
	assert.Equal(t, 1, f.Queued(), "at return all have picked again")
	assert.Equal(t, 2, f.load(t, "green").Requests)
	green.goOn <- struct{}{}
	for range 3 {
		within(t, green.came, "what waited")
	}
	green.goOn <- struct{}{}
	green.goOn <- struct{}{}
	for _, c := range clients[2:] {
		assert.Contains(t, c.head(), "Slot: green")
	}
	assert.Equal(t, 2, f.load(t, "blue").Requests)
	assert.Empty(t, blue.came)
	blue.goOn <- struct{}{}
	blue.goOn <- struct{}{}
	for _, c := range clients[:2] {
		assert.Contains(t, c.head(), "Slot: blue")
	}
}

// TestQueueUnderAHold: while requests are held nothing leaves the queue; then what waited there goes first, and what the hold kept waits
// behind it, each in its order.
func TestQueueUnderAHold(t *testing.T) {
	f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1})
	clients := f.post(t, 0, 3)
	within(t, blue.came, "the first")
	release := f.hold(t, longHold)
	clients = append(clients, f.post(t, 3, 6)...)
	f.held(t, 3)
	blue.goOn <- struct{}{}
	f.idle(t, "blue")
	assert.Empty(t, blue.came)
	assert.Equal(t, 2, f.Queued())
	release()
	for i := 1; i < 6; i++ {
		assert.Equal(t, fmt.Sprintf("/%d", i), within(t, blue.came, "the next"))
		f.queued(t, 5-i)
		blue.goOn <- struct{}{}
	}
	for _, c := range clients {
		assert.Contains(t, c.head(), "200 OK")
	}
	f.idle(t, "blue")
}

// TestQueuedKeepTheirPick: a request that waits keeps to what it picked, so that parts are met exactly however long the queues are.
func TestQueuedKeepTheirPick(t *testing.T) {
	f, blue, green := gated(t, proxy.Config{MaxInFlight: 3})
	require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 75}, abswap.Weight{Slot: plain("green"), Part: 25}))
	const n = 200
	var all sync.WaitGroup
	slots := make(chan string, n)
	for range n {
		all.Go(func() {
			_, slot, _ := ask(t, newClient(t), f.url)
			slots <- slot
		})
	}
	f.queued(t, n-6)
	for range n {
		blue.goOn <- struct{}{}
		green.goOn <- struct{}{}
	}
	all.Wait()
	close(slots)
	got := map[string]int{}
	for s := range slots {
		got[s]++
	}
	assert.Equal(t, map[string]int{"blue": n * 75 / 100, "green": n * 25 / 100}, got)
	assert.LessOrEqual(t, blue.most.Load(), int64(3))
	assert.LessOrEqual(t, green.most.Load(), int64(3))
}

// TestUpgradedTakeNoPlace opens more upgraded connections than the slot may carry requests.
func TestUpgradedTakeNoPlace(t *testing.T) {
	b := newBackend(t, "blue", upgrader("", echo))
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", MaxInFlight: 1})
	for range 3 {
		c := f.raw(t)
		c.send(upgradeHead)
		assert.Contains(t, c.head(), "HTTP/1.1 101 ")
	}
	soon(t, "all are upgraded", func() bool { return f.load(t, "blue").Upgraded == 3 })
	assert.Zero(t, f.Queued())
}

// TestQueueOfServeHTTP has the same order and the same bound.
func TestQueueOfServeHTTP(t *testing.T) {
	f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1, MaxQueue: 1})
	srv := httptest.NewServer(f.Switcher)
	t.Cleanup(srv.Close)
	answers := make(chan int, 3)
	post := func() {
		go func() {
			resp, err := newClient(t).Post(srv.URL, "text/plain", strings.NewReader("hello"))
			if assert.NoError(t, err) {
				resp.Body.Close()
				answers <- resp.StatusCode
			}
		}()
	}
	post()
	within(t, blue.came, "the first")
	post()
	f.queued(t, 1)
	post()
	assert.Equal(t, 503, within(t, answers, "the refusal"))
	blue.goOn <- struct{}{}
	within(t, blue.came, "the second")
	blue.goOn <- struct{}{}
	assert.Equal(t, 200, within(t, answers, "the first answer"))
	assert.Equal(t, 200, within(t, answers, "the second answer"))
}

// TestQueueUnderSwitches: many clients, few places, and switches, weights, seals and holds without a pause: nobody is refused, nothing is lost,
// no slot has more than it may, and in the end nothing is left.
func TestQueueUnderSwitches(t *testing.T) {
	const limit, clients = 3, 16
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	var most [2]atomic.Int64
	app := func(i int) http.HandlerFunc {
		var now atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most[i].Load(); n > m && !most[i].CompareAndSwap(m, n); m = most[i].Load() {
			}
			b, err := io.ReadAll(r.Body)
			if err != nil || string(b) != "hello" {
				w.WriteHeader(500)
			}
		}
	}
	b, g := newBackend(t, "blue", app(0)), newBackend(t, "green", app(1))
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		MaxInFlight: limit, QueueWait: -1})
	stop := make(chan struct{})
	var all sync.WaitGroup
	var done atomic.Int64
	for range clients {
		client := newClient(t)
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Post(f.url, "text/plain", strings.NewReader("hello"))
				if !assert.NoError(t, err) {
					return
				}
				resp.Body.Close()
				if !assert.Equal(t, 200, resp.StatusCode) {
					return
				}
				done.Add(1)
			}
		})
	}
	for i := range rounds {
		on, off := plain("blue"), plain("green")
		if i%2 == 0 {
			on, off = off, on
		}
		before := done.Load()
		switch i % 4 {
		case 0:
			release := f.hold(t, abswap.HoldOptions{Each: patience, Total: 2 * patience})
			f.activate(t, on)
			release()
		case 1:
			f.activate(t, on)
		case 2:
			require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: on, Part: 30}, abswap.Weight{Slot: off, Part: 70}))
		case 3:
			f.activate(t, on)
			require.NoError(t, f.Seal(t.Context(), off))
			f.idle(t, off.Name())
		}
		soon(t, "requests are answered", func() bool { return done.Load() > before+clients })
	}
	close(stop)
	all.Wait()
	for i := range most {
		assert.LessOrEqual(t, most[i].Load(), int64(limit))
	}
	assert.Zero(t, f.Queued())
	f.idle(t, "blue")
	f.idle(t, "green")
	assert.Equal(t, proxy.Stats{}, f.Stats())
}

// TestWhatPassesAHoldMayQueue: who is not kept by a hold that lets pass what cannot wait there, and finds no place in the slot, waits for one, and
// gets it while the hold lasts. One has no room in the hold; the other has waited in it for as long as it may, and more of its body comes.
func TestWhatPassesAHoldMayQueue(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1})
		first := f.post(t, 0, 1)[0]
		within(t, blue.came, "the first")
		f.hold(t, abswap.HoldOptions{Each: longHold.Each, Total: longHold.Total, Bytes: 1, Beyond: abswap.HoldPass})
		second := f.raw(t)
		second.send("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
		f.queued(t, 1)
		blue.goOn <- struct{}{}
		assert.Equal(t, "/1", within(t, blue.came, "the second"))
		blue.goOn <- struct{}{}
		assert.Contains(t, first.head(), "200 OK")
		assert.Contains(t, second.head(), "200 OK")
	})
	t.Run("later", func(t *testing.T) {
		f, blue, _ := gated(t, proxy.Config{MaxInFlight: 1})
		first := f.post(t, 0, 1)[0]
		within(t, blue.came, "the first")
		f.hold(t, abswap.HoldOptions{Each: 100 * time.Millisecond, Total: longHold.Total, Beyond: abswap.HoldPass})
		second := f.raw(t)
		second.send("POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		f.queued(t, 1)
		second.send("6\r\n world\r\n")
		second.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := second.br.Peek(1)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it waits")
		second.SetReadDeadline(time.Now().Add(patience))
		second.send("0\r\n\r\n")
		blue.goOn <- struct{}{}
		assert.Equal(t, "/1", within(t, blue.came, "the second"))
		blue.goOn <- struct{}{}
		assert.Contains(t, first.head(), "200 OK")
		assert.Contains(t, second.head(), "200 OK")
		assert.Zero(t, f.Stats().Refused)
	})
}
