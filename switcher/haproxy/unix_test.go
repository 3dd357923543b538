//go:build unix

package haproxy_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const reloadSignal = syscall.SIGUSR2

// reserve finds an address at which nobody listens, and keeps the system from giving its port to anybody until release is called. A program that
// asks for the very port gets it all the same, if it sets SO_REUSEADDR, as servers do. Without that two HAProxys could come to share a port, and
// each other's requests, since they set SO_REUSEPORT.
func reserve() (address string, release func() error, err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, syscall.Close(fd))
		}
	}()
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", nil, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", nil, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", nil, os.NewSyscallError("getsockname", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), func() error { return syscall.Close(fd) }, nil
}
