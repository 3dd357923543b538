package tcp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// gone waits until c, whose peer has ended what it sends, is broken altogether: reset, or dead to the system's probes. false: its read deadline
// has passed, or it cannot be told.
func gone(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	return rc.Read(func(fd uintptr) bool {
		p := [1]unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p[:], 0)
		return err == nil && n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
	}) == nil
}
