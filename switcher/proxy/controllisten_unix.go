//go:build !windows

package proxy

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/abswap/abswap/internal/multi"
)

// bindSocket binds a socket in a folder of its own, which nobody else can enter, and moves it to its place once its mode is set: there is no
// moment at which another user could open it.
func bindSocket(path string) (_ *net.UnixListener, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".c")
	if err != nil {
		return nil, err
	}
	defer func() { err = multi.Join(err, os.RemoveAll(dir)) }()
	at := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %q (its path may be too long: at most about 90 bytes): %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := multi.Join(os.Chmod(at, 0o600), os.Rename(at, path)); err != nil {
		return nil, multi.Join(err, l.Close())
	}
	return l, nil
}
