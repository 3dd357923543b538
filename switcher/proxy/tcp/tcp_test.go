package tcp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/tcp"
)

func TestLongConnectionsLiveOverSwaps(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue")), "green": listen(t, echo("green"))}, Active: "blue"})
	var old []*client
	slots := []string{"blue", "green"}
	for i := range 40 {
		to := slots[i%2]
		require.NoError(t, d.Activate(t.Context(), plain(to)))
		c := dial(t, d.addr)
		require.Equal(t, to, c.line(), "a connection that begins after Activate has returned")
		old = append(old, c)
		for j, c := range old {
			c.say(fmt.Sprint("swap ", i, " connection ", j))
			require.Equal(t, fmt.Sprint("swap ", i, " connection ", j), c.line())
		}
		assert.Equal(t, i/2+1, d.inFlight(t, "blue"))
		assert.Equal(t, (i+1)/2, d.inFlight(t, "green"))
	}
	work, err := d.List(t.Context(), plain("blue"), 3)
	require.NoError(t, err)
	require.Len(t, work, 3)
	assert.Equal(t, old[0].LocalAddr().String(), work[0].Peer)
	assert.Positive(t, work[0].In)
	assert.Positive(t, work[0].Out)

	for i, c := range old {
		require.NoError(t, c.CloseWrite())
		assert.Equal(t, "goodbye from "+slots[i%2], c.line(), "what is sent behind the client's end arrives")
		assert.NoError(t, c.end())
	}
	d.idle(t, "blue")
	d.idle(t, "green")
	assert.Equal(t, int64(40), d.Stats().Carried)
}

func TestAnEndIsPassedOnAsThatOfOneDirection(t *testing.T) {
	t.Run("of the client", func(t *testing.T) {
		got := make(chan string, 1)
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
			b, _ := io.ReadAll(c)
			got <- string(b)
			io.WriteString(c, "all\n")
			io.WriteString(c, "of it\n")
		})}, Active: "blue"})
		c := dial(t, d.addr)
		c.say("a request")
		require.NoError(t, c.CloseWrite())
		assert.Equal(t, "a request\n", <-got)
		assert.Equal(t, "all", c.line())
		assert.Equal(t, "of it", c.line())
		assert.NoError(t, c.end())
	})
	t.Run("of the slot", func(t *testing.T) {
		got := make(chan string, 1)
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
			io.WriteString(c, "enough said\n")
			c.CloseWrite()
			b, _ := io.ReadAll(c)
			got <- string(b)
		})}, Active: "blue"})
		c := dial(t, d.addr)
		assert.Equal(t, "enough said", c.line())
		assert.NoError(t, c.end())
		assert.Equal(t, 1, d.inFlight(t, "blue"), "it counts until both directions have ended")
		c.say("but I go on")
		c.say("for a while")
		require.NoError(t, c.CloseWrite())
		assert.Equal(t, "but I go on\nfor a while\n", <-got)
		d.idle(t, "blue")
	})
}

func TestABreakIsPassedOnAsABreak(t *testing.T) {
	t.Run("of the slot", func(t *testing.T) {
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
			io.WriteString(c, "half of a file\n")
			io.ReadFull(c, make([]byte, 1)) // the client has it
			c.SetLinger(0)
		})}, Active: "blue"})
		c := dial(t, d.addr)
		require.Equal(t, "half of a file", c.line())
		c.say("")
		assert.Error(t, c.end(), "no proper end: half a file is not a file")
		d.idle(t, "blue")
	})
	t.Run("of the client", func(t *testing.T) {
		how := make(chan error, 1)
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
			io.WriteString(c, "hello\n")
			_, err := io.ReadAll(c)
			how <- err
		})}, Active: "blue"})
		c := dial(t, d.addr)
		require.Equal(t, "hello", c.line())
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		assert.Error(t, <-how)
		d.idle(t, "blue")
	})
}

func TestBytesArriveAsTheyWere(t *testing.T) {
	const size = 24 << 20
	data := make([]byte, size)
	_, err := rand.Read(data)
	require.NoError(t, err)
	want := sha256.Sum256(data)
	// It reads all, at first with breaks, and answers with the sum and then with all of it.
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, func(c *net.TCPConn) {
		h, buf := sha256.New(), make([]byte, 3000)
		all := &bytes.Buffer{}
		for range 500 {
			n, err := c.Read(buf)
			h.Write(buf[:n])
			all.Write(buf[:n])
			if err != nil {
				break
			}
		}
		io.Copy(io.MultiWriter(h, all), c)
		c.Write(h.Sum(nil))
		io.Copy(c, all)
	})}, Active: "blue"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := dial(t, d.addr)
			c.SetDeadline(time.Now().Add(3 * patience))
			go func() {
				for b := data; len(b) > 0; {
					n := min(len(b), 1+len(b)/7)
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
				c.CloseWrite()
			}()
			sum := make([]byte, len(want))
			_, err := io.ReadFull(c.br, sum)
			assert.NoError(t, err)
			assert.Equal(t, want[:], sum, "on the way up")
			h := sha256.New()
			n, err := io.Copy(h, c.br)
			assert.NoError(t, err)
			assert.EqualValues(t, size, n)
			assert.Equal(t, want[:], h.Sum(nil), "on the way down")
		})
	}
	wg.Wait()
	d.idle(t, "blue")
}

