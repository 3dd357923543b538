package tcp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// patience is how long what must happen may take on a busy machine.
const patience = 20 * time.Second

// listen gives each connection to handle, on a goroutine of its own, and closes it afterwards.
func listen(t testing.TB, handle func(c *net.TCPConn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			if closed {
				c.Close()
			}
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// echo says its name and then whatever it is told, line by line, until the end; then it says goodbye.
func echo(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		fmt.Fprintln(c, name)
		for lines := bufio.NewScanner(c); lines.Scan(); {
			fmt.Fprintln(c, lines.Text())
		}
		fmt.Fprintln(c, "goodbye from", name)
	}
}

// door is a Switcher that serves.
type door struct {
	*tcp.Switcher
	addr string
}

func newDoor(t testing.TB, cfg tcp.Config) *door {
	s, err := tcp.New(cfg)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		assert.ErrorIs(t, <-served, net.ErrClosed)
	})
	return &door{s, l.Addr().String()}
}

// client is a connection to a door.
type client struct {
	*net.TCPConn
	t  testing.TB
	br *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	require.NoError(t, err)
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return &client{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

func (c *client) line() string {
	c.t.Helper()
	l, err := c.br.ReadString('\n')
	require.NoError(c.t, err)
	return l[:len(l)-1]
}

func (c *client) say(line string) {
	c.t.Helper()
	_, err := io.WriteString(c, line+"\n")
	require.NoError(c.t, err)
}

// end returns how the connection ends: nil for a proper end.
func (c *client) end() error {
	_, err := c.br.ReadByte()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		return errors.New("it goes on")
	}
	return err
}

// closed asserts that a connection to addr is closed without a word. A client may take that for a refusal.
func closed(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		assert.False(t, os.IsTimeout(err), err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)
	assert.False(t, os.IsTimeout(err), err)
}

func (d *door) inFlight(t testing.TB, slot string) int {
	l, err := d.InFlight(t.Context(), plain(slot))
	require.NoError(t, err)
	return l.Total()
}

// idle waits until nothing is in the slot.
func (d *door) idle(t testing.TB, slot string) {
	t.Helper()
	require.Eventually(t, func() bool { return d.inFlight(t, slot) == 0 }, patience, time.Millisecond)
}

// ignoreReset is nil for every end of a connection: proper, or by a reset, but for a timeout.
func ignoreReset(err error) error {
	if err == nil || !os.IsTimeout(err) && errors.As(err, new(*net.OpError)) {
		return nil
	}
	return err
}
