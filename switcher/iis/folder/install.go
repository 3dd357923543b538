package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
)

// Install makes the folder of a release out of the folder r.Path and returns its path. At return the folder is complete, compared with its
// source and on the disk. It is idempotent: a release that is installed already is compared with its manifest, and with r.Path if that is
// there, and left alone; one that differs is refused with a *DiffError, never repaired, since a site may live in it. What a killed run left
// is removed first. After an error there is no folder, and nothing is left of the copy
// (only if the very last flush, of Parent, is what failed, the folder is there; the next call then compares it).
//
// The errors wrap ErrSource, ErrLink, ErrChanged, ErrNoSpace, ErrInUse, ErrForeign, ErrDiffers, ErrManifest, abswap.ErrBusy, the context's
// cause, a *ToolError, or are the system's. What Check finds in the source is refused too, but for warnings.
func (i *Installer) Install(ctx context.Context, r abswap.Release) (string, error) {
	p := i.places(r.ID)
	if err := multi.Join(r.Check(), p.check()); err != nil {
		return "", err
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return "", fmt.Errorf("install of release %q: %w", r.ID, err)
	}
	err = i.install(ctx, p, r.Path)
	if err = multi.Join(noSpace(err), unlock()); err != nil {
		return "", fmt.Errorf("install of release %q: %w", r.ID, err)
	}
	return p.folder, nil
}

// Check looks at what Install would do with r and changes nothing. It tells all that it finds; *abswap.Warning are such as Install bears.
func (i *Installer) Check(ctx context.Context, r abswap.Release) error {
	p := i.places(r.ID)
	if err := multi.Join(r.Check(), p.check()); err != nil {
		return err
	}
	var errs []error
	if _, err := os.Lstat(filepath.Join(i.cfg.Parent, "web.config")); err == nil {
		errs = append(errs, abswap.Warnf("folder %q has a web.config: the sites below it inherit that, and if it is served itself, so are the manifests",
			i.cfg.Parent))
	}
	if _, err := i.installed(p); !errors.Is(err, ErrNotInstalled) {
		return multi.Join(append(errs, err, i.twin(p))...)
	}
	root, err := i.source(p, r.Path)
	if err != nil {
		return multi.Join(append(errs, err, i.twin(p))...)
	}
	l, err := i.scan(ctx, root)
	if err == nil {
		err = multi.Join(i.space(l), longPaths(p, l))
	}
	_, traps := Check(root.Name(), i.cfg.Limits)
	return multi.Join(append(errs, i.twin(p), err, traps, root.Close())...)
}

// longPaths warns of files that a program without long paths cannot open.
func longPaths(p places, l *listing) error {
	const maxPath = 259
	var long []string
	for _, f := range l.files {
		if units(p.folder)+1+units(f.path) > maxPath {
			long = append(long, f.path)
		}
	}
	if len(long) == 0 {
		return nil
	}
	return abswap.Warnf("%d files have paths of more than %d characters in %q, which .NET Framework and many tools cannot open: %s",
		len(long), maxPath, p.folder, some(long))
}

// twin refuses a release whose folder's name differs from another's only in case: on Windows they are one.
func (i *Installer) twin(p places) error {
	entries, err := os.ReadDir(i.cfg.Parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, mine := range []string{p.folder, p.part, p.gone, p.manifest} {
			if base := filepath.Base(mine); e.Name() != base && fold(e.Name()) == fold(base) {
				return fmt.Errorf("release %q: %q would differ from %q in %q only in case: choose another ID: %w",
					p.id, base, e.Name(), i.cfg.Parent, ErrForeign)
			}
		}
	}
	return nil
}

// install does it, under the lock.
func (i *Installer) install(ctx context.Context, p places, source string) error {
	if err := i.twin(p); err != nil {
		return err
	}
	m, err := i.installed(p)
	if err == nil {
		return i.confirm(ctx, p, m, source)
	}
	if !errors.Is(err, ErrNotInstalled) {
		return err
	}
	number, err := i.tidy(ctx, p)
	if err != nil {
		return err
	}
	root, err := i.source(p, source)
	if err != nil {
		return err
	}
	m = &Manifest{Name: i.cfg.Name, Release: p.id, Number: number, Installed: time.Now(), Source: root.Name()}
	return multi.Join(i.create(ctx, p, root, m), root.Close())
}

// confirm compares an installed release with its manifest, and with its source if there is one.
func (i *Installer) confirm(ctx context.Context, p places, m *Manifest, source string) error {
	if err := i.verify(ctx, p.folder, m); err != nil {
		if errors.Is(err, ErrDiffers) {
			err = fmt.Errorf("it is installed already, but was changed since: name what the application itself writes in Volatile, "+
				"or remove the release, or choose another ID: %w", err)
		}
		return err
	}
	if source == "" {
		return nil
	}
	if there, err := exists(source); err != nil || !there {
		return err
	}
	root, err := i.source(p, source)
	if err != nil {
		return err
	}
	l, err := i.scan(ctx, root)
	if err == nil {
		err = i.compareListed(ctx, root, l, nil, m, fmt.Sprintf("what is installed in %q", p.folder), nil)
	}
	if errors.Is(err, ErrDiffers) {
		err = fmt.Errorf("it is installed already, but its source is another one now: one ID names one content, choose another: %w", err)
	}
	return multi.Join(err, root.Close())
}

