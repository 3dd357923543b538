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
	"github.com/abswap/abswap/internal/retry"
)

// world is what IIS says of its sites and pools at one moment.
type world struct {
	sites []appcmd.Site
	pools []appcmd.Pool
}

// reader is an appcmd.Client, or a Session of one.
type reader interface {
	Sites(ctx context.Context) ([]appcmd.Site, error)
	Pools(ctx context.Context) ([]appcmd.Pool, error)
}

func look(ctx context.Context, r reader) (*world, error) {
	sites, err := r.Sites(ctx)
	if err != nil {
		return nil, err
	}
	pools, err := r.Pools(ctx)
	if err != nil {
		return nil, err
	}
	return &world{sites, pools}, nil
}

// site returns the site of that name.
func (w *world) site(name string) (appcmd.Site, error) {
	for _, s := range w.sites {
		if strings.EqualFold(s.Name, name) {
			return s, nil
		}
	}
	return appcmd.Site{}, fmt.Errorf("IIS has no site %q: %w", name, abswap.ErrPermanent)
}

// pool returns the application pool of that name.
func (w *world) pool(name string) (appcmd.Pool, error) {
	for _, p := range w.pools {
		if strings.EqualFold(p.Name, name) {
			return p, nil
		}
	}
	return appcmd.Pool{}, fmt.Errorf("IIS has no application pool %q: %w", name, abswap.ErrPermanent)
}

// root is the pool and the folder of a site's root application.
type root struct{ pool, folder string }

// rootOf reads the root of the site, which must have one.
func rootOf(s appcmd.Site) (root, error) {
	app, dir := s.Root()
	if app == nil || dir == nil {
		return root{}, fmt.Errorf("site %q has no root application with a root folder: %w", s.Name, abswap.ErrPermanent)
	}
	return root{app.Pool, dir.PhysicalPath}, nil
}

// is reports whether a and b lead to the same pool and folder.
func (a root) is(b root) bool {
	return strings.EqualFold(a.pool, b.pool) && sameFolder(a.folder, b.folder)
}

// sameFolder compares as Windows does, and does not mind a backslash at the end.
func sameFolder(a, b string) bool {
	return strings.EqualFold(strings.TrimRight(a, `\/`), strings.TrimRight(b, `\/`))
}

// startedUsers names the sites that are not stopped and have an application in the pool, but for those that are excepted.
func (w *world) startedUsers(pool string, except ...string) []string {
	var all []string
	for _, s := range w.sites {
		if s.State == appcmd.Stopped || holds(except, s.Name) {
			continue
		}
		for _, app := range s.Applications {
			if strings.EqualFold(app.Pool, pool) {
				all = append(all, s.Name)
				break
			}
		}
	}
	return all
}

func holds(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// errElevation tells what a state that is not known means in the field.
var errElevation = errors.New("IIS does not tell its state: run elevated, and look whether the services WAS and W3SVC run")

// known refuses a state that says nothing.
func known(what, name string, s appcmd.State) error {
	if s == appcmd.Unknown {
		return fmt.Errorf("%s %q: %w", what, name, errElevation)
	}
	return nil
}

// explain adds to an answer of appcmd what its class means for the caller.
func explain(err error) error {
	switch appcmd.ClassOf(err) {
	case appcmd.Permission, appcmd.Unavailable:
		return fmt.Errorf("%w: %w", errElevation, err)
	}
	if errors.Is(err, appcmd.ErrUnknownOutcome) {
		return unsure(err)
	}
	return err
}

// change brings about what build wants. What appcmd may or may not have done is told as abswap.ErrUnknownOutcome. It counts the commits.
func (s *Server) change(ctx context.Context, commits *int, build appcmd.Build) error {
	ran := 0
	_, err := s.appcmd().Change(ctx, func(ctx context.Context, r *appcmd.Session) (appcmd.Command, bool, error) {
		cmd, due, err := build(ctx, r)
		if due && err == nil {
			ran++
		}
		return cmd, due, err
	})
	if err == nil && ran > 0 && commits != nil {
		*commits++
	}
	return explain(err)
}

// changeSplit is change for a commit that may as well be several. build is asked for all that is due or, where IIS refuses several paths in one
// command, for one of them after the other.
func (s *Server) changeSplit(ctx context.Context, commits *int, build func(w *world, one bool) (appcmd.Command, bool, error)) error {
	run := func(one bool) (due bool, err error) {
		err = s.change(ctx, commits, func(ctx context.Context, r *appcmd.Session) (cmd appcmd.Command, ok bool, err error) {
			w, err := look(ctx, r)
			if err == nil {
				cmd, due, err = build(w, one)
			}
			return cmd, due, err
		})
		return due, err
	}
	_, err := run(false)
	if !refusedForm(err) {
		return err
	}
	const most = 100 // of those that are due: somebody may undo them all the time
	for range most {
		if due, err := run(true); err != nil || !due {
			return err
		}
	}
	return fmt.Errorf("another program takes the changes back again and again: %w", err)
}

// startSite starts the site unless it is started, and waits until IIS says that it is.
func (s *Server) startSite(ctx context.Context, name string) error {
	err := s.change(ctx, nil, func(ctx context.Context, r *appcmd.Session) (appcmd.Command, bool, error) {
		site, err := r.Site(ctx, name)
		return appcmd.StartSite(name), site.State != appcmd.Started && site.State != appcmd.Starting, multi.Join(err, knownSite(site, err))
	})
	return multi.Join(err, s.awaitSite(ctx, name, appcmd.Started, err))
}

// stopSite stops the site unless it is stopped, and waits until IIS says that it is.
func (s *Server) stopSite(ctx context.Context, name string) error {
	err := s.change(ctx, nil, func(ctx context.Context, r *appcmd.Session) (appcmd.Command, bool, error) {
		site, err := r.Site(ctx, name)
		return appcmd.StopSite(name), site.State != appcmd.Stopped && site.State != appcmd.Stopping, multi.Join(err, knownSite(site, err))
	})
	return multi.Join(err, s.awaitSite(ctx, name, appcmd.Stopped, err))
}

func knownSite(site appcmd.Site, err error) error {
	if err != nil {
		return nil // told by itself
	}
	return known("site", site.Name, site.State)
}

// settleIn is how long a state may take to be reached once its command has ended well.
const settleIn = 30 * time.Second

// awaitSite waits until the site has that state, unless the command before it has failed.
func (s *Server) awaitSite(ctx context.Context, name string, want appcmd.State, failed error) error {
	if failed != nil {
		return nil
	}
	return await(ctx, settleIn, func(ctx context.Context) error {
		site, err := s.appcmd().Site(ctx, name)
		if err != nil {
			return retry.Stop(explain(err))
		}
		if site.State != want {
			return fmt.Errorf("site %q is %s, not %s", name, site.State, want)
		}
		return nil
	})
}

// await calls f until it returns nil, for at most d.
func await(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	limit, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("not so after %s", d))
	defer cancel()
	return retry.Do(limit, retry.Policy{First: 25 * time.Millisecond, Max: 500 * time.Millisecond}, f)
}

