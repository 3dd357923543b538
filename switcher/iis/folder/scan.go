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
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// fresh is how new a time of last change may be for a second change right after it to show the same time; FAT counts in two seconds.
const fresh = 3 * time.Second

// most bounds how many mistakes of a source are told.
const most = 20

// listing is what a folder holds.
type listing struct {
	files   []entry // sorted by path
	folders []string
	bytes   int64
	taken   time.Time
}

type entry struct {
	path string // slash path below the folder
	size int64
	time time.Time
	mode fs.FileMode
}

// source opens the folder of a release and makes sure that it does not lie in what is written, nor that in it.
func (i *Installer) source(p places, dir string) (*os.Root, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: release %q has no Path: set it to the folder with the new files", ErrSource, p.id)
	}
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: release %q: %w", ErrSource, p.id, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, fmt.Errorf("%w: release %q: %w", ErrSource, p.id, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: release %q: %q is not a folder", ErrSource, p.id, dir)
	}
	for _, target := range []string{p.folder, p.part, p.gone} {
		if inside(target, abs) {
			return nil, fmt.Errorf("%w: release %q: its source %q lies within its target %q", ErrSource, p.id, dir, target)
		}
	}
	if inside(abs, i.cfg.Parent) {
		return nil, fmt.Errorf("%w: release %q: its target %q would lie within its source %q", ErrSource, p.id, p.folder, dir)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("%w: release %q: %w", ErrSource, p.id, err)
	}
	return root, nil
}

// inside tells whether path is folder or lies below it, whatever their spelling. What does not exist is compared by its name alone.
func inside(folder, path string) bool {
	f, ferr := os.Stat(folder)
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		if strings.EqualFold(at, filepath.Clean(folder)) && (ferr != nil || at == filepath.Clean(folder)) {
			return true
		}
		if ferr == nil {
			if info, err := os.Stat(at); err == nil && os.SameFile(info, f) {
				return true
			}
		}
		if filepath.Dir(at) == at {
			return false
		}
	}
}

// scan lists a source. The error wraps ErrSource, ErrLink or ErrInUse and tells all that keeps it from being installed, up to a bound.
func (i *Installer) scan(ctx context.Context, root *os.Root) (*listing, error) {
	hurried := &Installer{} // once one file stayed in use, the others are not waited for
	patient := i
	l := &listing{taken: time.Now()}
	var errs []error
	add := func(sentinel error, format string, args ...any) {
		if len(errs) < most {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{sentinel}, args...)...))
		}
	}
	seen := map[string]string{}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if err != nil {
			add(ErrSource, "%w", err)
			return nil
		}
		if name == "." {
			return nil
		}
		if err := CheckName(path.Base(name)); err != nil {
			add(ErrSource, "%q: %w", name, err)
		} else if twin, ok := seen[fold(name)]; ok {
			add(ErrSource, "%q and %q differ only in case", twin, name)
		}
		seen[fold(name)] = name
		switch typ := d.Type(); {
		case typ.IsDir():
			l.folders = append(l.folders, name)
		case typ == 0 || typ == fs.ModeSymlink:
			var info fs.FileInfo
			err := patient.patiently(ctx, open, func() (err error) {
				info, err = root.Stat(name) // what a directory lists on Windows may be old
				return err
			})
			switch {
			case errors.Is(err, ErrInUse):
				patient = hurried
				add(ErrSource, "%w", err)
			case err != nil && typ == fs.ModeSymlink:
				add(ErrLink, "%q: %w", name, err)
			case err != nil:
				add(ErrSource, "%w", err)
			case info.IsDir():
				add(ErrLink, "%q leads to a folder: links to files alone are copied", name)
			case !info.Mode().IsRegular():
				add(ErrSource, "%q is no regular file (%s)", name, info.Mode().Type())
			default:
				l.files = append(l.files, entry{path: name, size: info.Size(), time: info.ModTime(), mode: info.Mode()})
				l.bytes += info.Size()
			}
		default:
			add(ErrSource, "%q is no regular file (%s)", name, typ)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(l.files) == 0 && len(errs) == 0 {
		add(ErrSource, "%q holds no file", root.Name())
	}
	slices.SortFunc(l.files, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	slices.Sort(l.folders)
	return l, multi.Join(errs...)
}

// unchanged lists the source again; the error wraps ErrChanged if it is not what l and sums say. A file that had been changed just before
// it was listed is read again: one more change could have left it the same time and size.
func (i *Installer) unchanged(ctx context.Context, root *os.Root, l *listing, sums []File) error {
	now, err := i.scan(ctx, root)
	if cerr := context.Cause(ctx); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	diff := &DiffError{Folder: root.Name(), Against: "what it was a moment ago"}
	diff.folders(l.folders, now.folders)
	pairs(l.files, now.files, entryPath, entryPath, func(was, is *entry) {
		switch {
		case is == nil:
			diff.Missing = append(diff.Missing, was.path)
		case was == nil:
			diff.Extra = append(diff.Extra, is.path)
		case was.size != is.size || !was.time.Equal(is.time):
			diff.Changed = append(diff.Changed, is.path)
		}
	})
	if err := diff.err(); err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	for n, e := range l.files {
		if e.time.Before(l.taken.Add(-fresh)) {
			continue
		}
		f, err := i.hashFile(ctx, root, e.path)
		if err != nil {
			return err
		}
		if f != sums[n] {
			return fmt.Errorf("%w: %q", ErrChanged, e.path)
		}
	}
	return nil
}

// pairs walks two sorted lists side by side; f gets nil for what is in one alone.
func pairs[A, B any](was []A, is []B, wasKey func(A) string, isKey func(B) string, f func(was *A, is *B)) {
	for len(was) > 0 || len(is) > 0 {
		c := 0
		switch {
		case len(is) == 0:
			c = -1
		case len(was) == 0:
			c = 1
		default:
			c = strings.Compare(wasKey(was[0]), isKey(is[0]))
		}
		switch {
		case c < 0:
			f(&was[0], nil)
			was = was[1:]
		case c > 0:
			f(nil, &is[0])
			is = is[1:]
		default:
			f(&was[0], &is[0])
			was, is = was[1:], is[1:]
		}
	}
}

func entryPath(e entry) string { return e.path }
func filePath(f File) string   { return f.Path }
func itself(s string) string   { return s }

func (e *DiffError) folders(was, is []string) {
	pairs(was, is, itself, itself, func(was, is *string) {
		switch {
		case is == nil:
			e.Missing = append(e.Missing, *was+"/")
		case was == nil:
			e.Extra = append(e.Extra, *is+"/")
		}
	})
}

// hashFile reads a file within root and returns its size and hash.
func (i *Installer) hashFile(ctx context.Context, root *os.Root, name string) (File, error) {
	var f *os.File
	err := i.patiently(ctx, open, func() (err error) {
		f, err = root.Open(name)
		return err
	})
	if err != nil {
		return File{}, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(h, reader{ctx, f}, make([]byte, 256<<10))
	if err = multi.Join(err, f.Close()); err != nil {
		return File{}, err
	}
	return File{Path: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// exists tells whether something, of any kind, is at path.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
