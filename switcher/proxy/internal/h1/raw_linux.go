//go:build amd64 || arm64

package h1

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the way to c's descriptor, which does not block; nil if it has none.
func rawConn(c net.Conn) syscall.RawConn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn, *loopConn:
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// onReady is called once at once, and then each time that there may be something to read. It returns false to wait for that.
func (l *link) onReady(fd uintptr) bool {
	if l.out != nil {
		return l.onAsk(fd)
	}
	if l.later != 0 {
		l.err, l.later = os.NewSyscallError("recv", l.later), 0
		return true
	}
	b := l.in
	fresh := b == nil
	if fresh {
		b = l.fresh()
	}
	n, err := sysRecv(fd, b.data[b.w:], 0)
	if fresh && err == 0 && n == len(b.data) && n == tinySize {
		b = l.readOn(fd, b)
	}
	switch {
	case err == 0 && n > 0:
		b.w += n
		l.in = b
		return true
	case err == syscall.EAGAIN:
	case err == 0:
		l.err = io.EOF
	default:
		l.err = os.NewSyscallError("recv", err)
	}
	if b.r == b.w {
		putBuffer(b)
		b = nil
	}
	l.in = b
	return err != syscall.EAGAIN
}

// readOn reads on behind a first part that has filled b: it is more than a head, or a long one. Nobody uses what lies in b yet, so it may
// move.
func (l *link) readOn(fd uintptr, b *buffer) *buffer {
	b.w = tinySize
	b = b.grow(smallSize)
	switch n, err := sysRecv(fd, b.data[b.w:], 0); {
	case err == 0:
		b.w += n
	case err != syscall.EAGAIN:
		l.later = err // it is said only once
	}
	b.w -= tinySize // the caller adds it
	return b
}

// onAsk is onReady's first call for ask: it writes.
func (l *link) onAsk(fd uintptr) bool {
	if l.peek {
		var one [1]byte
		if _, err := sysRecv(fd, one[:], syscall.MSG_PEEK); err != syscall.EAGAIN {
			l.err = errStale
			return true
		}
	}
	n, err := sysSend(fd, l.out)
	switch {
	case err == syscall.EAGAIN:
		n = 0
	case err != 0:
		l.err = os.NewSyscallError("send", err)
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

// onWritable writes what is left of l.put, and returns false to wait until more can be written.
func (l *link) onWritable(fd uintptr) bool {
	for len(l.put) > 0 {
		n, err := sysSend(fd, l.put)
		if err == syscall.EAGAIN {
			return false
		}
		if err != 0 {
			l.putErr = os.NewSyscallError("send", err)
			return true
		}
		l.put = l.put[n:]
	}
	return true
}
