package iis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// SlotConfig describes one of the places in which a version of the application lives: an application pool of its own, and a site of its own
// at which it is reached past the public one. Setup makes both out of an existing site.
type SlotConfig struct {
	App  *App   // required
	Name string // of the slot: "blue"; required

	// Pool is the application pool in which the slot's version takes public traffic. No application but the slot's may be in it. Required.
	Pool string

	// Site is the slot's own site. Its root application holds the slot's folder; Staging is one of its bindings. Required. With BindingSwap
	// it is also the site that the public bindings move to. With RootSwap and SiteToggle it is for staging only, and its root application
	// is in Pool or, so that it does not sit in the same worker process as what is live, in a pool of its own.
	Site string

	// Live is the slot's second site, with the public bindings, which only SiteToggle needs. Its root application is in Pool, with the same
	// folder as Site. "": none.
	Live string

	// Staging is the binding of Site by which the slot is reached past the public door: "http/127.0.0.1:8001:". It should be on a loopback
	// address and name no host, so that the slot is asked with the real host name. Required.
	Staging string

	// Ready is the path that must be answered by 200; "": "/". Warm are paths that are asked before the slot counts as warm, each with a
	// status below 400.
	Ready string
	Warm  []string

	// Install puts a release into a folder of its own and returns its path. A folder.Installer's Install is one. nil: the slot cannot install.
	Install func(ctx context.Context, r abswap.Release) (dir string, err error)

	// Release tells the ID of the release that is in a folder, by the folder's path. nil: what stands behind the first dot of its name:
	// v1085 of C:\inetpub\MySite.v1085.
	Release func(dir string) (id string, err error)

	// Preload makes Install set the pool's startMode to AlwaysRunning and the sites' preloadEnabled, so that a worker process and the
	// application are started with the pool, and again after a crash or a recycle. Do not use it where ARR is installed, which Microsoft
	// documents as incompatible.
	Preload bool
}

// Slot is a slot on IIS. What is in it, and whether it runs, is read from IIS at each call: several Slots of one SlotConfig, in one process
// or in many, are the same slot.
type Slot struct {
	cfg     SlotConfig
	staging door
	mu      sync.Mutex // held by calls that change the slot
}

var (
	_ abswap.WarmingSlot    = (*Slot)(nil)
	_ abswap.StartingSlot   = (*Slot)(nil)
	_ abswap.StoppingSlot   = (*Slot)(nil)
	_ abswap.InstallingSlot = (*Slot)(nil)
	_ abswap.InspectingSlot = (*Slot)(nil)
	_ abswap.Checker        = (*Slot)(nil)
)

// NewSlot returns the slot that cfg describes. The error tells all mistakes in cfg. It asks IIS nothing.
func NewSlot(cfg SlotConfig) (*Slot, error) {
	errs := []error{cfg.App.check()}
	if cfg.Name == "" {
		errs = append(errs, errors.New("it has no Name"))
	}
	for _, n := range []struct {
		field, name string
		check       func(string) error
	}{{"Pool", cfg.Pool, appcmd.CheckPoolName}, {"Site", cfg.Site, appcmd.CheckSiteName}, {"Live", cfg.Live, appcmd.CheckSiteName}} {
		if n.field == "Live" && n.name == "" {
			continue
		}
		if err := n.check(n.name); err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", n.field, err))
		}
	}
	if cfg.Live != "" && strings.EqualFold(cfg.Live, cfg.Site) {
		errs = append(errs, fmt.Errorf("fields Live and Site are both %q: a site that is stopped cannot be asked past the public door", cfg.Site))
	}
	b, err := parseBinding(cfg.Staging)
	if err != nil {
		errs = append(errs, fmt.Errorf("field Staging: %w", err))
	}
	var d door
	if cfg.App != nil && err == nil {
		if d, err = doorOf(b, cfg.App.Host); err != nil {
			errs = append(errs, fmt.Errorf("field Staging: %w", err))
		}
	}
	for _, p := range append([]string{cfg.Ready}, cfg.Warm...) {
		if p != "" && !strings.HasPrefix(p, "/") {
			errs = append(errs, fmt.Errorf("path %q does not begin with a slash", p))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("iis slot %q: %w", cfg.Name, err)
	}
	return &Slot{cfg: cfg, staging: d}, nil
}

// parseBinding reads "http/127.0.0.1:8001:".
func parseBinding(s string) (appcmd.Binding, error) {
	protocol, info, ok := strings.Cut(s, "/")
	b := appcmd.Binding{Protocol: protocol, Information: info}
	if !ok || !b.HTTP() {
		return b, fmt.Errorf("binding %q: want protocol/address:port:host, as in \"http/127.0.0.1:8001:\"", s)
	}
	if _, _, _, err := b.Split(); err != nil {
		return b, err
	}
	return b, b.Check()
}

// Name returns SlotConfig.Name.
func (s *Slot) Name() string { return s.cfg.Name }

