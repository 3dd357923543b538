package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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

// dyingBackend answers the first request of its first connection, and closes that one when it has read the head of the second.
func dyingBackend(t *testing.T, heads *atomic.Int64) string {
	return rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		for i := 0; ; i++ {
			h, err := readHead(br)
			if err != nil {
				return
			}
			heads.Add(1)
			if n == 0 && i == 1 {
				return
			}
			if strings.Contains(h, "Content-Length: 4") {
				io.ReadFull(br, make([]byte, 4))
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			if !strings.HasPrefix(h, "HEAD") {
				io.WriteString(c, "ok")
			}
		}
	})
}

// TestE3NothingIsDeliveredTwiceThatMayNot loses the connection over a request: it is repeated only if that is harmless.
func TestE3NothingIsDeliveredTwiceThatMayNot(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		status       int
	}{
		{"GET", "", 200}, {"HEAD", "", 200}, {"DELETE", "", 200}, {"PUT", "", 200}, {"OPTIONS", "", 200},
		{"POST", "", 502}, {"PATCH", "", 502}, {"POST", "body", 502}, {"PUT", "body", 502},
	} {
		t.Run(tc.method+tc.body, func(t *testing.T) {
			var heads atomic.Int64
			f := single(t, dyingBackend(t, &heads))
			c := newClient(t)
			ask(t, c, f.url)
			require.EqualValues(t, 1, heads.Load())
			req, err := http.NewRequestWithContext(t.Context(), tc.method, f.url, strings.NewReader(tc.body))
			require.NoError(t, err)
			resp, err := c.Do(req)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, tc.status, resp.StatusCode)
			want := int64(2) // delivered once
			if tc.status == 200 {
				want = 3
			}
			f.idle(t, "blue")
			assert.EqualValues(t, want, heads.Load())
			st := f.Stats()
			assert.Equal(t, want-2, st.Retried)
			assert.Equal(t, 3-want, st.Failed)
		})
	}
}

// TestNoRepeatOnceTheSlotHasSpoken loses the connection in the midst of an answer's head, and after an interim answer.
func TestNoRepeatOnceTheSlotHasSpoken(t *testing.T) {
	for _, spoken := range []string{"HTTP/1.1 2", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"} {
		var heads atomic.Int64
		f := single(t, rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
			readHead(br)
			heads.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if _, err := readHead(br); err == nil {
				heads.Add(1)
				io.WriteString(c, spoken)
			}
		}))
		c := newClient(t)
		ask(t, c, f.url)
		status, _, _ := ask(t, c, f.url)
		assert.Equal(t, 502, status)
		assert.EqualValues(t, 2, heads.Load())
	}
}

// TestE1StaleConnectionsLoseNoPost lets the slot close its kept connections at once, so that they are found closed: no POST may fail.
func TestE1StaleConnectionsLoseNoPost(t *testing.T) {
	closed := make(chan bool)
	f := single(t, rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			io.ReadFull(br, make([]byte, 4))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			c.Close() // without having said so
			closed <- true
		}
	}))
	c := newClient(t)
	for range 50 {
		resp, err := c.Post(f.url, "", strings.NewReader("body"))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		within(t, closed, "close") // the end has been sent over loopback: a look shows it
	}
	assert.Zero(t, f.Stats().Retried)
}

// TestReuseBeforeBoundsWhatAPostMayUse counts the connections that requests of each kind take.
func TestReuseBeforeBoundsWhatAPostMayUse(t *testing.T) {
	b := newBackend(t, "blue", hello)
	var dialled atomic.Int64
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	for _, tc := range []struct {
		method string
		before time.Duration
		want   int64
	}{{"POST", time.Hour, 1}, {"POST", -1, 3}, {"POST", 1, 3}, {"GET", -1, 1}} {
		dialled.Store(0)
		f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", ReuseBefore: tc.before, Dial: dial})
		c := newClient(t)
		for range 3 {
			req, _ := http.NewRequestWithContext(t.Context(), tc.method, f.url, nil)
			resp, err := c.Do(req)
			require.NoError(t, err)
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			f.idle(t, "blue") // the connection has been put back
		}
		assert.Equal(t, tc.want, dialled.Load(), "%s, %s", tc.method, tc.before)
	}
}

