package iis

import (
	"context"
	"fmt"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
)

// RootSwapConfig says which site is switched.
type RootSwapConfig struct {
	App   *App    // required
	Site  string  // the public site; required. It is none of the slots' own ones
	Slots []*Slot // at least two, of the same App
}

// RootSwap switches one public site between slots: the pool of its root application and the folder of its root virtual directory are changed
// to those of the slot, in one commit. IIS never has a moment without an owner of the bindings.
//
// What is known: HTTP.sys sends each request to the queue of the pool that the site has at that moment, also on connections that are kept
// alive (documented). What was queued or executing in the old pool is left to it (inferred from that, not seen).
//
// What is not: whether the old worker process notices that the folder of an application it runs has changed, and unloads it; requests
// would then be cut after the application's shutdown time. Both are possible, so it is a loss that Check refuses until App.Accept or App.Facts
// says otherwise.
//
// The first requests are slow: what IIS warms is an application in a worker process, known by site and path. A staging site warms the
// process, the code and the caches outside it, not the application that goes live. App.OnSwitch tells the longest wait.
//
// That both can be changed in one commit is inferred: one path in a command is documented, several are not. Where IIS refuses it, Activate fails
// with nothing moved; in two commits, a worker process would for a moment have the folder of the other release.
//
// Traps: an in-process ASP.NET Core application allows no second one in its worker process, so its staging site must be in a pool of
// its own; and the commit restarts every ASP.NET Core application on the server that has no disallowRotationOnConfigChange, the live one
// included. See the table in the package's comment.
type RootSwap struct {
	*front
	cfg RootSwapConfig
}

var (
	_ abswap.TraitsSwitcher = (*RootSwap)(nil)
	_ abswap.Checker        = (*RootSwap)(nil)
)

// NewRootSwap returns the switcher that cfg describes. The error tells all mistakes in cfg. It asks IIS nothing.
func NewRootSwap(cfg RootSwapConfig) (*RootSwap, error) {
	f, err := newFront(cfg.App, StrategyRootSwap, cfg.Slots)
	if err != nil {
		return nil, err
	}
	if err := appcmd.CheckSiteName(cfg.Site); err != nil {
		return nil, fmt.Errorf("iis %s: Site: %w", StrategyRootSwap, err)
	}
	for _, s := range cfg.Slots {
		if holds(s.sites(), cfg.Site) {
			return nil, fmt.Errorf("iis %s: Site %q is slot %q's own: a slot has a site of its own for staging", StrategyRootSwap, cfg.Site, s.Name())
		}
	}
	return &RootSwap{front: f, cfg: cfg}, nil
}

// Traits tells that requests are routed one by one, and that the state outlives a restart.
func (r *RootSwap) Traits() abswap.Traits { return r.traits() }

// Active returns the slot to whose pool the public site's root belongs, if site and pool are started. A root in a pool that is no slot's is
// abswap.ErrUnknownSlot.
func (r *RootSwap) Active(ctx context.Context) (string, error) {
	w, err := r.look(ctx)
	if err != nil {
		return "", err
	}
	s, err := r.active(w)
	if err != nil {
		return "", fmt.Errorf("iis %s: %w", r.strategy, err)
	}
	return s.Name(), nil
}

func (r *RootSwap) active(w *world) (*Slot, error) {
	site, now, err := r.live(w)
	if err != nil {
		return nil, err
	}
	if err := known("site", site.Name, site.State); err != nil {
		return nil, err
	}
	for _, s := range r.slots {
		if !strings.EqualFold(s.cfg.Pool, now.pool) {
			continue
		}
		pool, err := w.pool(now.pool)
		if err != nil {
			return nil, err
		}
		if err := known("application pool", pool.Name, pool.State); err != nil {
			return nil, err
		}
		if site.State != appcmd.Started || pool.State != appcmd.Started {
			return nil, fmt.Errorf("site %q is %s and pool %q is %s: %w", site.Name, site.State, pool.Name, pool.State, abswap.ErrNoActive)
		}
		return s, nil
	}
	return nil, fmt.Errorf("the root of site %q runs in application pool %q, which is no slot's: Setup brings it into the shape of two slots: %w",
		site.Name, now.pool, abswap.ErrUnknownSlot)
}

// live reads the public site.
func (r *RootSwap) live(w *world) (appcmd.Site, root, error) {
	site, err := w.site(r.cfg.Site)
	if err != nil {
		return site, root{}, err
	}
	now, err := rootOf(site)
	return site, now, err
}

// Activate points the public site at the slot's pool and folder, starts the site if it is stopped, and returns when probes through every
// binding of the site prove that the slot answers. The slot's pool must be started.
func (r *RootSwap) Activate(ctx context.Context, s abswap.Slot) error {
	return r.activate(ctx, s, steps{
		doors: func(w *world) ([]door, error) {
			site, _, err := r.live(w)
			if err != nil {
				return nil, err
			}
			return r.publicDoors(site.Bindings)
		},
		from: func(w *world) (*Slot, error) {
			s, err := r.active(w)
			return s, noneIsFine(err)
		},
		done:  func(w *world, to *Slot) bool { return r.isOn(w, to) },
		ready: poolReady,
		move:  r.move,
	})
}

func (r *RootSwap) isOn(w *world, to *Slot) bool {
	site, now, err := r.live(w)
	if err != nil {
		return false
	}
	want, err := to.root(w)
	return err == nil && now.is(want) && site.State == appcmd.Started
}

func (r *RootSwap) move(ctx context.Context, m *move) error {
	err := r.server().change(ctx, &m.seen.Commits, func(ctx context.Context, session *appcmd.Session) (appcmd.Command, bool, error) {
		w, err := look(ctx, session)
		if err != nil {
			return appcmd.Command{}, false, err
		}
		return r.commit(w, m.to)
	})
	if refusedForm(err) {
		err = fmt.Errorf("IIS refuses to change pool and folder in one commit, and in two old requests could be cut: another strategy is needed: %w", err)
	}
	if err != nil {
		m.unmoved(ctx, err, func(w *world) bool {
			_, now, err := r.live(w)
			return err == nil && !strings.EqualFold(now.pool, m.to.cfg.Pool)
		})
		return err
	}
	return r.server().startSite(ctx, r.cfg.Site)
}

// commit builds the one that points the public site at the slot.
func (r *RootSwap) commit(w *world, to *Slot) (cmd appcmd.Command, due bool, err error) {
	site, now, err := r.live(w)
	if err != nil {
		return cmd, false, err
	}
	want, err := to.root(w)
	if err != nil {
		return cmd, false, err
	}
	cmd = appcmd.SetConfig("", appcmd.SectionSites)
	if !strings.EqualFold(now.pool, want.pool) {
		cmd, due = cmd.Set(appcmd.RootApp(site.Name), "applicationPool", want.pool), true
	}
	if !sameFolder(now.folder, want.folder) {
		cmd, due = cmd.Set(appcmd.RootDir(site.Name), "physicalPath", want.folder), true
	}
	return cmd, due, nil
}
