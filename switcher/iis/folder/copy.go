package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// workers is how many files are copied at once: what takes time is the flush of each.
const workers = 4

// job copies or reads files and counts them.
type job struct {
	in   *Installer
	step Step
	of   int
	full int64

	mu    sync.Mutex // orders the reports
	files int
	bytes int64
}

func (j *job) done(n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.files++
	j.bytes += n
	j.in.progress(Progress{Step: j.step, Files: j.files, Of: j.of, Bytes: j.bytes, Full: j.full})
}

// each calls f for the numbers below n on a few goroutines, until one fails or ctx ends, and returns what failed.
func each(ctx context.Context, n int, f func(ctx context.Context, n int) error) error {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range min(workers, n) {
		wg.Go(func() {
			for errs[w] == nil && work.Err() == nil {
				at := int(next.Add(1)) - 1
				if at >= n {
					return
				}
				if errs[w] = f(work, at); errs[w] != nil {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// That the others were ended by the first failure says nothing.
	return multi.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })...)
}

// copyAll copies what l lists and returns the files' hashes, in the order of l.
func (i *Installer) copyAll(ctx context.Context, from, to *os.Root, l *listing) ([]File, error) {
	for _, d := range l.folders {
		if err := to.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	sums := make([]File, len(l.files))
	j := &job{in: i, step: StepCopy, of: len(l.files), full: l.bytes}
	err := each(ctx, len(l.files), func(ctx context.Context, n int) error {
		sum, err := i.copyFile(ctx, from, to, l.files[n])
		if err != nil {
			return err
		}
		sums[n] = sum
		j.done(sum.Size)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sums, nil
}

// copyFile copies one file and flushes it.
func (i *Installer) copyFile(ctx context.Context, from, to *os.Root, e entry) (f File, err error) {
	in, err := i.openSource(ctx, from, e.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return File{}, err
	}
	defer func() { err = multi.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return File{}, err
	}
	if info.Size() != e.size || !info.ModTime().Equal(e.time) {
		return File{}, fmt.Errorf("%w: %q", ErrChanged, e.path)
	}
	out, err := to.OpenFile(e.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, writable(e.mode))
	if err != nil {
		return File{}, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(out, h), reader{ctx, in}, make([]byte, 256<<10))
	if err == nil && n != e.size {
		err = fmt.Errorf("%w: %q has %d bytes, it had %d", ErrChanged, e.path, n, e.size)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = multi.Join(err, out.Close()); err != nil {
		return File{}, err
	}
	if err := to.Chtimes(e.path, e.time, e.time); err != nil {
		return File{}, err
	}
	return File{Path: e.path, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// writable keeps what may be executed; what is installed can be removed again.
func writable(mode fs.FileMode) fs.FileMode { return mode.Perm() | 0o600 }

// openSource opens a file of the source, on Windows so that nobody writes to it meanwhile. What is in use is tried again for a while.
func (i *Installer) openSource(ctx context.Context, root *os.Root, name string) (f *os.File, err error) {
	err = i.patiently(ctx, open, func() error {
		shared, err := root.Open(name)
		if err == nil {
			f, err = alone(shared)
		}
		return err
	})
	return f, err
}

// flush puts all of a copy that others made onto the disk, and its folders.
func flush(ctx context.Context, root *os.Root, l *listing) error {
	return each(ctx, len(l.files), func(_ context.Context, n int) error {
		return flushFile(root, l.files[n])
	})
}

func flushFile(root *os.Root, e entry) error {
	if writable(e.mode) != e.mode.Perm() {
		if err := root.Chmod(e.path, writable(e.mode)); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(e.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return multi.Join(f.Sync(), f.Close())
}

// flushFolders puts the entries of the folders onto the disk, the deepest first. Windows has that in the journal of the volume.
func flushFolders(root *os.Root, folders []string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	for _, d := range append(deepestFirst(folders), ".") {
		f, err := root.Open(d)
		if err != nil {
			return err
		}
		if err := multi.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func deepestFirst(folders []string) []string {
	sorted := slices.Clone(folders)
	slices.SortStableFunc(sorted, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return sorted
}

// patiently calls f again while its error is one that passes, for Config.Patience.
func (i *Installer) patiently(ctx context.Context, passes func(error) bool, f func() error) error {
	wait, cancel := context.WithTimeout(ctx, max(i.cfg.Patience, 0))
	defer cancel()
	var last error
	err := retry.Do(wait, retry.Policy{First: 5 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) error {
		if last = f(); last != nil && passes(last) {
			return last
		}
		return retry.Stop(last)
	})
	switch {
	case err == nil, last == nil:
		return nil
	case !passes(last):
		return last
	case ctx.Err() != nil:
		return fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
	case open(last):
		return fmt.Errorf("%w: %w", ErrInUse, last)
	}
	return fmt.Errorf("%w, or this user may not do it: %w", ErrInUse, last)
}

// noSpace adds ErrNoSpace to what the system says when a disk is full.
func noSpace(err error) error {
	if err != nil && atomicfile.Full(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// needed is what a copy takes: files in whole clusters, and as much again for what the disk notes of each file and folder.
func (l *listing) needed() int64 {
	const cluster = 4096
	n := int64(len(l.files)+len(l.folders)+1) * cluster
	for _, f := range l.files {
		n += (f.size + cluster - 1) / cluster * cluster
	}
	return n
}

// space refuses what would not fit.
func (i *Installer) space(l *listing) error {
	free, err := i.cfg.Free(i.cfg.Parent)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("free space of %q: %w", i.cfg.Parent, err)
	}
	if need := l.needed(); free < need+i.cfg.MinFree {
		return fmt.Errorf("%w: the copy takes %d MiB and %d MiB shall stay free, but the disk of %q has %d MiB: prune old releases",
			ErrNoSpace, mib(need), mib(i.cfg.MinFree), i.cfg.Parent, free>>20)
	}
	return nil
}

func mib(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
