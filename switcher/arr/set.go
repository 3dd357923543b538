package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Set is a slot of several members, each a slot of its own: on this machine or, with slots that reach there, on others. What is asked of
// the Set is asked of all its members at one time; a member that is no StartingSlot or WarmingSlot need not be started or warmed. The errors of all
// members are joined. A Set is never stopped: see StoppingSet.
type Set struct {
	ID      string        // the slot's name; required
	Members []abswap.Slot // at least one; required
}

var (
	_ abswap.InstallingSlot = (*Set)(nil)
	_ abswap.StartingSlot   = (*Set)(nil)
	_ abswap.WarmingSlot    = (*Set)(nil)
	_ abswap.StoppingSlot   = StoppingSet{}
	_ abswap.InspectingSlot = (*Set)(nil)
	_ abswap.Checker        = (*Set)(nil)
)

// Name returns ID.
func (s *Set) Name() string { return s.ID }

// each calls f for all members at one time.
func (s *Set) each(f func(i int, m abswap.Slot) error) error {
	errs := make([]error, len(s.Members))
	var wg sync.WaitGroup
	for i, m := range s.Members {
		wg.Go(func() {
			if err := f(i, m); err != nil {
				errs[i] = fmt.Errorf("slot %q: member %q: %w", s.ID, m.Name(), err)
			}
		})
	}
	wg.Wait()
	return multi.Join(errs...)
}

// Ready returns nil if all members are ready.
func (s *Set) Ready(ctx context.Context) error {
	if len(s.Members) == 0 {
		return fmt.Errorf("slot %q has no members: %w", s.ID, abswap.ErrNotReady)
	}
	return s.each(func(_ int, m abswap.Slot) error { return m.Ready(ctx) })
}

// Install installs r into all members. All must be InstallingSlots, else nothing is installed and the error wraps errors.ErrUnsupported.
func (s *Set) Install(ctx context.Context, r abswap.Release) error {
	all := make([]abswap.InstallingSlot, len(s.Members))
	for i, m := range s.Members {
		one, ok := abswap.As[abswap.InstallingSlot](m)
		if !ok {
			return fmt.Errorf("slot %q: member %q cannot install: %w", s.ID, m.Name(), errors.ErrUnsupported)
		}
		all[i] = one
	}
	return s.each(func(i int, _ abswap.Slot) error { return all[i].Install(ctx, r) })
}

// Start starts the members.
func (s *Set) Start(ctx context.Context) error {
	return s.each(func(_ int, m abswap.Slot) error {
		if x, ok := abswap.As[abswap.StartingSlot](m); ok {
			return x.Start(ctx)
		}
		return nil
	})
}

// Warm warms the members.
func (s *Set) Warm(ctx context.Context) error {
	return s.each(func(_ int, m abswap.Slot) error {
		if x, ok := abswap.As[abswap.WarmingSlot](m); ok {
			return x.Warm(ctx)
		}
		return nil
	})
}

// Inspect tells the release that is in all members, whether any of them runs, and where they are. Members with different releases are an error.
// If a member is no InspectingSlot, nobody knows, and the error wraps errors.ErrUnsupported.
func (s *Set) Inspect(ctx context.Context) (abswap.SlotState, error) {
	states := make([]abswap.SlotState, len(s.Members))
	err := s.each(func(i int, m abswap.Slot) (err error) {
		x, ok := abswap.As[abswap.InspectingSlot](m)
		if !ok {
			return fmt.Errorf("it cannot tell what is in it: %w", errors.ErrUnsupported)
		}
		states[i], err = x.Inspect(ctx)
		return err
	})
	if err != nil || len(states) == 0 {
		return abswap.SlotState{}, err
	}
	all := states[0]
	addresses := []string{}
	for _, st := range states {
		if st.Release != all.Release {
			return abswap.SlotState{}, fmt.Errorf("slot %q: its members hold releases %q and %q", s.ID, all.Release, st.Release)
		}
		all.Running = all.Running || st.Running
		all.Started = slices.MaxFunc([]time.Time{all.Started, st.Started}, time.Time.Compare)
		if st.Address != "" {
			addresses = append(addresses, st.Address)
		}
	}
	all.Address = strings.Join(addresses, ",")
	return all, nil
}

// Check asks the members that are Checkers.
func (s *Set) Check(ctx context.Context, r abswap.CheckRequest) error {
	var errs []error
	if s.ID == "" || len(s.Members) == 0 {
		errs = append(errs, fmt.Errorf("an arr.Set %q has no ID or no Members", s.ID))
	}
	seen := map[string]bool{}
	for _, m := range s.Members {
		if m == nil {
			return multi.Join(append(errs, fmt.Errorf("slot %q has a member that is nil", s.ID))...)
		}
		if seen[m.Name()] {
			errs = append(errs, fmt.Errorf("slot %q has the member %q twice", s.ID, m.Name()))
		}
		seen[m.Name()] = true
		if c, ok := abswap.As[abswap.Checker](m); ok {
			errs = append(errs, multi.All(c.Check(ctx, r))...)
		}
	}
	return multi.Join(errs...)
}

// StoppingSet is a Set whose members can all be stopped.
type StoppingSet struct{ *Set }

// Stop stops the members. If one of them is no StoppingSlot none is stopped, and the error wraps errors.ErrUnsupported.
func (s StoppingSet) Stop(ctx context.Context) error {
	all := make([]abswap.StoppingSlot, len(s.Members))
	for i, m := range s.Members {
		one, ok := abswap.As[abswap.StoppingSlot](m)
		if !ok {
			return fmt.Errorf("slot %q: member %q cannot be stopped: %w", s.ID, m.Name(), errors.ErrUnsupported)
		}
		all[i] = one
	}
	return s.each(func(i int, _ abswap.Slot) error { return all[i].Stop(ctx) })
}
