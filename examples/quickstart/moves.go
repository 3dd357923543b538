package main

import (
	"context"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// watched is a Switcher that notes when each move of traffic was asked for and when it returned. From then on the promise holds, and the
// judge takes it by its word. It wraps a Switcher as any caller may: what it does not have itself, abswap.As finds through Unwrap.
type watched struct {
	abswap.WeightedSwitcher
	epoch time.Time

	mu    sync.Mutex
	moves []move
}

// move is one call that decides which slots take new work.
type move struct {
	called, returned time.Duration // since the epoch
	slots            []string      // that may take new work from its return on
	err              error         // it may have happened or not
}

var _ abswap.WeightedSwitcher = (*watched)(nil)

// Unwrap returns the Switcher that does the work.
func (w *watched) Unwrap() abswap.Switcher { return w.WeightedSwitcher }

func (w *watched) Activate(ctx context.Context, s abswap.Slot) error {
	called := time.Since(w.epoch)
	err := w.WeightedSwitcher.Activate(ctx, s)
	w.note(called, err, s.Name())
	return err
}

func (w *watched) SetWeights(ctx context.Context, weights ...abswap.Weight) error {
	called := time.Since(w.epoch)
	err := w.WeightedSwitcher.SetWeights(ctx, weights...)
	var slots []string
	for _, x := range weights {
		if x.Part > 0 {
			slots = append(slots, x.Slot.Name())
		}
	}
	w.note(called, err, slots...)
	return err
}

func (w *watched) note(called time.Duration, err error, slots ...string) {
	m := move{called: called, returned: time.Since(w.epoch), slots: slots, err: err}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moves = append(w.moves, m)
}

// list returns the moves so far, in order: the engine makes one at a time.
func (w *watched) list() []move {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]move(nil), w.moves...)
}
