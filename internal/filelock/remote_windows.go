package filelock

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// Remote names the kind of file system that dir lies on, if that is one of those on which locks may not bind other machines, or not be
// given free when their process dies; "" if it is not known to be.
func Remote(dir string) (kind string, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(abs) + `\`)
	if err != nil {
		return "", &os.PathError{Op: "GetDriveType", Path: dir, Err: err}
	}
	if windows.GetDriveType(root) == windows.DRIVE_REMOTE {
		return "network share", nil
	}
	return "", nil
}
