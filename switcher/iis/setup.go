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

// SetupConfig says which site is brought into the shape of two slots, or more.
type SetupConfig struct {
	App      *App     // required
	Strategy Strategy // required
	Site     string   // the site that serves the application now; required

	// Pool is the application pool that the site has before anything is set up: the first slot's. "": it is read, which is not possible
	// with RootSwap and StagingApart while another slot is live.
	Pool string

	// Slots are the names of the slots; nil: "blue" and "green". The first one gets what is live now: the site's own pool and folder.
	Slots []string

	// Staging are the bindings by which the slots are reached past the public door, one for each: "http/127.0.0.1:8001:". Required.
	Staging []string

	// StagingApart gives the staging sites of RootSwap and SiteToggle pools of their own, as in-process ASP.NET Core applications need it.
	StagingApart bool

	// ShutdownLimit is the shutdownTimeLimit of the pools that are made: how long their worker processes may finish old requests when they
	// are stopped. 0: 1h.
	ShutdownLimit time.Duration
}

// Setup brings an existing site into the shape that a strategy needs, and back. It makes pools and sites whose names begin with that of the
// site, and changes no other object: the pool that the site has becomes the first slot's and stays as it is. It is idempotent: what is there
// already is left alone, so that a run that was killed is cured by another one.
//
// All of it is made by commits, which restart ASP.NET Core applications that have no disallowRotationOnConfigChange: it is done once, at a
// quiet hour.
type Setup struct {
	cfg     SetupConfig
	staging []appcmd.Binding
}

// Action is one step of a plan.
type Action struct {
	What    string // in words
	Command string // as one would type it, with secrets masked
}

// NewSetup returns the Setup that cfg describes. The error tells all mistakes in cfg. It asks IIS nothing.
func NewSetup(cfg SetupConfig) (*Setup, error) {
	errs := []error{cfg.App.check()}
	if cfg.Strategy != StrategyRootSwap && cfg.Strategy != StrategySiteToggle && cfg.Strategy != StrategyBindingSwap {
		errs = append(errs, fmt.Errorf("Strategy %q: it is one of %q, %q, %q", cfg.Strategy, StrategyRootSwap, StrategySiteToggle, StrategyBindingSwap))
	}
	if err := appcmd.CheckSiteName(cfg.Site); err != nil {
		errs = append(errs, fmt.Errorf("field Site: %w", err))
	}
	if cfg.Pool != "" {
		if err := appcmd.CheckPoolName(cfg.Pool); err != nil {
			errs = append(errs, fmt.Errorf("field Pool: %w", err))
		}
	}
	if cfg.Slots == nil {
		cfg.Slots = []string{"blue", "green"}
	}
	if len(cfg.Slots) < 2 {
		errs = append(errs, fmt.Errorf("it has %d Slots, at least two are needed", len(cfg.Slots)))
	}
	if len(cfg.Staging) != len(cfg.Slots) {
		errs = append(errs, fmt.Errorf("it has %d Staging bindings for %d Slots", len(cfg.Staging), len(cfg.Slots)))
	}
	s := &Setup{cfg: cfg}
	for _, text := range cfg.Staging {
		b, err := parseBinding(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("field Staging: %w", err))
		}
		s.staging = append(s.staging, b)
	}
	seen := map[string]bool{}
	for _, name := range cfg.Slots {
		if name == "" || seen[strings.ToLower(name)] {
			errs = append(errs, fmt.Errorf("slot %q has no name of its own", name))
		}
		seen[strings.ToLower(name)] = true
		if err := appcmd.CheckPoolName(cfg.Site + "-" + name); err != nil {
			errs = append(errs, fmt.Errorf("slot %q: %w", name, err))
		}
	}
	if cfg.ShutdownLimit < 0 || cfg.ShutdownLimit > 0 && cfg.ShutdownLimit < time.Second {
		errs = append(errs, fmt.Errorf("ShutdownLimit %s is less than a second", cfg.ShutdownLimit))
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("iis setup of site %q: %w", cfg.Site, err)
	}
	if cfg.ShutdownLimit == 0 {
		s.cfg.ShutdownLimit = time.Hour
	}
	return s, nil
}

