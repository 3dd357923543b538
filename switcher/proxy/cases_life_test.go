package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// What others get wrong about their own life: each case passes here, and fails with their fault.

const plainPOST = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"

// TestG2IdleConnectionsAreNotClosedUnderAPost: a POST that comes on a kept connection just after Shutdown has begun is answered, and told that
// the connection ends. With the fault of an http.Server that is shut down, or of a reload, its connection is closed and it is lost.
func TestG2IdleConnectionsAreNotClosedUnderAPost(t *testing.T) {
	for _, fault := range []bool{false, true} {
		cfg := proxy.Config{}
		if fault {
			cfg.Farewell = -1
		}
		bubble(t, cfg, answerAll, func(p *proxy.Switcher, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, plainGET)
			_, err := readHead(br)
			require.NoError(t, err)
			io.ReadFull(br, make([]byte, 2))
			over := make(chan error, 1)
			go func() { over <- p.Shutdown(context.Background()) }()
			synctest.Wait()
			io.WriteString(c, plainPOST)
			h, err := readHead(br)
			if fault {
				assert.Error(t, err, "lost")
			} else {
				require.NoError(t, err)
				assert.Contains(t, h, "200 OK")
				assert.Contains(t, h, "Connection: close")
				io.Copy(io.Discard, br)
			}
			assert.NoError(t, <-over)
		})
	}
}

// lateListener gives connections that come once late is set to nobody, as Traefik's forwarder did after a shutdown.
type lateListener struct {
	net.Listener
	late atomic.Bool
}

func (l *lateListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.late.Load() {
			return c, err
		}
	}
}

// TestG3AcceptedAroundShutdown: of many connections that come before, while and after Shutdown closes the listener, each gets an answer, or is
// refused; none is left hanging. With the fault, connections that are accepted and given to nobody, they hang.
func TestG3AcceptedAroundShutdown(t *testing.T) {
	for _, fault := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			pipes := newPipeListener()
			door := &lateListener{Listener: pipes}
			p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": ""}, MaxConns: 5})
			require.NoError(t, err)
			var all sync.WaitGroup
			all.Go(func() { p.Serve(door) })
			var answered, refused, hung atomic.Int64
			come := func() {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
					defer cancel()
					c, err := pipes.dial(ctx, "", "")
					if err != nil {
						refused.Add(1)
						return
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(time.Hour))
					io.WriteString(c, plainGET)
					_, err = readHead(bufio.NewReader(c))
					switch ne, _ := errors.AsType[net.Error](err); {
					case err == nil:
						answered.Add(1)
					case ne != nil && ne.Timeout():
						hung.Add(1)
					default:
						refused.Add(1)
					}
				})
			}
			for range 10 {
				come()
			}
			if fault {
				synctest.Wait()
				door.late.Store(true)
				come()
				synctest.Wait()
			}
			all.Go(func() { assert.NoError(t, p.Shutdown(context.Background())) })
			for range 10 {
				come()
			}
			synctest.Wait()
			for range 10 {
				come()
			}
			all.Wait()
			assert.Equal(t, fault, hung.Load() > 0, "%d hung, %d answered, %d refused", hung.Load(), answered.Load(), refused.Load())
			assert.Positive(t, answered.Load())
			assert.Positive(t, refused.Load())
		})
	}
}

// TestG4WeServeAsLongAsWeListen: while Shutdown waits for an upload, requests on kept connections are answered by the slot, and switches work.
// With fabio's fault they are answered 503.
func TestG4WeServeAsLongAsWeListen(t *testing.T) {
	for _, fault := range []bool{false, true} {
		bubble(t, proxy.Config{Farewell: 10 * time.Second}, answerAll, func(p *proxy.Switcher, c net.Conn, br *bufio.Reader) {
			get := func(text string) (head string) {
				io.WriteString(c, text)
				head, err := readHead(br)
				require.NoError(t, err)
				return head
			}
			require.Contains(t, get(plainGET), "200 OK")
			io.ReadFull(br, make([]byte, 2))
			over := make(chan error, 1)
			shutdown := p.Shutdown
			if fault {
				shutdown = p.ShutdownRefusing
			}
			go func() { over <- shutdown(context.Background()) }()
			synctest.Wait()
			time.Sleep(5 * time.Second)
			if h := get(plainPOST); fault {
				assert.Contains(t, h, "503 ")
			} else {
				assert.Contains(t, h, "200 OK")
				assert.NoError(t, p.Activate(context.Background(), plain("blue")))
			}
			io.Copy(io.Discard, br)
			assert.NoError(t, <-over)
		})
	}
}

// TestF5ErrorPathsReleaseLocks makes each write of the state file fail, one after the other, and after every one makes every move there is:
// none waits for a lock that an error has left. With fabio's fault, a return with the lock in the hands, all that follow hang.
func TestF5ErrorPathsReleaseLocks(t *testing.T) {
	full := errors.New("disk full")
	d := &failingDisk{}
	p, err := proxy.NewOn(proxy.Config{Slots: twoSlots, Active: "blue", StateFile: filepath.Join(t.TempDir(), "state.json")}, d.write, nil)
	require.NoError(t, err)
	moves := map[string]func(ctx context.Context) error{
		"activate": func(ctx context.Context) error { return p.Activate(ctx, plain("green")) },
		"set weights": func(ctx context.Context) error {
			return p.SetWeights(ctx, abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50})
		},
		"seal": func(ctx context.Context) error { return p.Seal(ctx, plain("green")) },
		"hold": func(ctx context.Context) error {
			release, err := p.Hold(ctx, abswap.HoldOptions{})
			if err == nil {
				release()
			}
			return err
		},
		"weights":   func(ctx context.Context) error { _, err := p.Weights(ctx); return err },
		"in flight": func(ctx context.Context) error { _, err := p.InFlight(ctx, plain("blue")); return err },
		"idle":      func(ctx context.Context) error { return p.WaitIdle(ctx, plain("blue")) },
		"force":     func(ctx context.Context) error { return p.Force(ctx, plain("green"), abswap.ForceCut) },
	}
	for name, fail := range map[string]failingDisk{"before": {before: full}, "after": {after: full}} {
		for what, move := range moves {
			*d = fail
			err := move(t.Context())
			*d = failingDisk{}
			if what == "activate" || what == "set weights" || what == "seal" {
				assert.ErrorIs(t, err, full, "%s, %s", what, name)
			} else {
				assert.NoError(t, err, "%s, %s", what, name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			for then, again := range moves {
				assert.NoError(t, again(ctx), "%s after the failed %s, %s", then, what, name)
			}
			assert.NoError(t, p.Activate(ctx, plain("blue")))
			cancel()
		}
	}

	*d = failingDisk{before: full}
	require.ErrorIs(t, p.ActivateLeavingLock(t.Context(), "green"), full, "the fault")
	*d = failingDisk{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, p.Activate(ctx, plain("blue")), context.DeadlineExceeded)
	p.Unlock()
	assert.NoError(t, p.Activate(t.Context(), plain("blue")))
	require.NoError(t, p.Close())
}
