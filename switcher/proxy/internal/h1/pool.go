package h1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// keepIdle is how long a connection to a slot is kept that nobody uses.
const keepIdle = time.Minute

// Pool is the way to one generation of a slot: its address and its idle connections. A generation never uses another's; but the same one may
// serve several sites, whose pools then share their connections: see Shared.
type Pool struct {
	Addr  string
	Mark  string // tells the generation to clients
	Stick string // names it in the cookie of a client that stays

	// Links makes the connections; nil: PoolConfig.Dial does. It is set before the Pool is used.
	Links Links

	cfg   *PoolConfig
	life  Life
	loop  *loopback             // nil: connections are dialled
	mu    sync.Mutex            // held while shelf changes
	shelf atomic.Pointer[shelf] // nil: no connection is kept
}

// Links are connections beneath those of a Pool, whose HTTP/1.1 they carry by other means.
type Links interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	SetOpen(open bool) // as Pool.SetOpen
	Idle() int         // as Pool.Idle
}

// PoolConfig is what the pools of one site have in common. It is made by NewPoolConfig.
type PoolConfig struct {
	Dial        func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer, or a way of our own that is as good
	DialTimeout time.Duration                                                        // 0: none
	ReuseBefore time.Duration                                                        // how long a connection may have been idle to carry what cannot be repeated
	MarkAs      string                                                               // the field that tells a Pool's Mark to clients; "": none
	Shared      *Shared                                                              // with whom connections are shared; nil: with nobody
	CloseStatus uint16                                                               // of the close frame that asks a websocket to end; 0: 1001
	Hooks       Hooks

	mark    string // MarkAs in canonical writing
	ownDial bool   // there was no Dial
}

// Hooks are faults for tests. They are asked where work ends that was asked to, and nowhere else.
type Hooks struct {
	Bare     bool // it ends without a goodbye: no close frame, no last chunk
	Anywhere bool // nobody looks for the end of a frame, or of an event
}

// NewPoolConfig completes c.
func NewPoolConfig(c PoolConfig) *PoolConfig {
	c.mark = http.CanonicalHeaderKey(c.MarkAs)
	if c.Dial == nil {
		c.ownDial, c.Dial = true, new(net.Dialer).DialContext
	}
	return &c
}

// Generation and Entry are those of package route, for slots that are reached through a Pool.
type (
	Generation = route.Generation[*Pool]
	Entry      = route.Entry[*Pool]
)

// Upstream is one connection to a slot. One exchange at a time owns it.
type Upstream struct {
	link
	idleFrom time.Time // when it was put back
}

// NewPool returns a Pool that keeps no connection until SetOpen.
func NewPool(cfg *PoolConfig, life Life, mark string) *Pool {
	p := &Pool{Addr: life.Addr, Mark: mark, cfg: cfg, life: life}
	if cfg.ownDial {
		p.loop = newLoopback(life.Addr)
	}
	return p
}

// SetOpen says whether connections may be kept. At return of SetOpen(false) no idle one is left, and none will be, but for those of other sites
// with which they are shared.
func (p *Pool) SetOpen(open bool) {
	if open == (p.shelf.Load() != nil) {
		return
	}
	shared := p.cfg.Shared
	if p.Links != nil {
		shared = nil
		defer p.Links.SetOpen(open)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := p.shelf.Load(); {
	case open && s == nil:
		p.shelf.Store(shared.open(p.life))
	case !open && s != nil:
		p.shelf.Store(nil)
		shared.close(p.life, s)
	}
}

// Idle returns how many connections are kept.
func (p *Pool) Idle() (n int) {
	if p.Links != nil {
		n = p.Links.Idle()
	}
	s := p.shelf.Load()
	if s == nil {
		return n
	}
	for _, sh := range *s.shards.Load() {
		sh.mu.Lock()
		n += len(sh.idle)
		sh.mu.Unlock()
	}
	return n
}

// closeIdle closes the idle connections except the newest keep ones. It is called with the lock held.
func (s *poolShard) closeIdle(keep int) {
	n := len(s.idle) - keep
	for _, u := range s.idle[:n] {
		u.Close()
	}
	s.idle = append(s.idle[:0], s.idle[n:]...)
	clear(s.idle[len(s.idle):cap(s.idle)])
	if len(s.idle) == 0 && s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
}

// expire closes what has been idle too long; it runs on the timer.
func (s *poolShard) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry == nil {
		return
	}
	old := 0
	for old < len(s.idle) && time.Since(s.idle[old].idleFrom) >= keepIdle {
		old++
	}
	s.closeIdle(len(s.idle) - old)
	if len(s.idle) > 0 {
		s.expiry.Reset(keepIdle - time.Since(s.idle[0].idleFrom))
	}
}

