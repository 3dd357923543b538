package sockets

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

func each(f func(Conn)) error {
	v4, err := table(windows.AF_INET)
	if err != nil {
		return err
	}
	v6, err := table(windows.AF_INET6)
	if errors.Is(err, windows.ERROR_NOT_SUPPORTED) { // no IPv6 here
		v6, err = make([]byte, 4), nil
	}
	if err != nil {
		return err
	}
	return parseRows(v4, v6, f)
}

func table(family uintptr) ([]byte, error) {
	const all = 5 // TCP_TABLE_OWNER_PID_ALL
	size := uint32(64 << 10)
	for {
		buf := make([]byte, size)
		r, _, _ := procTCPTable.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0, family, all, 0)
		switch err := windows.Errno(r); err {
		case 0:
			return buf, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += size/4 + 16<<10 // it may grow meanwhile
		default:
			return nil, os.NewSyscallError("GetExtendedTcpTable", err)
		}
	}
}
