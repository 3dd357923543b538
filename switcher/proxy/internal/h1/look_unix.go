//go:build unix

package h1

import (
	"errors"
	"net"
	"syscall"
)

// look tells without waiting whether an idle connection is still quiet: no data, no end, no error.
func look(c net.Conn) verdict {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return unknown
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return stale
	}
	v := unknown
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case n < 0 && errors.Is(err, syscall.EAGAIN): // the socket does not block
				v = quiet
			default:
				v = stale
			}
			return true
		}
	})
	if err != nil {
		return stale
	}
	return v
}
