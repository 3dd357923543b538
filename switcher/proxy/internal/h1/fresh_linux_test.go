//go:build amd64 || arm64

package h1

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// failing is a Front that answers every request with 503 and keeps the connection.
type failing struct{ refusing }

func (failing) Forward(x *Exchange) { x.Fail(http.StatusServiceUnavailable, "not now", 0, false) }

// A connection that idles after its first request moves to a small stack when it is looked at for the second time, and once; one that has carried
// many requests, or has not been idle for the whole time between two looks, stays. It answers after the move as before.
func TestFreshConnectionsMoveSoon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(Config{HeadTimeout: time.Hour, IdleTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)}, failing{})
	defer s.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer nc.Close()
	accepted, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, l.Close())

	// Served as Serve would, but nobody else looks at it.
	c := newConn(s, accepted)
	require.NotNil(t, c.raw)
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	s.count.Add(1)
	s.all.Add(1)
	go c.run()
	answers := bufio.NewReader(nc)
	ask := func() {
		t.Helper()
		_, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	}
	// idle waits until the connection does, and returns the word of that wait; not is one that has passed.
	idle := func(not uint64) (word uint64) {
		t.Helper()
		require.Eventually(t, func() bool {
			word = c.state.Load()
			return word&phaseMask == phaseIdle && word != not
		}, 20*time.Second, time.Millisecond)
		return word
	}

	ask()
	first := idle(firstWait)
	c.lookFresh()
	assert.Equal(t, first, c.state.Load(), "it may have become idle just now")
	c.lookFresh()
	second := idle(first)
	assert.Equal(t, first+movedBy<<phaseBits, second, "it waits on another goroutine")
	for range 3 {
		c.lookFresh()
	}
	assert.Equal(t, second, c.state.Load(), "it is moved once")

	ask()
	last := idle(second)
	for last>>phaseBits <= freshChanges {
		ask()
		last = idle(last)
	}
	for range 3 {
		c.lookFresh()
	}
	assert.Equal(t, last, c.state.Load(), "a connection in use is no fresh one")
	ask()
}

// In a burst of new connections sweep looks for fresh ones more often than for all else: what look alone moves has idled for sweepEvery at least.
func TestSweepLooksForFreshConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(Config{HeadTimeout: time.Hour, IdleTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)}, failing{})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	defer serving.Wait()
	defer s.Close()
	defer l.Close()
	soonest := time.Hour
	for end := time.Now().Add(20 * time.Second); soonest >= sweepEvery*2/3 && time.Now().Before(end); {
		nc, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		require.NoError(t, err)
		resp.Body.Close()
		answered := time.Now()
		s.mu.Lock()
		require.Len(t, s.conns, 1)
		var c *conn
		for c = range s.conns {
		}
		s.mu.Unlock()
		var first, word uint64
		require.Eventually(t, func() bool { // asked on and on, since what is timed is short
			word = c.state.Load()
			if first == 0 && word&phaseMask == phaseIdle && word != firstWait {
				first = word
			}
			return first != 0 && word == first+movedBy<<phaseBits
		}, 20*time.Second, time.Millisecond)
		soonest = min(soonest, time.Since(answered))
		nc.Close()
		require.Eventually(t, func() bool { return s.Conns() == 0 }, 20*time.Second, time.Millisecond)
	}
	assert.Less(t, soonest, sweepEvery*2/3, "nobody looks for fresh connections")
}
