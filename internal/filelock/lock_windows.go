package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// where is the byte that is locked, far behind any content: Windows keeps others from reading what is locked.
func where() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

// lock locks f, for itself alone or shared with others who do not want it alone. The lock belongs to the open file.
func lock(f *os.File, alone bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if alone {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, where())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrHeld
	}
	return os.NewSyscallError("LockFileEx", err)
}

func unlock(f *os.File) error {
	err := windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, where())
	if errors.Is(err, windows.ERROR_NOT_LOCKED) {
		return nil
	}
	return os.NewSyscallError("UnlockFileEx", err)
}
