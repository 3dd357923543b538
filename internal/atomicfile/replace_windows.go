package atomicfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/retry"
)

// patience is how long a file that someone else has open is tried again: virus scanners and readers hold it for moments.
const patience = 5 * time.Second

func replace(from, to string) error {
	err := replaceFile(from, to)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func replaceFile(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	return persist(func() error {
		return windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
	})
}

func read(path string) (data []byte, err error) {
	err = persist(func() error {
		data, err = os.ReadFile(path)
		return err
	})
	return data, err
}

func remove(path string) error {
	return persist(func() error { return os.Remove(path) })
}

// persist calls f until it returns something other than what a file that is open elsewhere gives.
func persist(f func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last error
	err := retry.Do(ctx, retry.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) error {
		last = f()
		if errors.Is(last, windows.ERROR_SHARING_VIOLATION) || errors.Is(last, windows.ERROR_ACCESS_DENIED) || errors.Is(last, windows.ERROR_LOCK_VIOLATION) {
			return last
		}
		return retry.Stop(last)
	})
	if err != nil {
		return last
	}
	return nil
}

func chmod(*os.File, fs.FileMode) error { return nil }

// SyncDir flushes the folder itself to the disk, so that files made, moved or removed in it stay so. On Windows it does nothing: there
// the move itself is written through.
func SyncDir(string) error { return nil }
