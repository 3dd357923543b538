package process

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/internal/retry"
)

// killWait is how long the system may take to remove processes that were killed.
const killWait = 15 * time.Second

// Stop asks the application to end, waits for Config.Grace, and kills what is left of it and of all it has begun. When the main process
// has ended in time, what it left behind is asked too (not on Windows) and gets the rest of the grace. At return nothing of it runs.
// If ctx ends before, its error is returned and the application goes on ending; calling again goes on waiting, and the grace still
// counts from the first call, unless that was broken off while it asked: then the next one asks again. Where the application cannot be asked,
// it is killed at once. Only processes that are told for certain are asked or killed. A slot that does not run is left as it is.
func (s *Slot) Stop(ctx context.Context) (err error) {
	if s.isAbsent() {
		return nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = multi.Join(err, unlock()) }()
	rec, err := s.load()
	if err != nil || rec.Run == nil {
		return err
	}
	return s.stop(ctx, rec)
}

// stop ends what runs of rec.Run, which is set, and takes it off the record.
func (s *Slot) stop(ctx context.Context, rec *record) error {
	r := rec.Run
	m, err := s.find(ctx, r)
	if err != nil {
		return err
	}
	if r.Process == (proc.ID{}) && m.Main != (proc.ID{}) {
		r.Process = m.Main
		if err := s.save(rec); err != nil {
			return err
		}
	}
	known := m.All
	if len(m.All) > 0 {
		left, err := s.askAndWait(ctx, rec, m)
		if err != nil {
			return err
		}
		known = left
	}
	if err := s.killAll(ctx, r, known); err != nil {
		return err
	}
	rec.Run = nil
	return s.save(rec)
}

// askAndWait asks the application to end and waits until nothing of it is left, or the grace is over. It returns what it has seen of
// it, for killAll. The error is ctx's.
func (s *Slot) askAndWait(ctx context.Context, rec *record, m proc.Members) (known []proc.ID, err error) {
	r, known := rec.Run, m.All
	grace := s.cfg.Grace
	if r.Asked.IsZero() { // it is on the disk before the application can hear of it
		r.Asked, r.Asking = time.Now(), grace > 0 && m.Main != (proc.ID{})
		if err := s.save(rec); err != nil {
			return nil, err
		}
	}
	if r.Asking && grace > 0 && m.Main != (proc.ID{}) { // perhaps again: an earlier call did not get to know whether it was heard
		r.Asked = time.Now()
		if err := s.ask(ctx, r, m); err != nil {
			if ctx.Err() != nil {
				return nil, s.errorf("it was about to be asked to stop, and may have heard it; call Stop again: %w", context.Cause(ctx))
			}
			s.note("it cannot be asked to stop: %v", err)
			r.Asked = r.Asked.Add(-grace) // it does not know, so waiting is of no use
		}
		r.Asking = false
		if err := s.save(rec); err != nil {
			return nil, err
		}
	}
	until, cancel := context.WithTimeout(ctx, min(time.Until(r.Asked.Add(grace)), grace))
	defer cancel()
	askedRest := false
	err = retry.Do(until, retry.Policy{First: 5 * time.Millisecond, Max: 200 * time.Millisecond}, func(until context.Context) error {
		if r.Process != (proc.ID{}) { // while the main process runs there is no need to look at all others
			s.reap()
			if ok, err := proc.Running(r.Process); err != nil {
				return retry.Stop(err)
			} else if ok {
				return errRunning
			}
		}
		m, err := s.find(until, r, known...)
		if err != nil {
			return retry.Stop(err)
		}
		if len(m.All) == 0 {
			known = nil
			return nil
		}
		known = m.All
		if !askedRest {
			askedRest = true
			if err := proc.Terminate(m.All); errors.Is(err, errors.ErrUnsupported) {
				return nil // they cannot be asked
			} else if err != nil {
				s.note("not all that is left can be asked to stop: %v", err)
			}
		}
		return errRunning
	})
	switch {
	case err == nil:
		return known, nil
	case ctx.Err() != nil:
		return nil, s.errorf("it was asked to stop and still runs; call Stop again: %w", context.Cause(ctx))
	case until.Err() != nil: // the grace is over
		return known, nil
	default:
		return nil, s.errorf("stop: %w", err)
	}
}

var errRunning = errors.New("it still runs")

// ask asks the application to end, by StopPath or by signal. The error says why it could not be told.
func (s *Slot) ask(ctx context.Context, r *run, m proc.Members) error {
	var posted error
	if s.cfg.StopPath != "" {
		if posted = s.postStop(ctx, r, m.All); posted == nil || ctx.Err() != nil {
			return posted
		}
	}
	err := r.tree().Interrupt(ctx)
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return multi.Join(posted, err)
}

// killAll kills what runs of r, and of known, until nothing is left.
func (s *Slot) killAll(ctx context.Context, r *run, known []proc.ID) error {
	until, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	noted := false
	err := retry.Do(until, retry.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond}, func(until context.Context) error {
		m, err := s.find(until, r, known...)
		if err != nil {
			return retry.Stop(err)
		}
		if len(m.All) == 0 {
			return nil
		}
		if !noted {
			noted = true
			s.note("kills %v", m.All)
		}
		if err := r.tree().KillAll(m.All...); err != nil {
			return retry.Stop(s.errorf("kill: %w", err))
		}
		return s.errorf("%d processes still run, the first is %s", len(m.All), m.All[0])
	})
	if err != nil && ctx.Err() == nil && until.Err() != nil {
		return s.errorf("killed %s ago: %w", killWait, err)
	}
	return err
}
