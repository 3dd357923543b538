//go:build !windows

package folder

import "os"

// moveFolder gives a folder its name. The flush of the parent is the caller's.
func moveFolder(from, to string) error { return os.Rename(from, to) }

// alone keeps others from writing to a file that is being read; here nothing does.
func alone(f *os.File) (*os.File, error) { return f, nil }

// open tells whether err says that a file is open elsewhere; here none is refused for that.
func open(error) bool { return false }

// openWithin tells whether err may say that of a folder.
func openWithin(error) bool { return false }