// create copies the source and gives the copy its name. After an error nothing of it is left.
func (i *Installer) create(ctx context.Context, p places, src *os.Root, m *Manifest) (err error) {
	i.progress(Progress{Step: StepScan})
	l, err := i.scan(ctx, src)
	if err != nil {
		return err
	}
	_, traps := Check(src.Name(), i.cfg.Limits)
	if err := multi.Join(grave(traps)...); err != nil {
		return err
	}
	if err := i.space(l); err != nil {
		return err
	}
	for _, path := range []string{p.part, p.gone} { // no manifest says that they are ours
		if there, err := exists(path); err != nil || there {
			return multi.Join(err, fmt.Errorf("%q is in the way and was %w: remove it", path, ErrForeign))
		}
	}
	defer func() {
		if err != nil {
			err = multi.Join(err, i.discard(p))
		}
	}()
	if err := m.save(p); err != nil { // from here on ~part is known to be ours
		return err
	}
	if err := os.Mkdir(p.part, 0o755); err != nil {
		return err
	}
	if err := i.fill(ctx, p, src, l, m); err != nil {
		return err
	}
	i.progress(Progress{Step: StepFinish})
	m.Complete, m.Installed = true, time.Now()
	if err := m.save(p); err != nil {
		return err
	}
	if there, err := exists(p.folder); err != nil || there {
		return multi.Join(err, fmt.Errorf("folder %q was %w: it came while the copy was made", p.folder, ErrForeign))
	}
	if err := i.patiently(ctx, openWithin, func() error { return moveFolder(p.part, p.folder) }); err != nil {
		return err
	}
	return atomicfile.SyncDir(i.cfg.Parent)
}

// fill copies all into ~part, compares both and flushes.
func (i *Installer) fill(ctx context.Context, p places, src *os.Root, l *listing, m *Manifest) (err error) {
	dst, err := os.OpenRoot(p.part)
	if err != nil {
		return err
	}
	defer func() { err = multi.Join(err, dst.Close()) }()
	m.Folders = l.folders
	if i.cfg.Copy == nil {
		m.Files, err = i.copyAll(ctx, src, dst, l)
	} else {
		m.Files, err = i.copyByTool(ctx, p, src, dst, l)
	}
	if err != nil {
		return err
	}
	// What is read back must be what was read, volatile or not.
	if err := i.compare(ctx, dst, m, fmt.Sprintf("its source %q", src.Name()), nil); err != nil {
		return fmt.Errorf("the copy is not good: %w", err)
	}
	if err := i.unchanged(ctx, src, l, m.Files); err != nil {
		return err
	}
	return flushFolders(dst, l.folders)
}

// copyByTool lets Config.Copy copy, and reads the source for the hashes.
func (i *Installer) copyByTool(ctx context.Context, p places, src, dst *os.Root, l *listing) ([]File, error) {
	i.progress(Progress{Step: StepCopy})
	if err := i.cfg.Copy.Copy(ctx, src.Name(), p.part); err != nil {
		return nil, err
	}
	sums := make([]File, len(l.files))
	err := each(ctx, len(l.files), func(ctx context.Context, n int) (err error) {
		sums[n], err = i.hashFile(ctx, src, l.files[n].path)
		return err
	})
	if err != nil {
		return nil, err
	}
	made, _, err := survey(ctx, dst)
	if err != nil {
		return nil, err
	}
	return sums, flush(ctx, dst, made)
}

// discard removes an unfinished copy and its manifest, also when the context has ended.
func (i *Installer) discard(p places) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if there, err := exists(p.folder); err != nil || there && !unfinished(p) {
		return err // the move was made, or cannot be told
	}
	if err := i.erase(ctx, p); err != nil {
		return fmt.Errorf("the unfinished copy is left for the next run to remove: %w", err)
	}
	return nil
}

// unfinished tells whether the copy has not been given its name yet.
func unfinished(p places) bool {
	there, err := exists(p.part)
	return err == nil && there
}

// tidy removes what killed runs left, of any release of this Name, and returns the number of the next installation. Only what a manifest
// tells to be ours is touched, and of that only what is not in its place. A manifest that cannot be read stands in the way of its own
// release alone.
func (i *Installer) tidy(ctx context.Context, p places) (number int, err error) {
	all, err := i.manifests()
	if err != nil {
		return 0, err
	}
	number = 1
	for _, f := range all {
		if f.m != nil {
			number = max(number, f.m.Number+1)
		}
		there, err := exists(f.p.folder)
		if err != nil {
			return 0, err
		}
		if f.err != nil || there {
			continue
		}
		if err := i.erase(ctx, f.p); err != nil && f.p.id == p.id { // others' leavings can wait
			return 0, fmt.Errorf("what an earlier run left cannot be removed: %w", err)
		}
	}
	return number, nil
}

// found is a manifest with where it belongs, or why it cannot be read.
type found struct {
	p   places
	m   *Manifest
	err error
}

// manifests reads all manifests of this Name.
func (i *Installer) manifests() ([]found, error) {
	entries, err := os.ReadDir(i.cfg.Parent)
	if err != nil {
		return nil, err
	}
	var all []found
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Name(), i.cfg.Name+".")
		if !ok {
			continue
		}
		if id, ok = strings.CutSuffix(id, suffixManifest); !ok || (abswap.Release{ID: id}).Check() != nil {
			continue
		}
		p := i.places(id)
		if m, err := i.load(p); m != nil || err != nil && !errors.Is(err, errOther) {
			all = append(all, found{p, m, err})
		}
	}
	return all, nil
}

// erase removes an unfinished or half removed release, its manifest last.
func (i *Installer) erase(ctx context.Context, p places) error {
	for _, path := range []string{p.part, p.gone} {
		if err := i.patiently(ctx, openWithin, func() error { return os.RemoveAll(path) }); err != nil {
			return err
		}
	}
	if err := atomicfile.Remove(p.manifest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(i.cfg.Parent)
}
