package haproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// FleetConfig says which servers are which member's, behind one HAProxy or several that each know all members:
//
//	backend be_shop
//	    load-server-state-from-file local
//	    server-state-file-name /var/lib/haproxy/be_shop.state
//	    server n1 10.0.0.11:80 check
//	    server n2 10.0.0.12:80 check
//	    server n3 10.0.0.13:80 check
type FleetConfig struct {
	Doors   []Door              // one for each HAProxy; at least one; required
	Backend string              // the backend with the members, where a Door names no other; required
	Members map[string][]string // name of a member -> names of its servers, the same at every door; at least two members; required

	TCP    bool // the backend is in mode tcp: HAProxy decides once per connection
	Listed int  // as ServersConfig.Listed
}

// Door is one HAProxy of a fleet.
type Door struct {
	Name    string // in texts: "lb1"; "": the address of its socket
	Runtime Runtime
	Backend string // "": FleetConfig.Backend

	// StateFile is as ServersConfig.StateFile: the file from which the backend loads the states of its servers at a reload, as this process
	// reaches it. "": a reload brings members that are out into service again.
	StateFile string
}

// Fleet decides which members are in service, for abswap.Rolling, and counts what they carry. A member is in service when all its servers are on
// at every door, and out when all of them are in maintenance at every door; so not even a cookie or a stick table leads anything there, and
// health checks rest. What it has begun it finishes, unless the configuration says on-marked-down shutdown-sessions. A server that another hand has
// drained is neither: clients that are bound to it may still come.
//
// Counts are the sums over all doors and all their workers. All else is as with ServerSwitcher.
type Fleet struct {
	cfg   FleetConfig
	doors []*fleetDoor
	turn  chan struct{} // holds one token: who has it takes a member out
}

// fleetDoor is one HAProxy with its name.
type fleetDoor struct {
	*ServerSwitcher
	name string
}

var (
	_ abswap.MemberSwitcher = (*Fleet)(nil)
	_ abswap.WaitingDrainer = (*Fleet)(nil)
	_ abswap.ListingDrainer = (*Fleet)(nil)
	_ abswap.ForcingDrainer = (*Fleet)(nil)
	_ abswap.Checker        = (*Fleet)(nil)
)

// NewFleet checks cfg and returns a switcher; it asks nobody. The error lists all mistakes.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	f := &Fleet{cfg: cfg, turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	var errs []error
	if len(cfg.Doors) == 0 {
		errs = append(errs, errors.New("FleetConfig.Doors is empty: name at least one HAProxy"))
	}
	seen, sockets := map[string]bool{}, map[string]bool{}
	for i, d := range cfg.Doors {
		name := cmp.Or(d.Name, d.Runtime.address(), fmt.Sprintf("number %d", i+1))
		if seen[name] {
			errs = append(errs, fmt.Errorf("door %q is named twice", name))
		} else if s := d.Runtime.address(); s != "" && sockets[s] && d.Runtime.Dial == nil {
			errs = append(errs, fmt.Errorf("door %q has the socket %s, which another door has too", name, s))
		}
		seen[name], sockets[d.Runtime.address()] = true, true
		sw, err := NewServers(ServersConfig{Runtime: d.Runtime, Backend: cmp.Or(d.Backend, cfg.Backend), Slots: cfg.Members, StateFile: d.StateFile,
			TCP: cfg.TCP, Listed: cfg.Listed})
		if err != nil {
			errs = append(errs, fmt.Errorf("door %q: %w", name, err))
			continue
		}
		f.doors = append(f.doors, &fleetDoor{ServerSwitcher: sw, name: name})
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("haproxy fleet: %w", err)
	}
	return f, nil
}

// each runs do at every door, at the same time, and returns the errors with the doors' names.
func (f *Fleet) each(do func(i int, d *fleetDoor) error) error {
	errs := make([]error, len(f.doors))
	var wg sync.WaitGroup
	for i, d := range f.doors {
		wg.Go(func() {
			if err := do(i, d); err != nil {
				errs[i] = fmt.Errorf("door %q: %w", d.name, err)
			}
		})
	}
	wg.Wait()
	return multi.Join(errs...)
}

// known refuses members that the fleet has not.
func (f *Fleet) known(ctx context.Context, s abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	_, err := f.doors[0].slot(s)
	return err
}