// TestE2UnreachableSlotGivesWayWithTheBodyWhole takes the slot away between the switch and the dial: the request, body and all, is served by
// the slot that takes work now, once.
func TestE2UnreachableSlotGivesWayWithTheBodyWhole(t *testing.T) {
	var got sync.Map
	echoBody := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		n, _ := got.LoadOrStore(string(b), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		w.Write(b)
	}
	b, g := newBackend(t, "blue", echoBody), newBackend(t, "green", echoBody)
	var f *front
	f = serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == address(b.Server) {
				if err := f.Activate(ctx, plain("green")); err != nil {
					return nil, err
				}
				return nil, errors.New("connection refused")
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})
	body := strings.Repeat("x", 100_000)
	resp, err := newClient(t).Post(f.url, "", io.MultiReader(strings.NewReader(body)))
	require.NoError(t, err)
	back, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, "green", resp.Header.Get("Slot"))
	assert.Equal(t, body, string(back))
	n, _ := got.Load(body)
	assert.EqualValues(t, 1, n.(*atomic.Int64).Load())
	f.idle(t, "blue")
	f.idle(t, "green")
}

// TestDeadSlotAmongTwo shares work between two slots of which one is dead: all of it is served.
func TestDeadSlotAmongTwo(t *testing.T) {
	b := newBackend(t, "blue", hello)
	dead := newBackend(t, "green", hello)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(dead.Server)}})
	dead.Close()
	require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50}))
	c := newClient(t)
	for range 40 {
		resp, err := c.Post(f.url, "", strings.NewReader("x"))
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
	}
	assert.EqualValues(t, 20, f.Stats().Retried)
}

func TestUnreachableOnlySlot(t *testing.T) {
	var dialled atomic.Int64
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue",
		Dial: func(context.Context, string, string) (net.Conn, error) {
			dialled.Add(1)
			return nil, fmt.Errorf("refused")
		}})
	status, _, body := ask(t, newClient(t), f.url)
	assert.Equal(t, 502, status)
	assert.Equal(t, "502 Bad Gateway: the application cannot be reached\n", body)
	assert.EqualValues(t, 1, dialled.Load())
	assert.Equal(t, proxy.Stats{Failed: 1, Retried: 1}, f.Stats())
	f.idle(t, "blue")

	// A client that is still sending gets its answer, too.
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000))
	h := c.head()
	assert.Contains(t, h, "502 Bad Gateway")
	assert.Contains(t, h, "Connection: close")
}

func TestDialTimeout(t *testing.T) {
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue", DialTimeout: 10 * time.Millisecond,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	status, _, _ := ask(t, newClient(t), f.url)
	assert.Equal(t, 502, status)
}

// TestADialThatPanicsEndsOneRequest: a fault of the caller's Dial is one request's failure, and says so; the front door serves on.
func TestADialThatPanicsEndsOneRequest(t *testing.T) {
	b := newBackend(t, "blue", hello)
	var calls atomic.Int32
	var log bytes.Buffer
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if calls.Add(1) == 1 {
				panic("a fault of the caller's")
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})
	c := newClient(t)
	for _, want := range []int{http.StatusBadGateway, http.StatusOK} {
		resp, err := c.Get(f.url)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode)
	}
	f.idle(t, "blue")
	require.NoError(t, f.Close())
	assert.Contains(t, log.String(), "dialing the slot panicked: a fault of the caller's")
}

// TestRepeatStillAsksForTheBody loses a kept connection over a request whose client waits for a 100: the next attempt gets the body.
func TestRepeatStillAsksForTheBody(t *testing.T) {
	slot := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		if readHead(br); n == 0 {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			readHead(br)
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		got := make([]byte, 4)
		io.ReadFull(br, got)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", got)
	})
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": slot}, Active: "blue", ReuseBefore: time.Hour})
	c := f.raw(t)
	c.send(plainGET)
	require.Contains(t, c.head(), "200 OK")
	require.Equal(t, "ok", c.read(2))
	f.idle(t, "blue") // the connection has been put back
	c.send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	require.Contains(t, c.head(), "100 Continue")
	c.send("body")
	assert.Contains(t, c.head(), "200 OK")
	assert.Equal(t, "body", c.read(4))
	assert.EqualValues(t, 1, f.Stats().Retried)
}
