package iis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// traits are those of the strategy on this server.
func (f *front) traits() abswap.Traits {
	facts := f.app.Facts.assume()
	gap := f.strategy == StrategySiteToggle || f.strategy == StrategyBindingSwap &&
		(facts.MovedBindingStopsNewOwner == Yes || facts.AddAndRemoveRefused == Yes || f.app.Accept.TwoCommits)
	return abswap.Traits{PerConnection: facts.ConnectionsStick == Yes, Gap: gap}
}

// check is what the preflights of the three have in common: what IIS and the releases' web.config files say of the switch meant.
func (f *front) check(ctx context.Context, r abswap.CheckRequest, public string, more func(w *world) []error) error {
	w, err := f.look(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range r.Slots {
		if _, err := find(f.slots, s); err != nil {
			errs = append(errs, fmt.Errorf("the Swapper has a slot that the switcher has not: %w", err))
		}
	}
	for _, s := range f.slots {
		errs = append(errs, f.checkRelease(w, s, r)...)
	}
	if m := f.app.Mark; m.Header == "" && !strings.Contains(m.Path, "?") {
		errs = append(errs, abswap.Warnf("the file %q of App.Mark may be answered from the cache of HTTP.sys after a switch: ask for it with a query, "+
			"%q", m.Path, m.Path+"?now"))
	}
	errs = append(errs, f.foreign(w, public)...)
	errs = append(errs, more(w)...)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if warning, ok := err.(*abswap.Warning); ok {
			errs[i] = abswap.Warnf("iis %s: %w", f.strategy, warning.Err)
			continue
		}
		errs[i] = fmt.Errorf("iis %s: %w", f.strategy, err)
	}
	return multi.Join(dedupe(errs)...)
}

// foreign finds applications in the slots' pools that are neither the slots' nor the root of the public site.
func (f *front) foreign(w *world, public string) []error {
	var errs []error
	for _, s := range f.slots {
		var names []string
		for _, site := range w.sites {
			for _, app := range site.Applications {
				own := holds(s.sites(), site.Name) || strings.EqualFold(site.Name, public) && app.Path == "/"
				if strings.EqualFold(app.Pool, s.cfg.Pool) && !own {
					names = append(names, site.Name+app.Path)
				}
			}
		}
		if len(names) > 0 {
			errs = append(errs, s.errorf("pool %q also runs %s: it would be counted, drained and stopped with the slot", s.cfg.Pool, strings.Join(names, ", ")))
		}
	}
	return errs
}

// dedupe leaves one of findings that say the same: slots share much.
func dedupe(errs []error) []error {
	seen := map[string]bool{}
	var all []error
	for _, err := range errs {
		if err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			all = append(all, err)
		}
	}
	return all
}

// checkRelease judges the losses of the strategy for the release that is in the slot.
func (f *front) checkRelease(w *world, s *Slot, r abswap.CheckRequest) []error {
	c, shutdown, err := f.circumstances(w, s)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, l := range c.Losses() {
		text := fmt.Sprintf("%s applications, rule %s is not kept: %s", c.Mode, l.Rule, l.Why)
		if l.Cure != "" {
			text += "; cure: " + l.Cure
		}
		switch {
		case l.Rule == "S3" && r.Drain.Timeout > 0 && shutdown >= r.Drain.Timeout:
			// what is cut would not have been waited for either
		case l.Rule == "S3" && !f.app.Accept.CutOldWork:
			errs = append(errs, fmt.Errorf("%s (%s); if that is to be borne set App.Accept.CutOldWork, if it is known not to be so on this server say so "+
				"in App.Facts", text, shutdown))
		default:
			errs = append(errs, abswap.Warnf("%s", text))
		}
	}
	return errs
}

// circumstances are what a switch from or to the slot is about. shutdown is how long its application may finish old requests when it is
// unloaded.
func (f *front) circumstances(w *world, s *Slot) (c Case, shutdown time.Duration, err error) {
	at, err := s.root(w)
	if err != nil {
		return c, 0, err
	}
	h, err := f.app.hosting(at.folder)
	if err != nil {
		return c, 0, s.errorf("%w", err)
	}
	return Case{Strategy: f.strategy, Mode: h.mode, NoRotation: h.noRotation, Facts: f.app.Facts.assume()}, h.shutdown, nil
}

