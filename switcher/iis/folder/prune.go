package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/internal/multi"
)

// Installed is a release that has its folder.
type Installed struct {
	Release string
	Folder  string
	Number  int // the newest installation has the highest
	Time    time.Time
	Files   int
	Bytes   int64 // as installed
	Source  string
}

// List tells the installed releases, the newest first. Folders without a manifest of ours are not among them. The error tells the manifests
// that cannot be read, beside the list of the others.
func (i *Installer) List(ctx context.Context) ([]Installed, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	all, err := i.manifests()
	if err != nil {
		return nil, err
	}
	var list []Installed
	var errs []error
	for _, f := range all {
		errs = append(errs, f.err)
		if f.m == nil {
			continue
		}
		if _, err := i.installed(f.p); err != nil {
			continue // unfinished, or its place was taken by another
		}
		list = append(list, Installed{f.p.id, f.p.folder, f.m.Number, f.m.Installed, len(f.m.Files), f.m.Bytes(), f.m.Source})
	}
	slices.SortFunc(list, func(a, b Installed) int {
		if a.Number != b.Number {
			return b.Number - a.Number
		}
		return b.Time.Compare(a.Time)
	})
	return list, multi.Join(errs...)
}

// PruneOptions says what Prune and Remove leave alone.
type PruneOptions struct {
	// Newest is how many of the newest releases stay, besides those in use; 0: 3, negative: none.
	Newest int

	// InUse are folders that are in use: those of all sites, applications and virtual directories, live, idle or retained. A release stays
	// if one of them is its folder or lies within. Environment variables are replaced (`%SystemDrive%\inetpub`); one that is not set is an
	// error, and nothing is removed then. Nothing is removed either if InUse and Keep are both nil; []string{} says that nothing is in use.
	InUse []string

	// Keep is asked for each release right before it would be removed: true, or an error, leaves it. nil: nobody is asked.
	Keep func(ctx context.Context, r Installed) (bool, error)
}

// Prune removes old releases and returns those it removed. It removes what it made itself and nothing else: a folder without a manifest,
// or one that has none of the manifest's files any more, stays. A folder is first moved aside as a whole and then removed, so that one with
// an open file in it (on Windows, where that cannot be moved) stays as it was: the error then wraps ErrInUse. What can be removed is removed,
// whatever goes wrong with others; the error tells it all. A run that is killed leaves what the next Install or Prune clears away.
func (i *Installer) Prune(ctx context.Context, o PruneOptions) ([]Installed, error) {
	used, err := o.inUse()
	if err != nil {
		return nil, fmt.Errorf("prune: %w", err)
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune: %w", err)
	}
	removed, err := i.prune(ctx, o, used)
	if err = multi.Join(err, unlock()); err != nil {
		err = fmt.Errorf("prune: %w", err)
	}
	return removed, err
}

// Remove removes one release, whatever its age. It fails with ErrInUse if o says that it is in use, with ErrNotInstalled if there is none.
func (i *Installer) Remove(ctx context.Context, id string, o PruneOptions) error {
	p := i.places(id)
	if err := multi.Join(abswap.Release{ID: id}.Check(), p.check()); err != nil {
		return err
	}
	err := i.removeOne(ctx, p, o)
	if err != nil {
		return fmt.Errorf("removal of release %q: %w", id, err)
	}
	return nil
}

func (i *Installer) removeOne(ctx context.Context, p places, o PruneOptions) error {
	used, err := o.inUse()
	if err != nil {
		return err
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return err
	}
	m, err := i.installed(p)
	if err == nil {
		r := Installed{p.id, p.folder, m.Number, m.Installed, len(m.Files), m.Bytes(), m.Source}
		var kept bool
		if kept, err = i.remove(ctx, p, r, m, o, used); kept && err == nil {
			err = fmt.Errorf("folder %q is %w: a site or a retained slot needs it", p.folder, ErrInUse)
		}
	}
	return multi.Join(err, unlock())
}

func (i *Installer) prune(ctx context.Context, o PruneOptions, used []string) (removed []Installed, err error) {
	if _, err := i.tidy(ctx, places{}); err != nil {
		return nil, err
	}
	list, err := i.List(ctx)
	if cerr := context.Cause(ctx); cerr != nil {
		return nil, cerr
	}
	errs := []error{err}
	newest := o.Newest
	if newest == 0 {
		newest = 3
	}
	for _, r := range list[min(max(newest, 0), len(list)):] {
		p := i.places(r.Release)
		m, err := i.installed(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		kept, err := i.remove(ctx, p, r, m, o, used)
		if err != nil {
			errs = append(errs, err)
		} else if !kept {
			removed = append(removed, r)
		}
		if cerr := context.Cause(ctx); cerr != nil {
			return removed, multi.Join(append(errs, cerr)...)
		}
	}
	return removed, multi.Join(errs...)
}

// remove removes a release unless it is in use.
func (i *Installer) remove(ctx context.Context, p places, r Installed, m *Manifest, o PruneOptions, used []string) (kept bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return true, err
	}
	if slices.ContainsFunc(used, func(u string) bool { return inside(p.folder, u) }) {
		return true, nil
	}
	if err := i.ours(p, m); err != nil {
		return true, err
	}
	if o.Keep != nil {
		keep, err := o.Keep(ctx, r)
		if err != nil {
			return true, fmt.Errorf("release %q stays, whether it is needed is not known: %w", p.id, err)
		}
		if keep {
			return true, nil
		}
	}
	if err := i.patiently(ctx, openWithin, func() error { return moveFolder(p.folder, p.gone) }); err != nil {
		return true, fmt.Errorf("release %q stays as it was: %w", p.id, err)
	}
	if err := atomicfile.SyncDir(i.cfg.Parent); err != nil {
		return false, err
	}
	if err := i.erase(ctx, p); err != nil {
		return false, fmt.Errorf("release %q: what is left of it in %q will be removed by the next run: %w", p.id, p.gone, err)
	}
	return false, nil
}

// ours makes sure that the folder still is what the manifest tells of, as far as that it has one file left as it was.
func (i *Installer) ours(p places, m *Manifest) error {
	root, err := os.OpenRoot(p.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range m.Files {
		info, err := root.Lstat(f.Path)
		if err == nil && info.Mode().IsRegular() && info.Size() == f.Size {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("release %q: folder %q was %w: it has no file of those that its manifest names; remove it by hand", p.id, p.folder, ErrForeign)
}

// inUse returns the folders in use, as absolute paths.
func (o PruneOptions) inUse() ([]string, error) {
	if o.InUse == nil && o.Keep == nil {
		return nil, errors.New("neither InUse nor Keep says which folders are in use, so nothing is removed: " +
			"pass the folders of all sites, or []string{} if there are none")
	}
	var errs []error
	var used []string
	for n, u := range o.InUse {
		path, err := expand(u)
		if err == nil && !filepath.IsAbs(path) {
			err = errors.New("it is not an absolute path")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("PruneOptions.InUse[%d] %q: %w", n, u, err))
			continue
		}
		used = append(used, path)
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			used = append(used, real)
		}
	}
	return used, multi.Join(errs...)
}

// expand replaces %NAME% as IIS does in a physicalPath.
func expand(path string) (string, error) {
	var b strings.Builder
	for rest := path; ; {
		before, after, ok := strings.Cut(rest, "%")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, behind, ok := strings.Cut(after, "%")
		value, set := os.LookupEnv(name)
		if !ok || !set || value == "" {
			return "", fmt.Errorf("%%%s%% is not set here, so the folder is not known", name)
		}
		b.WriteString(value)
		rest = behind
	}
}
