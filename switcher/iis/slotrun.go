package iis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// Install hands r to SlotConfig.Install and points the root folders of the slot's own sites at the folder that it returns, all in one commit;
// what is right already is not written. It is refused with abswap.ErrSlotOccupied while public traffic can reach the slot.
//
// A commit restarts ASP.NET Core applications all over the server, unless they have disallowRotationOnConfigChange. Install is the step in
// which that happens, before anything is warmed.
func (s *Slot) Install(ctx context.Context, r abswap.Release) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("install: %w", context.Cause(ctx))
	}
	if s.cfg.Install == nil {
		return s.errorf("install: SlotConfig.Install is nil: %w", errors.ErrUnsupported)
	}
	if err := r.Check(); err != nil {
		return s.errorf("install: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := look(ctx, s.server().appcmd())
	if err != nil {
		return s.errorf("install: %w", explain(err))
	}
	if err := s.idle(w); err != nil {
		return err
	}
	dir, err := s.cfg.Install(ctx, r)
	if err != nil {
		return s.errorf("install of release %q: %w", r.ID, err)
	}
	if id, err := s.release(dir); err != nil || id != r.ID {
		return multi.Join(err, s.errorf("release %q was installed to %q, which is read as release %q: set SlotConfig.Release", r.ID, dir, id))
	}
	if s.cfg.Preload {
		if err := s.preloadPool(ctx); err != nil {
			return err
		}
	}
	err = s.server().changeSplit(ctx, nil, func(w *world, one bool) (appcmd.Command, bool, error) {
		if err := s.idle(w); err != nil {
			return appcmd.Command{}, false, err
		}
		return s.point(w, dir, one)
	})
	if err != nil {
		return s.errorf("install of release %q: %w", r.ID, err)
	}
	return nil
}

// point builds the commit that gives the slot's sites their folder, or with one the first part of it that is due.
func (s *Slot) point(w *world, dir string, one bool) (cmd appcmd.Command, due bool, err error) {
	cmd = appcmd.SetConfig("", appcmd.SectionSites)
	for _, name := range s.sites() {
		site, err := w.site(name)
		if err != nil {
			return cmd, false, err
		}
		r, err := rootOf(site)
		if err != nil {
			return cmd, false, err
		}
		if !sameFolder(r.folder, dir) && !(one && due) {
			cmd, due = cmd.Set(appcmd.RootDir(site.Name), "physicalPath", dir), true
		}
		if app, _ := site.Root(); s.cfg.Preload && !app.PreloadEnabled && !(one && due) {
			cmd, due = cmd.Set(appcmd.RootApp(site.Name), "preloadEnabled", "true"), true
		}
	}
	return cmd, due, nil
}

func (s *Slot) preloadPool(ctx context.Context) error {
	err := s.server().change(ctx, nil, func(ctx context.Context, session *appcmd.Session) (appcmd.Command, bool, error) {
		p, err := session.Pool(ctx, s.cfg.Pool)
		return appcmd.SetPool(s.cfg.Pool).With("startMode", "AlwaysRunning"), !strings.EqualFold(p.StartMode, "AlwaysRunning"), err
	})
	if err != nil {
		return s.errorf("preload: %w", err)
	}
	return nil
}

// idle returns an error that wraps ErrSlotOccupied if public traffic can reach the slot.
func (s *Slot) idle(w *world) error {
	var why []string
	for _, name := range w.startedUsers(s.cfg.Pool, s.cfg.Site) {
		why = append(why, fmt.Sprintf("site %q runs in its pool %q", name, s.cfg.Pool))
	}
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return s.errorf("%w", err)
	}
	if site.State != appcmd.Stopped {
		for _, b := range site.Bindings {
			if !b.Same(s.staging.binding) && !private(b) {
				why = append(why, fmt.Sprintf("its site %q has the binding %s", site.Name, b))
			}
		}
	}
	if len(why) > 0 {
		return s.errorf("public traffic reaches it (%s): %w", strings.Join(why, "; "), abswap.ErrSlotOccupied)
	}
	return nil
}

// private tells whether only this machine can reach the binding.
func private(b appcmd.Binding) bool {
	address, _, _, err := b.Split()
	if err != nil {
		return false
	}
	ip := net.ParseIP(address)
	return ip != nil && ip.IsLoopback()
}

// Start starts the slot's pool, then its own site; what runs already is left as it is. Live is not started: that is what a switch does.
func (s *Slot) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("start: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pools, err := s.pools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := s.server().startPool(ctx, p); err != nil {
			return s.errorf("start: %w", err)
		}
	}
	if err := s.server().startSite(ctx, s.cfg.Site); err != nil {
		return s.errorf("start: %w", err)
	}
	return nil
}

// pools names the slot's pool and, if it is another one, that of its staging site.
func (s *Slot) pools(ctx context.Context) ([]string, error) {
	site, err := s.server().appcmd().Site(ctx, s.cfg.Site)
	if err != nil {
		return nil, s.errorf("%w", explain(err))
	}
	r, err := rootOf(site)
	if err != nil {
		return nil, s.errorf("%w", err)
	}
	if strings.EqualFold(r.pool, s.cfg.Pool) {
		return []string{s.cfg.Pool}, nil
	}
	return []string{s.cfg.Pool, r.pool}, nil
}

// Stop stops the slot's own site, then its pool, and returns when the last worker process has gone, which takes up to the pool's
// shutdownTimeLimit. It is refused with abswap.ErrSlotOccupied while public traffic can reach the slot.
func (s *Slot) Stop(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("stop: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := look(ctx, s.server().appcmd())
	if err != nil {
		return s.errorf("stop: %w", explain(err))
	}
	if err := s.idle(w); err != nil {
		return err
	}
	pools, err := s.pools(ctx)
	if err != nil {
		return err
	}
	if err := s.server().stopSite(ctx, s.cfg.Site); err != nil {
		return s.errorf("stop: %w", err)
	}
	for _, p := range pools {
		if others := w.startedUsers(p, s.cfg.Site); len(others) > 0 {
			continue // a staging pool that others share
		}
		if err := s.server().stopPool(ctx, p); err != nil {
			return s.errorf("stop: %w", err)
		}
	}
	return nil
}