// Take returns the idle connection that was used last, or nil. shard is where it looks first. within bounds how long it may have been idle, and then only one whose look
// proves it quiet is returned; negative: any.
//
// A look shows whether the slot has closed a connection, or has said something unasked; one of these is closed.
//
// Why that is enough: a slot that closes a kept connection just when a request is on its way to it cannot be told from one that died over
// the request, so a request that cannot be repeated must not meet it. Servers close idle connections after seconds or minutes (IIS: 120 s;
// common minimum: 5 s); one that is younger than within and shows no end is not about to be closed for idleness.
func (p *Pool) Take(within time.Duration, shard uint32) *Upstream { return p.take(within, shard, true) }

// take is Take; if within is negative it may leave the look to the caller.
func (p *Pool) take(within time.Duration, shard uint32, always bool) *Upstream {
	shelf := p.shelf.Load()
	if shelf == nil {
		return nil
	}
	shards := *shelf.shards.Load()
	for i := range shards {
		s := shards[(int(shard)+i)&(len(shards)-1)]
		for {
			u := s.pop(within)
			if u == nil {
				break
			}
			if within < 0 && !always {
				return u
			}
			switch v := look(u.Conn); {
			case v == stale:
				u.Close()
				continue
			case v == unknown && within >= 0:
				s.keep(u)
				return nil
			}
			return u
		}
	}
	return nil
}

// pop takes the newest connection out, if it has been idle for less than within.
func (s *poolShard) pop(within time.Duration) *Upstream {
	s.lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 || within >= 0 && time.Since(s.idle[n-1].idleFrom) >= within {
		return nil // all others have been idle for longer
	}
	u := s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	return u
}

// Put keeps u for the next request, or closes it if none may come.
func (p *Pool) Put(u *Upstream, shard uint32) {
	u.idleFrom = time.Now()
	if s := p.shelf.Load(); s != nil {
		s.shard(shard).keep(u)
		return
	}
	u.Close()
}

func (s *poolShard) keep(u *Upstream) {
	s.lock()
	defer s.mu.Unlock()
	if !s.open {
		u.Close()
		return
	}
	s.idle = append(s.idle, u)
	if s.expiry == nil {
		s.expiry = time.AfterFunc(keepIdle, s.expire)
	}
}

// Connect returns a fresh connection.
func (p *Pool) Connect(ctx context.Context) (*Upstream, error) {
	if u := p.connectNow(); u != nil {
		return u, nil
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	return p.connect(ctx)
}

// bounded returns a context for connect. One of it and its parent costs less than one each.
func (p *Pool) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.cfg.DialTimeout > 0 {
		return context.WithTimeout(ctx, p.cfg.DialTimeout)
	}
	return context.WithCancel(ctx)
}

// connectNow is Connect where that takes no waiting; else it returns nil.
func (p *Pool) connectNow() *Upstream {
	if p.loop == nil || p.Links != nil {
		return nil
	}
	nc := p.loop.dial()
	if nc == nil {
		return nil
	}
	u := &Upstream{}
	u.open(nc, false, false)
	return u
}

// connect is Connect by dialling within ctx.
func (p *Pool) connect(ctx context.Context) (*Upstream, error) {
	dial := p.cfg.Dial
	if p.Links != nil {
		dial = p.Links.Dial
	}
	nc, err := dial(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	u := &Upstream{}
	u.open(nc, false, false)
	return u, nil
}

// verdict is what a look at an idle connection shows.
type verdict int

const (
	unknown verdict = iota // this kind of connection cannot be looked at
	quiet                  // neither data nor an end
	stale                  // data, an end or an error: not to be used again
)
