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
	done   func() // called at the end of all
	gen    *generation
	under  atomic.Int32 // directions that have not ended

	mu     sync.Mutex         // guards what follows; never held while waiting
	slot   net.Conn           // set once, before the directions begin
	cancel context.CancelFunc // of a dial under way
	wasCut bool
	over   [2]bool // the directions from the client and from the slot have carried all they will

	broken atomic.Bool // one side broke, or it was cut: both are reset
}

// past is a deadline that has passed on every clock.
var past = time.Unix(1, 0)

// maxTries bounds the slots that one connection is offered to.
const maxTries = 3

// carry joins one connection with a slot and returns; what is carried then is a matter of two goroutines with small stacks. read is what was
// read of it already. done is called when the connection has ended, in whatever way.
func (s *Switcher) carry(c net.Conn, read []byte, done func()) {
	x := &link{s: s, client: c, done: done}
	x.Peer, x.Started, x.Cut = c.RemoteAddr().String(), time.Now(), x.cutNow
	if !x.join(read) {
		x.close(c)
		done()
	}
}

// join finds a slot. false: there is none, and nothing has begun.
func (x *link) join(read []byte) bool {
	s := x.s
	var unreachable *generation
	for try := 1; ; try++ {
		gen := s.table.Enter(&x.Entry, unreachable)
		if gen == nil {
			s.stats.refused.Add(1)
			s.log(slog.LevelDebug, "connection refused: no slot takes new ones", x, "", nil)
			x.broken.Store(true)
			return false
		}
		if gen == unreachable { // no other slot takes work
			x.Leave()
			s.fail(x, gen, nil)
			return false
		}
		err := x.dial(gen.Target.addr)
		if err == nil {
			x.gen = gen
			x.begin(read)
			return true
		}
		x.Leave()
		if x.isCut() {
			x.cutDone(gen)
			return false
		}
		if try == maxTries {
			s.fail(x, gen, err)
			return false
		}
		s.log(slog.LevelWarn, "slot cannot be reached", x, gen.Key.Slot, err)
		s.stats.redialled.Add(1)
		unreachable = gen
	}
}

// begin carries both directions.
func (x *link) begin(read []byte) {
	if len(read) > 0 {
		if _, err := x.slot.Write(read); err != nil {
			x.breakOff()
		} else {
			x.In.Add(int64(len(read)))
		}
	}
	x.under.Store(2)
	go x.pass(fromSlot, x.client, x.slot, &x.Out)
	go x.pass(fromClient, x.slot, x.client, &x.In)
}

// end clears up behind both directions. The slot is left only when nothing can reach it any more.
func (x *link) end() {
	x.close(x.slot)
	x.Leave()
	if x.isCut() {
		x.cutDone(x.gen)
	} else {
		x.s.stats.carried.Add(1)
	}
	x.close(x.client)
	x.done()
}

func (x *link) cutDone(gen *generation) {
	x.s.stats.cut.Add(1)
	x.s.log(slog.LevelWarn, "connection cut by order", x, gen.Key.Slot, nil)
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

// The directions, as in link.over.
const (
	fromClient = iota
	fromSlot
)

// pass carries one direction to its end. An end is passed on as that of this direction only. A broken source breaks both sides. If dst is
// broken the other direction finds that by itself, after what is still on its way there.
//
// When it has passed on an end it stays and looks whether the source goes away altogether, until the other direction has ended: nobody else
// would see that, as long as the other side is silent.
func (x *link) pass(direction int, dst, src net.Conn, count *atomic.Int64) {
	defer func() {
		if x.under.Add(-1) == 0 {
			x.end()
		}
	}()
	rerr, werr := x.s.flow.move(dst, src, count)
	x.mu.Lock()
	x.over[direction] = true // before the end is passed on: who looks at dst must know where that comes from
	last := x.over[1-direction]
	x.mu.Unlock()
	switch {
	case werr != nil:
	case rerr != nil:
		x.breakOff()
	case last: // closing both tells it
	default:
		if t, ok := dst.(interface{ Handshake() error }); ok {
			t.Handshake() // before it TLS cannot say that anything ends; if it fails, the other direction finds that
		}
		if h, ok := dst.(interface{ CloseWrite() error }); ok {
			h.CloseWrite()
		} else {
			x.breakOff() // this kind of connection has no halves
		}
	}
	if last {
		dst.SetReadDeadline(past) // the other one only looks
	}
	if last || rerr != nil || werr != nil || !gone(src) {
		return
	}
	x.mu.Lock()
	alone := x.over[1-direction]
	x.mu.Unlock()
	if !alone {
		x.breakOff()
	}
}

// dial sets x.slot to a connection to a slot; Cut ends it.
func (x *link) dial(addr string) error {
	ctx, cancel := context.WithCancel(context.Background())
	if d := x.s.cfg.DialTimeout; d > 0 {
		cancel()
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
	if err != nil {
		return fmt.Errorf("dial %q: %w", addr, err)
	}
	if x.slot = c; x.wasCut {
		c.SetDeadline(past)
	}
	return nil
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

// close closes c, so that its peer sees a break where there was one.
func (x *link) close(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok && x.broken.Load() {
		l.SetLinger(0)
	}
	c.Close()
}