func (s *Slot) server() *Server { return s.cfg.App.server() }

// sites are the slot's own ones.
func (s *Slot) sites() []string {
	if s.cfg.Live == "" {
		return []string{s.cfg.Site}
	}
	return []string{s.cfg.Site, s.cfg.Live}
}

// root reads which folder the slot has, and tells the pool in which it goes live.
func (s *Slot) root(w *world) (root, error) {
	site, err := w.site(s.cfg.Site)
	if err != nil {
		return root{}, s.errorf("%w", err)
	}
	r, err := rootOf(site)
	if err != nil {
		return root{}, s.errorf("%w", err)
	}
	return root{s.cfg.Pool, r.folder}, nil
}

// release tells which release is in the folder.
func (s *Slot) release(dir string) (string, error) {
	if s.cfg.Release != nil {
		id, err := s.cfg.Release(dir)
		if err != nil {
			return "", s.errorf("which release is in %q: %w", dir, err)
		}
		return id, nil
	}
	base := path.Base(strings.TrimRight(strings.ReplaceAll(dir, `\`, "/"), "/"))
	_, id, _ := strings.Cut(base, ".")
	return id, nil
}

// want tells the mark of what is in the slot.
func (s *Slot) want(w *world) (string, error) {
	r, err := s.root(w)
	if err != nil {
		return "", err
	}
	id, err := s.release(r.folder)
	if err != nil {
		return "", err
	}
	mark := s.cfg.App.Mark.want(s.cfg.Name, id)
	if mark == "" {
		return "", s.errorf("which release is in folder %q cannot be told, so that nobody could see a switch to it: "+
			"set SlotConfig.Release, or App.Mark.Want", r.folder)
	}
	return mark, nil
}

// Ready asks the slot at its staging binding with the real host name. It is fit if the answer is 200, and its mark is the one of the release
// that is in the slot. Otherwise the error wraps abswap.ErrNotReady.
func (s *Slot) Ready(ctx context.Context) error {
	w, err := look(ctx, s.server().appcmd())
	if err != nil {
		return s.errorf("%w", explain(err))
	}
	want, err := s.want(w)
	if err != nil {
		return err
	}
	to := s.cfg.Ready
	if to == "" {
		to = "/"
	}
	resp, _, err := s.cfg.App.ask(ctx, s.staging, to)
	if err != nil {
		return s.errorf("%w: %w", abswap.ErrNotReady, err)
	}
	if resp.StatusCode != http.StatusOK {
		return s.errorf("%w: %w", abswap.ErrNotReady, &refusedError{fmt.Sprintf("GET %s at %s answered %s", to, s.staging, resp.Status), resp.StatusCode})
	}
	got, err := s.cfg.App.mark(ctx, s.staging)
	if err != nil {
		return s.errorf("%w: %w", abswap.ErrNotReady, err)
	}
	if got != want {
		return s.errorf("%w: %s is answered by %.80q, not by %q", abswap.ErrNotReady, s.staging, got, want)
	}
	return nil
}

// Warm asks each of SlotConfig.Warm at the staging binding. That warms what a worker process has once: the runtime, and the code that was
// compiled. An application that IIS starts for another site in the same pool starts on its own, cold.
func (s *Slot) Warm(ctx context.Context) error {
	for _, p := range s.cfg.Warm {
		resp, _, err := s.cfg.App.ask(ctx, s.staging, p)
		if err != nil {
			return s.errorf("warm-up: %w", err)
		}
		if resp.StatusCode >= http.StatusBadRequest {
			return s.errorf("warm-up: GET %s at %s answered %s", p, s.staging, resp.Status)
		}
	}
	return nil
}

// Inspect tells which release the slot's folder holds, whether its site and its pool are started, and where it is reached.
func (s *Slot) Inspect(ctx context.Context) (abswap.SlotState, error) {
	w, err := look(ctx, s.server().appcmd())
	if err != nil {
		return abswap.SlotState{}, s.errorf("%w", explain(err))
	}
	r, err := s.root(w)
	if err != nil {
		return abswap.SlotState{}, err
	}
	id, err := s.release(r.folder)
	if err != nil {
		return abswap.SlotState{}, err
	}
	st := abswap.SlotState{Release: id, Address: s.staging.address}
	pool, err := w.pool(s.cfg.Pool)
	if err != nil {
		return st, s.errorf("%w", err)
	}
	site, _ := w.site(s.cfg.Site)
	if err := multi.Join(known("application pool", pool.Name, pool.State), known("site", site.Name, site.State)); err != nil {
		return st, s.errorf("%w", err)
	}
	st.Running = pool.State == appcmd.Started && site.State == appcmd.Started
	return st, nil
}

func (s *Slot) errorf(format string, args ...any) error {
	return fmt.Errorf("iis slot %q: "+format, append([]any{s.cfg.Name}, args...)...)
}
