//go:build (amd64 || arm64) && race

package h1

import "syscall"

// The race detector takes what is sent and received for an order of things, but only in the calls of package syscall.

func sysRecv(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		var n int
		var err error
		if flags == 0 {
			n, err = syscall.Read(int(fd), p)
		} else {
			n, _, err = syscall.Recvfrom(int(fd), p, int(flags))
		}
		if e := errnoOf(err); e != syscall.EINTR {
			return n, e
		}
	}
}

func sysSend(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Write(int(fd), p)
		if e := errnoOf(err); e != syscall.EINTR {
			return n, e
		}
	}
}

func errnoOf(err error) syscall.Errno {
	e, _ := err.(syscall.Errno)
	return e
}
