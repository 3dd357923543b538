package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Check looks for what would keep a switch from going well: nginx and its version, the configuration as it lies on the disk, rights, what runs
// now, and settings that would break a promise. It runs nginx -v and nginx -T, and changes nothing.
func (s *Switcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	if err := supported(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	for _, slot := range r.Slots {
		if err := s.known(slot); err != nil {
			errs = append(errs, fmt.Errorf("the Swapper has a slot that the switcher has not: %w", err))
		}
	}
	errs = append(errs, s.checkVersion(ctx))
	tree, err := s.test(ctx)
	if err != nil {
		errs = append(errs, fmt.Errorf("the configuration as it lies on the disk is not usable: %w", err))
	} else {
		errs = append(errs, s.findings(tree, r)...)
	}
	errs = append(errs, s.checkRights()...)
	errs = append(errs, s.checkRunning(ctx)...)
	for i, err := range errs {
		switch warning, ok := err.(*abswap.Warning); {
		case err == nil:
		case ok:
			errs[i] = abswap.Warnf("nginx: %w", warning.Err)
		default:
			errs[i] = fmt.Errorf("nginx: %w", err)
		}
	}
	return multi.Join(errs...)
}

// oldest is the version from which on nginx has all that the file uses.
var oldest = Version{1, 11, 0}

func (s *Switcher) checkVersion(ctx context.Context) error {
	out, err := s.run(ctx, s.cfg.Command, "-v")
	if err != nil {
		return fmt.Errorf("cannot be run: %w; install it, or set Config.Command", err)
	}
	v, err := parseVersion(string(out.Stderr))
	if err != nil {
		return err
	}
	if v.before(oldest) {
		return fmt.Errorf("version %s is older than %s, which has all that is needed", v, oldest)
	}
	return nil
}

// checkRights looks at what we may do here.
func (s *Switcher) checkRights() []error {
	var errs []error
	path := s.cfg.Include
	if real, err := realPath(path); err == nil {
		path = real
	}
	if err := mayWrite(filepath.Dir(path)); err != nil {
		errs = append(errs, fmt.Errorf("the file is replaced by a new one in its folder: %w", err))
	}
	master, err := s.master()
	if err != nil {
		return append(errs, err)
	}
	if err := mayHangUp(master); err != nil && len(s.cfg.Reload) == 0 {
		errs = append(errs, fmt.Errorf("the master process %d cannot be told to reload: %w; run as its user, or set Config.Reload", master, err))
	}
	workers, err := workersOf(master)
	if err != nil {
		return append(errs, err)
	}
	if len(workers) == 0 {
		errs = append(errs, fmt.Errorf("the master process %d has no worker process: with master_process off nothing can be switched", master))
	}
	for _, x := range workers {
		if _, err := socketsOf(x.pid); errors.Is(err, fs.ErrPermission) {
			errs = append(errs, abswap.Warnf("the sockets of worker process %d may not be looked at: that an old worker has stopped accepting is then told "+
				"by its title alone, and it counts as work in the slot as long as it lives; run as root or as its user", x.pid))
			break
		}
	}
	return errs
}

// manyOld is how many workers of earlier configurations are worth a word.
const manyOld = 20

// checkRunning looks at what nginx runs now.
func (s *Switcher) checkRunning(ctx context.Context) []error {
	w, err := s.look(ctx)
	switch {
	case errors.Is(err, ErrNotRunning):
		return nil // told already
	case errors.Is(err, ErrNoMark):
		return []error{fmt.Errorf("%w; nginx.conf needs:\n%s", err, s.Snippet())}
	case err != nil:
		return []error{err}
	}
	var errs []error
	switch {
	case w.fileErr != nil:
		errs = append(errs, fmt.Errorf("%w: %q: %w", ErrPending, w.path, w.fileErr))
	case w.pending && w.file.edited:
		errs = append(errs, fmt.Errorf("%w: %q was changed by hand; nginx runs %q", ErrPending, w.path, w.mark))
	case w.pending:
		errs = append(errs, fmt.Errorf("%w: %q says %q and nginx runs %q", ErrPending, w.path, w.file.mark, w.mark))
	case w.file.edited:
		errs = append(errs, abswap.Warnf("%q was changed by hand: the next switch replaces it as a whole", w.path))
	default:
		for slot, peer := range s.peers {
			if has := w.file.in.slots[slot]; has != peer.String() {
				errs = append(errs, abswap.Warnf("%q has %q as the address of slot %q, Config.Slots has %q: the next switch changes it", w.path, has, slot, peer))
			}
		}
	}
	if _, err := s.inForce(w); err != nil {
		errs = append(errs, err)
	}
	old := 0
	for _, x := range w.workers {
		if x.quitting {
			old++
		}
	}
	if old >= manyOld {
		errs = append(errs, abswap.Warnf("%d worker processes of earlier configurations still finish what they had begun, and each switch adds some; "+
			"worker_shutdown_timeout bounds them", old))
	}
	return errs
}