// places are the names of what belongs to one slot.
type places struct {
	pool, stagingPool string
	site, live        string
	staging           appcmd.Binding
	first             bool // it has what was there before
}

// places names what belongs to slot i. own is the pool that the site had before.
func (s *Setup) places(i int, own string) places {
	name := s.cfg.Site + "-" + s.cfg.Slots[i]
	p := places{pool: name, site: name, staging: s.staging[i], first: i == 0}
	if i == 0 {
		p.pool = own
	}
	switch s.cfg.Strategy {
	case StrategySiteToggle:
		p.live = name + "-live"
		if i == 0 {
			p.live = s.cfg.Site
		}
	case StrategyBindingSwap:
		if i == 0 {
			p.site = s.cfg.Site
		}
	}
	p.stagingPool = p.pool
	if s.cfg.StagingApart && s.cfg.Strategy != StrategyBindingSwap {
		p.stagingPool = name + "-staging"
	}
	return p
}

// own finds out which pool is the first slot's: that of the site, or, where a root swap has moved the site to another slot's since, that of the
// first slot's staging site.
func (s *Setup) own(w *world) (root, error) {
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return root{}, err
	}
	at, err := rootOf(site)
	if err != nil {
		return root{}, err
	}
	if s.cfg.Pool != "" {
		return root{s.cfg.Pool, at.folder}, nil
	}
	for _, name := range s.cfg.Slots[1:] {
		if strings.EqualFold(at.pool, s.cfg.Site+"-"+name) {
			return s.moved(w)
		}
	}
	return at, nil
}

// moved is own where the site is in another slot's pool.
func (s *Setup) moved(w *world) (root, error) {
	first, err := w.site(s.cfg.Site + "-" + s.cfg.Slots[0])
	if err != nil {
		return root{}, fmt.Errorf("site %q is in another slot's pool, and which was the first slot's is not known: %w", s.cfg.Site, err)
	}
	at, err := rootOf(first)
	if err != nil {
		return root{}, err
	}
	if s.cfg.StagingApart {
		return root{}, fmt.Errorf("site %q is in another slot's pool: set SetupConfig.Pool to that of slot %q: %w", s.cfg.Site, s.cfg.Slots[0],
			abswap.ErrPermanent)
	}
	return at, nil
}

// SlotConfigs returns what NewSlot needs of each slot; Install, Ready, Warm and Release are the caller's to add. It reads the pool of the site.
func (s *Setup) SlotConfigs(ctx context.Context) ([]SlotConfig, error) {
	w, err := look(ctx, s.cfg.App.server().appcmd())
	if err != nil {
		return nil, s.errorf("%w", explain(err))
	}
	own, err := s.own(w)
	if err != nil {
		return nil, s.errorf("%w", err)
	}
	all := make([]SlotConfig, len(s.cfg.Slots))
	for i, name := range s.cfg.Slots {
		p := s.places(i, own.pool)
		all[i] = SlotConfig{App: s.cfg.App, Name: name, Pool: p.pool, Site: p.site, Live: p.live, Staging: s.cfg.Staging[i]}
	}
	return all, nil
}

// Plan returns what Apply would do now; nothing, if all is there. It changes nothing.
func (s *Setup) Plan(ctx context.Context) ([]Action, error) { return s.plan(ctx, s.applySteps) }

// UndoPlan returns what Undo would do now. It changes nothing.
func (s *Setup) UndoPlan(ctx context.Context) ([]Action, error) { return s.plan(ctx, s.undoSteps) }

func (s *Setup) plan(ctx context.Context, steps func(*world) ([]step, error)) ([]Action, error) {
	w, err := look(ctx, s.cfg.App.server().appcmd())
	if err != nil {
		return nil, s.errorf("%w", explain(err))
	}
	all, err := steps(w)
	if err != nil {
		return nil, s.errorf("%w", err)
	}
	var plan []Action
	for _, st := range all {
		if cmd, due := st.build(w); due {
			plan = append(plan, Action{st.what, cmd.String()})
		}
	}
	return plan, nil
}

