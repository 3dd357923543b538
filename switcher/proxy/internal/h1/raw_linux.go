package h1

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the way to c's descriptor, which does not block; nil if it has none.
func rawConn(c net.Conn) syscall.RawConn {
	switch c := c.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// onReady is called once at once, and then each time that there may be something to read. It returns false to wait for that.
func (l *link) onReady(fd uintptr) bool {
	if l.out != nil {
		n, err := sysWrite(fd, l.out)
		switch {
		case err == syscall.EAGAIN:
			n = 0
		case err != 0:
			l.err = os.NewSyscallError("write", err)
			l.short = true
			return true
		}
		if n < len(l.out) {
			l.out, l.short = l.out[n:], true
			return true
		}
		l.out = nil
		return false
	}
	b := l.in
	if b == nil {
		b = getBuffer(l.large)
	}
	n, err := sysRead(fd, b.data[b.w:])
	switch {
	case err == 0 && n > 0:
		b.w += n
		l.in = b
		return true
	case err == syscall.EAGAIN:
	case err == 0:
		l.err = io.EOF
	default:
		l.err = os.NewSyscallError("read", err)
	}
	if b.r == b.w {
		putBuffer(b)
		b = nil
	}
	l.in = b
	return err != syscall.EAGAIN
}

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err == nil {
			return n, 0
		}
		if errno, ok := err.(syscall.Errno); ok && errno != syscall.EINTR {
			return 0, errno
		}
	}
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err == nil {
			return n, 0
		}
		if errno, ok := err.(syscall.Errno); ok && errno != syscall.EINTR {
			return 0, errno
		}
	}
}
