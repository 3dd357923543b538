//go:build !unix && !windows

package atomicfile

// Full tells whether err says that the disk, or the user's part of it, is full; here it cannot be told.
func Full(error) bool { return false }
