package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
)

// Slot is a slot whose application is a process of its own on this machine. Several Slots of one Config, in one process or in many, are
// the same slot: what one does the others see, and calls that change it wait for each other.
type Slot struct {
	cfg    Config
	client *http.Client

	mu    sync.Mutex
	child *proc.Child // the application, if this Slot started it; it tells the exit code
	token string      // of that start
}

var (
	_ abswap.InstallingSlot = (*Slot)(nil)
	_ abswap.StartingSlot   = (*Slot)(nil)
	_ abswap.WarmingSlot    = (*Slot)(nil)
	_ abswap.StoppingSlot   = (*Slot)(nil)
	_ abswap.InspectingSlot = (*Slot)(nil)
	_ abswap.Checker        = (*Slot)(nil)
)

// New returns the slot that cfg describes. An error lists all mistakes in cfg. It touches nothing: no file, no process.
func New(cfg Config) (*Slot, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("process slot %q: %w", cfg.Name, err)
	}
	cfg = cfg.withDefaults()
	cfg.Command = append([]string(nil), cfg.Command...)
	cfg.Env = append([]string(nil), cfg.Env...)
	cfg.Warm = append([]string(nil), cfg.Warm...)
	cfg.Dir = filepath.Clean(cfg.Dir)
	return &Slot{cfg: cfg, client: newClient()}, nil
}

// Name returns Config.Name.
func (s *Slot) Name() string { return s.cfg.Name }

// Log returns the path of the file that gets the application's output. Older ones are beside it: ".1" is the one before.
func (s *Slot) Log() string { return filepath.Join(s.cfg.Dir, "log", s.cfg.Name+".log") }

// Install records that the slot holds r, whose Path is the folder that the application runs in; it is not copied, so it must stay as it
// is while the slot holds it; a symbolic link is followed now, not at each start. At return that is on the disk. Installing again what
// is installed is fine, also while it runs. Anything else is refused with abswap.ErrSlotOccupied while the slot, or something it has
// begun, runs.
func (s *Slot) Install(ctx context.Context, r abswap.Release) (err error) {
	if err := ctx.Err(); err != nil {
		return s.errorf("install: %w", context.Cause(ctx))
	}
	if r, err = s.releaseOf(r); err != nil {
		return err
	}
	if err := s.makeDir(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = multi.Join(err, unlock()) }()
	rec, err := s.load()
	if err != nil {
		return err
	}
	same := rec.Release.ID == r.ID && rec.Release.Path == r.Path
	if rec.Run != nil {
		m, err := s.find(ctx, rec.Run)
		if err != nil {
			return err
		}
		if len(m.All) > 0 && !same {
			return s.errorf("it runs release %q (%s): stop it before release %q is installed: %w", rec.Release.ID, m.All[0], r.ID, abswap.ErrSlotOccupied)
		}
		if len(m.All) > 0 {
			return nil
		}
		rec.Run = nil
	}
	rec.Release, rec.Installed = r, time.Now()
	return s.save(rec)
}

// releaseOf returns r with its path made absolute, or says why it cannot be installed.
func (s *Slot) releaseOf(r abswap.Release) (abswap.Release, error) {
	if err := r.Check(); err != nil {
		return r, s.errorf("install: %w", err)
	}
	if r.Path == "" {
		return r, s.errorf("release %q has no Path: name the folder in which the application runs", r.ID)
	}
	path, err := filepath.Abs(r.Path)
	if err != nil {
		return r, s.errorf("release %q: %w", r.ID, err)
	}
	r.Path = path
	if err := s.checkFolder(r); err != nil {
		return r, err
	}
	if path, err := filepath.EvalSymlinks(r.Path); err == nil { // Windows has folders that it cannot follow
		r.Path = path
	}
	return r, nil
}

func (s *Slot) checkFolder(r abswap.Release) error {
	info, err := os.Stat(r.Path)
	if err != nil {
		return s.errorf("release %q: its folder: %w", r.ID, err)
	}
	if !info.IsDir() {
		return s.errorf("release %q: %q is not a folder", r.ID, r.Path)
	}
	return nil
}

// Inspect tells which release is installed, whether its process runs, since when, and at which address, whoever started it. The address
// is "" while it does not run.
func (s *Slot) Inspect(ctx context.Context) (abswap.SlotState, error) {
	rec, main, err := s.current(ctx)
	if err != nil {
		return abswap.SlotState{}, err
	}
	st := abswap.SlotState{Release: rec.Release.ID}
	if main != (proc.ID{}) {
		st.Running, st.Address, st.Started = true, rec.Run.Address, rec.Run.Begun
	}
	return st, nil
}

// current returns the record and the main process, zero if that does not run. It changes nothing.
func (s *Slot) current(ctx context.Context) (*record, proc.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, proc.ID{}, s.errorf("%w", context.Cause(ctx))
	}
	s.reap()
	rec, err := s.load()
	if err != nil || rec.Run == nil {
		return rec, proc.ID{}, err
	}
	if rec.Run.Process != (proc.ID{}) {
		ok, err := proc.Running(rec.Run.Process)
		if err != nil {
			return nil, proc.ID{}, s.errorf("%s: %w", rec.Run.Process, err)
		}
		if !ok {
			return rec, proc.ID{}, nil
		}
		return rec, rec.Run.Process, nil
	}
	m, err := s.find(ctx, rec.Run)
	return rec, m.Main, err
}

// find tells what runs of r.
func (s *Slot) find(ctx context.Context, r *run, also ...proc.ID) (proc.Members, error) {
	s.reap()
	m, err := r.tree().Find(ctx, also...)
	if err != nil {
		return m, s.errorf("its processes: %w", err)
	}
	return m, nil
}

// reap takes an application that this Slot started and that has ended off the system's list of processes. Each call on the slot does
// it, so that there is no goroutine that waits for the end.
func (s *Slot) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil {
		s.child.Exited()
	}
}

// exit tells how the application of r ended, if it did and this Slot started it.
func (s *Slot) exit(r *run) (proc.Exit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil || s.token != r.Token {
		return proc.Exit{}, false
	}
	return s.child.Exited()
}

// isAbsent reports whether the slot's folder was never made.
func (s *Slot) isAbsent() bool {
	_, err := os.Stat(s.cfg.Dir)
	return errors.Is(err, fs.ErrNotExist)
}
