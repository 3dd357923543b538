package arr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// Keeper brings the states of members about again after ARR's worker process was recycled, which forgets them. It works from Config.Memory,
// so that it can run in a service of its own while deploy tools come and go; what it restores is what the last change wanted. As long as the worker
// process is the same it does nothing: what an operator changes by hand stays.
//
// The first look after the new process has taken over restores, so that a closed slot gets requests for one Interval at most, and for as long as the
// look takes. While a change is under way, that looks after the states itself.
type Keeper struct {
	Switcher *Switcher     // required
	Interval time.Duration // between two looks; 0: 1s
	OnKept   func(Kept)    // told of each restoration, on the goroutine of Run; nil: nobody
}

// Kept tells what a Keeper did.
type Kept struct {
	At      time.Time
	Members []string // whose states were set again
	Err     error    // what went wrong; it is tried again after Interval
}

// Run looks again and again until ctx ends, and returns its cause. What goes wrong is told to OnKept and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	if k.Switcher == nil {
		return errors.New("arr.Keeper has no Switcher")
	}
	every := k.Interval
	if every <= 0 {
		every = time.Second
	}
	for {
		began := time.Now()
		members, err := k.Keep(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if (len(members) > 0 || err != nil) && k.OnKept != nil {
			k.OnKept(Kept{At: time.Now(), Members: members, Err: err})
		}
		if err := retry.Sleep(ctx, max(0, every-time.Since(began))); err != nil {
			return err
		}
	}
}

// Keep looks once, and restores what ARR has forgotten: members that shall be available first, and the others once those are healthy. It
// returns the members whose states it has set.
func (k *Keeper) Keep(ctx context.Context) ([]string, error) {
	s := k.Switcher
	done, err := s.enter(ctx)
	if err != nil {
		return nil, s.errorf("keep: %w", err)
	}
	defer done()
	w, err := s.memory.load(s.cfg.Farm)
	if err != nil || w == nil {
		return nil, err
	}
	v, err := s.look(ctx)
	if err != nil {
		return nil, s.errorf("keep: %w", err)
	}
	members, err := s.keep(ctx, v, w)
	if err != nil {
		return members, s.errorf("keep: %w", err)
	}
	return members, nil
}

// keep restores what ARR has forgotten, as it is seen in v. Whoever has the right to change states and waits for something calls it too, since no
// Keeper can meanwhile.
func (s *Switcher) keep(ctx context.Context, v *view, w *wanted) ([]string, error) {
	if w == nil || len(v.Workers) == 0 || v.known(w.PIDs) {
		return nil, nil
	}
	members, err := s.restore(ctx, v, w)
	if err != nil || len(members) > 0 {
		return members, err // whether it was done is seen the next time
	}
	return nil, s.memory.save(&wanted{Farm: w.Farm, States: w.States, PIDs: v.pids()})
}

// keeps makes a condition that is waited for one that keeps too.
func (s *Switcher) keeps(ctx context.Context, f func(*view) error) func(*view) error {
	return func(v *view) error {
		w, err := s.memory.load(s.cfg.Farm)
		if err == nil {
			_, err = s.keep(ctx, v, w)
		}
		if err != nil && !errors.Is(err, abswap.ErrNotReady) { // the member that shall serve is not healthy: that is for f to say
			return err
		}
		return f(v)
	}
}

// restore sets the states of members that are not as wanted.
func (s *Switcher) restore(ctx context.Context, v *view, w *wanted) (members []string, err error) {
	var errs []error
	set := func(x *server, st state) {
		members = append(members, x.Address)
		errs = append(errs, s.order(ctx, x.Address, st))
	}
	served := !slices.Contains(slices.Collect(maps.Values(w.States)), stateOpen)
	for i := range v.Servers {
		x := &v.Servers[i]
		want, own := w.States[strings.ToLower(x.Address)]
		if !own || want != stateOpen {
			continue
		}
		if x.is() != stateOpen {
			set(x, stateOpen)
		}
		served = served || x.Enabled && x.Healthy
	}
	for i := range v.Servers {
		x := &v.Servers[i]
		want, own := w.States[strings.ToLower(x.Address)]
		if !own || want == stateOpen || x.is() == want {
			continue
		}
		if !served && x.takes() {
			errs = append(errs, fmt.Errorf("member %q shall be %s, and is left available, since no member that shall be available is healthy: %w",
				x.Address, want, abswap.ErrNotReady))
			continue
		}
		set(x, want)
	}
	return members, multi.Join(errs...)
}
