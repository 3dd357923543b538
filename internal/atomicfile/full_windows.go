package atomicfile

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// Full tells whether err says that the disk, or the user's part of it, is full.
func Full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED) || errors.Is(err, syscall.ENOSPC)
}
