//go:build unix

package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// writable returns nil if files can be made in the folder dir.
func writable(dir string) error {
	return os.NewSyscallError("access", unix.Access(dir, unix.W_OK|unix.X_OK))
}
