// Package atomicfile replaces a small file as a whole: a reader, and the machine after a power cut, sees the old content or the new one.
package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/abswap/abswap/internal/multi"
)

// Write makes data the content of the file at path, with the permissions perm (Unix only). The folder must exist. The data goes to a
// temporary file beside it, is flushed to the disk, and takes the place of the old file in one move; then the folder is flushed too. At
// return the new content is on the disk. After an error the old content is in place, unless only the flush of the folder failed: then
// the new one is, and may be lost in a power cut. A writer that dies may leave its temporary file, named ".NAME.*.tmp"; nobody reads it.
func Write(path string, data []byte, perm fs.FileMode) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return err
	}
	moved := false
	defer func() {
		if !moved {
			err = multi.Join(err, os.Remove(f.Name()))
		}
	}()
	_, werr := f.Write(data)
	if err := multi.Join(werr, chmod(f, perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := replace(f.Name(), path); err != nil {
		return err
	}
	moved = true
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("%q is replaced, but its folder is not flushed: %w", path, err)
	}
	return nil
}

// Read returns the content of the file at path. It is os.ReadFile that also bears, on Windows, the moment in which Write replaces it.
func Read(path string) ([]byte, error) { return read(path) }

// Remove is os.Remove that also bears, on Windows, that a reader or a virus scanner has the file open for a moment.
func Remove(path string) error { return remove(path) }
