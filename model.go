package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// model is a world of slots and traffic in memory, with just what the engine can see and do. Plan runs the engine against one that was
// filled from the real world; the model test walks the engine through all that can happen in one.
type model struct {
	mu      sync.Mutex
	slots   map[string]*modelSlot
	weights map[string]int
	held    time.Time // until when new requests wait
	looks   any       // the Switcher whose abilities the model has; nil: all

	// around is called for every call from the engine, with what it would do to the world (nil: it only looks). It may do it, or not,
	// and gives the call's error. nil: do it.
	around func(c modelCall) error
}

// modelCall is one call that the engine makes.
type modelCall struct {
	op     string // "activate", "weigh", "seal", "hold", "install", "start", "warm", "stop"; "ready", "inspect", "weights", "load"
	slot   string
	to     map[string]int // of activate and weigh
	effect func()         // nil: the call changes nothing
}

// modelSlot is a slot of a model.
type modelSlot struct {
	m       *model
	name    string
	release string
	running bool
	sick    bool
	sealed  bool
	load    int
	stuck   bool // what it carries does not end
	looks   any  // the Slot whose abilities it has; nil: all
}

// ability is As, but a thing of a model has only the abilities of what it stands for.
func ability[T any](v any) (T, bool) {
	if m, ok := v.(interface{ standsFor() any }); ok {
		if real := m.standsFor(); real != nil {
			if _, can := As[T](real); !can {
				var zero T
				return zero, false
			}
		}
	}
	return As[T](v)
}

func (m *model) standsFor() any     { return m.looks }
func (s *modelSlot) standsFor() any { return s.looks }

func (m *model) call(ctx context.Context, c modelCall) error {
	if err := ctx.Err(); err != nil && c.effect != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.around != nil {
		return m.around(c)
	}
	if c.effect != nil {
		c.effect()
	}
	return nil
}

// set is the effect of activate and weigh: work goes to the slots with a part, and what the others have stays with them.
func (m *model) set(w map[string]int) {
	m.weights = maps.Clone(w)
	for name, part := range w {
		if s := m.slots[name]; s != nil && part > 0 {
			s.sealed, s.load = false, max(s.load, 1)
		}
	}
}

func (m *model) Active(ctx context.Context) (string, error) {
	w, err := m.Weights(ctx)
	best := ""
	for name, part := range w {
		if part > w[best] || part == w[best] && name < best {
			best = name
		}
	}
	switch {
	case err != nil:
		return "", err
	case best == "":
		return "", ErrNoActive
	case len(w) > 1:
		return best, ErrMixed
	}
	return best, nil
}

func (m *model) Weights(ctx context.Context) (map[string]int, error) {
	if err := m.call(ctx, modelCall{op: "weights"}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.weights), nil
}

func (m *model) Activate(ctx context.Context, s Slot) error {
	w := map[string]int{s.Name(): 100}
	return m.call(ctx, modelCall{op: "activate", slot: s.Name(), to: w, effect: func() { m.set(w) }})
}

func (m *model) SetWeights(ctx context.Context, ws ...Weight) error {
	if err := CheckWeights(ws); err != nil {
		return err
	}
	w := map[string]int{}
	for _, x := range ws {
		if x.Part > 0 {
			w[x.Slot.Name()] = x.Part
		}
	}
	return m.call(ctx, modelCall{op: "weigh", to: w, effect: func() { m.set(w) }})
}

func (m *model) Seal(ctx context.Context, s Slot) error {
	return m.call(ctx, modelCall{op: "seal", slot: s.Name(), effect: func() {
		m.slots[s.Name()].sealed = true
		delete(m.weights, s.Name())
	}})
}

func (m *model) Hold(ctx context.Context, o HoldOptions) (func(), error) {
	hold := func() { m.held = time.Now().Add(o.WithDefaults().Total) }
	if err := m.call(ctx, modelCall{op: "hold", effect: hold}); err != nil {
		return nil, err
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held = time.Time{}
	}, nil
}

func (m *model) Traits() Traits {
	if t, ok := As[TraitsSwitcher](m.looks); ok {
		return t.Traits()
	}
	return Traits{}
}

// InFlight counts exactly. What a slot carries when nothing new comes ends by itself, one piece from look to look.
func (m *model) InFlight(ctx context.Context, slot Slot) (Load, error) {
	if err := m.call(ctx, modelCall{op: "load", slot: slot.Name()}); err != nil {
		return Load{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.slots[slot.Name()]
	l := Load{Requests: s.load, Evidence: EvidenceExact, Source: "model"}
	if s.load > 0 && !s.stuck && (m.weights[s.name] == 0 || time.Now().Before(m.held)) {
		s.load--
	}
	return l, nil
}

func (s *modelSlot) Name() string { return s.name }

func (s *modelSlot) Ready(ctx context.Context) error {
	if err := s.m.call(ctx, modelCall{op: "ready", slot: s.name}); err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.running || s.sick {
		return fmt.Errorf("slot %q: %w", s.name, ErrNotReady)
	}
	return nil
}

func (s *modelSlot) Install(ctx context.Context, r Release) error {
	return s.m.call(ctx, modelCall{op: "install", slot: s.name, effect: func() { s.release, s.sick = r.ID, false }})
}

func (s *modelSlot) Start(ctx context.Context) error {
	return s.m.call(ctx, modelCall{op: "start", slot: s.name, effect: func() { s.running = true }})
}

func (s *modelSlot) Warm(ctx context.Context) error {
	return s.m.call(ctx, modelCall{op: "warm", slot: s.name, effect: func() {}})
}

func (s *modelSlot) Stop(ctx context.Context) error {
	return s.m.call(ctx, modelCall{op: "stop", slot: s.name, effect: func() { s.running, s.load = false, 0 }})
}

func (s *modelSlot) Inspect(ctx context.Context) (SlotState, error) {
	if err := s.m.call(ctx, modelCall{op: "inspect", slot: s.name}); err != nil {
		return SlotState{}, err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return SlotState{Release: s.release, Running: s.running}, nil
}

// modelOf observes the world of s once. slots come in the order of s.Slots.
func (s *Swapper) modelOf(ctx context.Context) (m *model, slots []Slot, err error) {
	w, err := s.weights(ctx)
	if err != nil {
		return nil, nil, err
	}
	m = &model{slots: map[string]*modelSlot{}, weights: w, looks: s.Switcher}
	r := run{s: s}
	for _, slot := range s.Slots {
		ms := &modelSlot{m: m, name: slot.Name(), looks: slot}
		state, err := r.inspect(ctx, slot)
		ms.release, ms.running = state.Release, state.Running
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			_, starts := As[StartingSlot](slot)
			ms.running = !starts || r.ready(ctx, slot) == nil // who is not started by us runs by the time the deploy waits for it
		case err != nil:
			return nil, nil, fmt.Errorf("slot %q: %w", slot.Name(), err)
		}
		if l, err := r.loadWith(ctx, slot, s.Drain.Sessions); err == nil {
			ms.load = l.Total()
		}
		m.slots[ms.name] = ms
		slots = append(slots, ms)
	}
	return m, slots, nil
}
