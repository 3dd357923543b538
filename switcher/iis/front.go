package iis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// front is what the three switchers have in common: their slots, one switch at a time, and the proof at the door.
type front struct {
	app      *App
	strategy Strategy
	slots    []*Slot
	turn     chan struct{} // holds one token: whoever has it may switch
}

func newFront(app *App, strategy Strategy, slots []*Slot) (*front, error) {
	errs := []error{app.check()}
	if len(slots) < 2 {
		errs = append(errs, fmt.Errorf("it has %d Slots, at least two are needed", len(slots)))
	}
	seen := map[string]string{}
	for i, s := range slots {
		if s == nil {
			errs = append(errs, fmt.Errorf("field Slots[%d] is nil", i))
			continue
		}
		if app != nil && s.cfg.App != app {
			errs = append(errs, fmt.Errorf("slot %q has another App", s.Name()))
		}
		owns := []string{"slot " + s.Name(), "application pool " + s.cfg.Pool}
		for _, site := range s.sites() {
			owns = append(owns, "site "+site)
		}
		for _, o := range owns {
			if other, ok := seen[strings.ToLower(o)]; ok {
				errs = append(errs, fmt.Errorf("slots %q and %q both have %s", other, s.Name(), o))
			}
			seen[strings.ToLower(o)] = s.Name()
		}
	}
	if err := multi.Join(errs...); err != nil {
		return nil, fmt.Errorf("iis %s: %w", strategy, err)
	}
	f := &front{app: app, strategy: strategy, slots: slots, turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f, nil
}

func (f *front) server() *Server { return f.app.server() }

func (f *front) look(ctx context.Context) (*world, error) {
	w, err := look(ctx, f.server().appcmd())
	if err != nil {
		return nil, fmt.Errorf("iis %s: %w", f.strategy, explain(err))
	}
	return w, nil
}

// move is one Activate at work.
type move struct {
	*front
	to    *Slot
	from  *Slot  // who was active; nil: none, or not for certain
	want  string // the mark of what is in to
	doors []door
	seen  Switched
	begun bool // an effect may have happened

	moved   time.Time // when the bindings were taken from their old owner
	dead    int       // failures by 503 in a row
	revived bool      // the pools were recycled
}

// steps are how a strategy moves.
type steps struct {
	doors func(w *world) ([]door, error)           // the public ones
	from  func(w *world) (*Slot, error)            // who is active; nil: none
	done  func(w *world, to *Slot) bool            // all is as it shall be
	ready func(w *world, to *Slot) error           // what must hold before anything moves
	move  func(ctx context.Context, m *move) error // moves
	tend  func(ctx context.Context, m *move) error // helps what was moved to come into force; nil: nothing can

	// whole makes a move that has begun go on when ctx ends: in the middle of it nobody would serve.
	whole bool
}

// activate is Activate of all three.
func (f *front) activate(ctx context.Context, s abswap.Slot, st steps) error {
	to, err := find(f.slots, s)
	if err != nil {
		return fmt.Errorf("iis %s: activate %w", f.strategy, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("iis %s: activate slot %q: %w", f.strategy, to.Name(), context.Cause(ctx))
	}
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("iis %s: activate slot %q: waiting for another switch: %w", f.strategy, to.Name(), context.Cause(ctx))
	}
	m := &move{front: f, to: to}
	if err := m.run(ctx, st); err != nil {
		if m.begun {
			err = unsure(err)
		}
		return fmt.Errorf("iis %s: activate slot %q: %w", f.strategy, to.Name(), err)
	}
	return nil
}

func (m *move) run(ctx context.Context, st steps) error {
	w, err := m.look(ctx)
	if err != nil {
		return err
	}
	if m.doors, err = st.doors(w); err != nil {
		return err
	}
	if m.want, err = m.to.want(w); err != nil {
		return err
	}
	if st.done(w, m.to) { // nothing to move: only the proof is left
		return unsure(m.prove(ctx, st))
	}
	from, err := st.from(w)
	if err != nil {
		return err
	}
	if err := m.tell(w, from); err != nil {
		return err
	}
	if err := st.ready(w, m.to); err != nil {
		return err
	}
	began := time.Now()
	stop := m.app.watch(context.WithoutCancel(ctx), m.doors[0])
	if st.whole {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(context.WithoutCancel(ctx), 3*m.app.patience(), errors.New("it took three times App.Patience"))
		defer cancel()
	}
	err = m.shift(ctx, st)
	seen := stop()
	seen.From, seen.To, seen.Took, seen.Commits = m.seen.From, m.to.Name(), time.Since(began), m.seen.Commits
	seen.Gap = max(seen.Gap, m.seen.Gap)
	if m.app.OnSwitch != nil && m.begun {
		m.app.OnSwitch(seen)
	}
	return err
}

func (m *move) prove(ctx context.Context, st steps) error {
	return m.app.prove(ctx, m.doors, m.want, func(ctx context.Context, last error) error {
		if err := m.revive(ctx, last); err != nil || st.tend == nil {
			return err
		}
		return st.tend(ctx, m)
	})
}

// tell notes who is active, and refuses a switch that nobody could see.
func (m *move) tell(w *world, from *Slot) error {
	if from == nil {
		return nil
	}
	if from == m.to {
		m.from = from
		return nil
	}
	m.from, m.seen.From = from, from.Name()
	old, err := from.want(w)
	if err == nil && old == m.want {
		return fmt.Errorf("slots %q and %q have the same mark %q, so that nobody could see which of them answers: set App.Mark.Want to one that "+
			"names the slot: %w", from.Name(), m.to.Name(), old, abswap.ErrPermanent)
	}
	return nil
}

// shift moves, and proves that the move is in force.
func (m *move) shift(ctx context.Context, st steps) error {
	m.begun = true
	if err := st.move(ctx, m); err != nil {
		return err
	}
	return m.prove(ctx, st)
}

// revive recycles the pools of the new slot, once, if the application in it goes on answering 503 after the last commit. Some releases of
// ASP.NET Core's module do that under disallowRotationOnConfigChange, until their pool is recycled. It is called after each failure.
func (m *move) revive(ctx context.Context, last error) error {
	refused, ok := errors.AsType[*refusedError](last)
	if !ok || refused.status != http.StatusServiceUnavailable || m.app.Mode == Classic {
		m.dead = 0
		return nil
	}
	m.dead++
	if m.dead < reviveAfter || m.revived {
		return nil
	}
	m.revived = true
	pools, err := m.to.pools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if _, err := m.server().appcmd().Run(ctx, appcmd.RecyclePool(p)); err != nil {
			return fmt.Errorf("it answers 503 since the last commit, and its pool %q could not be recycled: %w", p, explain(err))
		}
	}
	return nil
}

// reviveAfter is how many failures by 503 in a row are taken for an application that does not come back by itself: about 2 seconds.
const reviveAfter = 12

// unmoved clears m.begun if a move that ended with err has surely left all as it was.
func (m *move) unmoved(ctx context.Context, err error, is func(w *world) bool) {
	if isUnsure(err) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if w, lerr := m.look(ctx); lerr == nil && is(w) {
		m.begun = false
	}
}

// poolReady refuses a slot whose pool does not run.
func poolReady(w *world, s *Slot) error {
	p, err := w.pool(s.cfg.Pool)
	if err != nil {
		return err
	}
	if err := known("application pool", p.Name, p.State); err != nil {
		return err
	}
	if p.State != appcmd.Started {
		return fmt.Errorf("its application pool %q is %s: %w", p.Name, p.State, abswap.ErrNotReady)
	}
	return nil
}
