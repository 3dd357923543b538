package sockets

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// parseRows reads tables of MIB_TCPROW_OWNER_PID (state, address, port, remote address, remote port, pid; of four bytes each) and
// MIB_TCP6ROW_OWNER_PID (address of sixteen bytes, scope, port, remote address of sixteen, scope, port, state, pid), each after a count. Numbers
// are in the byte order of the machine, which is little on each Windows; ports are in that of the network, in the first two bytes.
func parseRows(v4, v6 []byte, f func(Conn)) error {
	err := rows(v4, 24, func(r []byte) {
		f(Conn{Local: at(netip.AddrFrom4([4]byte(r[4:8])), r[8:]), Remote: at(netip.AddrFrom4([4]byte(r[12:16])), r[16:]),
			State: windowsState(r[0:]), Owned: number(r[20:]) != 0})
	})
	if err != nil {
		return err
	}
	return rows(v6, 56, func(r []byte) {
		f(Conn{Local: at(netip.AddrFrom16([16]byte(r[0:16])), r[20:]), Remote: at(netip.AddrFrom16([16]byte(r[24:40])), r[44:]),
			State: windowsState(r[48:]), Owned: number(r[52:]) != 0})
	})
}

func rows(table []byte, size int, f func(row []byte)) error {
	if len(table) < 4 {
		return fmt.Errorf("a table of sockets has only %d bytes", len(table))
	}
	n := int64(number(table))
	if n*int64(size) > int64(len(table)-4) {
		return fmt.Errorf("a table of %d sockets has only %d bytes", n, len(table))
	}
	for i := range int(n) {
		f(table[4+i*size : 4+(i+1)*size])
	}
	return nil
}

func number(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func at(a netip.Addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

func windowsState(b []byte) State {
	switch number(b) {
	case 2:
		return StateListen
	case 3:
		return StateSynSent
	case 4:
		return StateSynReceived
	case 5:
		return StateEstablished
	case 6, 7:
		return StateFinWait
	case 8:
		return StateCloseWait
	}
	return StateOther
}
