package h1

import (
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func listen(t *testing.T, at string) *net.TCPListener {
	l, err := net.Listen("tcp", at)
	if err != nil && strings.HasPrefix(at, "[::1]") {
		t.Skip("no IPv6 here")
	}
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// TestLoopbackConnects holds what a loopback makes against what net.Dialer does: bytes both ways, each direction's end, addresses, deadlines, and
// a close that wakes who waits.
func TestLoopbackConnects(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) {
			l := listen(t, at)
			c := newLoopback(l.Addr().String()).dial()
			require.NotNil(t, c)
			defer c.Close()
			far, err := l.Accept()
			require.NoError(t, err)
			defer far.Close()
			assert.Equal(t, l.Addr().String(), c.RemoteAddr().String())
			assert.Equal(t, far.RemoteAddr().String(), c.LocalAddr().String())

			large := strings.Repeat("x", 8<<20) // more than the kernel takes at once
			go func() {
				io.WriteString(c, large)
				c.(*loopConn).CloseWrite()
			}()
			got, err := io.ReadAll(far)
			require.NoError(t, err)
			assert.Equal(t, len(large), len(got))
			go io.WriteString(far, large)
			_, err = io.ReadFull(c, make([]byte, len(large)))
			require.NoError(t, err)

			require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			_, err = c.Read(make([]byte, 1))
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.SetReadDeadline(time.Time{}))
			if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" { // see raw_linux.go
				require.NotNil(t, rawConn(c))
			}
			assert.Equal(t, quiet, look(c))
			assert.True(t, isTCP(c))

			ended := make(chan error)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
			c.Close()
			select {
			case err := <-ended:
				assert.Error(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("a close wakes nobody")
			}
			assert.Error(t, c.Close(), "a second time")
			assert.Error(t, c.(*loopConn).CloseWrite())
		})
	}
}

// TestLoopbackLeavesTheRestToTheDialer: what is no literal loopback address, what refuses, what would have to be waited for, and what would be
// a connection to itself.
func TestLoopbackLeavesTheRestToTheDialer(t *testing.T) {
	for _, address := range []string{"localhost:80", "192.0.2.1:80", "127.0.0.1", "127.0.0.1:http", "[::1%lo]:80", "0.0.0.0:80", ""} {
		assert.Nil(t, newLoopback(address), address)
	}
	l := listen(t, "127.0.0.1:0")
	nobody := l.Addr().String()
	l.Close()
	assert.Nil(t, newLoopback(nobody).dial(), "nobody listens")

	// The kernel answers no more once the queue is full, and the dialer waits.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 1))
	own, err := unix.Getsockname(fd)
	require.NoError(t, err)
	busy := newLoopback("127.0.0.1:" + strconv.Itoa(portOf(own)))
	full := false
	for range 20 {
		c := busy.dial()
		if full = c == nil; full {
			break
		}
		defer c.Close()
	}
	assert.True(t, full)

	// A socket whose own port is the one that it is to connect to gets a connection to itself.
	self, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(self)
	require.NoError(t, unix.Bind(self, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	own, err = unix.Getsockname(self)
	require.NoError(t, err)
	assert.False(t, newLoopback("127.0.0.1:"+strconv.Itoa(portOf(own))).connect(self), "itself")
	_, err = unix.Getpeername(self)
	assert.NoError(t, err, "the kernel has made one")
}
