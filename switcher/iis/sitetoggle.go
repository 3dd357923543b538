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
	"github.com/abswap/abswap/internal/retry"
)

// SiteToggleConfig says which sites are toggled.
type SiteToggleConfig struct {
	App   *App    // required
	Slots []*Slot // at least two, of the same App, each with Live set; the Live sites have the same public bindings
}

// SiteToggle switches between sites that have the same bindings, of which one is started: it stops the live site and starts the slot's. Both
// are runtime commands, which all releases of IIS have.
//
// It has a gap: from the stop until the start is in force no site has the bindings. Requests are refused then, or answered by another site
// that matches. The gap is short, and it is measured: App.OnSwitch tells it.
//
// Known: what a worker process has begun it finishes, for classic applications and static files (documented). The pools are not touched; they
// are stopped by the slot's Stop, after the drain.
//
// Traps: stopping a site shuts the ASP.NET Core applications in it down (reported by one project, and the module's code reads so): requests
// have the application's shutdown time, websockets are dropped. So that a reboot starts the right site, serverAutoStart is moved in a commit
// of its own before the toggle, after which the new slot is proven fit again; that commit restarts ASP.NET Core applications without
// disallowRotationOnConfigChange. If the new site does not start, the old one is started again.
type SiteToggle struct{ *front }

var (
	_ abswap.TraitsSwitcher = (*SiteToggle)(nil)
	_ abswap.Checker        = (*SiteToggle)(nil)
)

// NewSiteToggle returns the switcher that cfg describes. The error tells all mistakes in cfg. It asks IIS nothing.
func NewSiteToggle(cfg SiteToggleConfig) (*SiteToggle, error) {
	f, err := newFront(cfg.App, StrategySiteToggle, cfg.Slots)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range cfg.Slots {
		if s.cfg.Live == "" {
			errs = append(errs, fmt.Errorf("slot %q has no Live site: Site is asked while Live is stopped, so a slot has both", s.Name()))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("iis %s: %w", StrategySiteToggle, err)
	}
	return &SiteToggle{f}, nil
}

// Traits tells that there is a gap.
func (t *SiteToggle) Traits() abswap.Traits { return t.traits() }

// Active returns the slot whose Live site is started, in a pool that is started too. If there are several the error is abswap.ErrMixed.
func (t *SiteToggle) Active(ctx context.Context) (string, error) {
	w, err := t.look(ctx)
	if err != nil {
		return "", err
	}
	s, err := t.active(w)
	if err != nil {
		err = fmt.Errorf("iis %s: %w", t.strategy, err)
	}
	if s == nil {
		return "", err
	}
	return s.Name(), err
}

func (t *SiteToggle) active(w *world) (*Slot, error) {
	var on []*Slot
	var names []string
	for _, s := range t.slots {
		site, err := w.site(s.cfg.Live)
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
		if site.State == appcmd.Started && pool.State == appcmd.Started {
			on, names = append(on, s), append(names, site.Name)
		}
	}
	switch len(on) {
	case 0:
		return nil, fmt.Errorf("no live site is started in a pool that is: %w", abswap.ErrNoActive)
	case 1:
		return on[0], nil
	}
	return on[0], fmt.Errorf("sites %s are all started: %w", strings.Join(names, ", "), abswap.ErrMixed)
}

// Activate stops the Live sites of the other slots, starts the slot's, and returns when probes through every binding prove that it answers.
// Between stop and start it does not obey ctx: nobody would serve.
func (t *SiteToggle) Activate(ctx context.Context, s abswap.Slot) error {
	return t.activate(ctx, s, steps{
		doors: func(w *world) ([]door, error) {
			to, err := find(t.slots, s)
			if err != nil {
				return nil, err
			}
			site, err := w.site(to.cfg.Live)
			if err != nil {
				return nil, err
			}
			return t.publicDoors(site.Bindings)
		},
		from: func(w *world) (*Slot, error) {
			s, err := t.active(w)
			return s, noneIsFine(err)
		},
		done: func(w *world, to *Slot) bool {
			_, due, err := t.autoStart(w, to, false)
			return t.isOn(w, to) && !due && err == nil
		},
		ready: t.ready,
		move:  t.move,
	})
}

// isOn reports whether the slot's live site is the one that is started.
func (t *SiteToggle) isOn(w *world, to *Slot) bool {
	s, err := t.active(w)
	return err == nil && s == to
}

// ready refuses a slot whose live site is not the slot's own.
func (t *SiteToggle) ready(w *world, to *Slot) error {
	site, err := w.site(to.cfg.Live)
	if err != nil {
		return err
	}
	has, err := rootOf(site)
	if err != nil {
		return err
	}
	want, err := to.root(w)
	if err != nil {
		return err
	}
	if !has.is(want) {
		return fmt.Errorf("site %q has pool %q and folder %q, the slot %q and %q: Install brings them together: %w", site.Name, has.pool, has.folder,
			want.pool, want.folder, abswap.ErrNotReady)
	}
	return poolReady(w, to)
}

// autoStart builds the commit after which a reboot starts the slot's live site and no other one.
func (t *SiteToggle) autoStart(w *world, to *Slot, one bool) (cmd appcmd.Command, due bool, err error) {
	cmd = appcmd.SetConfig("", appcmd.SectionSites)
	slots := t.slots
	if one { // better two that start than none
		slots = append([]*Slot{to}, slots...)
	}
	for _, s := range slots {
		if one && due {
			break
		}
		site, err := w.site(s.cfg.Live)
		if err != nil {
			return cmd, false, err
		}
		if want := s == to; site.ServerAutoStart != want {
			cmd, due = cmd.Set(appcmd.Path{appcmd.Item("name", site.Name)}, "serverAutoStart", strconv.FormatBool(want)), true
		}
	}
	return cmd, due, nil
}

func (t *SiteToggle) commitAutoStart(ctx context.Context, m *move, to *Slot) error {
	return t.server().changeSplit(ctx, &m.seen.Commits, func(w *world, one bool) (appcmd.Command, bool, error) { return t.autoStart(w, to, one) })
}

func (t *SiteToggle) move(ctx context.Context, m *move) error {
	w, err := t.look(ctx)
	if err != nil {
		m.begun = false
		return err
	}
	from, _ := t.active(w)
	if err := t.commitAutoStart(ctx, m, m.to); err != nil {
		m.unmoved(ctx, err, func(w *world) bool { return !t.isOn(w, m.to) })
		return err
	}
	if m.seen.Commits > 0 && from != m.to { // the commit may have thrown the warm application away
		err := await(ctx, t.app.patience(), func(ctx context.Context) error {
			err := m.to.Ready(ctx)
			if err == nil {
				return nil
			}
			if rerr := m.revive(ctx, err); rerr != nil {
				return retry.Stop(rerr)
			}
			return err
		})
		if err != nil {
			m.begun = false
			return multi.Join(fmt.Errorf("after the commit of serverAutoStart: %w", err), t.undo(ctx, m, from))
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), t.app.patience(), errors.New("the toggle took longer than App.Patience"))
	defer cancel()
	return t.toggle(ctx, m, from)
}

// undo moves serverAutoStart back.
func (t *SiteToggle) undo(ctx context.Context, m *move, from *Slot) error {
	if from == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.app.patience())
	defer cancel()
	if err := t.commitAutoStart(ctx, m, from); err != nil {
		return fmt.Errorf("serverAutoStart could not be moved back to site %q: %w", from.cfg.Live, err)
	}
	return nil
}

