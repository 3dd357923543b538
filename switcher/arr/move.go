package arr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// move is one change at work.
type move struct {
	*Switcher
	goal   goal
	before *view
	kept   *wanted // what memory held before; nil: nothing
}

// run changes weights first, then opens, then takes out. After a failure it takes back what it has done. From the first effect on it does not
// look at ctx's end: in the middle of it two versions take requests.
func (m *move) run(ctx context.Context) error {
	kept, err := m.memory.load(m.cfg.Farm)
	if err != nil {
		return err
	}
	m.kept = kept
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 3*m.cfg.Patience+m.cfg.Settle, errors.New("it took three times Config.Patience"))
	defer cancel()
	weighed, err := m.weigh(ctx, m.goal.weights)
	if err == nil {
		err = m.settle(ctx, weighed)
	}
	if err == nil {
		err = m.remember(m.goal.states, m.before)
	}
	if err == nil {
		err = m.states(ctx, m.goal)
	}
	if err == nil {
		return m.remembered(ctx)
	}
	return multi.Join(err, m.back(context.WithoutCancel(ctx), weighed))
}

// remember keeps the states that are wanted from now on, beside those that were.
func (m *move) remember(states map[string]state, v *view) error {
	w := &wanted{Farm: m.cfg.Farm, States: map[string]state{}, PIDs: v.pids()}
	for _, x := range v.Servers {
		if _, own := m.slotOf[strings.ToLower(x.Address)]; own {
			w.States[strings.ToLower(x.Address)] = x.is()
		}
	}
	for address, st := range states {
		if st == stateDraining && w.States[address] == stateClosed {
			continue // it stays so
		}
		w.States[address] = st
	}
	return m.memory.save(w)
}

// remembered keeps the worker processes in which the states are now.
func (m *move) remembered(ctx context.Context) error {
	v, err := m.look(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
	}
	for _, x := range v.Servers {
		if !m.goal.met(&x) { // ARR was recycled just now: let the next round, or the Keeper, do it again
			return nil
		}
	}
	if err := m.remember(m.goal.states, v); err != nil { // the states are as they shall be, and nothing is taken back
		return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
	}
	return nil
}

// states brings about the states of g: open ones first, and all others when those are healthy. What may be lost on the way, a call or a
// worker process, is tried again until Patience has passed.
func (s *Switcher) states(ctx context.Context, g goal) error {
	return s.await(ctx, s.cfg.Patience, func(v *view) error {
		due := false
		for _, x := range g.opens(v) {
			if !g.met(x) {
				due = true
				if err := s.order(ctx, x.Address, stateOpen); err != nil {
					return err
				}
			}
		}
		if due {
			return errors.New("members were opened just now")
		}
		outs := slices.DeleteFunc(g.outs(v), g.met)
		for _, x := range g.opens(v) {
			if !x.Healthy && len(outs) > 0 {
				return fmt.Errorf("member %q was opened, and is not healthy: %w", x.Address, abswap.ErrNotReady)
			}
		}
		for _, x := range outs {
			if err := s.order(ctx, x.Address, g.states[strings.ToLower(x.Address)]); err != nil {
				return err
			}
		}
		if len(outs) > 0 {
			return errors.New("members were taken out just now")
		}
		return nil
	})
}

// order makes the runtime call that brings a member into a state.
func (s *Switcher) order(ctx context.Context, address string, st state) error {
	_, err := s.calls.call(ctx, request{Call: "setState", Server: address, State: st.order()})
	return err
}

// back brings about what was before.
func (m *move) back(ctx context.Context, weighed bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*m.cfg.Patience+m.cfg.Settle)
	defer cancel()
	old := goal{states: map[string]state{}, weights: map[string]int64{}}
	for _, x := range m.before.Servers {
		address := strings.ToLower(x.Address)
		if _, ours := m.goal.states[address]; ours {
			old.states[address] = x.is()
		}
		if _, ours := m.goal.weights[address]; ours {
			old.weights[address] = x.Weight
		}
	}
	err := m.exact(ctx, old)
	err = multi.Join(err, m.memory.save(m.kept))
	if weighed {
		_, werr := m.weigh(ctx, old.weights)
		err = multi.Join(err, werr)
	}
	if err != nil {
		return fmt.Errorf("and what was done could not be taken back: %w: %w", abswap.ErrUnknownOutcome, err)
	}
	return nil
}

// exact brings about the states of g to the letter: there a member that is healthy or not makes no difference.
func (s *Switcher) exact(ctx context.Context, g goal) error {
	return s.await(ctx, s.cfg.Patience, func(v *view) error {
		due := false
		for _, list := range [][]*server{g.opens(v), g.outs(v)} {
			for _, x := range list {
				if want := g.states[strings.ToLower(x.Address)]; x.is() != want {
					due = true
					if err := s.order(ctx, x.Address, want); err != nil {
						return err
					}
				}
			}
		}
		if due {
			return errors.New("states were changed just now")
		}
		return nil
	})
}

// weigh writes the weights that differ, in one commit; done is false if none did.
func (m *move) weigh(ctx context.Context, weights map[string]int64) (done bool, err error) {
	if len(weights) == 0 {
		return false, nil
	}
	_, err = m.client.Change(ctx, func(ctx context.Context, _ *appcmd.Session) (appcmd.Command, bool, error) {
		v, err := m.look(ctx)
		if err != nil {
			return appcmd.Command{}, false, err
		}
		cmd, due := appcmd.SetConfig("", farmsSection), false
		for _, x := range v.Servers {
			if want, ok := weights[strings.ToLower(x.Address)]; ok && want != x.Weight {
				at := appcmd.Path{appcmd.Item("name", m.cfg.Farm), appcmd.Item("address", x.Address), appcmd.Elem("applicationRequestRouting")}
				cmd, due = cmd.Set(at, "weight", strconv.FormatInt(want, 10)), true
			}
		}
		done = done || due
		return cmd, due, nil
	})
	if err != nil {
		return done, fmt.Errorf("weights: %w", explain(err))
	}
	return done, nil
}

// farmsSection is the section of all farms.
const farmsSection = "webFarms"

// settle waits for ARR to follow a commit, and meanwhile keeps the states that were, in case that the commit made ARR forget them.
func (m *move) settle(ctx context.Context, weighed bool) error {
	if !weighed {
		return nil
	}
	old := goal{states: map[string]state{}}
	for _, x := range m.before.Servers {
		if _, own := m.slotOf[strings.ToLower(x.Address)]; own {
			old.states[strings.ToLower(x.Address)] = x.is()
		}
	}
	for end := time.Now().Add(m.cfg.Settle); ; {
		if err := m.exact(ctx, old); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := retry.Sleep(ctx, min(left, m.cfg.Poll/2)); err != nil {
			return err
		}
	}
}

// explain adds to an answer of appcmd what its class means for the caller.
func explain(err error) error {
	switch appcmd.ClassOf(err) {
	case appcmd.Permission, appcmd.Unavailable:
		return fmt.Errorf("run elevated, and look whether the services WAS and W3SVC run: %w", err)
	}
	if errors.Is(err, appcmd.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, err)
	}
	return err
}
