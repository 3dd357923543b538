package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// ErrSiteTaken is what Sites.Add returns if a host has a site already.
var ErrSiteTaken = errors.New("host has a site already")

// SitesConfig says how a Sites serves. The zero value is a useful one. Its fields mean what those of Config mean.
type SitesConfig struct {
	TrustedPeers []netip.Prefix

	HeadTimeout time.Duration // 0: 1m, negative: none
	IdleTimeout time.Duration // 0: 5m, negative: never
	Farewell    time.Duration // 0: 500ms, negative: not at all

	MaxHead, MaxFields int // of a request's head
	MaxConns           int // of clients, for all sites together; 0: no limit
	DisableHTTP2       bool

	// Dial connects to the slots of all sites, DialTimeout bounds it. nil, 0: as in Config.
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)
	DialTimeout time.Duration

	Logger *slog.Logger // also of the sites that have none; nil: silent
}

// Sites serves many sites at one door: the host of a request says which Switcher forwards it. Each site has its own slots, its own swaps and
// counts, its own holds and state file; what a site promises by itself it promises here. They have in common the listeners, the connections of
// clients, which carry requests for any of them, and the idle connections to slots: sites that lead to the same application, by address,
// release and start, use the same ones.
//
// A host is a name, an address, a wildcard such as *.example.com, or * for all others. Case, a port and a dot at the end do not count. A name
// goes before a wildcard, and a wildcard covers exactly one label, as in a certificate: *.example.com is for www.example.com, and neither for
// example.com nor for a.b.example.com. Names are compared as bytes, so one with other letters than ASCII is to be written in its ASCII form
// (xn--...). An address of IPv6 is to come from the client in its canonical text. A target in absolute form goes before Host. A request whose
// host has no site, and one that names no host (HTTP/1.0), goes to the site of *; where there is none it is answered 421 (RFC 9110, 15.5.20),
// and its connection goes on.
//
// Over TLS the host of the request counts, not the name by which the client has asked for the certificate: both may differ, as a certificate
// may be for many names. Give Serve a tls.Listener with Certificates that has the names of all sites.
//
// Looking a site up takes neither a lock nor an allocation, and as long with ten thousand sites as with one. Adding one takes as long, too. All
// methods are safe for concurrent use, also while requests are served.
type Sites struct {
	cfg    Config // what sites of New have, where theirs says nothing
	door   *door
	index  *siteIndex
	shared *h1.Shared

	mu     sync.Mutex         // serialises changes
	made   map[*Switcher]bool // all that New has made and that are not closed
	closed bool
	nobody *Switcher // for answers of our own: it is at the door, and that is all
}

var _ http.Handler = (*Sites)(nil)

// NewSites checks cfg and returns a Sites that has none yet.
func NewSites(cfg SitesConfig) (*Sites, error) {
	c := Config{TrustedPeers: slices.Clone(cfg.TrustedPeers), HeadTimeout: cfg.HeadTimeout, IdleTimeout: cfg.IdleTimeout, Farewell: cfg.Farewell,
		MaxHead: cfg.MaxHead, MaxFields: cfg.MaxFields, MaxConns: cfg.MaxConns, DisableHTTP2: cfg.DisableHTTP2,
		Dial: cfg.Dial, DialTimeout: cfg.DialTimeout, Logger: cfg.Logger}
	if err := c.checkDoor(); err != nil {
		return nil, fmt.Errorf("proxy: sites: %w", err)
	}
	c = c.withDefaults()
	s := &Sites{cfg: c, index: newSiteIndex(), shared: &h1.Shared{}, made: map[*Switcher]bool{}}
	s.door = newDoor(c.door(s.forward, s))
	s.nobody = &Switcher{door: s.door}
	return s, nil
}

// checkDoor returns all mistakes in what a Sites takes of c.
func (c Config) checkDoor() error {
	c.Slots = map[string]string{"any": ""} // it has none
	return c.check()
}

