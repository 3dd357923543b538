package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// Switcher moves new work between sets of members of one farm, by their runtime states. It holds nothing but a PowerShell: what is active is
// read from ARR at each call. The caller closes it.
type Switcher struct {
	cfg    Config
	slotOf map[string]string // by lower-case address
	calls  *calls
	shell  *shell // nil: Config.Caller
	client *appcmd.Client
	memory *memory
	marks  *marks
	turn   chan struct{} // holds one token: whoever has it may change states
}

var (
	_ abswap.WeightedSwitcher = (*Switcher)(nil)
	_ abswap.SealingSwitcher  = (*Switcher)(nil)
	_ abswap.TraitsSwitcher   = (*Switcher)(nil)
	_ abswap.ForcingDrainer   = (*Switcher)(nil)
	_ abswap.Checker          = (*Switcher)(nil)
)

// New returns the switcher that cfg describes. The error tells all mistakes in cfg. It makes no call and runs no command.
func New(cfg Config) (*Switcher, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("arr: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Switcher{cfg: cfg, slotOf: map[string]string{}, memory: &memory{path: cfg.Memory}, marks: &marks{empty: map[string]bool{}},
		turn: make(chan struct{}, 1), client: &appcmd.Client{Path: cfg.Appcmd, LockFile: cfg.LockFile, RetryFor: cfg.RetryFor}}
	if cfg.Runner != nil {
		s.client.Runner = cfg.Runner
	}
	if cfg.OnCommand != nil {
		s.client.OnRun = func(c appcmd.Command, call *appcmd.Call) { cfg.OnCommand(c.String(), call.Elapsed, call.Err) }
	}
	for name, all := range cfg.Slots {
		for _, address := range all {
			s.slotOf[strings.ToLower(address)] = name
		}
	}
	caller := cfg.Caller
	if caller == nil {
		s.shell = newShell(cfg.PowerShell, cfg.Timeout)
		caller = s.shell
	}
	s.calls = &calls{caller: caller, farm: cfg.Farm, pool: cfg.Pool, onCall: cfg.OnCall, last: make(chan int64, 1)}
	s.calls.last <- 0
	s.turn <- struct{}{}
	return s, nil
}

// Close ends the PowerShell, if one runs, and waits for it. Calls after it fail. It is idempotent.
func (s *Switcher) Close() error {
	if s.shell == nil {
		return nil
	}
	return s.shell.close()
}

// Traits tells that states go with ARR's worker process.
func (s *Switcher) Traits() abswap.Traits { return abswap.Traits{Forgets: true} }

func (s *Switcher) errorf(format string, args ...any) error {
	return fmt.Errorf("arr farm %q: "+format, append([]any{s.cfg.Farm}, args...)...)
}

// find returns the members of a slot.
func (s *Switcher) find(slot abswap.Slot) ([]string, error) {
	if slot == nil {
		return nil, fmt.Errorf("no slot is named: %w", abswap.ErrUnknownSlot)
	}
	all, ok := s.cfg.Slots[slot.Name()]
	if !ok {
		return nil, fmt.Errorf("slot %q: %w", slot.Name(), abswap.ErrUnknownSlot)
	}
	return all, nil
}

// Active returns the slot with the largest share, as ARR has it now: of a slot those members count that are enabled, healthy and available.
func (s *Switcher) Active(ctx context.Context) (string, error) {
	parts, err := s.Weights(ctx)
	if err != nil {
		return "", err
	}
	best := ""
	for _, name := range s.cfg.slotNames() {
		if parts[name] > parts[best] {
			best = name
		}
	}
	switch {
	case best == "":
		return "", s.errorf("%w", abswap.ErrNoActive)
	case len(parts) > 1:
		return best, s.errorf("%v: %w", parts, abswap.ErrMixed)
	}
	return best, nil
}