func TestASlotThatCannotBeReached(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nowhere := dead.Addr().String()
	dead.Close()
	t.Run("closes the connection", func(t *testing.T) {
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": nowhere}, Active: "blue"})
		closed(t, d.addr)
		d.idle(t, "blue")
		assert.EqualValues(t, 1, d.Stats().Failed)
	})
	t.Run("unless another slot takes work by then", func(t *testing.T) {
		var at atomic.Pointer[door]
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": nowhere, "green": listen(t, echo("green"))}, Active: "blue",
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr == nowhere {
					assert.NoError(t, at.Load().Activate(ctx, plain("green")))
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}})
		at.Store(d)
		c := dial(t, d.addr)
		assert.Equal(t, "green", c.line())
		assert.Equal(t, 1, d.inFlight(t, "green"))
		d.idle(t, "blue")
		assert.Equal(t, tcp.Stats{Redialled: 1}, d.Stats())
	})
	t.Run("of two with a part the other", func(t *testing.T) {
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": nowhere, "green": listen(t, echo("green"))}})
		require.NoError(t, d.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50}))
		for range 10 {
			assert.Equal(t, "green", dial(t, d.addr).line())
		}
		assert.EqualValues(t, 5, d.Stats().Redialled)
	})
	t.Run("after the time for it", func(t *testing.T) {
		d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:9"}, Active: "blue", DialTimeout: time.Millisecond,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		closed(t, d.addr)
		d.idle(t, "blue")
	})
}

func TestNobodyTakesConnections(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}})
	_, err := d.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNoActive)
	closed(t, d.addr)
	require.Eventually(t, func() bool { return d.Stats().Refused == 1 }, patience, time.Millisecond)
}

func TestWeightsAreMetByConnections(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue")), "green": listen(t, echo("green"))}})
	require.NoError(t, d.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 30}, abswap.Weight{Slot: plain("green"), Part: 70}))
	name, err := d.Active(t.Context())
	assert.Equal(t, "green", name)
	assert.ErrorIs(t, err, abswap.ErrMixed)
	got := map[string]int{}
	for range 100 {
		c := dial(t, d.addr)
		got[c.line()]++
		c.Close()
	}
	assert.Equal(t, map[string]int{"blue": 30, "green": 70}, got)
}

func TestCutBreaksWhatIsInTheSlot(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue")), "green": listen(t, echo("green"))}, Active: "blue"})
	old := dial(t, d.addr)
	require.Equal(t, "blue", old.line())
	require.NoError(t, d.Activate(t.Context(), plain("green")))
	fresh := dial(t, d.addr)
	require.Equal(t, "green", fresh.line())

	assert.ErrorIs(t, d.Force(t.Context(), plain("blue"), abswap.ForceHandOver), errors.ErrUnsupported)
	require.NoError(t, d.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Error(t, old.end())
	require.NoError(t, d.WaitIdle(t.Context(), plain("blue")))
	fresh.say("still here")
	assert.Equal(t, "still here", fresh.line())
	assert.Eventually(t, func() bool { return d.Stats().Cut == 1 }, patience, time.Millisecond, "it is told when it has left the count")
}

func TestACutReachesADial(t *testing.T) {
	dialling := make(chan struct{})
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:9"}, Active: "blue", DialTimeout: -1,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	c := dial(t, d.addr)
	<-dialling
	assert.Equal(t, 1, d.inFlight(t, "blue"), "it counts from before it is dialled")
	require.NoError(t, d.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Error(t, c.end())
	require.NoError(t, d.WaitIdle(t.Context(), plain("blue")))
}

func TestShutdownWaits(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
	c := dial(t, d.addr)
	require.Equal(t, "blue", c.line())
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, d.Shutdown(short), context.DeadlineExceeded)
	_, err := net.Dial("tcp", d.addr)
	assert.Error(t, err, "no new connections")
	c.say("still here")
	assert.Equal(t, "still here", c.line())

	done := make(chan error, 1)
	go func() { done <- d.Shutdown(t.Context()) }()
	require.NoError(t, c.CloseWrite())
	assert.Equal(t, "goodbye from blue", c.line())
	assert.NoError(t, c.end())
	assert.NoError(t, <-done)
	assert.ErrorIs(t, d.Activate(t.Context(), plain("blue")), net.ErrClosed)
	_, err = d.Active(t.Context())
	assert.ErrorIs(t, err, net.ErrClosed)
}

// lateListener accepts, and is late to tell.
type lateListener struct {
	net.Listener
	accepted chan struct{}
	goOn     chan struct{}
	once     sync.Once
}

func (l *lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.once.Do(func() {
			close(l.accepted)
			<-l.goOn
		})
	}
	return c, err
}

