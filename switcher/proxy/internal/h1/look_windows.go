package h1

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// pollFD is WSAPOLLFD.
type pollFD struct {
	fd      uintptr
	events  int16
	revents int16
}

const pollRead = 0x0100 // POLLRDNORM

// look tells without waiting whether an idle connection is still quiet: no data, no end, no error.
func look(c net.Conn) verdict {
	sc, ok := c.(syscall.Conn)
	if !ok || wsaPoll.Find() != nil {
		return unknown
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return stale
	}
	v := unknown
	err = raw.Control(func(fd uintptr) {
		p := pollFD{fd: fd, events: pollRead}
		n, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
		switch int32(n) {
		case 0:
			v = quiet
		case 1:
			v = stale // readable, ended or broken
		}
	})
	if err != nil {
		return stale
	}
	return v
}
