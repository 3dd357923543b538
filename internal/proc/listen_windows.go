package proc

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// Listeners tells who listens where a connection to addr would end: on that very address, or, if nobody does, on its port of all
// addresses. It is empty if nobody does. errors.ErrUnsupported: this system does not tell.
func Listeners(addr netip.AddrPort) ([]Owner, error) {
	pids, err := listening(addr)
	if err != nil {
		return nil, err
	}
	var owners []Owner
	for _, pid := range pids {
		o := Owner{ID: ID{PID: pid}, Name: nameOf(pid)}
		if in, err := look(pid); err == nil {
			o.ID = in.id
		}
		owners = append(owners, o)
	}
	return owners, nil
}

// ListensOnly returns nil if every socket that listens at addr, as in Listeners, is held by one of ids; else the error says who has it.
// errors.ErrUnsupported: this system does not tell.
func ListensOnly(addr netip.AddrPort, ids []ID) error {
	owners, err := Listeners(addr)
	if err != nil {
		return err
	}
	if len(owners) == 0 {
		return fmt.Errorf("nobody listens on %s", addr)
	}
	owners = slices.DeleteFunc(owners, func(o Owner) bool { return slices.Contains(ids, o.ID) })
	if len(owners) > 0 {
		return &ForeignError{Addr: addr, Owners: owners}
	}
	return nil
}

// listening returns the pids of those who listen at addr.
func listening(addr netip.AddrPort) ([]int, error) {
	const listeners = 3 // TCP_TABLE_OWNER_PID_LISTENER
	v4, err := tcpTable(windows.AF_INET, listeners)
	if err != nil {
		return nil, err
	}
	v6, err := tcpTable(windows.AF_INET6, listeners)
	if err != nil {
		return nil, err
	}
	return owners(v4, v6, addr), nil
}

func tcpTable(family, class uintptr) ([]byte, error) {
	size := uint32(16 << 10)
	for {
		buf := make([]byte, size)
		r, _, _ := procTCPTable.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0, family, class, 0)
		switch err := windows.Errno(r); err {
		case 0:
			return buf, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 4 << 10 // it may grow meanwhile
		default:
			return nil, os.NewSyscallError("GetExtendedTcpTable", err)
		}
	}
}

// owners reads tables of MIB_TCPROW_OWNER_PID (state, address, port, remote address, remote port, pid; of four bytes each) and
// MIB_TCP6ROW_OWNER_PID (address of sixteen bytes, scope, port, remote address of sixteen, scope, port, state, pid), each after a count.
func owners(v4, v6 []byte, addr netip.AddrPort) []int {
	var exact, wild []int
	add := func(at netip.Addr, port []byte, pid []byte) {
		if binary.BigEndian.Uint16(port) != addr.Port() {
			return
		}
		p := int(binary.LittleEndian.Uint32(pid))
		switch at = at.Unmap(); {
		case at == addr.Addr().Unmap().WithZone(""):
			exact = append(exact, p)
		case at.IsUnspecified() && (at.Is6() || addr.Addr().Unmap().Is4()):
			wild = append(wild, p)
		}
	}
	rows(v4, 24, func(row []byte) { add(netip.AddrFrom4([4]byte(row[4:8])), row[8:10], row[20:24]) })
	rows(v6, 56, func(row []byte) { add(netip.AddrFrom16([16]byte(row[0:16])), row[20:22], row[52:56]) })
	if len(exact) == 0 {
		exact = wild
	}
	slices.Sort(exact)
	return slices.Compact(exact)
}

func rows(table []byte, size int, f func(row []byte)) {
	n := int(binary.LittleEndian.Uint32(table))
	for i := range n {
		if at := 4 + i*size; at+size <= len(table) {
			f(table[at : at+size])
		}
	}
}
