package tcp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// link is one client's connection, and the one to a slot that it is joined with.
type link struct {
	route.Entry[target]
	s      *Switcher
	client net.Conn

	mu     sync.Mutex // guards what follows; never held while waiting
	slot   net.Conn
	cancel context.CancelFunc // of a dial under way
	wasCut bool

	broken atomic.Bool // one side broke, or it was cut: both are reset
}

// past is a deadline that has passed on every clock.
var past = time.Unix(1, 0)

// maxTries bounds the slots that one connection is offered to.
const maxTries = 3

// carry carries one connection to its end. read is what was read of it already.
func (s *Switcher) carry(c net.Conn, read []byte) {
	x := &link{s: s, client: c}
	x.Peer, x.Started, x.Cut = c.RemoteAddr().String(), time.Now(), x.cutNow
	defer x.closeClient()

	var unreachable *generation
	for try := 1; ; try++ {
		gen := s.table.Enter(&x.Entry, unreachable)
		if gen == nil {
			s.stats.refused.Add(1)
			s.log(slog.LevelDebug, "connection refused: no slot takes new ones", x, "", nil)
			x.broken.Store(true)
			return
		}
		if gen == unreachable { // no other slot takes work
			x.Leave()
			s.fail(x, gen, nil)
			return
		}
		err := x.through(gen, read)
		x.Leave()
		switch {
		case x.isCut():
			s.stats.cut.Add(1)
			s.log(slog.LevelWarn, "connection cut by order", x, gen.Key.Slot, nil)
			return
		case err == nil:
			s.stats.carried.Add(1)
			return
		case try == maxTries:
			s.fail(x, gen, err)
			return
		}
		s.log(slog.LevelWarn, "slot cannot be reached", x, gen.Key.Slot, err)
		s.stats.redialled.Add(1)
		unreachable = gen
	}
}

func (s *Switcher) fail(x *link, gen *generation, err error) {
	s.stats.failed.Add(1)
	s.log(slog.LevelWarn, "connection closed: slot cannot be reached", x, gen.Key.Slot, err)
	x.broken.Store(true)
}

func (s *Switcher) log(level slog.Level, msg string, x *link, slot string, err error) {
	if !s.cfg.Logger.Enabled(context.Background(), level) {
		return
	}
	args := []any{"peer", x.Peer}
	if slot != "" {
		args = append(args, "slot", slot)
	}
	if err != nil {
		args = append(args, "err", err)
	}
	s.cfg.Logger.Log(context.Background(), level, msg, args...)
}

// through joins the client with the generation, in which it has been counted. An error means that it could not be reached and that nothing
// was sent there. At return nothing of it is left in the slot.
func (x *link) through(gen *generation, read []byte) error {
	slot, err := x.dial(gen.Target.addr)
	if err != nil {
		return err
	}
	defer x.closeSlot(slot)
	if len(read) > 0 {
		if _, err := slot.Write(read); err != nil {
			x.breakOff()
			return nil
		}
		x.In.Add(int64(len(read)))
	}
	var both sync.WaitGroup
	both.Go(func() { x.pass(x.client, slot, &x.Out) })
	x.pass(slot, x.client, &x.In)
	both.Wait()
	return nil
}

// pass carries one direction to its end. An end is passed on as that of this direction only. A broken source breaks both sides. If dst is
// broken the other direction finds that by itself, after what is still on its way there.
func (x *link) pass(dst, src net.Conn, count *atomic.Int64) {
	rerr, werr := x.s.flow.move(dst, src, count)
	switch {
	case werr != nil:
	case rerr != nil:
		x.breakOff()
	default:
		if h, ok := dst.(interface{ CloseWrite() error }); ok {
			h.CloseWrite()
		} else {
			x.breakOff() // this kind of connection has no halves
		}
	}
}

// dial connects to a slot; Cut ends it.
func (x *link) dial(addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if d := x.s.cfg.DialTimeout; d > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), d)
	}
	defer cancel()
	x.mu.Lock()
	x.cancel = cancel
	if x.wasCut {
		cancel()
	}
	x.mu.Unlock()
	c, err := x.s.cfg.Dial(ctx, "tcp", addr)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cancel = nil
	switch {
	case err != nil:
		return nil, fmt.Errorf("dial %q: %w", addr, err)
	case x.wasCut:
		c.SetDeadline(past)
	}
	x.slot = c
	return c, nil
}

// cutNow is what Entry.Cut points to.
func (x *link) cutNow() {
	x.mu.Lock()
	x.wasCut = true
	if x.cancel != nil {
		x.cancel()
	}
	x.mu.Unlock()
	x.breakOff()
}

func (x *link) isCut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wasCut
}

// breakOff ends both directions without waiting, for whoever carries them to clear up.
func (x *link) breakOff() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.broken.Store(true)
	x.client.SetDeadline(past)
	if x.slot != nil {
		x.slot.SetDeadline(past)
	}
}

func (x *link) closeClient() { x.close(x.client) }

func (x *link) closeSlot(c net.Conn) {
	x.mu.Lock()
	x.slot = nil
	x.mu.Unlock()
	x.close(c)
}

// close closes c, so that its peer sees a break where there was one.
func (x *link) close(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok && x.broken.Load() {
		l.SetLinger(0)
	}
	c.Close()
}
