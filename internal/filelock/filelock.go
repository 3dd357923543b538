// Package filelock locks files between processes. A lock is the operating system's, on an open file: it dies with its process however that
// ends, is not passed on to children, and two holders within one process exclude each other too. It binds only those who ask for it.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

var (
	ErrHeld = errors.New("lock is held by another")           // of this process or of another one
	ErrLost = errors.New("lock file was removed or replaced") // so others may hold a lock of the same name
)

// File is an open file that can be locked. It is safe for concurrent use.
type File struct {
	path string

	mu     sync.Mutex
	f      *os.File // nil: closed
	locked bool
}

// Open opens the file at path, without locking it, and makes it with the permissions perm (Unix only) where it does not exist. The folder
// must exist.
func Open(path string, perm fs.FileMode) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, perm)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

// Try opens the file at path as Open does and locks it. ErrHeld if another holds the lock.
func Try(path string, perm fs.FileMode) (*File, error) {
	for {
		f, err := Open(path, perm)
		if err != nil {
			return nil, err
		}
		if err = f.TryLock(); err == nil {
			err = f.Lost()
		}
		if err == nil {
			return f, nil
		}
		err = multi.Join(err, f.Close())
		if !errors.Is(err, ErrLost) { // else it was removed between open and lock
			return nil, err
		}
	}
}

// Wait is Try, tried again until the lock is free. If ctx ends first the error wraps its cause, and ErrHeld.
func Wait(ctx context.Context, path string, perm fs.FileMode) (f *File, err error) {
	err = retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) error {
		var err error
		if f, err = Try(path, perm); errors.Is(err, ErrHeld) {
			return err
		}
		return retry.Stop(err)
	})
	return f, err
}

// TryLock locks the file for f alone, if it has not done so before. ErrHeld if another holds it, or is just asking whether it is held.
func (f *File) TryLock() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return &fs.PathError{Op: "lock", Path: f.path, Err: fs.ErrClosed}
	}
	if f.locked {
		return nil
	}
	err := lock(f.f, true)
	f.locked = err == nil
	return f.wrap(err)
}

// SetContent makes data the content of the file. It is not atomic: to be read whole by those who find the file locked, write it before.
func (f *File) SetContent(data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return &fs.PathError{Op: "write", Path: f.path, Err: fs.ErrClosed}
	}
	if err := f.f.Truncate(0); err != nil {
		return err
	}
	_, err := f.f.WriteAt(data, 0)
	return err
}

// Lost returns nil if the file is still the one at its path; else ErrLost, or why that cannot be told. Windows lets nobody remove or replace
// a file that is open, so there it is never lost.
func (f *File) Lost() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return &fs.PathError{Op: "look at", Path: f.path, Err: fs.ErrClosed}
	}
	if runtime.GOOS == "windows" {
		return nil
	}
	mine, err := f.f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(mine, there):
		return fmt.Errorf("%q: %w", f.path, ErrLost)
	}
	return err
}

// Close unlocks the file and closes it; it stays where it is. It is idempotent.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	// Closing alone would not do: a child that is just being started has a copy of the open file until it is past its exec.
	err := multi.Join(f.wrap(unlock(f.f)), f.f.Close())
	f.f = nil
	return err
}

func (f *File) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q: %w", f.path, err)
}

// Held tells whether somebody, also of this process, holds the lock of the file at path. A file that does not exist is not held.
func Held(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = lock(f, false)
	held := errors.Is(err, ErrHeld)
	if err == nil {
		err = unlock(f)
	}
	if held {
		err = nil
	}
	if err = multi.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("%q: %w", path, err)
	}
	return held, nil
}
