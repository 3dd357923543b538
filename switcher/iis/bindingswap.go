package iis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// Binding is a public binding that moves between sites.
type Binding struct {
	Protocol    string // "http" or "https"
	Information string // address:port:host, as IIS writes it: "*:80:", "*:443:www.example.test"
	SSLFlags    uint32 // of https, for a binding that no site has; otherwise the ones that are found are kept
}

func (b Binding) item() appcmd.Binding {
	return appcmd.Binding{Protocol: b.Protocol, Information: b.Information, SSLFlags: b.SSLFlags}
}

// BindingSwapConfig says which bindings are moved.
type BindingSwapConfig struct {
	App      *App      // required
	Bindings []Binding // the public ones; required
	Slots    []*Slot   // at least two, of the same App. The bindings move between their Sites, which are all started
}

// BindingSwap moves the public bindings from one running site to another, in one commit. Each site keeps a staging binding, so that the slot
// that is idle is started and warm, the very application that goes live.
//
// Known: what a worker process has begun it finishes. Inferred: one command may take bindings from one site and give them to another; where
// IIS refuses that, App.Accept.TwoCommits allows two, with a gap between them, and without it Activate fails with nothing moved.
//
// Traps: IIS was reported (7.5, one user) to stop the new owner at such a commit, since it registers the new bindings before it has given
// the old ones up. Activate sees that and starts the site, which then works; until then there is a gap. An https binding may lose
// its certificate when it leaves its site (not known): Check refuses that until App.Accept.Certificates or App.Facts says otherwise. And the
// commit restarts ASP.NET Core applications without disallowRotationOnConfigChange: old requests are cut, and what was warm is cold.
type BindingSwap struct {
	*front
	bindings []appcmd.Binding
}

var (
	_ abswap.TraitsSwitcher = (*BindingSwap)(nil)
	_ abswap.Checker        = (*BindingSwap)(nil)
)

// NewBindingSwap returns the switcher that cfg describes. The error tells all mistakes in cfg. It asks IIS nothing.
func NewBindingSwap(cfg BindingSwapConfig) (*BindingSwap, error) {
	f, err := newFront(cfg.App, StrategyBindingSwap, cfg.Slots)
	if err != nil {
		return nil, err
	}
	b := &BindingSwap{front: f}
	var errs []error
	if len(cfg.Bindings) == 0 {
		errs = append(errs, errors.New("it has no Bindings"))
	}
	for _, c := range cfg.Bindings {
		item, err := parseBinding(c.item().String())
		item.SSLFlags = c.SSLFlags
		errs = append(errs, err)
		for _, s := range cfg.Slots {
			if item.Same(s.staging.binding) {
				errs = append(errs, fmt.Errorf("binding %s is slot %q's staging binding: it cannot be public too", item, s.Name()))
			}
		}
		b.bindings = append(b.bindings, item)
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("iis %s: %w", StrategyBindingSwap, err)
	}
	return b, nil
}

// Traits tells of a gap, unless App.Facts says that IIS does not stop the new owner.
func (b *BindingSwap) Traits() abswap.Traits { return b.traits() }

// Active returns the slot whose site has the public bindings and is started, in a pool that is started. If several sites have some of them
// the error is abswap.ErrMixed, beside the slot that has most.
func (b *BindingSwap) Active(ctx context.Context) (string, error) {
	w, err := b.look(ctx)
	if err != nil {
		return "", err
	}
	s, err := b.active(w)
	if err != nil {
		err = fmt.Errorf("iis %s: %w", b.strategy, err)
	}
	if s == nil {
		return "", err
	}
	return s.Name(), err
}

func (b *BindingSwap) active(w *world) (*Slot, error) {
	var most *Slot
	owned, best, sum := 0, 0, 0
	for _, s := range b.slots {
		site, err := w.site(s.cfg.Site)
		if err != nil {
			return nil, err
		}
		pool, err := w.pool(s.cfg.Pool)
		if err != nil {
			return nil, err
		}
		if err := multi.Join(known("site", site.Name, site.State), known("application pool", pool.Name, pool.State)); err != nil {
			return nil, err
		}
		has := 0
		for _, x := range b.bindings {
			if _, ok := holdsBinding(site, x); ok {
				has++
			}
		}
		if has == 0 || site.State != appcmd.Started || pool.State != appcmd.Started {
			continue
		}
		owned, sum = owned+1, sum+has
		if has > best {
			most, best = s, has
		}
	}
	switch {
	case owned == 0:
		return nil, fmt.Errorf("no slot has a public binding and is started: %w", abswap.ErrNoActive)
	case owned > 1:
		return most, fmt.Errorf("the public bindings are spread over %d slots: %w", owned, abswap.ErrMixed)
	case sum < len(b.bindings):
		return most, fmt.Errorf("%d of %d public bindings are with no slot that is started: %w", len(b.bindings)-sum, len(b.bindings), abswap.ErrMixed)
	}
	return most, nil
}

