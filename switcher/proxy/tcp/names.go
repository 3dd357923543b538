package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// NamesConfig says which Switcher has which sites.
type NamesConfig struct {
	// Sites are the Switchers by the server name that a TLS client asks for, without regard to case. "*.example.com" stands for any one
	// label before the rest; a whole name goes before it.
	Sites map[string]*Switcher

	// Default gets all others: clients that ask for no name, or for one that is not in Sites, or that do not speak TLS. nil: they are closed.
	Default *Switcher

	HelloTimeout time.Duration // from the connection to the end of the client's first message; 0: 10s, negative: none

	Logger *slog.Logger // nil: silent
}

// Names serves listeners that several sites share: it reads the first message of a TLS connection, chooses a Switcher by the name in it, and hands
// over the connection with every byte; the encryption is not touched. Until then the connection is in no slot: a switch in between holds for
// it. A client that waits for the server to speak first can only be for Default, after HelloTimeout.
type Names struct {
	cfg   NamesConfig
	doors acceptor

	mu      sync.Mutex
	reading map[net.Conn]bool // connections whose first message is being read; nil: Close was called
}

// NewNames checks cfg and returns a Names. The Switchers stay the caller's: Close of a Names closes none of them. The error lists all mistakes.
func NewNames(cfg NamesConfig) (*Names, error) {
	var errs []error
	if len(cfg.Sites) == 0 && cfg.Default == nil {
		errs = append(errs, errors.New("NamesConfig names no Switcher"))
	}
	sites := map[string]*Switcher{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sites)) {
		key := strings.ToLower(strings.TrimSuffix(name, "."))
		if cfg.Sites[name] == nil {
			errs = append(errs, fmt.Errorf("NamesConfig.Sites: %q has no Switcher", name))
		}
		if rest := strings.TrimPrefix(key, "*."); rest == "" || strings.Contains(rest, "*") {
			errs = append(errs, fmt.Errorf("NamesConfig.Sites: %q is neither a name nor *. and a name", name))
		}
		if sites[key] != nil {
			errs = append(errs, fmt.Errorf("NamesConfig.Sites: %q is there twice", key))
		}
		sites[key] = cfg.Sites[name]
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	cfg.Sites = sites
	switch {
	case cfg.HelloTimeout == 0:
		cfg.HelloTimeout = 10 * time.Second
	case cfg.HelloTimeout < 0:
		cfg.HelloTimeout = 0
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Names{cfg: cfg, reading: map[net.Conn]bool{}}, nil
}

// Serve accepts connections on l and hands each to its Switcher until Close is called, then returns net.ErrClosed. It may be called for
// several listeners. It closes l.
func (n *Names) Serve(l net.Listener) error { return n.doors.serve(l, n.handle) }

// Close closes the listeners and the connections that have not said yet for whom they are. All others are their Switchers', and live on there.
func (n *Names) Close() error {
	n.doors.close(true)
	n.mu.Lock()
	for c := range n.reading {
		c.SetReadDeadline(past)
	}
	n.reading = nil
	n.mu.Unlock()
	n.doors.wait(context.Background(), false)
	return nil
}

// note adds or removes a connection whose first message is being read; false: it is too late.
func (n *Names) note(c net.Conn, reads bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.reading == nil:
		return false
	case reads:
		n.reading[c] = true
	default:
		delete(n.reading, c)
	}
	return true
}

func (n *Names) handle(c net.Conn) {
	defer n.doors.leave()
	if n.cfg.HelloTimeout > 0 {
		c.SetReadDeadline(time.Now().Add(n.cfg.HelloTimeout))
	}
	ok := n.note(c, true)
	var name string
	var read []byte
	var err error
	if ok {
		name, read, err = serverName(c)
		ok = n.note(c, false)
	}
	if !ok {
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	s := n.of(name)
	if s == nil || err != nil && !errors.Is(err, errNoHello) {
		n.cfg.Logger.Debug("connection closed: no site for it", "peer", c.RemoteAddr(), "name", name, "err", err)
		c.Close()
		return
	}
	s.adopt(c, read, func() {})
}

// of returns the Switcher for a server name.
func (n *Names) of(name string) *Switcher {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if s := n.cfg.Sites[name]; s != nil && name != "" {
		return s
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if s := n.cfg.Sites["*."+rest]; s != nil {
			return s
		}
	}
	return n.cfg.Default
}
