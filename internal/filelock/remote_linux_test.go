package filelock

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRemoteKind(t *testing.T) {
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x517b: "SMB", 0x65735546: "FUSE", 0x1021997: "9P", 0xc36400: "Ceph",
		0xef53: "", 0x9123683e: "", 0x58465342: "", 0x1021994: "", 0x794c7630: "", // ext4, btrfs, xfs, tmpfs, overlay
	} {
		assert.Equal(t, want, remoteKind(magic), "%#x", magic)
	}
}
