package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/retry"
)

// settling is how long a file may be on its way into nginx before that counts as not loaded.
const settling = 5 * time.Second

// Traits tells what nginx does at a reload: worker processes that shut down close the connections on which they wait for a next request.
func (s *Switcher) Traits() abswap.Traits { return abswap.Traits{ClosesIdle: true} }

// State is what nginx runs and what it would run after the next reload.
type State struct {
	Running Mark           // what answers at the front door
	Weights map[string]int // in force, by slot, in per cents, without zeros
	File    Mark           // what the file says it is
	Edited  bool           // the file was changed by hand since a Switcher wrote it
	Pending bool           // the file is not what nginx runs: the next reload, whoever does it, would change something
	Master  int            // process
	Workers int            // worker processes that take new connections
	Old     int            // worker processes that only finish what they had begun
}

// Observe looks at nginx and at the file, and changes nothing.
func (s *Switcher) Observe(ctx context.Context) (State, error) {
	w, err := s.look(ctx)
	if err != nil {
		return State{}, err
	}
	st := State{Running: w.mark, File: w.file.mark, Edited: w.file.edited, Pending: w.pending, Master: w.master}
	for _, x := range w.workers {
		if x.quitting {
			st.Old++
		} else {
			st.Workers++
		}
	}
	st.Weights, err = s.inForce(w)
	return st, err
}

// Active returns the slot that takes new work, as nginx runs it, whatever the file says. While a change that was just written is on its way
// into nginx it waits for it, for at most some seconds.
func (s *Switcher) Active(ctx context.Context) (string, error) {
	weights, err := s.Weights(ctx)
	if err != nil {
		return "", err
	}
	best := ""
	for _, slot := range slices.Sorted(maps.Keys(weights)) {
		if best == "" || weights[slot] > weights[best] {
			best = slot
		}
	}
	switch len(weights) {
	case 0:
		return "", abswap.ErrNoActive
	case 1:
		return best, nil
	}
	return best, fmt.Errorf("nginx: %w: %v", abswap.ErrMixed, weights)
}

// Weights returns the parts of the slots, as nginx runs them. See Active.
func (s *Switcher) Weights(ctx context.Context) (map[string]int, error) {
	st, err := s.Observe(ctx)
	return st.Weights, err
}

// Activate sends all new work to the slot. At return the new configuration answers at the front door, and no worker process that has another
// one accepts connections. ErrRefused if nginx does not take it; what was there before is then back in its place.
func (s *Switcher) Activate(ctx context.Context, slot abswap.Slot) error {
	return s.SetWeights(ctx, abswap.Weight{Slot: slot, Part: 100})
}

// SetWeights shares new work out. Each request is drawn for itself, by Config.Key, so that the parts are met as chance has it and not better;
// there is no further tolerance. For the rest it is as Activate.
func (s *Switcher) SetWeights(ctx context.Context, list ...abswap.Weight) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, w := range list {
		if w.Slot != nil {
			if err := s.known(w.Slot); err != nil {
				return err
			}
		}
	}
	if err := abswap.CheckWeights(list); err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	weights := map[string]int{}
	for slot := range s.peers {
		weights[slot] = 0
	}
	for _, w := range list {
		weights[w.Slot.Name()] = w.Part
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
	return s.move(ctx, w, weights)
}

