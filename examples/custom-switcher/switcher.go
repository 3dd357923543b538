package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/abswap/abswap"
)

// Door is a front door of our own: a reverse proxy that sends each request to the active slot. It is a Switcher, a Drainer that counts
// exactly, and the http.Handler of the site.
//
// One mutex makes it right. A request picks its slot and is counted there under it, in one go, and Activate changes the slot under it: when
// Activate has returned, every request that picked the old slot is counted, and none picks it any more.
type Door struct {
	mu     sync.Mutex
	active string
	slots  map[string]*slot
}

// slot is what the Door knows of a slot: where its requests go, and how many are there.
type slot struct {
	proxy              *httputil.ReverseProxy
	requests, upgraded int
}

var (
	_ abswap.Switcher = (*Door)(nil)
	_ abswap.Drainer  = (*Door)(nil)
)

// NewDoor returns a Door for slots at these addresses, by the slot's name. None is active.
func NewDoor(addresses map[string]*url.URL) *Door {
	d := &Door{slots: map[string]*slot{}}
	for name, u := range addresses {
		d.slots[name] = &slot{proxy: &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded(); r.Out.Host = r.In.Host },
			FlushInterval: -1, // streams go on at once
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				http.Error(w, "the slot did not answer", http.StatusBadGateway)
			},
		}}
	}
	return d
}

// ServeHTTP sends the request to the active slot. It returns when both directions are finished, those of an upgraded connection too.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, leave := d.enter(r.Header.Get("Upgrade") != "")
	if s == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "no slot is active", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	s.proxy.ServeHTTP(w, r)
}

// enter picks the active slot and counts the request there; leave takes it out again. The slot is nil if none is active.
func (d *Door) enter(upgrade bool) (s *slot, leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s = d.slots[d.active]
	if s == nil {
		return nil, nil
	}
	count := &s.requests
	if upgrade {
		count = &s.upgraded
	}
	*count++
	return s, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		*count--
	}
}

// Active returns the slot that takes new work.
func (d *Door) Active(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active == "" {
		return "", abswap.ErrNoActive
	}
	return d.active, nil
}

// Activate sends all new work to the slot.
func (d *Door) Activate(ctx context.Context, to abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slots[to.Name()] == nil {
		return fmt.Errorf("activate %q: %w", to.Name(), abswap.ErrUnknownSlot)
	}
	d.active = to.Name()
	return nil
}

// InFlight counts what is in the slot.
func (d *Door) InFlight(ctx context.Context, in abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.slots[in.Name()]
	if s == nil {
		return abswap.Load{}, fmt.Errorf("in flight in %q: %w", in.Name(), abswap.ErrUnknownSlot)
	}
	return abswap.Load{Requests: s.requests, Upgraded: s.upgraded, Evidence: abswap.EvidenceExact, Source: "door counters"}, nil
}