// Activate moves the bindings, starts their new owner if IIS has stopped it, and returns when probes through each of them prove that it
// answers. A move that has begun goes on when ctx ends: in the middle of it nobody would serve.
func (b *BindingSwap) Activate(ctx context.Context, s abswap.Slot) error {
	return b.activate(ctx, s, steps{
		doors: func(*world) ([]door, error) { return doorsOf(b.bindings, b.app.Host) },
		from: func(w *world) (*Slot, error) {
			s, err := b.active(w)
			return s, noneIsFine(err)
		},
		done: func(w *world, to *Slot) bool {
			s, err := b.active(w)
			return err == nil && s == to
		},
		ready: b.ready,
		move:  b.move,
		tend:  b.tend,
		whole: true,
	})
}

// ready refuses bindings that belong to somebody else.
func (b *BindingSwap) ready(w *world, to *Slot) error {
	var own []string
	for _, s := range b.slots {
		own = append(own, s.cfg.Site)
	}
	errs := []error{poolReady(w, to), b.inPool(w, to)}
	for _, site := range w.sites {
		for _, x := range b.bindings {
			if _, ok := holdsBinding(site, x); ok && !holds(own, site.Name) {
				errs = append(errs, fmt.Errorf("binding %s belongs to site %q, which is no slot's: %w", x, site.Name, abswap.ErrPermanent))
			}
		}
	}
	return multi.Join(errs...)
}

// inPool refuses a slot whose site runs in another pool than the slot's: nobody would count and drain what goes there.
func (b *BindingSwap) inPool(w *world, s *Slot) error {
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return err
	}
	at, err := rootOf(site)
	if err == nil && !strings.EqualFold(at.pool, s.cfg.Pool) {
		err = fmt.Errorf("the root of site %q is in pool %q, not in slot %q's pool %q: %w", site.Name, at.pool, s.Name(), s.cfg.Pool, abswap.ErrPermanent)
	}
	return err
}

// part is which half of a move a commit makes.
type part int

const (
	both part = iota
	takeOnly
	giveOnly
)

// found returns the public bindings as the slots' sites have them, or as they were configured where none has.
func (b *BindingSwap) found(w *world, otherwise []appcmd.Binding) []appcmd.Binding {
	all := append([]appcmd.Binding(nil), otherwise...)
	for i, x := range b.bindings {
		for _, s := range b.slots {
			if site, err := w.site(s.cfg.Site); err == nil {
				if own, ok := holdsBinding(site, x); ok {
					all[i] = own
				}
			}
		}
	}
	return all
}

// commit builds the one that takes the bindings from the other slots' sites and gives them to the slot's. found are those bindings with all
// that belongs to them.
func (b *BindingSwap) commit(w *world, to *Slot, p part, found []appcmd.Binding) (cmd appcmd.Command, due bool, err error) {
	cmd = appcmd.SetConfig("", appcmd.SectionSites)
	for _, s := range b.slots {
		if s == to || p == giveOnly {
			continue
		}
		site, err := w.site(s.cfg.Site)
		if err != nil {
			return cmd, false, err
		}
		for _, x := range b.bindings {
			if own, ok := holdsBinding(site, x); ok {
				cmd, due = cmd.Remove(bindingsOf(site), appcmd.BindingItem(own)), true
			}
		}
	}
	site, err := w.site(to.cfg.Site)
	if err != nil {
		return cmd, false, err
	}
	for i, x := range b.bindings {
		if _, ok := holdsBinding(site, x); !ok && p != takeOnly {
			cmd, due = cmd.Append(bindingsOf(site), withFlags(found[i])), true
		}
	}
	return cmd, due, nil
}

