package nginx

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/retry"
)

// Seal takes the slot's part away and waits until no old worker process has a client whose request could still be led to the slot: one that
// nginx reads to its end first, or a connection over which nothing has come yet. If that takes longer than Config.Patience the error says so,
// and the slot has no part any more. If it was the only one with a part, nginx refuses all requests from then on (502).
func (s *Switcher) Seal(ctx context.Context, slot abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.known(slot); err != nil {
		return err
	}
	done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w, err := s.look(ctx)
	if err != nil {
		return err
	}
	weights, err := s.inForce(w)
	if err != nil {
		return err
	}
	weights = without(weights, slot.Name())
	for name := range s.peers {
		weights[name] += 0
	}
	if err := s.move(ctx, w, weights); err != nil {
		return err
	}
	limit, cancel := context.WithTimeoutCause(ctx, s.cfg.Patience, fmt.Errorf("not sealed after %s", s.cfg.Patience))
	defer cancel()
	err = retry.Do(limit, retry.Policy{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) error {
		_, coming, err := s.count(slot.Name())
		if err != nil {
			return retry.Stop(err)
		}
		if coming > 0 {
			return fmt.Errorf("%d connections of clients in old worker processes may still lead to it", coming)
		}
		return nil
	})
	if err != nil {
		return s.ended(ctx, fmt.Errorf("nginx: slot %q: %w", slot.Name(), err))
	}
	return nil
}

// without shares the slot's part out to the others, in the ratio of theirs.
func without(weights map[string]int, slot string) map[string]int {
	shared := maps.Clone(weights)
	shared[slot] = 0
	sum, given := 0, 0
	for _, part := range shared {
		sum += part
	}
	if sum == 0 {
		return shared
	}
	names := slices.Sorted(maps.Keys(shared))
	for _, name := range names {
		shared[name] = shared[name] * 100 / sum
		given += shared[name]
	}
	for i := 0; given < 100; i = (i + 1) % len(names) { // what was lost by rounding
		if name := names[i]; shared[name] > 0 {
			shared[name]++
			given++
		}
	}
	return shared
}
