package tcp_test

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// pipes counts the pipes of this process, by their ends.
func pipes(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n / 2
}

func TestConnectionsAtRestHoldNoPipe(t *testing.T) {
	const conns, size = 60, 2 << 20
	before := pipes(t)
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) { // it swallows, and then sends as much
		for {
			if _, err := io.CopyN(io.Discard, c, size); err != nil {
				return
			}
			c.Write(make([]byte, size))
		}
	})}, Active: "blue"})
	var all []*client
	for range conns {
		all = append(all, dial(t, d.addr))
	}
	data := make([]byte, size)
	for round := range 2 {
		for _, c := range all {
			c.SetDeadline(time.Now().Add(patience))
			go c.Write(data)
		}
		for _, c := range all {
			_, err := io.CopyN(io.Discard, c.br, size)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return pipes(t)-before <= 32 }, patience, time.Millisecond, "round %d: all are at rest: what is left are spare ones", round)
	}
	assert.Positive(t, tcp.Spliced(d.Switcher), "it was spliced at all")
	require.NoError(t, d.Close())
	assert.LessOrEqual(t, pipes(t), before, "and none is left behind")
}

func TestAClientThatGoesAwayForGoodAfterItsEndIsNoticed(t *testing.T) {
	heard := make(chan struct{})
	leave := make(chan struct{})
	defer close(leave)
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
		io.ReadAll(c)
		close(heard) // and it neither says anything nor ends
		<-leave
	})}, Active: "blue"})
	c := dial(t, d.addr)
	require.NoError(t, c.CloseWrite())
	<-heard
	assert.Equal(t, 1, d.inFlight(t, "blue"), "an end of one direction is no end")
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
	d.idle(t, "blue")
}
