package proxy_test

import (
	"context"
	"sync"

	"github.com/abswap/abswap"
)

// slot is an abswap.InspectingSlot whose state and health the test sets.
type slot struct {
	name string
	mu   sync.Mutex
	now  abswap.SlotState
	err  error
	gate func(ctx context.Context) error // called by Inspect and Ready before they answer; nil: none
}

func newSlot(name string, st abswap.SlotState) *slot { return &slot{name: name, now: st} }

func (s *slot) Name() string { return s.name }

func (s *slot) set(f func(*slot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *slot) look(ctx context.Context) (abswap.SlotState, error) {
	s.mu.Lock()
	gate, now, err := s.gate, s.now, s.err
	s.mu.Unlock()
	if gate != nil {
		if err := gate(ctx); err != nil {
			return abswap.SlotState{}, err
		}
	}
	return now, err
}

func (s *slot) Inspect(ctx context.Context) (abswap.SlotState, error) { return s.look(ctx) }

func (s *slot) Ready(ctx context.Context) error {
	_, err := s.look(ctx)
	return err
}