// Members asks all doors. One that cannot be asked is an error, after Runtime.Patience.
func (f *Fleet) Members(ctx context.Context) (map[string]abswap.Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	seen := make([]map[string]abswap.Member, len(f.doors))
	err := f.each(func(i int, d *fleetDoor) (err error) {
		seen[i], err = d.members(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	all := map[string]abswap.Member{}
	for name := range f.cfg.Members {
		sum := abswap.Member{In: true, Out: true, Up: true}
		var notes []string
		for i, d := range f.doors {
			one := seen[i][name]
			sum.In, sum.Out, sum.Up = sum.In && one.In, sum.Out && one.Out, sum.Up && one.Up
			if one.Note != "" {
				notes = append(notes, d.name+": "+one.Note)
			}
		}
		sum.Note = strings.Join(notes, "; ")
		all[name] = sum
	}
	return all, nil
}

// TakeOut puts the servers of s into maintenance, at every door and in every worker, writes that to the state files first, and reads it back. After
// a reload of a door it waits, at most Runtime.Patience, until no client keeps an idle connection to an old worker, by which one more request could
// reach the member. The last member that a door has in service is refused with abswap.ErrPermanent, before anything is changed anywhere.
func (f *Fleet) TakeOut(ctx context.Context, s abswap.Slot) error {
	if err := f.known(ctx, s); err != nil {
		return fmt.Errorf("take %q out: %w", nameOf(s), err)
	}
	select { // two that each spare the other would take both out
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("take %q out: %w", s.Name(), context.Cause(ctx))
	}
	if err := f.each(func(_ int, d *fleetDoor) error { return d.spare(ctx, s.Name()) }); err != nil {
		return fmt.Errorf("take %q out: %w", s.Name(), err)
	}
	if err := f.each(func(_ int, d *fleetDoor) error { return d.takeOut(ctx, s.Name()) }); err != nil {
		return fmt.Errorf("take %q out: %w", s.Name(), err)
	}
	return nil
}

// PutIn turns the servers of s on, at every door, with the weights that they had; one that has weight 0 gets that of the configuration.
func (f *Fleet) PutIn(ctx context.Context, s abswap.Slot) error {
	if err := f.known(ctx, s); err != nil {
		return fmt.Errorf("put %q in: %w", nameOf(s), err)
	}
	if err := f.each(func(_ int, d *fleetDoor) error { return d.putIn(ctx, s.Name()) }); err != nil {
		return fmt.Errorf("put %q in: %w", s.Name(), err)
	}
	return nil
}

func nameOf(s abswap.Slot) string {
	if s == nil {
		return ""
	}
	return s.Name()
}

// InFlight counts the work in s over all doors and all their workers. The evidence is the weakest of the doors'. A door that cannot be asked is an
// error.
func (f *Fleet) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	if err := f.known(ctx, s); err != nil {
		return abswap.Load{}, err
	}
	loads := make([]abswap.Load, len(f.doors))
	err := f.each(func(i int, d *fleetDoor) (err error) {
		loads[i], err = d.InFlight(ctx, s)
		return err
	})
	sum := abswap.Load{Evidence: abswap.EvidenceExact}
	var sources []string
	for i, l := range loads {
		sum.Requests, sum.Upgraded, sum.Evidence = sum.Requests+l.Requests, sum.Upgraded+l.Upgraded, min(sum.Evidence, l.Evidence)
		sources = append(sources, f.doors[i].name+": "+l.Source)
	}
	sum.Source = strings.Join(sources, ", ")
	return sum, err
}

// WaitIdle returns as soon as InFlight of s is zero. It asks the doors, up to twenty times a second.
func (f *Fleet) WaitIdle(ctx context.Context, s abswap.Slot) error {
	pauses := retry.Policy{First: 10 * time.Millisecond, Max: 50 * time.Millisecond}.Pauses()
	for {
		l, err := f.InFlight(ctx, s)
		if err == nil && l.Total() == 0 {
			return nil
		}
		if errors.Is(err, abswap.ErrUnknownSlot) || errors.Is(err, abswap.ErrPermanent) {
			return err
		}
		if serr := retry.Sleep(ctx, pauses()); serr != nil {
			return serr
		}
	}
}

// List returns at most limit of the pieces of work in s, over all doors, oldest first. HAProxy does not tell their paths.
func (f *Fleet) List(ctx context.Context, s abswap.Slot, limit int) ([]abswap.Work, error) {
	if err := f.known(ctx, s); err != nil {
		return nil, err
	}
	lists := make([][]abswap.Work, len(f.doors))
	err := f.each(func(i int, d *fleetDoor) (err error) {
		lists[i], err = d.List(ctx, s, limit)
		return err
	})
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b abswap.Work) int { return cmp.Compare(b.Age, a.Age) })
	return all[:min(len(all), max(limit, 0))], err
}

// Force ends the work in s at every door, as ServerSwitcher's does.
func (f *Fleet) Force(ctx context.Context, s abswap.Slot, how abswap.Force) error {
	if err := f.known(ctx, s); err != nil {
		return err
	}
	return f.each(func(_ int, d *fleetDoor) error { return d.Force(ctx, s, how) })
}

// Check is ServerSwitcher's at every door. It also warns of doors without a state file.
func (f *Fleet) Check(ctx context.Context, r abswap.CheckRequest) error {
	found := make([]error, len(f.doors))
	var wg sync.WaitGroup
	for i, d := range f.doors {
		wg.Go(func() {
			var errs []error
			for _, err := range multi.All(d.ServerSwitcher.Check(ctx, r)) {
				if w, ok := errors.AsType[*abswap.Warning](err); ok {
					errs = append(errs, abswap.Warnf("door %q: %w", d.name, w.Err))
				} else {
					errs = append(errs, fmt.Errorf("door %q: %w", d.name, err))
				}
			}
			if d.cfg.StateFile == "" {
				errs = append(errs, abswap.Warnf("door %q has no state file: a reload of it brings members that are out into service again", d.name))
			}
			found[i] = multi.Join(errs...)
		})
	}
	wg.Wait()
	var all []error
	for _, err := range found {
		all = append(all, multi.All(err)...)
	}
	return multi.Join(all...)
}
