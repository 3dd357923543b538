package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Health says how the proxy asks the applications in its slots how they are: by a GET, on a connection of its own, of all that take new work
// and of all that once did and are not sealed, such as one that is kept for the way back.
//
// What is seen is told, by Switcher.Health, Config.OnHealth, Config.Logger and the control plane. It moves nothing, unless Eject is set: a
// probe never gives work to a slot that has none by the last Activate or SetWeights. What was asked of one generation of a slot (its release,
// address and start) says nothing of the next one.
type Health struct {
	Path    string        // what is asked for; it begins with "/"
	Host    string        // whom it is asked of; "": the address of the slot
	Every   time.Duration // 0: 10s
	Timeout time.Duration // of one probe, with its connection; 0: 5s
	Fails   int           // so many in a row make a slot unhealthy; 0: 3
	Passes  int           // so many in a row make it healthy again; 0: 2. The first probe of a generation counts for all, if it passes

	// Eject takes a slot that is unhealthy out of the weights, as long as another one with a part is not: those share its part in their
	// ratio, and Weights tells that. It comes back by itself when it is healthy, with the part that it was given last. Where all that have
	// a part are unhealthy, all of them keep it: the last one is never taken out, and one without a part is never brought in.
	Eject bool
}

// HealthState says how an application is.
type HealthState int

const (
	HealthUnknown   HealthState = iota // it was not asked often enough
	HealthGood                         // an answer within 200 to 299
	HealthUnhealthy                    // anything else, Health.Fails times in a row
)

var healthTexts = []string{"unknown", "healthy", "unhealthy"}

func (h HealthState) String() string {
	if h < 0 || int(h) >= len(healthTexts) {
		return fmt.Sprintf("HealthState(%d)", int(h))
	}
	return healthTexts[h]
}

// MarshalText writes it as String does.
func (h HealthState) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (h *HealthState) UnmarshalText(text []byte) error {
	i := slices.Index(healthTexts, string(text))
	if i < 0 {
		return fmt.Errorf("%q is not unknown, healthy or unhealthy", text)
	}
	*h = HealthState(i)
	return nil
}

// SlotHealth is how the known generation of a slot is.
type SlotHealth struct {
	Slot    string      `json:"slot"`
	Release string      `json:"release,omitempty"`
	Address string      `json:"address"`
	State   HealthState `json:"state"`
	Since   time.Time   `json:"since"`         // of State
	Asked   time.Time   `json:"asked"`         // when the last probe ended
	Err     string      `json:"err,omitempty"` // why the last probe has failed; "": it passed
	Ejected bool        `json:"ejected"`       // it is out of the weights; see Health.Eject
}

func (h *Health) check(bad func(format string, args ...any)) {
	if h == nil {
		return
	}
	if u, err := url.ParseRequestURI(h.Path); err != nil || !strings.HasPrefix(h.Path, "/") || u.Host != "" {
		bad("Config.Health.Path: %q does not begin with / or is no path", h.Path)
	}
	if h.Every < 0 || h.Timeout < 0 || h.Fails < 0 || h.Passes < 0 {
		bad("Config.Health: Every %s, Timeout %s, Fails %d, Passes %d: none may be below 0", h.Every, h.Timeout, h.Fails, h.Passes)
	}
}

func (h Health) withDefaults() Health {
	if h.Every == 0 {
		h.Every = 10 * time.Second
	}
	if h.Timeout == 0 {
		h.Timeout = 5 * time.Second
	}
	if h.Fails == 0 {
		h.Fails = 3
	}
	if h.Passes == 0 {
		h.Passes = 2
	}
	return h
}

// prober asks the slots.
type prober struct {
	s     *Switcher
	cfg   Health
	kick  chan struct{} // told when there may be a generation that has not been asked
	stop  context.CancelFunc
	ended chan struct{}
	hooks proberHooks

	mu    sync.Mutex // taken before the lock of the table
	slots map[string]*examined
	tell  sync.Mutex // held while OnHealth runs; taken before mu
}

// proberHooks are faults for tests.
type proberHooks struct {
	byAddress bool                     // what is known of an address goes on when another generation takes it
	seen      func(*generation, error) // called with each result
}

// examined is what has been seen of one generation.
type examined struct {
	gen     *generation
	health  SlotHealth
	running bool
	passes  int // in a row
	fails   int
}

// startProber starts to ask, until Close.
func (s *Switcher) startProber() {
	if s.cfg.Health == nil {
		return
	}
	p := &prober{s: s, cfg: s.cfg.Health.withDefaults(), kick: make(chan struct{}, 1), ended: make(chan struct{}), slots: map[string]*examined{}}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	s.prober.Store(p)
	go func() {
		defer close(p.ended)
		p.run(ctx)
	}()
}

