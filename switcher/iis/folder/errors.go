package folder

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels say what happened; match them with errors.Is.
var (
	ErrForeign      = errors.New("not made here")                          // a folder of the release's name exists that has no manifest of ours
	ErrDiffers      = errors.New("content differs")                        // a folder is not what its manifest says; see DiffError
	ErrChanged      = errors.New("the source changed while it was copied") // try again when the build is done
	ErrLink         = errors.New("link leads out of the source")           // or to a folder, or cannot be followed
	ErrSource       = errors.New("source cannot be installed")             // not a folder, empty, within the target, bad names, unreadable
	ErrNoSpace      = errors.New("not enough disk space")
	ErrInUse        = errors.New("in use")                 // a file is open elsewhere, or a folder is live
	ErrNotInstalled = errors.New("release not installed")  // there is no folder of it
	ErrManifest     = errors.New("manifest is not valid")  // damaged, changed by hand, or of another version
	ErrQuote        = errors.New("value cannot be quoted") // for msdeploy
)

// DiffError says in what a folder differs from what it should be. errors.Is(err, ErrDiffers) is true.
type DiffError struct {
	Folder  string   // whose content was looked at
	Against string   // what it was compared with: "its manifest", "the source C:\build"
	Missing []string // slash paths below the folder; those of folders end with a slash
	Extra   []string
	Changed []string // other size, other bytes, or not a regular file any more
}

func (e *DiffError) Error() string {
	var parts []string
	for _, p := range []struct {
		what  string
		paths []string
	}{{"changed", e.Changed}, {"missing", e.Missing}, {"extra", e.Extra}} {
		if len(p.paths) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s: %s", len(p.paths), p.what, some(p.paths)))
		}
	}
	return fmt.Sprintf("folder %q differs from %s: %s", e.Folder, e.Against, strings.Join(parts, "; "))
}

// Is reports true for ErrDiffers.
func (e *DiffError) Is(target error) bool { return target == ErrDiffers }

func (e *DiffError) err() error {
	if len(e.Missing)+len(e.Extra)+len(e.Changed) == 0 {
		return nil
	}
	return e
}

// some quotes the first few of many.
func some(paths []string) string {
	const most = 5
	quoted := make([]string, 0, most)
	for _, p := range paths[:min(len(paths), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", p))
	}
	s := strings.Join(quoted, ", ")
	if n := len(paths) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}