// Weights returns the slots' shares of new clients, from the weights and the states that their members have now. A change that this Switcher is
// just making is waited for, as Active does: in the middle of it both slots are open. When ARR has forgotten the states, because its pool was
// recycled, both wait for a Keeper, for Config.Grace at most, and then tell what is: so a swap outlives a recycle.
func (s *Switcher) Weights(ctx context.Context) (map[string]int, error) {
	for end, again := time.Now().Add(s.cfg.Grace), false; ; again = true {
		v, w, err := s.between(ctx)
		if err != nil {
			return nil, s.errorf("%w", err)
		}
		known := w == nil || v.known(w.PIDs) // a second look: a process may have taken over in the middle of the first
		if w.met(v) || known && again || time.Now().After(end) {
			return v.parts(s.cfg.slotNames()), nil
		}
		if !known {
			if err := retry.Sleep(ctx, s.cfg.Poll); err != nil {
				return nil, s.errorf("waiting for a Keeper, since ARR has forgotten states: %w", err)
			}
		}
	}
}

// between looks between two changes, and at what is wanted.
func (s *Switcher) between(ctx context.Context) (*view, *wanted, error) {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for a change: %w", context.Cause(ctx))
	}
	v, err := s.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.memory.load(s.cfg.Farm)
	if err != nil { // which keeps states from being changed or kept, and says so there: what is can be told all the same
		w = nil
	}
	return v, w, nil
}

// Activate makes the slot's members available, waits until ARR has them available and healthy, and only then takes all other slots' members
// out by runtime state: GracefulStop, or Drain with Config.KeepSessions. What they have in work goes on. It changes no configuration. At
// return the states are read back, and with Config.Ask the front door is answered by the slot.
//
// A slot with a member that is not healthy is refused with abswap.ErrNotReady after Config.Patience, and nothing has changed. If ctx ends when
// states have begun to change, the change is finished, or taken back, all the same.
func (s *Switcher) Activate(ctx context.Context, slot abswap.Slot) error {
	if _, err := s.find(slot); err != nil {
		return s.errorf("activate %w", err)
	}
	return s.change(ctx, "activate slot "+slot.Name(), func(*view) (goal, error) {
		return s.goalOf(map[string]int{slot.Name(): 100}), nil
	})
}

// Seal takes the slot's members out by GracefulStop: neither new clients nor those with an affinity cookie come to them any more.
func (s *Switcher) Seal(ctx context.Context, slot abswap.Slot) error {
	members, err := s.find(slot)
	if err != nil {
		return s.errorf("seal %w", err)
	}
	return s.change(ctx, "seal slot "+slot.Name(), func(*view) (goal, error) {
		g := goal{states: map[string]state{}}
		for _, address := range members {
			g.states[strings.ToLower(address)] = stateClosed
		}
		return g, nil
	})
}

// SetWeights shares new clients out between slots. The members of a slot share its part. A slot with part 0 is taken out by state, as by
// Activate, since a weight of 0 is not valid. Weights are configuration: if one has to change, that is one commit, which may restart the members'
// applications (see Facts), and Config.Settle is waited for ARR to follow. Slots that open are opened after that.
//
// With the algorithm RequestHash, which knows no weights, more than one part above 0 is refused with errors.ErrUnsupported. All other algorithms
// weigh. The parts are those of new clients: clients with an affinity cookie stay where they are. They are met within 2 points.
func (s *Switcher) SetWeights(ctx context.Context, weights ...abswap.Weight) error {
	errs := []error{abswap.CheckWeights(weights)}
	parts := map[string]int{}
	for _, w := range weights {
		if w.Slot == nil {
			continue
		}
		if _, err := s.find(w.Slot); err != nil {
			errs = append(errs, err)
		}
		if w.Part > 0 {
			parts[w.Slot.Name()] = w.Part
		}
	}
	if err := multi.Join(errs...); err != nil {
		return s.errorf("set weights: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("set weights %v", parts), func(v *view) (goal, error) {
		g := s.goalOf(parts)
		if len(parts) > 1 {
			if byHash(v.Algorithm) {
				return g, fmt.Errorf("the algorithm %s knows no weights: %w", v.Algorithm, errors.ErrUnsupported)
			}
			g.weights = s.memberWeights(parts)
		}
		return g, nil
	})
}