// close ends the asking, and waits for it.
func (p *prober) close() {
	if p != nil {
		p.stop()
		<-p.ended
	}
}

// look says that another generation may be there.
func (p *prober) look() {
	if p != nil {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

func (p *prober) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(p.cfg.Every)
	defer tick.Stop()
	for fresh := false; ; {
		for _, g := range p.s.asked() {
			if p.begin(g, fresh) {
				all.Go(func() {
					err := p.ask(ctx, g)
					if ctx.Err() == nil {
						p.result(g, err)
					}
				})
			}
		}
		select {
		case <-tick.C:
			fresh = false
		case <-p.kick:
			fresh = true
		case <-ctx.Done():
			return
		}
	}
}

// asked returns the known generation of each slot that is not sealed.
func (s *Switcher) asked() (all []*generation) {
	for name := range s.cfg.Slots {
		if gens := s.table.Generations(name); len(gens) > 0 && !s.table.Sealed(name) {
			all = append(all, gens[len(gens)-1])
		}
	}
	return all
}

// begin reports whether g is to be asked now. fresh says that only those are that have not been.
func (p *prober) begin(g *generation, fresh bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.of(g)
	if x != nil {
		x.gen = g
	}
	if x == nil {
		x = &examined{gen: g, health: SlotHealth{Slot: g.Key.Slot, Release: g.Key.Release, Address: g.Key.Address, Since: time.Now()}}
		p.slots[g.Key.Slot] = x
	} else if fresh || x.running {
		return false
	}
	x.running = true
	return true
}

// of returns what has been seen of g; nil: nothing, or it has a successor.
func (p *prober) of(g *generation) *examined {
	if x := p.slots[g.Key.Slot]; x != nil && (x.gen == g || p.hooks.byAddress && x.gen.Key.Address == g.Key.Address) {
		return x
	}
	return nil
}

// ask asks g, and returns why it is not well.
func (p *prober) ask(ctx context.Context, g *generation) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Key.Address+p.cfg.Path, nil)
	if err != nil {
		return err
	}
	r.Host = p.cfg.Host
	r.Header.Set("User-Agent", "abswap-health")
	// A transport for each probe: it must have a connection of its own, and leave none behind.
	tr := &http.Transport{DialContext: p.s.cfg.Dial, DisableKeepAlives: true, DisableCompression: true}
	if p.s.cfg.Protocols[g.Key.Slot] == H2C {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			err = fmt.Errorf("no answer within %s: %w", p.cfg.Timeout, err)
		}
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// result takes in what asking g has given.
func (p *prober) result(g *generation, err error) {
	p.tell.Lock()
	defer p.tell.Unlock()
	if p.hooks.seen != nil {
		p.hooks.seen(g, err)
	}
	now, changed := p.note(g, err)
	if !changed {
		return
	}
	level := slog.LevelInfo
	if now.State == HealthUnhealthy {
		level = slog.LevelWarn
	}
	p.s.cfg.Logger.Log(context.Background(), level, "slot is "+now.State.String(), slog.String("slot", now.Slot), slog.String("release", now.Release),
		slog.String("address", now.Address), slog.Bool("ejected", now.Ejected), slog.String("err", now.Err))
	if p.s.cfg.OnHealth != nil {
		p.s.cfg.OnHealth(now)
	}
}

// note counts a result, and reports whether the state of the slot has changed by it.
func (p *prober) note(g *generation, err error) (now SlotHealth, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.of(g)
	if x == nil {
		return now, false // another generation has the slot
	}
	x.running = false
	h := &x.health
	h.Asked, h.Err = time.Now(), ""
	was := h.State
	if err != nil {
		h.Err = err.Error()
		x.passes = 0
		if x.fails++; x.fails >= p.cfg.Fails {
			h.State = HealthUnhealthy
		}
	} else {
		x.fails = 0
		if x.passes++; x.passes >= p.cfg.Passes || was == HealthUnknown {
			h.State = HealthGood
		}
	}
	if h.State != was {
		h.Since = h.Asked
		if p.cfg.Eject {
			p.s.table.SetSick(x.gen, h.State == HealthUnhealthy)
		}
	}
	h.Ejected = p.s.table.Ejected(x.gen)
	return *h, h.State != was
}

// Health tells how the slots are that are asked, by name; none without Config.Health.
func (s *Switcher) Health() (all []SlotHealth) {
	p := s.prober.Load()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range s.asked() {
		if x := p.of(g); x != nil {
			h := x.health
			h.Ejected = s.table.Ejected(g)
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b SlotHealth) int { return strings.Compare(a.Slot, b.Slot) })
	return all
}

// healthOf tells how one slot is; nil: nothing is known.
func (s *Switcher) healthOf(name string, all []SlotHealth) *SlotHealth {
	for i := range all {
		if all[i].Slot == name {
			return &all[i]
		}
	}
	return nil
}
