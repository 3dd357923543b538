//go:build unix

package atomicfile

import (
	"errors"
	"syscall"
)

// Full tells whether err says that the disk, or the user's part of it, is full.
func Full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
