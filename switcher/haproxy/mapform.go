package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// MapConfig says which key of which map picks the backend:
//
//	use_backend %[str(mysite),map(/etc/haproxy/slots.map)]
//
// with the line "mysite be_blue" in the file. The key must stand in the file, and be the only thing by which a request gets to the backends.
type MapConfig struct {
	Runtime Runtime

	File     string            // the map's file; required. It is replaced as a whole, so its folder must be writable too
	Key      string            // the key, as in the file; required
	Backends map[string]string // name of a slot -> name of its backend; at least two; required

	// Map is how the configuration names the map, if that is not File as it stands: a relative path, or "#3".
	Map string

	// Closed is a backend without servers, or another that answers that nobody serves. Where it is set, the last active slot can be
	// sealed, and a site can begin with no slot active. "": neither can be.
	Closed string

	TCP    bool // the backends are in mode tcp: HAProxy decides once per connection
	Listed int  // up to how many open connections of a worker websockets are told from requests; 0: 1000, negative: never
}

// MapSwitcher switches by one key of a map. See MapConfig. All new work goes to one slot: it has no weights, and no steps of a Swapper.
type MapSwitcher struct {
	*engine
	cfg MapConfig
}

var (
	_ abswap.SealingSwitcher = (*MapSwitcher)(nil)
	_ abswap.TraitsSwitcher  = (*MapSwitcher)(nil)
	_ abswap.WaitingDrainer  = (*MapSwitcher)(nil)
	_ abswap.ListingDrainer  = (*MapSwitcher)(nil)
	_ abswap.ForcingDrainer  = (*MapSwitcher)(nil)
	_ abswap.Checker         = (*MapSwitcher)(nil)
)

// NewMap checks cfg and returns a switcher; it asks nobody. The error lists all mistakes.
func NewMap(cfg MapConfig) (*MapSwitcher, error) {
	if cfg.Map == "" {
		cfg.Map = cfg.File
	}
	errs := []error{cfg.Runtime.mistakes(), safeWord("MapConfig.Key", cfg.Key)}
	if cfg.File == "" {
		errs = append(errs, errors.New("MapConfig.File is empty"))
	} else if err := safeReference(cfg.Map); err != nil {
		errs = append(errs, err)
	}
	if len(cfg.Backends) < 2 {
		errs = append(errs, fmt.Errorf("MapConfig.Backends has %d slots, at least two are needed", len(cfg.Backends)))
	}
	places, slots := map[string]place{}, map[string]string{}
	for slot, backend := range cfg.Backends {
		if slot == "" {
			errs = append(errs, fmt.Errorf("MapConfig.Backends has a slot without name, for backend %q", backend))
		}
		errs = append(errs, safeName(fmt.Sprintf("backend of slot %q", slot), backend))
		if other, ok := slots[backend]; ok && backend != "" {
			errs = append(errs, fmt.Errorf("slots %q and %q have one backend, %q", min(slot, other), max(slot, other), backend))
		}
		slots[backend], places[slot] = slot, place{backend: backend}
	}
	if cfg.Closed != "" {
		errs = append(errs, safeName("MapConfig.Closed", cfg.Closed))
		if slot, ok := slots[cfg.Closed]; ok {
			errs = append(errs, fmt.Errorf("MapConfig.Closed is the backend of slot %q", slot))
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("haproxy map: %w", err)
	}
	return &MapSwitcher{engine: newEngine(cfg.Runtime, places, cfg.Listed), cfg: cfg}, nil
}

// safeReference is safeWord for a map's name, which may be "#3".
func safeReference(name string) error {
	if len(name) > 1 && name[0] == '#' {
		name = name[1:]
	}
	return safeWord("the map's name", name)
}

// Traits tell that a reload of HAProxy brings the file's slot back, which is the same one.
func (m *MapSwitcher) Traits() abswap.Traits { return abswap.Traits{PerConnection: m.cfg.TCP} }

// Active returns the slot whose backend the key leads to in the worker that takes new connections. It is ErrNoActive if that is
// MapConfig.Closed; a backend that is none of the slots' is ErrNotOurs.
func (m *MapSwitcher) Active(ctx context.Context) (string, error) {
	value := ""
	err := m.current(ctx, func(ctx context.Context, w worker) (err error) {
		value, err = m.value(ctx, w)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("haproxy map %s: %w", m.cfg.Map, err)
	}
	return m.slotOf(value)
}

// slotOf finds the slot of a backend.
func (m *MapSwitcher) slotOf(backend string) (string, error) {
	for slot, b := range m.cfg.Backends {
		if b == backend {
			return slot, nil
		}
	}
	if backend == m.cfg.Closed {
		return "", fmt.Errorf("haproxy map %s: key %q leads to %q: %w", m.cfg.Map, m.cfg.Key, backend, abswap.ErrNoActive)
	}
	return "", fmt.Errorf("haproxy map %s: key %q leads to backend %q: %w", m.cfg.Map, m.cfg.Key, backend, ErrNotOurs)
}

// value reads the key in one worker.
func (m *MapSwitcher) value(ctx context.Context, w worker) (string, error) {
	command := fmt.Sprintf("get map %s %s", m.cfg.Map, m.cfg.Key)
	text, err := m.rt.read(ctx, w.pid, command)
	if err != nil {
		return "", err
	}
	value, err := parseMapValue(text)
	if errors.Is(err, ErrNoKey) {
		return "", &RefusalError{Worker: w.pid, Command: command, Reason: ErrNoKey,
			Text: fmt.Sprintf("no such key; put the line \"%s BACKEND\" into %s and reload", m.cfg.Key, m.cfg.File)}
	}
	return value, err
}

// Activate makes the key lead to the slot's backend: first in the file, from which a reload reads it; then in every worker, the old ones
// included; then it is read back. Before it changes anything it waits, at most Runtime.Patience, until the backend has a server that is up,
// and refuses a slot whose backend has none (abswap.ErrNotReady) or that HAProxy does not have (ErrNoBackend).
func (m *MapSwitcher) Activate(ctx context.Context, s abswap.Slot) error {
	p, err := m.slot(s)
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if err := m.usable(ctx, p.backend); err != nil {
		return fmt.Errorf("activate %q: %w", s.Name(), err)
	}
	if err := m.lead(ctx, p.backend); err != nil {
		return fmt.Errorf("activate %q: %w", s.Name(), err)
	}
	return nil
}

// Seal makes sure, in every worker, that the key does not lead to s. The slot that is active can be sealed if MapConfig.Closed is set, and
// then none is; without it that is refused with errors.ErrUnsupported.
func (m *MapSwitcher) Seal(ctx context.Context, s abswap.Slot) error {
	p, err := m.slot(s)
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	to := ""
	err = m.current(ctx, func(ctx context.Context, w worker) (err error) {
		to, err = m.value(ctx, w)
		return err
	})
	if err != nil {
		return fmt.Errorf("seal %q: %w", s.Name(), err)
	}
	if to == p.backend {
		if to = m.cfg.Closed; to == "" {
			return fmt.Errorf("seal %q: it is the active slot, and MapConfig.Closed is not set: %w", s.Name(), errors.ErrUnsupported)
		}
	}
	if err := m.lead(ctx, to); err != nil {
		return fmt.Errorf("seal %q: %w", s.Name(), err)
	}
	return nil
}

// usable waits until a backend has a server that is up.
func (m *MapSwitcher) usable(ctx context.Context, backend string) error {
	return m.current(ctx, func(ctx context.Context, w worker) error {
		if _, err := m.value(ctx, w); err != nil {
			return err
		}
		rows, err := m.stats(ctx, w, backend)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.name == backendRow && r.status == "DOWN" {
				return fmt.Errorf("backend %q is DOWN: none of its servers is up: %w", backend, abswap.ErrNotReady)
			}
		}
		if len(rows) < 2 {
			return fmt.Errorf("backend %q has no server: %w: %w", backend, abswap.ErrNotReady, abswap.ErrPermanent)
		}
		return nil
	})
}

// lead makes the key lead to a backend. What goes wrong before the first change leaves the old world; what goes wrong later is undone, and
// where that cannot be told the error wraps ErrUnknownOutcome.
func (m *MapSwitcher) lead(ctx context.Context, backend string) error {
	old, perm, err := readFile(m.cfg.File)
	if err != nil {
		return err
	}
	content, err := editMap(old, map[string]string{m.cfg.Key: backend})
	if err != nil {
		return fmt.Errorf("map file %s: %w: add a line for it and reload HAProxy: %w", m.cfg.File, err, abswap.ErrPermanent)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("map file %s: %w", m.cfg.File, context.Cause(ctx))
	}
	if err := writeFile(ctx, m.cfg.File, content, perm); err != nil { // it may be replaced all the same, and not flushed
		return multi.Join(fmt.Errorf("map file %s: %w", m.cfg.File, err), m.putBack(ctx))
	}
	effect, cancel := m.detached(ctx)
	defer cancel()
	err = m.everywhere(effect, func(ctx context.Context, w worker) error { return m.set(ctx, w, backend) })
	if err == nil {
		return nil
	}
	if caller := ctx.Err(); caller != nil {
		err = multi.Join(context.Cause(ctx), err)
	}
	return multi.Join(fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err), m.putBack(effect))
}