// Apply makes what is missing, in the order of Plan, and starts what it has made.
func (s *Setup) Apply(ctx context.Context) error { return s.run(ctx, s.applySteps) }

// Undo takes away what Apply has made. The public site must be on its first slot, and no request may be left in the others: otherwise it is
// refused before anything has changed.
func (s *Setup) Undo(ctx context.Context) error {
	w, err := look(ctx, s.cfg.App.server().appcmd())
	if err != nil {
		return s.errorf("%w", explain(err))
	}
	if err := s.undoable(ctx, w); err != nil {
		return s.errorf("undo: %w", err)
	}
	return s.run(ctx, s.undoSteps)
}

func (s *Setup) run(ctx context.Context, steps func(*world) ([]step, error)) error {
	srv := s.cfg.App.server()
	w, err := look(ctx, srv.appcmd())
	if err != nil {
		return s.errorf("%w", explain(err))
	}
	all, err := steps(w)
	if err != nil {
		return s.errorf("%w", err)
	}
	for _, st := range all {
		err := srv.change(ctx, nil, func(ctx context.Context, session *appcmd.Session) (appcmd.Command, bool, error) {
			w, err := look(ctx, session)
			if err != nil {
				return appcmd.Command{}, false, err
			}
			cmd, due := st.build(w)
			return cmd, due, nil
		})
		if err != nil {
			return s.errorf("%s: %w", st.what, err)
		}
		if st.after != nil {
			if err := st.after(ctx); err != nil {
				return s.errorf("%s: %w", st.what, err)
			}
		}
	}
	return nil
}

// undoable refuses an undo that would take something away that is in use.
func (s *Setup) undoable(ctx context.Context, w *world) error {
	own, err := s.own(w)
	if err != nil {
		return err
	}
	var errs []error
	for i, name := range s.cfg.Slots {
		p := s.places(i, own.pool)
		if i == 0 {
			errs = append(errs, s.firstIsLive(w, p))
			continue
		}
		if s.cfg.Strategy == StrategyBindingSwap {
			errs = append(errs, s.onlyStaging(w, name, p))
		}
		if _, err := w.pool(p.pool); err != nil {
			continue // it was never made, or is away already
		}
		requests, err := s.cfg.App.server().appcmd().Requests(ctx, appcmd.RequestFilter{Pool: p.pool})
		if err == nil && len(requests) > 0 {
			err = fmt.Errorf("slot %q has %d requests: drain it first: %w", name, len(requests), abswap.ErrSlotOccupied)
		}
		errs = append(errs, explain(err))
	}
	return multi.Join(errs...)
}

// firstIsLive wants the public site, or the public bindings, to be with the first slot.
func (s *Setup) firstIsLive(w *world, p places) error {
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return err
	}
	at, err := rootOf(site)
	if err != nil {
		return err
	}
	public := 0
	for _, b := range site.Bindings {
		if b.HTTP() && !b.Same(p.staging) {
			public++
		}
	}
	if !strings.EqualFold(at.pool, p.pool) || site.State != appcmd.Started || public == 0 {
		return fmt.Errorf("slot %q is not the live one: activate it first: %w", s.cfg.Slots[0], abswap.ErrSlotOccupied)
	}
	return nil
}

// onlyStaging wants no public binding on the site of a slot other than the first: the first one's site may have some that never moved.
func (s *Setup) onlyStaging(w *world, slot string, p places) error {
	site, err := w.site(p.site)
	if err != nil {
		return nil // it was never made, or is away already
	}
	for _, b := range site.Bindings {
		if b.HTTP() && !b.Same(p.staging) {
			return fmt.Errorf("slot %q: its site %q has the binding %s: activate slot %q first: %w", slot, site.Name, b, s.cfg.Slots[0], abswap.ErrSlotOccupied)
		}
	}
	return nil
}

func (s *Setup) errorf(format string, args ...any) error {
	return fmt.Errorf("iis setup of site %q: "+format, append([]any{s.cfg.Site}, args...)...)
}

// errOtherShape is why an object of a wanted name is not touched.
var errOtherShape = errors.New("it was not made by this setup: remove it, or choose other names")
