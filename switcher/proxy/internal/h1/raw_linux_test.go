//go:build amd64 || arm64

package h1

import (
	"bytes"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sentTo returns a client's link to which sent has come whole, and, with reset, a reset behind it.
func sentTo(t *testing.T, sent []byte, reset bool) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	_, err = c.Write(sent)
	require.NoError(t, err)
	in := &link{}
	in.open(s, false, true)
	all := make([]byte, len(sent))
	require.Eventually(t, func() bool {
		n := 0
		in.raw.Control(func(fd uintptr) { n, _ = sysRecv(fd, all, syscall.MSG_PEEK) })
		return n == len(sent)
	}, 20*time.Second, time.Millisecond)
	if reset {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		require.Eventually(t, func() bool {
			closed := false
			in.raw.Control(func(fd uintptr) {
				// TCP_INFO begins with the state of the connection; 7: closed (net/tcp_states.h).
				state, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
				closed = err == nil && state&0xff == 7
			})
			return closed
		}, 20*time.Second, time.Millisecond)
	}
	return in
}

// What comes at once with a head is read at once, so that a short body needs no goroutine of its own, and nothing of it is lost.
func TestReadOnBehindATinyBuffer(t *testing.T) {
	for _, n := range []int{1, tinySize - 1, tinySize, tinySize + 1, 2 * tinySize, smallSize, smallSize + 1} {
		sent := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
		in := sentTo(t, sent, false)
		require.NoError(t, in.fill(true))
		got := bytes.Clone(in.pending())
		assert.Len(t, got, min(n, smallSize), "first read of %d", n)
		if in.take(len(got)); len(got) < n {
			require.NoError(t, in.fill(false))
			got = append(got, in.pending()...)
		}
		assert.Equal(t, sent, got)
	}
}

// A reset that the second read has met is one for the next reader, too: a tunnel must not take it for the client's end.
func TestResetBehindATinyBuffer(t *testing.T) {
	in := sentTo(t, make([]byte, tinySize), true)
	require.NoError(t, in.fill(true))
	assert.Len(t, in.pending(), tinySize)
	in.drop()
	assert.ErrorIs(t, in.fill(true), syscall.ECONNRESET)
}

// A head that is longer than its buffer gets four times the room, and no more: many slow ones must not take a large buffer each.
func TestALongHeadHoldsWhatItNeeds(t *testing.T) {
	l := &link{in: getBuffer(tinySize)}
	for _, want := range []int{smallSize, 4 * smallSize, 16 * smallSize} {
		for i := range l.in.data {
			l.in.data[i] = byte(i)
		}
		l.in.w = len(l.in.data)
		before := bytes.Clone(l.pending())
		require.True(t, l.room())
		assert.Len(t, l.in.data, want)
		assert.Equal(t, before, l.pending())
	}
}