// Check looks for what would keep a root swap from going well.
func (r *RootSwap) Check(ctx context.Context, req abswap.CheckRequest) error {
	return r.check(ctx, req, r.cfg.Site, func(w *world) []error {
		site, _, err := r.live(w)
		if err != nil {
			return []error{err}
		}
		errs := []error{known("site", site.Name, site.State), r.checkAutoStart(site)}
		if r.app.Facts.SeveralPathsRefused == Yes {
			errs = append(errs, errors.New("IIS here refuses to change pool and folder in one commit (App.Facts.SeveralPathsRefused): "+
				"another strategy is needed"))
		}
		if doors, err := r.publicDoors(site.Bindings); err != nil {
			errs = append(errs, err)
		} else if s, err := r.active(w); err == nil {
			errs = append(errs, r.checkMark(ctx, w, s, doors))
		}
		for _, s := range r.slots {
			errs = append(errs, r.checkStaging(w, s))
		}
		return append(errs, abswap.Warnf("the first requests after a switch wait for the application's start: what is warmed at the staging site is "+
			"the process, not the application that goes live"))
	})
}

// checkAutoStart wants a reboot to start the site.
func (f *front) checkAutoStart(site appcmd.Site) error {
	if site.ServerAutoStart {
		return nil
	}
	return fmt.Errorf("site %q has serverAutoStart=false: nobody would serve after a reboot", site.Name)
}

// checkStaging refuses a second in-process application in the worker process that goes live.
func (r *RootSwap) checkStaging(w *world, s *Slot) error {
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return err
	}
	at, err := rootOf(site)
	if err != nil || !strings.EqualFold(at.pool, s.cfg.Pool) {
		return err
	}
	h, err := r.app.hosting(at.folder)
	if err != nil || h.mode != CoreInProcess {
		return nil // an unreadable web.config was told already
	}
	return fmt.Errorf("slot %q: its staging site %q is in pool %q, and an in-process ASP.NET Core application allows no other one in its worker process: "+
		"the public site would answer 500; give the staging site a pool of its own", s.Name(), site.Name, s.cfg.Pool)
}

// checkMark finds out whether the mark is recognised while nothing has moved.
func (f *front) checkMark(ctx context.Context, w *world, active *Slot, doors []door) error {
	want, err := active.want(w)
	if err != nil {
		return err
	}
	for _, d := range doors {
		got, err := f.app.mark(ctx, d)
		if err != nil {
			return fmt.Errorf("the live slot %q cannot be recognised: %w", active.Name(), err)
		}
		if got != want {
			return fmt.Errorf("the live slot %q should answer %q and %s is answered by %.80q: no switch could be recognised; look at App.Mark",
				active.Name(), want, d, got)
		}
	}
	return nil
}

// Check looks for what would keep a toggle from going well.
func (t *SiteToggle) Check(ctx context.Context, req abswap.CheckRequest) error {
	return t.check(ctx, req, "", func(w *world) []error {
		var errs []error
		var first appcmd.Site
		on := 0
		for i, s := range t.slots {
			site, err := w.site(s.cfg.Live)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, known("site", site.Name, site.State))
			if i == 0 {
				first = site
			} else if !sameBindings(first.Bindings, site.Bindings) {
				errs = append(errs, fmt.Errorf("sites %q and %q have different bindings: %s, and %s", first.Name, site.Name,
					bindingList(first.Bindings), bindingList(site.Bindings)))
			}
			if site.ServerAutoStart {
				on++
			}
		}
		if on > 1 {
			errs = append(errs, abswap.Warnf("%d of the live sites have serverAutoStart: after a reboot before the next switch one of them gets the bindings, "+
				"and nobody can tell which", on))
		}
		if s, err := t.active(w); err == nil {
			if site, err := w.site(s.cfg.Live); err == nil {
				if doors, err := t.publicDoors(site.Bindings); err == nil {
					errs = append(errs, t.checkMark(ctx, w, s, doors))
				} else {
					errs = append(errs, err)
				}
			}
		}
		return errs
	})
}

func sameBindings(a, b []appcmd.Binding) bool {
	all := func(a, b []appcmd.Binding) bool {
		for _, x := range a {
			if _, ok := holdsBinding(appcmd.Site{Bindings: b}, x); !ok {
				return false
			}
		}
		return true
	}
	return all(a, b) && all(b, a)
}