func byHash(algorithm string) bool { return strings.EqualFold(algorithm, "RequestHash") }

// enter waits for the right to change states, which one has at a time: of this Switcher, and with Config.Memory of all that use that file.
func (s *Switcher) enter(ctx context.Context) (done func(), err error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another change: %w", context.Cause(ctx))
	}
	if s.cfg.Memory == "" {
		return func() { s.turn <- struct{}{} }, nil
	}
	lock, err := filelock.Wait(ctx, s.cfg.Memory+".lock", 0o666)
	if err != nil {
		s.turn <- struct{}{}
		return nil, fmt.Errorf("waiting for another change: %w", err)
	}
	return func() {
		_ = lock.Close() // it ends with the process at the latest
		s.turn <- struct{}{}
	}, nil
}

// goal is what shall be.
type goal struct {
	states  map[string]state // by lower-case address; stateDraining is also met by stateClosed
	weights map[string]int64 // by lower-case address; nil: as they are
}

// goalOf opens the members of slots that have a part, and takes out all others.
func (s *Switcher) goalOf(parts map[string]int) goal {
	out := stateClosed
	if s.cfg.KeepSessions {
		out = stateDraining
	}
	g := goal{states: map[string]state{}}
	for address, name := range s.slotOf {
		g.states[address] = out
		if parts[name] > 0 {
			g.states[address] = stateOpen
		}
	}
	return g
}

// memberWeights splits parts between members, without fractions.
func (s *Switcher) memberWeights(parts map[string]int) map[string]int64 {
	multiple := int64(1)
	for name := range parts {
		multiple = lcm(multiple, int64(len(s.cfg.Slots[name])))
	}
	all := map[string]int64{}
	for name, part := range parts {
		for _, address := range s.cfg.Slots[name] {
			all[strings.ToLower(address)] = int64(part) * multiple / int64(len(s.cfg.Slots[name]))
		}
	}
	return all
}

