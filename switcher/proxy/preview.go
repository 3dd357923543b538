package proxy

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// previewRule is a rule, and the slot that it leads to.
type previewRule struct {
	slot   string
	header string // in canonical form
	cookie string
	host   string // in small letters
	value  string
}

// Preview sends the requests that match one of the rules, and come from Config.PreviewPeers, to sl, whatever the parts say, from its return on. It
// replaces the earlier rules of sl; without rules it removes them, as Seal does. Where sl is an abswap.InspectingSlot it is asked what it holds.
// A sealed slot stays closed for all others.
//
// The requests are counted in sl. They have no session, and begin none. If sl cannot be reached they are answered 502: nobody who looks at a
// release is shown another one. Where rules of several slots match, the first slot by name counts. Rules do not survive a restart of the proxy:
// then nothing is led there any more. An error means that nothing has changed.
func (s *Switcher) Preview(ctx context.Context, sl abswap.Slot, rules ...abswap.PreviewRule) error {
	return s.preview(ctx, nil, sl, rules...)
}

func (s *Switcher) preview(ctx context.Context, at *view, sl abswap.Slot, rules ...abswap.PreviewRule) error {
	if err := s.slots.Has(ctx, sl); err != nil {
		return err
	}
	if err := checkPreview(rules); err != nil {
		return fmt.Errorf("proxy: preview of slot %q: %w", sl.Name(), err)
	}
	if err := s.lock(ctx, "preview"); err != nil {
		return err
	}
	defer s.turn.Give()
	if err := at.check(s); err != nil {
		return err
	}
	name := sl.Name()
	parts := map[string]placed{}
	var gen *generation
	for _, p := range s.table.Given() {
		parts[p.Gen.Key.Slot] = placed{p.Gen.Key, p.Part}
		if p.Gen.Key.Slot == name {
			gen = p.Gen
		}
	}
	next := s.next(parts, "")
	if gen == nil && len(rules) > 0 {
		k, err := s.slots.Key(ctx, sl)
		if err != nil {
			return fmt.Errorf("proxy: preview: nothing changed: %w", err)
		}
		next.place(k)
		defer s.endLost()
		if err := s.store.save(next, s.known.Load()); err != nil {
			return fmt.Errorf("proxy: preview: nothing changed: %w", err)
		}
		gen = s.generation(k)
	} else if err := s.store.save(next, s.known.Load()); err != nil {
		return fmt.Errorf("proxy: preview: nothing changed: %w", err)
	}
	if len(rules) == 0 {
		s.table.StopPreview(name)
		s.unpreview(name)
		s.closeIdle()
	} else {
		gen.Target.SetOpen(true)
		s.table.Preview(gen)
		if s.previews == nil {
			s.previews = map[string][]abswap.PreviewRule{}
		}
		s.previews[name] = slices.Clone(rules)
		s.steer(s.previewRules())
	}
	s.settled(next, at)
	return nil
}

// place puts the key of a slot without a part into st, which is not in use yet. It stays sealed if it is.
func (st *state) place(k route.Key) {
	x := slotStateOf(k)
	i, found := slices.BinarySearchFunc(st.Slots, k.Slot, func(s slotState, name string) int { return strings.Compare(s.Name, name) })
	if found {
		x.Sealed = st.Slots[i].Sealed
		st.Slots[i] = x
		return
	}
	st.Slots = slices.Insert(st.Slots, i, x)
}

// unpreview forgets the rules of the slot; the one who calls it has the turn.
func (s *Switcher) unpreview(name string) {
	if _, ok := s.previews[name]; ok {
		delete(s.previews, name)
		s.steer(s.previewRules())
	}
}

func (s *Switcher) previewRules() (all []previewRule) {
	for _, slot := range slices.Sorted(maps.Keys(s.previews)) {
		for _, r := range s.previews[slot] {
			all = append(all, previewRule{slot, http.CanonicalHeaderKey(r.Header), r.Cookie, strings.ToLower(r.Host), r.Value})
		}
	}
	return all
}

// checkPreview returns all mistakes in rules.
func checkPreview(rules []abswap.PreviewRule) error {
	var errs []error
	for i, r := range rules {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("rule %d: %w", i, fmt.Errorf(format, args...)))
		}
		h := http.CanonicalHeaderKey(r.Header)
		switch {
		case r.Header == "" && r.Cookie == "" && r.Host == "":
			bad("it matches nothing: set Header, Cookie or Host")
		case (r.Header != "" || r.Cookie != "") && r.Value == "":
			bad("Header and Cookie need a Value")
		case r.Header != "" && (!isToken(r.Header) || hopByHop(h) || h == "Host" || h == "Content-Length" || h == "Expect"):
			bad("%q is not a field that a request is told apart by", r.Header)
		case r.Cookie != "" && !isToken(r.Cookie):
			bad("%q cannot be the name of a cookie", r.Cookie)
		case strings.ContainsAny(r.Host, "/ "):
			bad("%q is not a host without port", r.Host)
		}
	}
	return multi.Join(errs...)
}

// preview returns the slot that the request is to be shown; "": none.
func (d *guide) preview(g guest) string {
	for i := range d.previews {
		if r := &d.previews[i]; r.matches(g) {
			if !d.s.mayPreview(g) {
				return ""
			}
			return r.slot
		}
	}
	return ""
}

func (r *previewRule) matches(g guest) bool {
	if r.host != "" {
		host := g.Host()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !strings.EqualFold(strings.Trim(host, "[]"), strings.Trim(r.host, "[]")) {
			return false
		}
	}
	if r.header != "" && !slices.Contains(g.Values(r.header), r.value) {
		return false
	}
	if r.cookie == "" {
		return true
	}
	found := false
	session.Cookies(g, r.cookie, func(v string) bool {
		found = v == r.value
		return !found
	})
	return found
}

// mayPreview reports whether the request's client is one of Config.PreviewPeers.
func (s *Switcher) mayPreview(g guest) bool {
	client, ok := addrOf(g.Work().Peer)
	if !ok {
		return false
	}
	within := func(a netip.Addr, nets []netip.Prefix) bool {
		return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	if !within(client, s.door.cfg.trusted) {
		return len(g.Values("X-Forwarded-For")) == 0 && len(g.Values("Forwarded")) == 0 && within(client, s.cfg.PreviewPeers)
	}
	// From the last to the first: each was named by the one behind it.
	named := strings.Split(strings.Join(g.Values("X-Forwarded-For"), ","), ",")
	for _, n := range slices.Backward(named) {
		if n = strings.TrimSpace(n); n == "" {
			continue
		}
		if client, ok = addrOf(n); !ok {
			return false
		}
		if !within(client, s.door.cfg.trusted) {
			break
		}
	}
	return within(client, s.cfg.PreviewPeers)
}

// addrOf reads an address with or without a port.
func addrOf(text string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = strings.Trim(text, "[]")
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap().WithZone(""), err == nil
}
