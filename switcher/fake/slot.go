package fake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// Slot is a slot in memory, with every ability that package abswap knows. It is empty at first: nothing is installed and nothing runs. ID
// is required; fields are set before the first call.
//
// Each Func field replaces the method of its name and is given the real one as do. nil: the real one.
type Slot struct {
	ID      string // its name
	Address string // what Inspect tells while the slot runs

	// ReadyAfter is how long after Start, at the earliest, Ready says yes; ReadyProbes is how many probes after Start say no first.
	ReadyAfter  time.Duration
	ReadyProbes int

	ReadyFunc   func(ctx context.Context, do func(context.Context) error) error
	InstallFunc func(ctx context.Context, r abswap.Release, do func(context.Context, abswap.Release) error) error
	StartFunc   func(ctx context.Context, do func(context.Context) error) error
	WarmFunc    func(ctx context.Context, do func(context.Context) error) error
	StopFunc    func(ctx context.Context, do func(context.Context) error) error
	InspectFunc func(ctx context.Context, do func(context.Context) (abswap.SlotState, error)) (abswap.SlotState, error)

	log record

	mu     sync.Mutex
	state  abswap.SlotState
	probes int   // since Start
	warm   bool  // since Start
	atOnce bool  // it was put running: ReadyAfter and ReadyProbes do not matter
	sick   error // nil: well
}

var (
	_ abswap.InstallingSlot = (*Slot)(nil)
	_ abswap.StartingSlot   = (*Slot)(nil)
	_ abswap.WarmingSlot    = (*Slot)(nil)
	_ abswap.StoppingSlot   = (*Slot)(nil)
	_ abswap.InspectingSlot = (*Slot)(nil)
	_ abswap.Checker        = (*Slot)(nil)
)

// NewSlot returns an empty slot of that name.
func NewSlot(name string) *Slot { return &Slot{ID: name} }

// NewRunningSlot returns a slot of that name in which the release runs and is fit.
func NewRunningSlot(name, release string) *Slot {
	s := NewSlot(name)
	s.Put(abswap.SlotState{Release: release, Running: true})
	return s
}

// Name returns ID.
func (s *Slot) Name() string { return s.ID }

// Check says so if ID is empty.
func (s *Slot) Check(context.Context, abswap.CheckRequest) error {
	if s.ID == "" {
		return fmt.Errorf("a fake slot has no name: set ID")
	}
	return nil
}

// Put makes the slot hold that, as another hand would: no call is recorded, and no Func is asked. What is put running is ready at once.
// If Started is zero and it runs, it was started now.
func (s *Slot) Put(state abswap.SlotState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.Running && state.Started.IsZero() {
		state.Started = time.Now()
	}
	if !state.Running {
		state.Started = time.Time{}
	}
	s.state, s.probes, s.warm, s.atOnce = state, 0, state.Running, state.Running
}

// Sick makes Ready return err, wrapped with abswap.ErrNotReady, whatever else the slot does, until Sick(nil), or until another release is
// installed.
func (s *Slot) Sick(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick = err
}

// Warmed tells whether Warm has succeeded since the slot was started.
func (s *Slot) Warmed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warm
}

// Ready says whether the slot runs, is not sick, and has had ReadyAfter and ReadyProbes. Its errors are abswap.ErrNotReady.
func (s *Slot) Ready(ctx context.Context) error {
	return s.call(ctx, Call{Method: "Ready"}, s.ReadyFunc, s.ready)
}

func (s *Slot) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes++
	return s.fit()
}

// fit is Ready without counting; s.mu is held.
func (s *Slot) fit() error {
	switch {
	case !s.state.Running:
		return fmt.Errorf("slot %q does not run: %w", s.ID, abswap.ErrNotReady)
	case s.sick != nil:
		return fmt.Errorf("slot %q is sick: %w: %w", s.ID, s.sick, abswap.ErrNotReady)
	case s.atOnce:
		return nil
	case time.Since(s.state.Started) < s.ReadyAfter:
		return fmt.Errorf("slot %q was started %s ago and needs %s: %w", s.ID, time.Since(s.state.Started), s.ReadyAfter, abswap.ErrNotReady)
	case s.ReadyProbes > 0 && s.probes <= s.ReadyProbes:
		return fmt.Errorf("slot %q has seen %d probes and needs more than %d: %w", s.ID, s.probes, s.ReadyProbes, abswap.ErrNotReady)
	}
	return nil
}

// Install puts the release in. A slot that runs is refused, and so is a release that abswap.Release.Check refuses.
func (s *Slot) Install(ctx context.Context, r abswap.Release) error {
	do := s.install
	if f := s.InstallFunc; f != nil {
		do = func(ctx context.Context, r abswap.Release) error { return f(ctx, r, s.install) }
	}
	return s.log.begin(Call{Method: "Install", Slot: s.ID, Release: r.ID})(do(ctx, r))
}

func (s *Slot) install(ctx context.Context, r abswap.Release) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Running {
		return fmt.Errorf("slot %q runs release %q: stop it before %q is installed", s.ID, s.state.Release, r.ID)
	}
	if s.state.Release != r.ID {
		s.sick = nil
	}
	s.state = abswap.SlotState{Release: r.ID}
	return nil
}

// Start starts what is installed. A slot without a release is refused.
func (s *Slot) Start(ctx context.Context) error {
	return s.call(ctx, Call{Method: "Start"}, s.StartFunc, s.start)
}

func (s *Slot) start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Release == "" {
		return fmt.Errorf("slot %q is empty: install a release before it is started", s.ID)
	}
	if !s.state.Running {
		s.state.Running, s.state.Started, s.probes, s.warm, s.atOnce = true, time.Now(), 0, false, false
	}
	return nil
}

// Warm warms the slot. One that is not ready is refused with abswap.ErrNotReady.
func (s *Slot) Warm(ctx context.Context) error {
	return s.call(ctx, Call{Method: "Warm"}, s.WarmFunc, s.warmUp)
}

func (s *Slot) warmUp(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fit(); err != nil {
		return err
	}
	s.warm = true
	return nil
}

// Stop stops the slot; what is installed stays.
func (s *Slot) Stop(ctx context.Context) error {
	return s.call(ctx, Call{Method: "Stop"}, s.StopFunc, s.stop)
}

func (s *Slot) stop(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = abswap.SlotState{Release: s.state.Release}
	s.warm = false
	return nil
}

// Inspect tells what is in the slot.
func (s *Slot) Inspect(ctx context.Context) (abswap.SlotState, error) {
	done := s.log.begin(Call{Method: "Inspect", Slot: s.ID})
	if s.InspectFunc != nil {
		state, err := s.InspectFunc(ctx, s.inspect)
		return state, done(err)
	}
	state, err := s.inspect(ctx)
	return state, done(err)
}

func (s *Slot) inspect(ctx context.Context) (abswap.SlotState, error) {
	if err := ctx.Err(); err != nil {
		return abswap.SlotState{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	if state.Running && state.Address == "" {
		state.Address = s.Address
	}
	return state, nil
}

// call records c and calls script with do, or do alone.
func (s *Slot) call(ctx context.Context, c Call, script func(context.Context, func(context.Context) error) error, do func(context.Context) error) error {
	c.Slot = s.ID
	done := s.log.begin(c)
	if script != nil {
		return done(script(ctx, do))
	}
	return done(do(ctx))
}
