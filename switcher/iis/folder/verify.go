package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
)

// Verify reads the folder of a release and compares all that is in it with the manifest, but for Config.Volatile. A *DiffError says which
// files differ, are missing or extra; ErrNotInstalled that there is no folder, ErrForeign that there is one without a manifest.
func (i *Installer) Verify(ctx context.Context, id string) error {
	p := i.places(id)
	if err := multi.Join(abswap.Release{ID: id}.Check(), p.check()); err != nil {
		return err
	}
	m, err := i.installed(p)
	if err != nil {
		return err
	}
	return i.verify(ctx, p.folder, m)
}

// installed returns the manifest of a release whose folder is there.
func (i *Installer) installed(p places) (*Manifest, error) {
	m, err := i.load(p)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(p.folder)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("release %q: %w: there is no folder %q", p.id, ErrNotInstalled, p.folder)
	case m == nil || !m.Complete || unfinished(p):
		return nil, fmt.Errorf("release %q: folder %q was %w: it has no manifest; move it away or choose another ID", p.id, p.folder, ErrForeign)
	case !info.IsDir():
		return nil, fmt.Errorf("release %q: %q was %w: it is no folder any more, but %s", p.id, p.folder, ErrForeign, info.Mode().Type())
	}
	return m, nil
}

// verify compares a folder with a manifest.
func (i *Installer) verify(ctx context.Context, dir string, m *Manifest) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = i.compare(ctx, root, m, "its manifest", i.cfg.Volatile)
	return multi.Join(err, root.Close())
}

// compare lists root and reads it all.
func (i *Installer) compare(ctx context.Context, root *os.Root, m *Manifest, against string, v volatile) error {
	l, odd, err := survey(ctx, root)
	if err != nil {
		return err
	}
	return i.compareListed(ctx, root, l, odd, m, against, v)
}

// compareListed reads what l lists. What the application may write is compared with nothing.
func (i *Installer) compareListed(ctx context.Context, root *os.Root, l *listing, odd []string, m *Manifest, against string, v volatile) error {
	diff := &DiffError{Folder: root.Name(), Against: against, Changed: odd}
	diff.folders(slices.DeleteFunc(slices.Clone(m.Folders), v.loose), slices.DeleteFunc(l.folders, v.loose))
	var same []File
	j := &job{in: i, step: StepVerify}
	pairs(m.Files, l.files, filePath, entryPath, func(was *File, is *entry) {
		switch {
		case was == nil:
			diff.Extra = append(diff.Extra, is.path)
		case is == nil:
			if !slices.Contains(odd, was.Path) {
				diff.Missing = append(diff.Missing, was.Path)
			}
		case was.Size != is.size:
			diff.Changed = append(diff.Changed, is.path)
		default:
			same = append(same, *was)
			j.of, j.full = j.of+1, j.full+was.Size
		}
	})
	changed := make([]bool, len(same))
	err := each(ctx, len(same), func(ctx context.Context, n int) error {
		if v.has(same[n].Path) {
			j.done(same[n].Size)
			return nil
		}
		is, err := i.hashFile(ctx, root, same[n].Path)
		if err != nil {
			return err
		}
		changed[n] = is != same[n]
		j.done(is.Size)
		return nil
	})
	if err != nil {
		return err
	}
	for n, c := range changed {
		if c {
			diff.Changed = append(diff.Changed, same[n].Path)
		}
	}
	for _, list := range []*[]string{&diff.Changed, &diff.Missing, &diff.Extra} {
		*list = slices.DeleteFunc(*list, v.has)
		slices.Sort(*list)
	}
	return diff.err()
}

// survey lists what is in an installed folder, whatever it is; odd are paths of what is neither a file nor a folder.
func survey(ctx context.Context, root *os.Root) (l *listing, odd []string, err error) {
	l = &listing{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		switch {
		case err != nil:
			return err
		case name == ".":
		case d.IsDir():
			l.folders = append(l.folders, name)
		case d.Type() == 0:
			info, err := root.Lstat(name)
			if err != nil {
				return err
			}
			l.files = append(l.files, entry{path: name, size: info.Size(), time: info.ModTime(), mode: info.Mode()})
			l.bytes += info.Size()
		default:
			odd = append(odd, name)
		}
		return nil
	})
	slices.SortFunc(l.files, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	slices.Sort(l.folders)
	return l, odd, err
}

// volatile are folded slash paths below a folder to which the application writes.
type volatile []string

// has tells whether the application may write to path.
func (v volatile) has(path string) bool {
	path = fold(strings.TrimSuffix(path, "/"))
	return slices.ContainsFunc(v, func(v string) bool { return path == v || strings.HasPrefix(path, v+"/") })
}

// loose tells whether a folder may come and go: it is volatile, or leads to what is.
func (v volatile) loose(folder string) bool {
	return v.has(folder) || slices.ContainsFunc(v, func(v string) bool { return strings.HasPrefix(v, fold(folder)+"/") })
}
