package nginx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// realPath follows links.
func realPath(path string) (string, error) { return filepath.EvalSymlinks(path) }

// target is the file for the weights.
func (s *Switcher) target(w world, weights map[string]int) include {
	in := include{name: s.cfg.Name, gen: max(w.file.mark.Generation, w.mark.Generation) + 1, weights: weights, slots: map[string]string{},
		key: s.cfg.Key, keepalive: s.cfg.Keepalive}
	for slot, peer := range s.peers {
		in.slots[slot] = peer.String()
	}
	for _, x := range w.workers {
		in.earlier = append(in.earlier, generation{worker: worker{pid: x.pid, start: x.start}, slots: s.notes.leads(x)})
	}
	return in
}

// move brings nginx to the weights.
func (s *Switcher) move(ctx context.Context, w world, weights map[string]int) error {
	to := s.target(w, weights)
	if !w.pending && !w.file.edited && w.file.in.body() == to.body() { // it is so; perhaps since a moment ago, by one who did not wait
		const unread = -1 // nobody was told to reload here: what the log says is of others
		if err := s.confirm(ctx, w, w.file.mark, earlier(w.file.in), unread); err != nil {
			return s.ended(ctx, fmt.Errorf("nginx: generation %d, which runs already: %w", w.file.mark.Generation, err))
		}
		return nil
	}
	text := to.render()
	if w.raw != nil {
		if err := atomicfile.Write(s.before(w.path), w.raw, w.mode); err != nil {
			return fmt.Errorf("nginx: keeping what is in %q: %w", w.path, err)
		}
	}
	if err := atomicfile.Write(w.path, []byte(text), w.mode); err != nil {
		return fmt.Errorf("nginx: %w", multi.Join(err, s.putBack(w)))
	}
	if _, err := s.test(ctx); err != nil {
		if ctx.Err() != nil {
			return s.undone(ctx.Err(), s.putBack(w))
		}
		return s.undone(fmt.Errorf("nginx: %w: %w", ErrRefused, err), s.putBack(w))
	}
	logged := s.logEnd()
	if err := ctx.Err(); err != nil {
		return s.undone(err, s.putBack(w))
	}
	if err := s.reload(ctx, w.master); err != nil {
		return unsure(s.undone(s.ended(ctx, fmt.Errorf("nginx: reload: %w", err)), s.putBack(w)))
	}
	err := s.confirm(ctx, w, to.mark(), w.workers, logged)
	switch {
	case err == nil:
		s.notes.mark(w, to.mark())
		return nil
	case ctx.Err() != nil:
		return unsure(s.ended(ctx, err))
	}
	return s.giveUp(w, logged, err)
}

// earlier lists the workers that ran before the file was written.
func earlier(in include) []worker {
	var all []worker
	for _, g := range in.earlier {
		all = append(all, g.worker)
	}
	return all
}

// before is where the file's last content is kept. Its name fits no pattern of an include.
func (s *Switcher) before(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+".before")
}

// putBack makes the file what it was.
func (s *Switcher) putBack(w world) error {
	var err error
	if w.raw == nil {
		if err = atomicfile.Remove(w.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = atomicfile.Write(w.path, w.raw, w.mode)
	}
	if err != nil {
		return fmt.Errorf("%q holds a configuration that is not in force, and cannot be put back from %q: %w", w.path, s.before(w.path), err)
	}
	return nil
}

// undone joins what went wrong with what could not be put back.
func (s *Switcher) undone(err, back error) error {
	if back == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, back)
}

// ended puts the context's error into err where that is the reason.
func (s *Switcher) ended(ctx context.Context, err error) error {
	if cerr := ctx.Err(); cerr != nil && !errors.Is(err, cerr) {
		return fmt.Errorf("%w: %w", cerr, err)
	}
	return err
}