// New makes a Switcher for a site, as the function New does. Until Add no request reaches it. What SitesConfig has too, but for Dial, DialTimeout
// and Logger, is for all sites alike: a cfg that has it is refused. With a Dial of its own it has its own connections, too.
//
// It has no listeners: Serve of it returns an error. Its Shutdown and its Close take its hosts out of the Sites first. What is not closed by
// itself is by Shutdown and Close of the Sites.
func (s *Sites) New(cfg Config) (*Switcher, error) {
	if len(cfg.TrustedPeers) > 0 || cfg.HeadTimeout != 0 || cfg.IdleTimeout != 0 || cfg.Farewell != 0 || cfg.MaxHead != 0 || cfg.MaxFields != 0 ||
		cfg.MaxConns != 0 || cfg.DisableHTTP2 {
		return nil, errors.New("proxy: a site has no TrustedPeers, HeadTimeout, IdleTimeout, Farewell, MaxHead, MaxFields, MaxConns and DisableHTTP2 " +
			"of its own: they are in SitesConfig, for all")
	}
	cfg.HeadTimeout, cfg.IdleTimeout, cfg.Farewell = -1, -1, -1
	shared := s.shared
	if cfg.Dial != nil {
		shared = nil
	} else {
		cfg.Dial = s.cfg.Dial
	}
	if cfg.DialTimeout == 0 {
		if cfg.DialTimeout = s.cfg.DialTimeout; cfg.DialTimeout == 0 {
			cfg.DialTimeout = -1
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = s.cfg.Logger
	}
	p, err := newAt(cfg, realDisk(), s, shared)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.made[p] = true
	}
	s.mu.Unlock()
	if closed {
		return nil, multi.Join(fmt.Errorf("proxy: sites: %w", http.ErrServerClosed), p.Close())
	}
	return p, nil
}

// Add lets requests for the hosts reach p, which New of s has made. From its return on they do. If one of the hosts has a site already the error
// is ErrSiteTaken, and nothing has changed; after Close it is http.ErrServerClosed.
func (s *Sites) Add(p *Switcher, hosts ...string) error {
	_, err := s.put(p, hosts, false)
	return err
}

// Set is Add, and takes the hosts from the sites that have them: no request that begins after its return reaches those by these hosts. It
// returns the Switchers that no host leads to any more. They carry what they have to its end; Shutdown of each waits for that and closes it.
// A new site needs a Config.StateFile other than that of the one it replaces, as long as that is not closed.
func (s *Sites) Set(p *Switcher, hosts ...string) (left []*Switcher, err error) {
	return s.put(p, hosts, true)
}

// Remove takes the hosts out: no request that begins after its return reaches their sites by them. It returns the Switchers that no host leads
// to any more, as Set does. Connections of clients stay open, for other hosts. If one of the hosts has no site the error says so, and nothing
// has changed.
func (s *Sites) Remove(hosts ...string) (left []*Switcher, err error) {
	names, errs := siteNames(hosts)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		if s.index.of(n) == nil {
			errs = append(errs, fmt.Errorf("host %q has no site", n))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: sites: remove: nothing changed: %w", err)
	}
	return s.lead(nil, names), nil
}