func lcm(a, b int64) int64 {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// met reports whether a member is as g wants it.
func (g goal) met(x *server) bool {
	want, ok := g.states[strings.ToLower(x.Address)]
	if !ok {
		return true
	}
	is := x.is()
	return is == want || want == stateDraining && is == stateClosed
}

// opens lists the members that shall be open, in the farm's order.
func (g goal) opens(v *view) []*server {
	return g.pick(v, func(st state) bool { return st == stateOpen })
}

// outs lists the members that shall be out.
func (g goal) outs(v *view) []*server {
	return g.pick(v, func(st state) bool { return st != stateOpen })
}

func (g goal) pick(v *view, f func(state) bool) []*server {
	var all []*server
	for i := range v.Servers {
		if st, ok := g.states[strings.ToLower(v.Servers[i].Address)]; ok && f(st) {
			all = append(all, &v.Servers[i])
		}
	}
	return all
}

// change brings about what build wants, as a whole or not at all.
func (s *Switcher) change(ctx context.Context, what string, build func(*view) (goal, error)) error {
	if ctx.Err() != nil {
		return s.errorf("%s: %w", what, context.Cause(ctx))
	}
	done, err := s.enter(ctx)
	if err != nil {
		return s.errorf("%s: %w", what, err)
	}
	defer done()
	w, err := s.memory.load(s.cfg.Farm)
	if err != nil { // before anything is waited for
		return s.errorf("%s: %w", what, err)
	}
	v, err := s.look(ctx)
	if err != nil {
		return s.errorf("%s: %w", what, err)
	}
	g, err := build(v)
	if err == nil {
		err = s.allowed(v, g)
	}
	if err == nil {
		v, err = s.healthy(ctx, g, w)
	}
	if err != nil {
		return s.errorf("%s: %w", what, err)
	}
	m := &move{Switcher: s, goal: g, before: v}
	if err := m.run(ctx); err != nil {
		return s.errorf("%s: %w", what, err)
	}
	if err := s.proof(ctx, v, g); err != nil {
		return s.errorf("%s: %w: %w", what, abswap.ErrUnknownOutcome, err)
	}
	return nil
}

// allowed refuses a change that cannot come about.
func (s *Switcher) allowed(v *view, g goal) error {
	var errs []error
	if len(g.opens(v)) > 0 {
		if all := v.strangers(); len(all) > 0 {
			errs = append(errs, fmt.Errorf("members %q of no slot take requests: %w", all, abswap.ErrPermanent))
		}
	}
	for _, x := range g.opens(v) {
		if !x.Enabled {
			errs = append(errs, fmt.Errorf("member %q is offline (enabled=false in the configuration): %w", x.Address, abswap.ErrPermanent))
		}
	}
	due := slices.ContainsFunc(v.Servers, func(x server) bool { return !g.met(&x) })
	if due && len(v.Workers) == 0 {
		errs = append(errs, errNoWorker)
	}
	return multi.Join(errs...)
}

// healthy waits until ARR has all members healthy that shall be open, and returns what it saw then. If ARR is recycled meanwhile it keeps the
// states that were, since this can last long, and no Keeper can work; and what a new process says counts after Config.Settle: before its first
// test it takes every member for healthy.
func (s *Switcher) healthy(ctx context.Context, g goal, w *wanted) (*view, error) {
	var last *view
	var fresh time.Time // when the process was first seen, if it is a new one
	var pids []int
	if w != nil {
		pids = w.PIDs
	}
	err := s.await(ctx, s.cfg.Patience, s.keeps(ctx, func(v *view) error {
		switch {
		case w == nil && last == nil:
			pids = v.pids()
		case !v.known(pids):
			pids, fresh = v.pids(), time.Now()
		}
		last = v
		var sick []string
		for _, x := range g.opens(v) {
			if !x.Healthy {
				sick = append(sick, x.Address)
			}
		}
		switch {
		case len(sick) > 0:
			return fmt.Errorf("members %q: ARR has them unhealthy: %w", sick, abswap.ErrNotReady)
		case len(g.opens(v)) > 0 && time.Since(fresh) < s.cfg.Settle:
			return fmt.Errorf("ARR has a new worker process, which may not have tested its members yet: %w", abswap.ErrNotReady)
		}
		return nil
	}))
	return last, err
}

// await reads the farm until f returns nil, for at most limit. The error is f's last too, where it is the reading that the limit ends.
func (s *Switcher) await(ctx context.Context, limit time.Duration, f func(*view) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not so after %s", limit))
	defer cancel()
	var last error
	err := retry.Do(ctx, retry.Policy{First: min(s.cfg.Poll, 50*time.Millisecond), Max: s.cfg.Poll}, func(ctx context.Context) error {
		v, err := s.look(ctx)
		if err != nil {
			return err
		}
		last = f(v)
		return last
	})
	if err != nil && last != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w: %w", last, err)
	}
	return err
}

// proof asks the front door until it is answered as g wants it. If ARR is recycled meanwhile it keeps the states.
func (s *Switcher) proof(ctx context.Context, v *view, g goal) error {
	open := map[string]bool{}
	for _, x := range g.opens(v) {
		open[v.slotOf[strings.ToLower(x.Address)]] = true
	}
	if s.cfg.Ask == nil || len(open) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Patience, fmt.Errorf("not in force after %s", s.cfg.Patience))
	defer cancel()
	return retry.Do(ctx, retry.Policy{First: 20 * time.Millisecond, Max: s.cfg.Poll}, func(ctx context.Context) error {
		err := s.answeredBy(ctx, open)
		if err == nil {
			return nil
		}
		v, lerr := s.look(ctx)
		if lerr != nil {
			return multi.Join(err, lerr)
		}
		return s.keeps(ctx, func(*view) error { return err })(v)
	})
}

// answeredBy wants Config.Asks answers of open slots running.
func (s *Switcher) answeredBy(ctx context.Context, open map[string]bool) error {
	for range s.cfg.Asks {
		slot, err := s.cfg.Ask(ctx)
		if err != nil {
			return fmt.Errorf("front door: %w", err)
		}
		if !open[slot] {
			return fmt.Errorf("the front door is answered by slot %q", slot)
		}
	}
	return nil
}
