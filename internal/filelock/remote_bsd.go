//go:build darwin || freebsd

package filelock

import (
	"os"

	"golang.org/x/sys/unix"
)

// Remote names the kind of file system that dir lies on, if that is one of those on which locks may not bind other machines, or not be
// given free when their process dies; "" if it is not known to be.
func Remote(dir string) (kind string, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Flags&unix.MNT_LOCAL != 0 {
		return "", nil
	}
	return unix.ByteSliceToString(st.Fstypename[:]), nil
}