// awaitKnownSite waits until the service that runs sites has seen one that was just made.
func (s *Server) awaitKnownSite(ctx context.Context, name string) error {
	return await(ctx, settleIn, func(ctx context.Context) error {
		site, err := s.appcmd().Site(ctx, name)
		return firstKnown(err, "site", name, site.State)
	})
}

// awaitKnownPool waits until the service that runs pools has seen one that was just made.
func (s *Server) awaitKnownPool(ctx context.Context, name string) error {
	return await(ctx, settleIn, func(ctx context.Context) error {
		p, err := s.appcmd().Pool(ctx, name)
		return firstKnown(err, "application pool", name, p.State)
	})
}

func firstKnown(err error, what, name string, s appcmd.State) error {
	if err != nil {
		return retry.Stop(explain(err))
	}
	return known(what, name, s)
}

// startPool starts the pool unless it is started, and waits until IIS says that it is.
func (s *Server) startPool(ctx context.Context, name string) error {
	err := s.change(ctx, nil, func(ctx context.Context, r *appcmd.Session) (appcmd.Command, bool, error) {
		p, err := r.Pool(ctx, name)
		if err == nil {
			err = known("application pool", name, p.State)
		}
		if err == nil && p.State == appcmd.Stopping {
			err = stillStopping(name)
		}
		return appcmd.StartPool(name), p.State != appcmd.Started && p.State != appcmd.Starting, err
	})
	return multi.Join(err, s.awaitPool(ctx, name, appcmd.Started, settleIn, err))
}

// stillStopping is an error that makes a change try again: a pool cannot be started before it is stopped.
func stillStopping(name string) error {
	return &appcmd.Error{Command: "start apppool " + name, Class: appcmd.NotReady, Message: "the pool is still stopping"}
}

// stopPool stops the pool unless it is stopped, and waits until no worker process of it is left, or longer than it may take.
func (s *Server) stopPool(ctx context.Context, name string) error {
	limit := settleIn
	err := s.change(ctx, nil, func(ctx context.Context, r *appcmd.Session) (appcmd.Command, bool, error) {
		p, err := r.Pool(ctx, name)
		if err == nil {
			err = known("application pool", name, p.State)
		}
		limit = p.ShutdownTimeLimit + settleIn
		return appcmd.StopPool(name).Blocks(p.ShutdownTimeLimit), p.State != appcmd.Stopped && p.State != appcmd.Stopping, err
	})
	if err = multi.Join(err, s.awaitPool(ctx, name, appcmd.Stopped, limit, err)); err != nil {
		return err
	}
	return await(ctx, limit, func(ctx context.Context) error {
		left, err := s.workers(ctx, name)
		if err != nil {
			return retry.Stop(err)
		}
		if len(left) > 0 {
			return fmt.Errorf("application pool %q is stopped, and its worker process %d still runs", name, left[0].PID)
		}
		return nil
	})
}

func (s *Server) awaitPool(ctx context.Context, name string, want appcmd.State, limit time.Duration, failed error) error {
	if failed != nil {
		return nil
	}
	return await(ctx, limit, func(ctx context.Context) error {
		p, err := s.appcmd().Pool(ctx, name)
		if err != nil {
			return retry.Stop(explain(err))
		}
		if p.State != want {
			return fmt.Errorf("application pool %q is %s, not %s", name, p.State, want)
		}
		return nil
	})
}

// workers returns the worker processes of the pool, old ones that are still finishing included.
func (s *Server) workers(ctx context.Context, pool string) ([]appcmd.WorkerProcess, error) {
	all, err := s.appcmd().WorkerProcesses(ctx)
	if err != nil {
		return nil, explain(err)
	}
	var own []appcmd.WorkerProcess
	for _, p := range all {
		if strings.EqualFold(p.Pool, pool) {
			own = append(own, p)
		}
	}
	return own, nil
}