// TestShutdownWaitsForWhatIsInNoSlotYet has a connection that is not counted in a slot when the shutdown looks.
func TestShutdownWaitsForWhatIsInNoSlotYet(t *testing.T) {
	for name, hook := range map[string]func(s *tcp.Switcher, l net.Listener) (net.Listener, <-chan struct{}, func()){
		"picked": func(s *tcp.Switcher, l net.Listener) (net.Listener, <-chan struct{}, func()) {
			reached, resume := tcp.NewStaller(s)()
			return l, reached, resume
		},
		"accepted": func(_ *tcp.Switcher, l net.Listener) (net.Listener, <-chan struct{}, func()) {
			late := &lateListener{Listener: l, accepted: make(chan struct{}), goOn: make(chan struct{})}
			return late, late.accepted, sync.OnceFunc(func() { close(late.goOn) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
			require.NoError(t, err)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			late, reached, resume := hook(s, l)
			served := make(chan error, 1)
			go func() { served <- s.Serve(late) }()
			c := dial(t, l.Addr().String())
			<-reached

			short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- s.Shutdown(short) }()
			select {
			case err := <-done:
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			case <-time.After(patience):
				t.Error("it closes all and waits for that")
			}
			_, err = s.Active(t.Context())
			assert.NoError(t, err, "it is not closed")
			resume()
			assert.Equal(t, "blue", c.line())
			go func() { done <- s.Shutdown(t.Context()) }()
			require.NoError(t, c.CloseWrite())
			assert.Equal(t, "goodbye from blue", c.line())
			assert.NoError(t, c.end())
			assert.NoError(t, <-done)
			assert.ErrorIs(t, <-served, net.ErrClosed)
		})
	}
}

// shortListener cannot accept at first: the system is short of something.
type shortListener struct {
	net.Listener
	of []error
}

func (l *shortListener) Accept() (net.Conn, error) {
	if len(l.of) > 0 {
		err := l.of[0]
		l.of = l.of[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept", err)}
	}
	return l.Listener.Accept()
}

func TestAcceptingGoesOnWhereTheSystemWasShortOfSomething(t *testing.T) {
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(&shortListener{l, []error{syscall.EMFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.Errno(10055), syscall.Errno(10024)}})
	}()
	assert.Equal(t, "blue", dial(t, l.Addr().String()).line())
	require.NoError(t, s.Close())
	assert.ErrorIs(t, <-served, net.ErrClosed)
}

func TestCloseBreaksAndWaits(t *testing.T) {
	d := newDoor(t, tcp.Config{Slots: map[string]string{"blue": listen(t, echo("blue"))}, Active: "blue"})
	c := dial(t, d.addr)
	require.Equal(t, "blue", c.line())
	require.NoError(t, d.Close())
	assert.Zero(t, d.inFlight(t, "blue"))
	err := c.end()
	assert.Error(t, err)
	assert.NotErrorIs(t, err, syscall.ETIMEDOUT)
	require.NoError(t, d.Close(), "a second one does nothing")

	here, there := net.Pipe()
	defer here.Close()
	d.ServeConn(there)
	_, err = here.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "and what comes later is closed")
}

func TestMistakesInTheConfigAreToldAtOnce(t *testing.T) {
	_, err := tcp.New(tcp.Config{})
	assert.ErrorContains(t, err, "Slots is empty")
	_, err = tcp.New(tcp.Config{Slots: map[string]string{"": "a:1", "b": "b", "c": ":2", "d": "d:0", "e": "x:1", "f": "x:1"}, Active: "g"})
	for _, want := range []string{"empty name", `"b" is not host:port`, `":2" has no host`, `port "0"`, "same address", `"g" is not one`} {
		assert.ErrorContains(t, err, want)
	}
	_, err = tcp.New(tcp.Config{Slots: map[string]string{"a": ""}, Active: "a"})
	assert.ErrorContains(t, err, `"a" has no address`)
}

func TestCheckTellsWhatCannotBeDone(t *testing.T) {
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:1", "green": ""}})
	require.NoError(t, err)
	defer s.Close()
	assert.NoError(t, s.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("blue")}, Steps: []int{10}}))
	err = s.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("green"), plain("red"), nil}, Exclusive: true,
		Drain: abswap.DrainOptions{Sessions: true, AtDeadline: abswap.HandOver}})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	for _, want := range []string{`"green" has no address`, "Exclusive", "Sessions", "hand-over", "nil"} {
		assert.ErrorContains(t, err, want)
	}
	assert.True(t, s.Traits().PerConnection)
}
