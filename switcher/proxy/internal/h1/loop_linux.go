package h1

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loopback is the way to a slot on this machine's loopback. There the kernel makes a connection while connect is called, although the socket
// does not block: there is nothing to wait for, no deep stack to wait on, and a request whose turn it is gets to the slot before the next one
// is looked at. In a burst that keeps the requests that are half begun, with all they hold, as few as there are cores.
type loopback struct {
	name string
	to   netip.AddrPort
	addr *net.TCPAddr
}

// newLoopback returns the way to address; nil if that is not a literal one of the loopback.
func newLoopback(address string) *loopback {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() || at.Addr().Zone() != "" {
		return nil
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return &loopback{name: "slot " + address, to: at, addr: net.TCPAddrFromAddrPort(at)}
}

// dial returns a connection, or nil where that takes waiting, or does not work: net.Dialer can wait, and tells why.
func (l *loopback) dial() net.Conn {
	family := unix.AF_INET
	if l.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if fd <= 2 || !l.connect(fd) { // an os.File takes these for the standard ones, of which a broken one ends the process
		unix.Close(fd)
		return nil
	}
	return &loopConn{descriptor: os.NewFile(uintptr(fd), l.name), to: l.addr}
}

// connect connects fd, and reports whether it is connected now.
func (l *loopback) connect(fd int) bool {
	var to unix.Sockaddr // the system call writes there: it is not shared
	if l.to.Addr().Is4() {
		to = &unix.SockaddrInet4{Port: int(l.to.Port()), Addr: l.to.Addr().As4()}
	} else {
		to = &unix.SockaddrInet6{Port: int(l.to.Port()), Addr: l.to.Addr().As16()}
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		return false
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return false
	}
	// Where nobody listens at a port from which the kernel takes those of its own, it may have connected the socket to itself.
	if own, err := unix.Getsockname(fd); err != nil || portOf(own) == int(l.to.Port()) {
		return false
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) == nil
}

func portOf(a unix.Sockaddr) int {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}

// descriptor is what of an os.File is fit for a connection. Its methods are the poller's, as net.TCPConn's are.
type descriptor interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Close() error
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

// loopConn is a connection that a loopback has made. It has no keep-alive probes: where a process on this machine ends, its kernel says so.
type loopConn struct {
	descriptor
	to *net.TCPAddr
}

func (c *loopConn) RemoteAddr() net.Addr { return c.to }

func (c *loopConn) LocalAddr() net.Addr {
	addr := &net.TCPAddr{}
	c.control(func(fd int) error {
		own, err := unix.Getsockname(fd)
		switch own := own.(type) {
		case *unix.SockaddrInet4:
			addr.IP, addr.Port = own.Addr[:], own.Port
		case *unix.SockaddrInet6:
			addr.IP, addr.Port = own.Addr[:], own.Port
		}
		return err
	})
	return addr
}

// CloseWrite ends the writing side.
func (c *loopConn) CloseWrite() error {
	return c.control(func(fd int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR)) })
}

func (c *loopConn) control(f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
