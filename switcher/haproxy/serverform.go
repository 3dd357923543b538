package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// ServersConfig says which servers of one backend are which slot's:
//
//	backend be_mysite
//	    load-server-state-from-file local
//	    server-state-file-name /var/lib/haproxy/be_mysite.state
//	    server blue  127.0.0.1:5001 check
//	    server green 127.0.0.1:5002 check
//
// Each server of the backend belongs to one slot, but those marked backup.
type ServersConfig struct {
	Runtime Runtime

	Backend string              // required
	Slots   map[string][]string // name of a slot -> names of its servers; at least two slots; required

	// StateFile is the file from which the backend loads the states of its servers at a reload: its server-state-file-name, with
	// load-server-state-from-file local. It is written before each change, and its folder must be writable. "": a reload brings the
	// states of the configuration back, and with them both slots. Leave it empty only where whoever reloads HAProxy saves the states
	// himself.
	StateFile string

	// KeepSessions lets clients whose cookie, or entry in a stick table, names a server of an old slot go on there: that slot is drained.
	// Without it, a backend that has cookies or a stick table has its old slot put into maintenance, since a drained server still
	// gets what is bound to it. In both cases what has begun is finished. Sessions that are kept are not counted.
	KeepSessions bool

	TCP    bool // the backend is in mode tcp: HAProxy decides once per connection
	Listed int  // up to how many open connections of a worker websockets are told from requests; 0: 1000, negative: never
}

// ServerSwitcher switches by the states and the weights of servers. See ServersConfig.
type ServerSwitcher struct {
	*engine
	cfg ServersConfig
}

var (
	_ abswap.WeightedSwitcher = (*ServerSwitcher)(nil)
	_ abswap.SealingSwitcher  = (*ServerSwitcher)(nil)
	_ abswap.TraitsSwitcher   = (*ServerSwitcher)(nil)
	_ abswap.WaitingDrainer   = (*ServerSwitcher)(nil)
	_ abswap.ListingDrainer   = (*ServerSwitcher)(nil)
	_ abswap.ForcingDrainer   = (*ServerSwitcher)(nil)
	_ abswap.Checker          = (*ServerSwitcher)(nil)
)

// NewServers checks cfg and returns a switcher; it asks nobody. The error lists all mistakes.
func NewServers(cfg ServersConfig) (*ServerSwitcher, error) {
	errs := []error{cfg.Runtime.mistakes(), safeName("ServersConfig.Backend", cfg.Backend)}
	if len(cfg.Slots) < 2 {
		errs = append(errs, fmt.Errorf("ServersConfig.Slots has %d slots, at least two are needed", len(cfg.Slots)))
	}
	places, slots := map[string]place{}, map[string]string{}
	for slot, servers := range cfg.Slots {
		if slot == "" {
			errs = append(errs, fmt.Errorf("ServersConfig.Slots has a slot without name, for servers %q", servers))
		}
		if len(servers) == 0 {
			errs = append(errs, fmt.Errorf("slot %q has no server", slot))
		}
		for _, server := range servers {
			errs = append(errs, safeName(fmt.Sprintf("server of slot %q", slot), server))
			if other, ok := slots[server]; ok {
				errs = append(errs, fmt.Errorf("server %q is named twice: in slots %q and %q", server, min(slot, other), max(slot, other)))
			}
			slots[server] = slot
		}
		places[slot] = place{backend: cfg.Backend, servers: slices.Clone(servers)}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("haproxy servers: %w", err)
	}
	return &ServerSwitcher{engine: newEngine(cfg.Runtime, places, cfg.Listed), cfg: cfg}, nil
}

// Traits tell whether a reload of HAProxy forgets the states.
func (x *ServerSwitcher) Traits() abswap.Traits {
	return abswap.Traits{PerConnection: x.cfg.TCP, Forgets: x.cfg.StateFile == ""}
}

// state is what a server is set to.
type state string

const (
	stateReady state = "ready"
	stateDrain state = "drain"
	stateMaint state = "maint"
)

// target is what a server shall be.
type target struct {
	server string
	state  state
	weight int // 0: as it is
}

// met tells whether a server is as it shall be.
func (t target) met(s serverState) bool {
	switch t.state {
	case stateReady:
		return s.on() && (t.weight == 0 || s.weight == t.weight)
	case stateDrain:
		return s.admin&adminDrain != 0 && !s.maint()
	default:
		return s.maint()
	}
}