func (s *Sites) put(p *Switcher, hosts []string, over bool) ([]*Switcher, error) {
	names, errs := siteNames(hosts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("proxy: sites: %w", http.ErrServerClosed)
	}
	if !s.made[p] || p.at.ending {
		errs = append(errs, errors.New("the Switcher is closed, or was not made by New of these Sites"))
	}
	for _, n := range names {
		if old := s.index.of(n); old != nil && !over {
			errs = append(errs, fmt.Errorf("%q: %w", n, ErrSiteTaken))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("proxy: sites: nothing changed: %w", err)
	}
	return s.lead(p, names), nil
}

// lead lets the names lead to p, or, if that is nil, nowhere, and returns the Switchers that nothing leads to any more. s.mu is held.
//
// A request that has found a site in the index enters it a moment later. So a site is put away only when nothing leads to it, and from then on
// such a request does not enter it any more: it looks again (see route.Table.SetAway). So whoever has seen a zero of a site that was taken out
// has seen the last one, and no request is lost.
func (s *Sites) lead(p *Switcher, names []string) (left []*Switcher) {
	if p != nil && len(p.at.hosts) == 0 {
		p.table.SetAway(false)
	}
	for _, n := range names {
		old := s.index.of(n)
		if old == p {
			continue
		}
		s.index.set(n, p)
		if p != nil {
			p.at.hosts = append(p.at.hosts, n)
		}
		if old == nil {
			continue
		}
		old.at.hosts = slices.DeleteFunc(old.at.hosts, func(x string) bool { return x == n })
		if len(old.at.hosts) == 0 {
			old.table.SetAway(true)
			old.queue.pass(false) // what waits for a place there need not any more
			left = append(left, old)
		}
	}
	return left
}

// place is what a Sites knows of a Switcher that it has made; guarded by Sites.mu.
type place struct {
	hosts  []string
	ending bool // its Shutdown or Close has begun
}

// end takes p out, whose Shutdown or Close has begun.
func (s *Sites) end(p *Switcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.at.ending = true
	s.lead(nil, slices.Clone(p.at.hosts))
}

// forget says that p is closed.
func (s *Sites) forget(p *Switcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.made, p)
}

// Lookup returns the Switcher that a request for that host reaches now.
func (s *Sites) Lookup(host string) (*Switcher, bool) {
	p := s.index.find(host)
	return p, p != nil
}

// All returns all hosts and their Switchers, in no order. A change meanwhile may be in it or not.
func (s *Sites) All() iter.Seq2[string, *Switcher] {
	return func(yield func(string, *Switcher) bool) { s.index.each(yield) }
}

// Serve is as Switcher.Serve, for all sites.
func (s *Sites) Serve(l net.Listener) error { return s.door.serve(l) }

// forward carries a request that Serve has read.
func (s *Sites) forward(x *h1.Exchange) {
	for {
		p := s.index.find(x.Host())
		if p == nil {
			misdirected(x)
			return
		}
		if p.forward(x) {
			return
		}
	}
}

// misdirected answers a request that no site is for.
func misdirected(g guest) {
	g.StopAhead(true)
	g.Fail(http.StatusMisdirectedRequest, noSite, 0, false)
}

// ServeHTTP is as Switcher.ServeHTTP, for all sites.
func (s *Sites) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.door.newExchange(w, r)
	if x == nil {
		return
	}
	for {
		if x.s = s.index.find(r.Host); x.s == nil {
			x.s = s.nobody
			misdirected(x)
			return
		}
		if x.s.forward(x) {
			return
		}
	}
}

const noSite = "no site has this host"

// Shutdown is as Switcher.Shutdown, for all sites, and closes them: also those that were taken out and still have work.
func (s *Sites) Shutdown(ctx context.Context) error {
	if err := s.door.shutdown(ctx); err != nil {
		return err
	}
	for _, p := range s.all() {
		if err := p.waitIdle(ctx); err != nil {
			return err
		}
	}
	return s.Close()
}

// Close ends all sites at once: listeners, connections and all work in flight. It waits until nothing of them is left. A second call does
// nothing.
func (s *Sites) Close() error {
	s.door.leave()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var mu sync.Mutex
	var errs []error
	var closing sync.WaitGroup
	next := make(chan *Switcher)
	all := s.all()
	for range min(len(all), 16) { // where each has a state file, each waits for the disk
		closing.Go(func() {
			for p := range next {
				if err := p.Close(); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, p := range all {
		next <- p
	}
	close(next)
	closing.Wait()
	s.door.close()
	return multi.Join(errs...)
}

// all returns the Switchers that are not closed.
func (s *Sites) all() []*Switcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Switcher, 0, len(s.made))
	for p := range s.made {
		out = append(out, p)
	}
	return out
}