// reload makes nginx load its configuration. It answers nothing: that is confirm's.
func (s *Switcher) reload(ctx context.Context, master int) error {
	if len(s.cfg.Reload) > 0 {
		_, err := s.run(ctx, s.cfg.Reload)
		return err
	}
	if err := isMaster(master); err != nil { // a signal to another process would end it
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return hangUp(master)
}

// confirm waits until none of the old workers accepts connections, there are others, and the front door answers with the mark.
func (s *Switcher) confirm(ctx context.Context, w world, want Mark, old []worker, logged int64) error {
	limit, cancel := context.WithTimeoutCause(ctx, s.cfg.Patience, fmt.Errorf("not in force after %s", s.cfg.Patience))
	defer cancel()
	return retry.Do(limit, retry.Policy{First: 15 * time.Millisecond, Max: 30 * time.Millisecond}, func(ctx context.Context) error {
		if err := s.replaced(w.master, old); err != nil {
			if why := s.refusal(w.master, logged); why != "" {
				return retry.Stop(fmt.Errorf("%w: %s", ErrRefused, why))
			}
			return err
		}
		for range s.cfg.Probes {
			got, err := s.ask(ctx)
			if err != nil {
				return err
			}
			if !got.same(want) {
				return fmt.Errorf("the front door answers %q, not %q", got, want)
			}
		}
		return nil
	})
}

// replaced returns nil if there are workers that accept connections and none of the old ones does.
func (s *Switcher) replaced(master int, old []worker) error {
	if err := isMaster(master); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	var quitting []worker
	for _, x := range old { // each is looked at by itself: a list of processes may miss one
		p, err := lookAt(x.pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		switch now, ok := p.asWorker(master); {
		case !ok || !now.is(x): // another process by now, or one that is just ending
		case !now.quitting:
			return fmt.Errorf("worker process %d still takes connections by the old configuration", x.pid)
		default:
			quitting = append(quitting, now)
		}
	}
	now, err := workersOf(master)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(now, func(x worker) bool { return !x.quitting && !holds(old, x) }) {
		return errors.New("there is no new worker process yet")
	}
	if len(quitting) == 0 {
		return nil
	}
	table, err := listenersOf(master)
	if err != nil {
		return err
	}
	for _, x := range quitting {
		if listening(x, table) {
			return fmt.Errorf("worker process %d is shutting down and has not closed its listening sockets yet", x.pid)
		}
	}
	return nil
}

// gone tells whether the error says that there is no such process.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// listening tells whether the worker holds a listening socket, as far as we may look. If we may not, its title has to do: nginx sets that
// an instant before it closes the sockets.
func listening(x worker, table []socket) bool {
	own, err := socketsOf(x.pid)
	if err != nil {
		return false
	}
	for _, t := range table {
		if t.state == stateListen && own[t.inode] {
			return true
		}
	}
	return false
}

// giveUp puts the file back after a reload that did not come about, and makes sure of what nginx runs.
func (s *Switcher) giveUp(w world, logged int64, err error) error {
	back := s.putBack(w)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Patience)
	defer cancel()
	refused := errors.Is(err, ErrRefused)
	if !refused {
		// It may only be slow, and load the file yet, or have loaded it. A second order, after the first, ends at what is in the file now.
		if rerr := s.reload(ctx, w.master); rerr != nil {
			return unsure(s.undone(fmt.Errorf("nginx: %w; reload of what was there before: %w", err, rerr), back))
		}
		if why := s.refusal(w.master, logged); why != "" {
			err, refused = fmt.Errorf("%w: %s; %w", ErrRefused, why, err), true
		}
	}
	now, aerr := s.ask(ctx)
	switch {
	case aerr != nil:
		return unsure(s.undone(fmt.Errorf("nginx: %w; afterwards: %w", err, aerr), back))
	case !now.same(w.mark):
		return unsure(s.undone(fmt.Errorf("nginx: %w; afterwards the front door answered %q", err, now), back))
	case !refused:
		return unsure(s.undone(fmt.Errorf("nginx: it was told to load the configuration, and said nothing that can be read here: %w; "+
			"it was told to load what was there before", err), back))
	}
	return s.undone(fmt.Errorf("nginx: %w", err), back)
}

// logEnd is where the error log ends now; -1: it cannot be read.
func (s *Switcher) logEnd() int64 {
	info, err := os.Stat(s.notes.errorLog(s.cfg.ErrorLog))
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	return info.Size()
}

// refusal returns what the master process has said in the error log since then that means that it did not take a configuration; "": nothing,
// or it cannot be told. That an address is in use is tried again by nginx, and counts once it gives up.
func (s *Switcher) refusal(master int, since int64) string {
	if since < 0 {
		return ""
	}
	f, err := os.Open(s.notes.errorLog(s.cfg.ErrorLog))
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(since, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, 256<<10))
	if err != nil {
		return ""
	}
	return refusalIn(string(text), master)
}

// refusalIn is refusal for the text of a log.
func refusalIn(text string, master int) string {
	last := ""
	for _, x := range parseSaid(text) {
		if x.Level != "emerg" || x.PID != master {
			continue
		}
		if strings.HasPrefix(x.Text, "bind() to ") {
			last = x.Text
			continue
		}
		if last != "" && x.Text == "still could not bind()" {
			return last
		}
		return x.Text
	}
	return ""
}

// Prepare writes the file for the first time, so that nginx.conf can include it: all new work goes to the slot. It loads nothing. A file
// that is there already is left as it is, and is an error that wraps fs.ErrExist.
func (s *Switcher) Prepare(ctx context.Context, slot abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.known(slot); err != nil {
		return err
	}
	if _, err := os.Lstat(s.cfg.Include); err == nil {
		return fmt.Errorf("nginx: %w", &fs.PathError{Op: "prepare", Path: s.cfg.Include, Err: fs.ErrExist})
	}
	weights := map[string]int{}
	for name := range s.peers {
		weights[name] = 0
	}
	weights[slot.Name()] = 100
	if err := atomicfile.Write(s.cfg.Include, []byte(s.target(world{}, weights).render()), 0o644); err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	return nil
}