func bindingsOf(site appcmd.Site) appcmd.Path {
	return appcmd.Path{appcmd.Item("name", site.Name), appcmd.Elem("bindings")}
}

// withFlags is the element of a binding with all that is configuration of it.
func withFlags(b appcmd.Binding) appcmd.Step {
	if b.SSLFlags == 0 {
		return appcmd.BindingItem(b)
	}
	return appcmd.Item("protocol", b.Protocol, "bindingInformation", b.Information, "sslFlags", strconv.FormatUint(uint64(b.SSLFlags), 10))
}

func (b *BindingSwap) change(ctx context.Context, m *move, to *Slot, p part, known []appcmd.Binding) error {
	return b.server().change(ctx, &m.seen.Commits, func(ctx context.Context, session *appcmd.Session) (appcmd.Command, bool, error) {
		w, err := look(ctx, session)
		if err == nil {
			err = b.ready(w, to)
		}
		if err != nil {
			return appcmd.Command{}, false, err
		}
		return b.commit(w, to, p, b.found(w, known))
	})
}

func (b *BindingSwap) move(ctx context.Context, m *move) error {
	w, err := b.look(ctx)
	if err != nil {
		m.begun = false
		return err
	}
	known := b.found(w, b.bindings)
	m.moved = time.Now()
	if err := b.give(ctx, m, known); err != nil {
		m.unmoved(ctx, err, func(w *world) bool {
			s, err := b.active(w)
			return err == nil && s != m.to
		})
		return err
	}
	if err := b.tend(ctx, m); err != nil {
		return b.putBack(ctx, m, known, err)
	}
	return nil
}

// gap notes that nobody served since the bindings were moved.
func (m *move) gap() {
	if !m.moved.IsZero() {
		m.seen.Gap = max(m.seen.Gap, time.Since(m.moved))
	}
}

// give moves the bindings, in one commit or, where that is refused and accepted, in two.
func (b *BindingSwap) give(ctx context.Context, m *move, known []appcmd.Binding) error {
	err := b.change(ctx, m, m.to, both, known)
	if err == nil || !refusedForm(err) {
		return err
	}
	if !b.app.Accept.TwoCommits {
		return fmt.Errorf("IIS refuses to move bindings in one commit; App.Accept.TwoCommits allows two, with a gap: %w", err)
	}
	if err := b.change(ctx, m, m.to, takeOnly, known); err != nil {
		return err
	}
	err = b.change(ctx, m, m.to, giveOnly, known)
	m.gap()
	if err != nil {
		return b.putBack(ctx, m, known, err)
	}
	return nil
}

// putBack gives the bindings to the site that had them. Both errors are told.
func (b *BindingSwap) putBack(ctx context.Context, m *move, known []appcmd.Binding, why error) error {
	if m.from == nil || m.from == m.to {
		return why
	}
	back := *m
	back.to = m.from
	for _, p := range []part{takeOnly, giveOnly} { // also where one commit would do: it is the surer way
		if err := b.change(ctx, &back, m.from, p, known); err != nil {
			return multi.Join(why, fmt.Errorf("put back: bindings of site %q: %w", m.from.cfg.Site, err))
		}
	}
	if err := b.tend(ctx, &back); err != nil {
		return multi.Join(why, fmt.Errorf("put back: %w", err))
	}
	m.begun, m.seen.Commits = false, back.seen.Commits
	return fmt.Errorf("%w (site %q has the bindings again)", why, m.from.cfg.Site)
}

// refusedForm reports whether appcmd did not accept how a command is written.
func refusedForm(err error) bool { return appcmd.ClassOf(err) == appcmd.Usage }

// tend starts the new owner if it is stopped: IIS deactivates a site whose bindings it could not register.
func (b *BindingSwap) tend(ctx context.Context, m *move) error {
	site, err := b.server().appcmd().Site(ctx, m.to.cfg.Site)
	if err != nil {
		return explain(err)
	}
	if site.State == appcmd.Started || site.State == appcmd.Starting {
		return nil
	}
	err = b.server().startSite(ctx, site.Name)
	m.gap()
	if appcmd.ClassOf(err) == appcmd.Exists {
		return nil // the old owner has not let go yet: it is tried again
	}
	if err != nil {
		return fmt.Errorf("site %q has the bindings %s and does not start: %w", site.Name, strings.TrimSpace(bindingList(b.bindings)), err)
	}
	return nil
}