// look reads the states of the backend's servers in one worker. Servers of ours that are missing are an error.
func (x *ServerSwitcher) look(ctx context.Context, w worker) (*stateTable, map[string]serverState, error) {
	t, err := x.states(ctx, w, x.cfg.Backend)
	if err != nil {
		return nil, nil, err
	}
	all := t.servers(x.cfg.Backend)
	var errs []error
	for _, slot := range x.names() {
		for _, server := range x.cfg.Slots[slot] {
			if _, ok := all[server]; !ok {
				errs = append(errs, &RefusalError{Worker: w.pid, Command: "show servers state " + x.cfg.Backend, Reason: ErrNoServer,
					Text: fmt.Sprintf("slot %q: backend %q has no server %q, only %q", slot, x.cfg.Backend, server, names(all))})
			}
		}
	}
	return t, all, multi.Join(errs...)
}

// still is now, at a time at which no change of this switcher is half made.
func (x *ServerSwitcher) still(ctx context.Context) (map[string]serverState, error) {
	if err := x.lock(ctx); err != nil {
		return nil, err
	}
	defer x.unlock()
	_, all, err := x.now(ctx)
	return all, err
}

// now reads the states in the worker that takes new connections.
func (x *ServerSwitcher) now(ctx context.Context) (t *stateTable, all map[string]serverState, err error) {
	err = x.current(ctx, func(ctx context.Context, w worker) (err error) {
		t, all, err = x.look(ctx, w)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("haproxy backend %s: %w", x.cfg.Backend, err)
	}
	return t, all, nil
}

// Active returns the slot with the largest part, ErrMixed with it if others have one too, ErrNoActive if none has.
func (x *ServerSwitcher) Active(ctx context.Context) (string, error) {
	all, err := x.still(ctx)
	if err != nil {
		return "", err
	}
	parts := shares(all, x.cfg.Slots)
	best := ""
	for _, slot := range x.names() {
		if parts[slot] > 0 && (best == "" || parts[slot] > parts[best]) {
			best = slot
		}
	}
	switch {
	case best == "":
		return "", fmt.Errorf("haproxy backend %s: %w", x.cfg.Backend, abswap.ErrNoActive)
	case len(parts) > 1:
		return best, fmt.Errorf("haproxy backend %s: %v: %w", x.cfg.Backend, parts, abswap.ErrMixed)
	}
	return best, nil
}

// Weights returns the parts by the weights of the servers that take new requests, rounded to per cents.
func (x *ServerSwitcher) Weights(ctx context.Context) (map[string]int, error) {
	all, err := x.still(ctx)
	if err != nil {
		return nil, err
	}
	return shares(all, x.cfg.Slots), nil
}

// Activate turns the servers of s on, with the weights of the configuration, and then those of the other slots off, in every worker, old
// ones included; then it reads back. Before it changes anything it waits, at most Runtime.Patience, until one of the servers is up, and
// refuses a slot none of whose servers is (abswap.ErrNotReady) or whose servers HAProxy does not have (ErrNoServer, ErrNoBackend).
func (x *ServerSwitcher) Activate(ctx context.Context, s abswap.Slot) error {
	if _, err := x.slot(s); err != nil {
		return err
	}
	if err := x.shift(ctx, map[string]int{s.Name(): 100}, ""); err != nil {
		return fmt.Errorf("activate %q: %w", s.Name(), err)
	}
	return nil
}

// SetWeights gives the slots parts of the new requests, as Activate does. A part is met as well as whole weights up to 256 can say it.
func (x *ServerSwitcher) SetWeights(ctx context.Context, w ...abswap.Weight) error {
	if err := abswap.CheckWeights(w); err != nil {
		return err
	}
	parts := map[string]int{}
	for _, one := range w {
		if _, err := x.slot(one.Slot); err != nil {
			return err
		}
		if one.Part > 0 {
			parts[one.Slot.Name()] = one.Part
		}
	}
	if err := x.shift(ctx, parts, ""); err != nil {
		return fmt.Errorf("set weights %v: %w", parts, err)
	}
	return nil
}

// Seal puts the servers of s into maintenance: then nothing new gets there, not even what a cookie or a stick table binds to it. What it has
// begun it finishes, unless the configuration says on-marked-down shutdown-sessions. Health checks of a server in maintenance rest.
func (x *ServerSwitcher) Seal(ctx context.Context, s abswap.Slot) error {
	if _, err := x.slot(s); err != nil {
		return err
	}
	if err := x.shift(ctx, nil, s.Name()); err != nil {
		return fmt.Errorf("seal %q: %w", s.Name(), err)
	}
	return nil
}

// shift gives the slots these parts; or seals one and leaves the others as they are.
func (x *ServerSwitcher) shift(ctx context.Context, parts map[string]int, seal string) error {
	if err := x.lock(ctx); err != nil {
		return err
	}
	defer x.unlock()
	if err := x.ready(ctx, parts); err != nil {
		return err
	}
	t, all, err := x.now(ctx)
	if err != nil {
		return err
	}
	var targets []target
	if seal != "" {
		for _, server := range x.cfg.Slots[seal] {
			targets = append(targets, target{server: server, state: stateMaint})
		}
	} else {
		off, err := x.off(ctx)
		if err != nil {
			return err
		}
		targets = plan(all, x.cfg.Slots, parts, off)
	}
	return x.put(ctx, t, targets, x.applyOld)
}

// put makes the servers of targets what they shall be, and leaves the others as they are: in the state file, in every worker, old ones by applyOld,
// and read back. t is what now read; the lock is held.
func (x *ServerSwitcher) put(ctx context.Context, t *stateTable, targets []target, applyOld func(context.Context, worker, []target) error) error {
	if x.cfg.StateFile != "" {
		for _, one := range targets {
			t.set(x.cfg.Backend, one)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("state file: %w", context.Cause(ctx))
		}
		if err := writeFile(ctx, x.cfg.StateFile, t.text(), 0o644); err != nil { // it may be replaced all the same, and not flushed
			return multi.Join(fmt.Errorf("state file: %w", err), x.remember(ctx))
		}
	}
	if err := ctx.Err(); err != nil && x.cfg.StateFile == "" {
		return context.Cause(ctx)
	}
	effect, cancel := x.detached(ctx)
	defer cancel()
	err := x.everywhere(effect, func(ctx context.Context, w worker) error {
		if w.old {
			return applyOld(ctx, w, targets)
		}
		return x.apply(ctx, w, targets)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = multi.Join(context.Cause(ctx), err)
	}
	return multi.Join(fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err), x.remember(ctx))
}

// remember writes the states as they are, so that a reload does not bring others.
func (x *ServerSwitcher) remember(ctx context.Context) error {
	if x.cfg.StateFile == "" {
		return nil
	}
	ctx, cancel := x.detached(ctx)
	defer cancel()
	t, _, err := x.now(ctx)
	if err == nil {
		err = writeFile(ctx, x.cfg.StateFile, t.text(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("state file %s may say other states than HAProxy's: %w", x.cfg.StateFile, err)
	}
	return nil
}

// off is the state of slots that are to get nothing: drained, or in maintenance where clients are bound to servers and shall not stay.
func (x *ServerSwitcher) off(ctx context.Context) (state, error) {
	if x.cfg.KeepSessions {
		return stateDrain, nil
	}
	bound := ""
	err := x.current(ctx, func(ctx context.Context, w worker) (err error) {
		bound, err = x.bound(ctx, w)
		return err
	})
	if err != nil || bound == "" {
		return stateDrain, err
	}
	return stateMaint, nil
}

// bound tells by what clients are bound to servers of the backend: "cookie", "stick table"; "" for nothing.
func (x *ServerSwitcher) bound(ctx context.Context, w worker) (string, error) {
	rows, err := x.stats(ctx, w, x.cfg.Backend)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(rows, func(r stat) bool { return r.cookie != "" }) {
		return "cookie", nil
	}
	tables, err := x.rt.read(ctx, w.pid, "show table")
	if err != nil {
		return "", err
	}
	if hasTable(tables, x.cfg.Backend) {
		return "stick table", nil
	}
	return "", nil
}

// ready waits until each slot that is to get a part has a server that is up. One in maintenance, whose health check rests, is up as soon as it
// leaves that: its check begins with this assumption.
func (x *ServerSwitcher) ready(ctx context.Context, parts map[string]int) error {
	return x.current(ctx, func(ctx context.Context, w worker) error {
		_, all, err := x.look(ctx, w)
		if err != nil {
			return err
		}
		for _, slot := range x.names() {
			servers := x.cfg.Slots[slot]
			if parts[slot] > 0 && !slices.ContainsFunc(servers, func(name string) bool { return all[name].up || all[name].maint() }) {
				return fmt.Errorf("slot %q: none of the servers %q is up: %w", slot, servers, abswap.ErrNotReady)
			}
		}
		return nil
	})
}

// applyOld is apply in a worker that a reload has made old. Such a one refuses to change states (ErrDisabled): what it was doing it finishes, and
// it tells each client to make a new connection, which ends at the new worker. So there is nothing to change, but to wait until no client is
// left that keeps a connection to it without a request: that one could begin a request there.
func (x *ServerSwitcher) applyOld(ctx context.Context, w worker, targets []target) error {
	err := x.apply(ctx, w, targets)
	if !refusedFor(err, ErrDisabled) {
		return err
	}
	return x.noneIdle(ctx, w)
}

// noneIdle is an error as long as a client keeps a connection to an old worker without a request: that one could begin a request there.
func (e *engine) noneIdle(ctx context.Context, w worker) error {
	idle, err := e.idleClients(ctx, w)
	if err != nil {
		return err
	}
	if idle > 0 {
		return fmt.Errorf("old worker %d: %d idle client connection(s) could still bring requests to the old slot", w.pid, idle)
	}
	return nil
}

// idleClients counts the clients' connections of a worker on which no request is under way.
func (e *engine) idleClients(ctx context.Context, w worker) (int, error) {
	info, err := e.rt.read(ctx, w.pid, "show info")
	if err != nil {
		return 0, err
	}
	clients, err := parseInfo(info, "CurrConns")
	if err != nil {
		return 0, err
	}
	text, err := e.rt.read(ctx, w.pid, "show sess all")
	if err != nil {
		return 0, err
	}
	all, err := parseSessions(text)
	return clients - connections(all), err
}

// connections counts the clients' connections of sessions: several requests may share one. Those of the runtime API and of peers are not among the
// CurrConns of "show info", nor is what HAProxy began itself, which has no source: the sockets and requests of Lua, sessions to peers, logs.
func connections(all []session) int {
	n, seen := 0, map[string]bool{}
	for _, s := range all {
		if s.aside || s.source == "" {
			continue
		}
		if strings.HasPrefix(s.source, "unix:") || !seen[s.source] { // Unix sockets have one name for all
			n++
		}
		seen[s.source] = true
	}
	return n
}

// apply makes the servers of one worker what they shall be: first those that get something, then those that do not, so that there is no moment
// without a server; then it reads back. An old worker whose configuration had other servers is left as it is.
func (x *ServerSwitcher) apply(ctx context.Context, w worker, targets []target) error {
	t, err := x.states(ctx, w, x.cfg.Backend)
	if w.old && refusedFor(err, ErrNoBackend) {
		return nil
	}
	if err != nil {
		return err
	}
	all := t.servers(x.cfg.Backend)
	known := slices.DeleteFunc(slices.Clone(targets), func(t target) bool { _, ok := all[t.server]; return w.old && !ok })
	order := func(server, what string) error {
		return x.rt.order(ctx, w.pid, "set server "+x.cfg.Backend+"/"+server+" "+what)
	}
	weigh := func(one target) error {
		if one.weight == 0 || all[one.server].weight == one.weight {
			return nil
		}
		return order(one.server, fmt.Sprintf("weight %d", one.weight))
	}
	turn := func(one target) error {
		if s := all[one.server]; one.state == stateReady && s.on() || one.state != stateReady && one.met(s) {
			return nil
		}
		return order(one.server, "state "+string(one.state))
	}
	gets := func(yes bool) []target {
		return slices.DeleteFunc(slices.Clone(known), func(t target) bool { return (t.state == stateReady) != yes })
	}
	for _, step := range []struct {
		targets []target
		do      func(target) error
	}{{gets(true), weigh}, {gets(true), turn}, {gets(false), turn}, {gets(false), weigh}} {
		for _, one := range step.targets {
			if err := step.do(one); err != nil {
				return err
			}
		}
	}
	if t, err = x.states(ctx, w, x.cfg.Backend); err != nil {
		return err
	}
	all = t.servers(x.cfg.Backend)
	var errs []error
	for _, one := range known {
		if s := all[one.server]; !one.met(s) {
			errs = append(errs, fmt.Errorf("%w: server %s/%s shall be %s (weight %d) and is in state %#x with weight %d", ErrNotApplied,
				x.cfg.Backend, one.server, one.state, one.weight, s.admin, s.weight))
		}
	}
	return multi.Join(errs...)
}
