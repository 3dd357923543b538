package iis

import (
	"context"
	"fmt"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// step is one command of a setup, with the condition under which it is due.
type step struct {
	what  string
	build func(w *world) (cmd appcmd.Command, due bool)
	after func(ctx context.Context) error // waits until what was made is in force; nil: nothing to wait for
}

// applySteps lists what makes the shape out of what is there.
func (s *Setup) applySteps(w *world) ([]step, error) {
	own, err := s.own(w)
	if err != nil {
		return nil, err
	}
	base, err := w.pool(own.pool)
	if err != nil {
		return nil, err
	}
	if err := multi.Join(s.identity(base), s.strangers(w, own)); err != nil {
		return nil, err
	}
	public, err := w.site(s.cfg.Site)
	if err != nil {
		return nil, err
	}
	if s.cfg.Strategy == StrategySiteToggle && len(s.publicBindings(public)) == 0 {
		return nil, fmt.Errorf("site %q has no binding of http or https that the other slots' sites could have too: %w", public.Name, abswap.ErrPermanent)
	}
	var all []step
	for i := range s.cfg.Slots {
		p := s.places(i, own.pool)
		pools := []string{p.pool}
		if !strings.EqualFold(p.pool, p.stagingPool) {
			pools = append(pools, p.stagingPool)
		}
		for _, name := range pools {
			if !strings.EqualFold(name, own.pool) {
				all = append(all, s.makePool(name, base)...)
			}
		}
		if s.cfg.Strategy == StrategyBindingSwap && p.first {
			all = append(all, addBinding(p.site, p.staging))
			continue
		}
		all = append(all, s.makeSite(p.site, p.stagingPool, own.folder, true, []appcmd.Binding{p.staging})...)
		if p.live != "" && !p.first {
			all = append(all, s.makeSite(p.live, p.pool, own.folder, false, s.publicBindings(public))...)
		}
	}
	return all, nil
}

func (s *Setup) publicBindings(site appcmd.Site) []appcmd.Binding {
	var all []appcmd.Binding
	for _, b := range site.Bindings {
		if b.HTTP() {
			all = append(all, b)
		}
	}
	return all
}

// identity refuses a pool whose password would have to be copied.
func (s *Setup) identity(p appcmd.Pool) error {
	if p.Config == nil {
		return nil
	}
	if pm := p.Config.Child("processModel"); strings.EqualFold(pm.Get("identityType"), "SpecificUser") {
		return fmt.Errorf("pool %q runs as user %q, whose password cannot be copied: make the pools of the other slots by hand, named %q and so on: %w",
			p.Name, pm.Get("userName"), s.cfg.Site+"-"+s.cfg.Slots[1], abswap.ErrPermanent)
	}
	return nil
}

// strangers refuses a pool that others use too, and names that others have.
func (s *Setup) strangers(w *world, own root) error {
	var errs []error
	wanted := map[string]places{}
	var sites []string
	for i := range s.cfg.Slots {
		p := s.places(i, own.pool)
		sites = append(sites, p.site, p.live)
		wanted[strings.ToLower(p.site)] = p
	}
	for _, site := range w.sites {
		for _, app := range site.Applications {
			if strings.EqualFold(app.Pool, own.pool) && !strings.EqualFold(site.Name, s.cfg.Site) && !holds(sites, site.Name) {
				errs = append(errs, fmt.Errorf("pool %q also runs %s: give site %q a pool of its own first: %w", own.pool, site.Name+app.Path, s.cfg.Site,
					abswap.ErrPermanent))
			}
		}
		if p, ok := wanted[strings.ToLower(site.Name)]; ok && !strings.EqualFold(site.Name, s.cfg.Site) {
			if _, has := holdsBinding(site, p.staging); !has {
				errs = append(errs, fmt.Errorf("there is a site %q without binding %s: %w", site.Name, p.staging, errOtherShape))
			}
		}
		for i, b := range s.staging {
			if _, has := holdsBinding(site, b); has && !strings.EqualFold(site.Name, s.places(i, own.pool).site) {
				errs = append(errs, fmt.Errorf("binding %s belongs to site %q: %w", b, site.Name, abswap.ErrPermanent))
			}
		}
	}
	return multi.Join(errs...)
}

// makePool makes a pool like base, tuned for a slot: it is not stopped for want of requests or by the clock, and has time to finish.
func (s *Setup) makePool(name string, base appcmd.Pool) []step {
	mode := base.PipelineMode
	if mode == "" {
		mode = "Integrated"
	}
	add := step{what: fmt.Sprintf("make application pool %q", name), build: func(w *world) (appcmd.Command, bool) {
		_, err := w.pool(name)
		return appcmd.AddPool(name).With("managedRuntimeVersion", base.RuntimeVersion).With("managedPipelineMode", mode), err != nil
	}}
	tune := step{what: fmt.Sprintf("give application pool %q time to finish old requests, and no reason to stop by itself", name),
		build: func(w *world) (appcmd.Command, bool) {
			p, err := w.pool(name)
			due := err != nil || p.IdleTimeout != 0 || p.PeriodicRestart != 0 || p.ShutdownTimeLimit != s.cfg.ShutdownLimit
			return appcmd.SetPool(name).
				Set(appcmd.Path{appcmd.Elem("processModel")}, "idleTimeout", "00:00:00").
				Set(appcmd.Path{appcmd.Elem("processModel")}, "shutdownTimeLimit", appcmd.FormatTimeSpan(s.cfg.ShutdownLimit)).
				Set(appcmd.Path{appcmd.Elem("recycling"), appcmd.Elem("periodicRestart")}, "time", "00:00:00"), due
		},
		after: func(ctx context.Context) error {
			srv := s.cfg.App.server()
			if err := srv.awaitKnownPool(ctx, name); err != nil {
				return err
			}
			return srv.startPool(ctx, name)
		}}
	return []step{add, tune}
}

// makeSite makes a site with its root in the pool. One that is to be started gets its only binding with it; one that is not has
// serverAutoStart=false from its first moment on.
func (s *Setup) makeSite(name, pool, dir string, start bool, bindings []appcmd.Binding) []step {
	add := step{what: fmt.Sprintf("make site %q", name), build: func(w *world) (appcmd.Command, bool) {
		_, err := w.site(name)
		cmd := appcmd.AddSite(name, 0, dir, bindings[:1]...)
		if !start {
			cmd = appcmd.AddSite(name, 0, dir).With("serverAutoStart", "false")
		}
		return cmd, err != nil
	}}
	into := step{what: fmt.Sprintf("put site %q into application pool %q", name, pool), build: func(w *world) (appcmd.Command, bool) {
		cmd := appcmd.SetApp(name, "/").With("applicationPool", pool)
		site, err := w.site(name)
		if err != nil {
			return cmd, true
		}
		at, err := rootOf(site)
		return cmd, err != nil || !strings.EqualFold(at.pool, pool)
	}}
	if start {
		into.after = func(ctx context.Context) error {
			srv := s.cfg.App.server()
			if err := srv.awaitKnownSite(ctx, name); err != nil {
				return err
			}
			return srv.startSite(ctx, name)
		}
		return []step{add, into}
	}
	all := []step{add, into}
	for _, b := range bindings {
		all = append(all, addBinding(name, b))
	}
	return all
}

// addBinding gives a site a binding that it lacks.
func addBinding(site string, b appcmd.Binding) step {
	return step{what: fmt.Sprintf("give site %q the binding %s", site, b), build: func(w *world) (appcmd.Command, bool) {
		cmd := appcmd.SetConfig("", appcmd.SectionSites).Append(appcmd.Path{appcmd.Item("name", site), appcmd.Elem("bindings")}, withFlags(b))
		now, err := w.site(site)
		if err != nil {
			return cmd, true
		}
		_, has := holdsBinding(now, b)
		return cmd, !has
	}}
}

// undoSteps lists what takes away what applySteps have made, the newest first.
func (s *Setup) undoSteps(w *world) ([]step, error) {
	own, err := s.own(w)
	if err != nil {
		return nil, err
	}
	var all []step
	for i := len(s.cfg.Slots) - 1; i >= 0; i-- {
		p := s.places(i, own.pool)
		if p.live != "" && !p.first {
			all = append(all, s.dropSite(p.live))
		}
		if s.cfg.Strategy == StrategyBindingSwap && p.first {
			all = append(all, dropBinding(p.site, p.staging))
			continue
		}
		all = append(all, s.dropSite(p.site))
		pools := []string{p.pool}
		if !strings.EqualFold(p.stagingPool, p.pool) {
			pools = append(pools, p.stagingPool)
		}
		for _, name := range pools {
			if !strings.EqualFold(name, own.pool) {
				all = append(all, s.dropPool(name))
			}
		}
	}
	return all, nil
}

func (s *Setup) dropSite(name string) step {
	return step{what: fmt.Sprintf("remove site %q", name), build: func(w *world) (appcmd.Command, bool) {
		_, err := w.site(name)
		return appcmd.DeleteSite(name), err == nil
	}}
}

func (s *Setup) dropPool(name string) step {
	return step{what: fmt.Sprintf("remove application pool %q", name), build: func(w *world) (appcmd.Command, bool) {
		_, err := w.pool(name)
		return appcmd.DeletePool(name), err == nil
	}}
}

func dropBinding(site string, b appcmd.Binding) step {
	return step{what: fmt.Sprintf("take the binding %s from site %q", b, site), build: func(w *world) (appcmd.Command, bool) {
		now, err := w.site(site)
		own, has := holdsBinding(now, b)
		if !has {
			own = b
		}
		return appcmd.SetConfig("", appcmd.SectionSites).Remove(appcmd.Path{appcmd.Item("name", site), appcmd.Elem("bindings")}, appcmd.BindingItem(own)),
			err == nil && has
	}}
}
