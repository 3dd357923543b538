package h1

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// refusing is a Front that ends every exchange at once.
type refusing struct{}

func (refusing) Forward(x *Exchange)    { x.Abort() }
func (refusing) Leaving() bool          { return false }
func (refusing) Sender(net.Addr) Sender { return Sender{} }

// A connection whose goroutine has not run yet, on a busy machine, is left alone by sweep, however often that looks.
func TestSweepLeavesAConnectionThatHasNotBegun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	nc, err := l.Accept()
	require.NoError(t, err)

	s := NewServer(Config{HeadTimeout: time.Millisecond, IdleTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)}, refusing{})
	defer s.Close()
	c := newConn(s, nc)
	for range 3 {
		c.look(time.Now().Add(time.Minute))
	}
	s.conns[c] = true
	s.count.Add(1)
	s.all.Add(1)
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		client.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := client.Read(make([]byte, 1))
		assert.NotErrorIs(t, err, io.EOF, "it was closed before a request came")
	}()
	go c.run()
	<-waiting
	assert.Equal(t, 1, s.Conns())
}

// A goroutine whose connection has ended serves the next one; not more of them wait than it pays; Close ends those that do.
func TestWorkersServeAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, refusing{})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	most := int32(keptWorkers * runtime.GOMAXPROCS(0))
	open := make([]net.Conn, most+20)
	for round := range 3 {
		for i := range open {
			open[i], err = net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return s.Conns() == len(open) }, 20*time.Second, time.Millisecond)
		if round > 0 {
			assert.Less(t, s.waiting.Load(), most, "those that waited serve")
		}
		for _, c := range open {
			c.Close()
		}
		require.Eventually(t, func() bool { return s.Conns() == 0 && s.waiting.Load() == most }, 20*time.Second, time.Millisecond)
	}
	l.Close()
	serving.Wait()
	s.Close()
	assert.Zero(t, s.waiting.Load())
	s.Close()
}

// full is a listener whose first calls fail as those of a system that has nothing left, and that then is closed.
type full struct {
	net.Listener
	left []syscall.Errno
}

func (l *full) Accept() (net.Conn, error) {
	if len(l.left) == 0 {
		return nil, net.ErrClosed
	}
	err := l.left[0]
	l.left = l.left[1:]
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept", err)}
}

// Serve goes on when the system, Windows too, has nothing left for another connection, or its client has gone.
func TestServeOutlastsWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, refusing{})
		defer s.Close()
		l := &full{left: []syscall.Errno{syscall.EMFILE, syscall.ENOBUFS, syscall.ECONNABORTED, 10024, 10055, 10053, 10054}}
		assert.ErrorIs(t, s.Serve(l), net.ErrClosed)
		assert.Empty(t, l.left)
	})
}

// holding is a Front that keeps every request until it is let go.
type holding struct {
	refusing
	letGo chan struct{}
}

func (h holding) Forward(x *Exchange) {
	<-h.letGo
	x.Abort()
}

// Who waits in Shutdown is told that the last connection has ended, also where another one does.
func TestShutdownTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		front := holding{letGo: make(chan struct{})}
		s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, front)
		defer s.Close()
		client, nc := net.Pipe()
		defer client.Close()
		s.add(nc)
		_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { assert.NoError(t, s.Shutdown(ctx)) })
		}
		synctest.Wait()
		close(front.letGo)
		both.Wait()
	})
}

// A cut that comes before the answer's first byte leaves the request without one: it can still be told.
func TestCutJustBeforeTheAnswer(t *testing.T) {
	x := &Exchange{}
	x.cutNow()
	how, keep, err := x.answer(nil, getResponse())
	assert.Equal(t, Cut, how)
	assert.False(t, keep)
	assert.NoError(t, err)
	assert.False(t, x.Answered())
}

// cutting is a Front that cuts each request when its answer has been written, and before it leaves the count.
type cutting struct {
	refusing
	table *route.Table[*Pool]
}

func (f cutting) Forward(x *Exchange) {
	how, _ := x.Attempt(f.table.Enter(x.Work(), nil), false)
	x.Work().Cut()
	x.Work().Leave()
	x.End(how)
}

// A cut that comes when the answer is complete does not end the next request on the connection, which may be another slot's.
func TestCutJustBehindTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		cfg := NewPoolConfig(PoolConfig{Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, slot := net.Pipe()
			go func() {
				defer slot.Close()
				if _, err := http.ReadRequest(bufio.NewReader(slot)); err == nil {
					io.WriteString(slot, answer)
				}
			}()
			return ours, nil
		}})
		table := route.New[*Pool]("blue")
		table.Set(route.Part[*Pool]{Gen: table.Generation(route.Key{Slot: "blue"}, func() *Pool { return NewPool(cfg, Life{}, "") }), Part: 100})
		s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, cutting{table: table})
		defer s.Close()
		client, nc := net.Pipe()
		defer client.Close()
		s.add(nc)
		for range 2 {
			_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			got := make([]byte, len(answer))
			_, err = io.ReadFull(client, got)
			require.NoError(t, err)
			assert.Equal(t, answer, string(got))
		}
	})
}
