package proxy_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// gappy is a switcher with a gap, as a site toggle has: an engine of its own, at one address, in which for a while no slot takes work.
type gappy struct {
	engine *proxy.Switcher
	gap    time.Duration

	mu     sync.Mutex
	before func(context.Context) error // called before anything moves; its error is Activate's
	after  func() error                // called when the switch is in force; its error is Activate's
	asked  func() error                // called by Active; its error is Active's
}

func (g *gappy) script(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gappy) Active(ctx context.Context) (string, error) {
	g.mu.Lock()
	asked := g.asked
	g.mu.Unlock()
	if asked != nil {
		if err := asked(); err != nil {
			return "", err
		}
	}
	return g.engine.Active(ctx)
}

func (g *gappy) Traits() abswap.Traits {
	return abswap.Traits{Gap: true, ClosesIdle: true, CompareAndSet: true}
}

func (g *gappy) Activate(ctx context.Context, s abswap.Slot) error {
	g.mu.Lock()
	before, after := g.before, g.after
	g.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	now, err := g.engine.Active(ctx)
	if err != nil || now != s.Name() {
		if err == nil {
			if err := g.engine.Seal(ctx, plain(now)); err != nil {
				return err
			}
		}
		time.Sleep(g.gap) // this is the gap
		if err := g.engine.Activate(context.WithoutCancel(ctx), plain(s.Name())); err != nil {
			return err
		}
	}
	if after != nil {
		return after()
	}
	return nil
}

// held is a Holding with all that is behind it.
type held struct {
	*proxy.Holding
	front *front
	inner *gappy
	door  string // the address of the inner front door

	mu   sync.Mutex
	seen []proxy.HeldSwitch
}

func (h *held) last() proxy.HeldSwitch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[len(h.seen)-1]
}

// holding puts a proxy in front of a switcher with a gap, which has the two applications.
func holding(t testing.TB, blue, green http.HandlerFunc, change func(*held, *proxy.HoldingConfig)) *held {
	engine, _, _ := pair(t, blue, green)
	h := &held{inner: &gappy{engine: engine.Switcher, gap: 30 * time.Millisecond}, door: engine.addr}
	h.front = serve(t, proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
	cfg := proxy.HoldingConfig{Front: h.front.Switcher, Inner: h.inner, Slots: []abswap.Slot{plain("blue"), plain("green")}, Address: engine.addr,
		Settle: patience, OnSwitch: func(s proxy.HeldSwitch) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.seen = append(h.seen, s)
		}}
	if change != nil {
		change(h, &cfg)
	}
	var err error
	h.Holding, err = proxy.NewHolding(cfg)
	require.NoError(t, err)
	require.NoError(t, h.Follow(t.Context()))
	return h
}

func (h *held) load(t testing.TB, slot string) abswap.Load {
	t.Helper()
	l, err := h.InFlight(t.Context(), plain(slot))
	require.NoError(t, err)
	return l
}