// begin waits until nobody else changes something by this Switcher. done is called in the end.
func (s *Switcher) begin(ctx context.Context) (done func(), err error) {
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// world is nginx and the file at one moment.
type world struct {
	master  int
	workers []worker
	mark    Mark // at the front door

	file    found
	fileErr error  // why the file says nothing
	raw     []byte // of the file; nil: there is none
	mode    fs.FileMode
	path    string // of the file, links followed
	loaded  bool   // edited: all workers were started after that
	pending bool
}

// look looks at nginx and at the file, and waits for a file that is on its way.
func (s *Switcher) look(ctx context.Context) (world, error) {
	var w world
	look := func(ctx context.Context) (err error) {
		w, err = s.glance(ctx)
		if err != nil {
			return retry.Stop(err)
		}
		if w.pending && !w.file.edited && w.fileErr == nil && w.young() {
			return ErrPending
		}
		return nil
	}
	err := retry.Do(ctx, retry.Policy{First: 10 * time.Millisecond, Max: 100 * time.Millisecond}, look)
	if err != nil {
		if ctx.Err() != nil {
			return w, ctx.Err()
		}
		return w, fmt.Errorf("nginx: %w", err)
	}
	s.notes.see(w)
	return w, nil
}

// glance looks once.
func (s *Switcher) glance(ctx context.Context) (w world, err error) {
	if err := supported(); err != nil {
		return w, err
	}
	if err := ctx.Err(); err != nil {
		return w, err
	}
	if err := s.readFile(&w); err != nil {
		return w, err
	}
	if w.master, err = s.master(); err != nil {
		return w, err
	}
	if w.workers, err = workersOf(w.master); err != nil {
		return w, err
	}
	if w.mark, err = s.ask(ctx); err != nil {
		return w, err
	}
	if w.file.edited {
		if w.loaded, err = w.loadedSince(w.path); err != nil {
			return w, err
		}
	}
	w.pending = w.fileErr != nil || !w.file.mark.same(w.mark) || w.file.edited && !w.loaded
	return w, nil
}

// readFile reads the file of the site. One that is missing or says nothing is no error: nginx goes on with what it has loaded.
func (s *Switcher) readFile(w *world) error {
	w.path, w.mode = s.cfg.Include, 0o644
	info, err := os.Lstat(w.path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 { // the link stays, what it leads to is replaced
		if w.path, err = realPath(w.path); err == nil {
			info, err = os.Stat(w.path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.fileErr = err
		return nil
	}
	if err != nil {
		return err
	}
	w.mode = info.Mode().Perm()
	if w.raw, err = atomicfile.Read(w.path); err != nil {
		return err
	}
	w.file, w.fileErr = parseInclude(s.cfg.Name, string(w.raw))
	return nil
}

// young tells whether the file was written a moment ago.
func (w *world) young() bool {
	info, err := os.Stat(w.path)
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	return age > -settling && age < settling
}

// loadedSince tells whether all workers that take connections were started after the file at path came about.
func (w *world) loadedSince(path string) (bool, error) {
	for _, x := range w.workers {
		if x.quitting {
			continue
		}
		if before, err := startedBefore(x, path); before || err != nil {
			return false, err
		}
	}
	return true, nil
}

// inForce tells the weights that nginx runs, without zeros.
func (s *Switcher) inForce(w world) (map[string]int, error) {
	weights := maps.Clone(w.mark.Weights)
	maps.DeleteFunc(weights, func(_ string, part int) bool { return part == 0 })
	route := w.mark.Route
	if w.file.edited && w.loaded && w.file.mark.same(w.mark) {
		var err error
		if w.file.trouble != "" {
			return nil, fmt.Errorf("nginx: %q was changed by hand, and what it says is not understood: %s", w.path, w.file.trouble)
		}
		if weights, err = w.file.in.byAddress(s.peers); err != nil {
			return nil, fmt.Errorf("nginx: %q was changed by hand: %w", w.path, err)
		}
		return weights, nil // the upstream groups may have other addresses, so that the route tells nothing
	}
	for slot := range weights {
		if route == s.upstream(slot) {
			return weights, nil
		}
	}
	if len(weights) == 0 && route == nowhere(s.variable()) {
		return weights, nil
	}
	return nil, fmt.Errorf("nginx: the front door says %q and led the request to %q: the file was changed by hand and changed again; "+
		"reload nginx, or activate a slot", Mark{Name: w.mark.Name, Generation: w.mark.Generation, Digest: w.mark.Digest, Weights: w.mark.Weights}, route)
}