// Check looks for what would keep a move of bindings from going well.
func (b *BindingSwap) Check(ctx context.Context, req abswap.CheckRequest) error {
	return b.check(ctx, req, "", func(w *world) []error {
		var errs []error
		for _, x := range b.bindings {
			if strings.EqualFold(x.Protocol, "https") && !b.app.Accept.Certificates && b.app.Facts.MovedBindingLosesCertificate != No {
				errs = append(errs, fmt.Errorf("binding %s could lose its certificate when it is moved: try it out on this server and say so in App.Facts, "+
					"or set App.Accept.Certificates", x))
			}
		}
		var own []string
		for _, s := range b.slots {
			own = append(own, s.cfg.Site)
			errs = append(errs, b.inPool(w, s))
			if site, err := w.site(s.cfg.Site); err == nil {
				errs = append(errs, b.checkAutoStart(site))
			}
		}
		for _, site := range w.sites {
			for _, x := range b.bindings {
				if _, ok := holdsBinding(site, x); ok && !holds(own, site.Name) {
					errs = append(errs, fmt.Errorf("binding %s belongs to site %q, which is no slot's", x, site.Name))
				}
			}
		}
		if s, err := b.active(w); err == nil {
			doors, err := doorsOf(b.bindings, b.app.Host)
			if err == nil {
				err = b.checkMark(ctx, w, s, doors)
			}
			errs = append(errs, err)
		}
		return errs
	})
}

// Check looks at what belongs to the slot: its pool, its sites, and what else is there.
func (s *Slot) Check(ctx context.Context, r abswap.CheckRequest) error {
	w, err := look(ctx, s.server().appcmd())
	if err != nil {
		return s.errorf("%w", explain(err))
	}
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, s.errorf(format, args...)) }
	site, err := w.site(s.cfg.Site)
	if err != nil {
		add("%w", err)
	} else if _, ok := holdsBinding(site, s.staging.binding); !ok {
		add("site %q has no binding %s: it has %s", site.Name, s.staging, bindingList(site.Bindings))
	}
	if s.cfg.Live != "" {
		if live, err := w.site(s.cfg.Live); err != nil {
			add("%w", err)
		} else if at, err := rootOf(live); err != nil {
			add("%w", err)
		} else if !strings.EqualFold(at.pool, s.cfg.Pool) {
			add("the root of site %q is in pool %q, not in %q", live.Name, at.pool, s.cfg.Pool)
		}
	}
	pool, err := w.pool(s.cfg.Pool)
	if err != nil {
		add("%w", err)
		return multi.Join(errs...)
	}
	if err := known("application pool", pool.Name, pool.State); err != nil {
		add("%w", err)
	}
	return multi.Join(append(errs, s.checkPool(pool, r)...)...)
}

// checkPool looks at the settings of the slot's pool.
func (s *Slot) checkPool(p appcmd.Pool, r abswap.CheckRequest) []error {
	var errs []error
	warn := func(format string, args ...any) {
		errs = append(errs, abswap.Warnf("iis slot %q: pool %q: %w", s.cfg.Name, p.Name, fmt.Errorf(format, args...)))
	}
	if !p.AutoStart {
		errs = append(errs, s.errorf("pool %q has autoStart=false: nobody would serve after a reboot", p.Name))
	}
	if p.DisallowOverlappingRotation {
		warn("disallowOverlappingRotation: a recycle stops the old worker process before the new one is there")
	}
	if p.IdleTimeout > 0 {
		warn("idleTimeout %s: a slot that is kept warm gets cold after that", p.IdleTimeout)
	}
	if p.PeriodicRestart > 0 {
		warn("periodicRestart %s: a recycle in the middle of a long request cuts it after shutdownTimeLimit", p.PeriodicRestart)
	}
	if p.MaxProcesses > 1 {
		warn("%d worker processes: one probe warms and proves one of them", p.MaxProcesses)
	}
	if d := r.Drain.Timeout; d == 0 || p.ShutdownTimeLimit < d {
		warn("shutdownTimeLimit %s: a stop or a recycle cuts requests that last longer, and the drain waits %s", p.ShutdownTimeLimit, forever(d))
	}
	return errs
}

func forever(d time.Duration) string {
	if d == 0 {
		return "without limit"
	}
	return "up to " + d.String()
}