// putBack makes the file say again what the worker that takes new connections does, so that no reload moves the traffic.
func (m *MapSwitcher) putBack(ctx context.Context) error {
	ctx, cancel := m.detached(ctx)
	defer cancel()
	now := ""
	err := m.current(ctx, func(ctx context.Context, w worker) (err error) {
		now, err = m.value(ctx, w)
		return err
	})
	if err != nil {
		return fmt.Errorf("map file %s may say another slot than HAProxy: %w", m.cfg.File, err)
	}
	old, perm, err := readFile(m.cfg.File)
	if err != nil {
		return err
	}
	content, err := editMap(old, map[string]string{m.cfg.Key: now})
	if err != nil {
		return err
	}
	return writeFile(ctx, m.cfg.File, content, perm)
}

// set changes the key in one worker and reads it back. An old worker whose configuration had no such map is left as it is; so is one that had no such
// backend, but no client may be left that keeps a connection to it without a request.
func (m *MapSwitcher) set(ctx context.Context, w worker, backend string) error {
	now, err := m.value(ctx, w)
	if err == nil && now != backend && w.old {
		if _, err = m.stats(ctx, w, backend); refusedFor(err, ErrNoBackend) {
			return m.noneIdle(ctx, w) // a request that the key led there would find nothing
		}
	}
	if err == nil && now != backend {
		if err = m.rt.order(ctx, w.pid, fmt.Sprintf("set map %s %s %s", m.cfg.Map, m.cfg.Key, backend)); err == nil {
			now, err = m.value(ctx, w)
		}
	}
	switch {
	case w.old && (refusedFor(err, ErrNoMap) || refusedFor(err, ErrNoKey)):
		return nil
	case err == nil && now != backend:
		return fmt.Errorf("%w: key %q leads to %q, not %q", ErrNotApplied, m.cfg.Key, now, backend)
	}
	return err
}

// backends lists all backends that the switcher speaks of, sorted.
func (m *MapSwitcher) backends() []string {
	var all []string
	for _, b := range m.cfg.Backends {
		all = append(all, b)
	}
	if m.cfg.Closed != "" {
		all = append(all, m.cfg.Closed)
	}
	slices.Sort(all)
	return all
}