// toggle is the part without a way to stop: from the first stop on nobody serves. So that the gap is short, all is read before it, and looked
// at again after it; a command that does not end well is done over with a fresh look.
func (t *SiteToggle) toggle(ctx context.Context, m *move, from *Slot) error {
	w, err := t.look(ctx)
	if err != nil {
		return t.putBack(ctx, m, from, err)
	}
	began := time.Now()
	for _, s := range t.slots {
		site, err := w.site(s.cfg.Live)
		if s == m.to || err == nil && site.State == appcmd.Stopped {
			continue
		}
		if _, err := t.server().appcmd().Run(ctx, appcmd.StopSite(s.cfg.Live)); err == nil {
			continue
		}
		if err := t.server().stopSite(ctx, s.cfg.Live); err != nil {
			return t.putBack(ctx, m, from, fmt.Errorf("stop of site %q: %w", s.cfg.Live, err))
		}
	}
	_, err = t.server().appcmd().Run(ctx, appcmd.StartSite(m.to.cfg.Live))
	m.seen.Gap = time.Since(began)
	if err == nil {
		err = t.server().awaitSite(ctx, m.to.cfg.Live, appcmd.Started, nil)
	} else {
		err = t.start(ctx, m.to.cfg.Live)
		m.seen.Gap = time.Since(began)
	}
	if err != nil {
		return t.putBack(ctx, m, from, fmt.Errorf("start of site %q: %w", m.to.cfg.Live, err))
	}
	return nil
}

// startPatience is how long a site may be refused its bindings because the one that was stopped still holds them.
const startPatience = 10 * time.Second

// start starts a site whose bindings another one has just left.
func (t *SiteToggle) start(ctx context.Context, site string) error {
	return await(ctx, startPatience, func(ctx context.Context) error {
		err := t.server().startSite(ctx, site)
		if appcmd.ClassOf(err) == appcmd.Exists {
			return err
		}
		return retry.Stop(err)
	})
}

// putBack starts the site that was live again. Both errors are told.
func (t *SiteToggle) putBack(ctx context.Context, m *move, from *Slot, why error) error {
	if from == nil || from == m.to {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.app.patience())
	defer cancel()
	if err := t.server().stopSite(ctx, m.to.cfg.Live); err != nil {
		return multi.Join(why, fmt.Errorf("put back: stop of site %q: %w", m.to.cfg.Live, err))
	}
	if err := t.start(ctx, from.cfg.Live); err != nil {
		return multi.Join(why, fmt.Errorf("put back: start of site %q: %w", from.cfg.Live, err))
	}
	m.begun = false
	return multi.Join(fmt.Errorf("%w (site %q is started again)", why, from.cfg.Live), t.undo(ctx, m, from))
}
