//go:build !windows

package atomicfile

import (
	"io/fs"
	"os"

	"github.com/abswap/abswap/internal/multi"
)

func replace(from, to string) error { return os.Rename(from, to) }

func read(path string) ([]byte, error) { return os.ReadFile(path) }

func remove(path string) error { return os.Remove(path) }

func chmod(f *os.File, perm fs.FileMode) error { return f.Chmod(perm) }

// SyncDir flushes the folder itself to the disk, so that files made, moved or removed in it stay so. On Windows it does nothing: there
// the move itself is written through.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return multi.Join(d.Sync(), d.Close())
}
