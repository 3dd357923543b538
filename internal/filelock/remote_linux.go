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
	return remoteKind(uint32(st.Type)), nil
}

// remoteKind knows the numbers of file systems that other machines see too, or that a program of its own serves. (GFS2 and OCFS2, which lock
// across machines, are not among them.)
func remoteKind(magic uint32) string {
	switch magic {
	case unix.NFS_SUPER_MAGIC:
		return "NFS"
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "SMB"
	case unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC:
		return "AFS"
	case unix.CEPH_SUPER_MAGIC:
		return "Ceph"
	case unix.CODA_SUPER_MAGIC:
		return "Coda"
	case unix.V9FS_MAGIC:
		return "9P"
	case unix.FUSE_SUPER_MAGIC:
		return "FUSE"
	case 0x786f4256:
		return "VirtualBox shared folder"
	}
	return ""
}
