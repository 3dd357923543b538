package nginx

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// littleEndian tells the machine's order of bytes.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// socket is a line of the system's table of TCP sockets.
type socket struct {
	local, remote netip.AddrPort
	state         int
	user          uint32
	inode         uint64 // 0: it belongs to no process any more
}

// States of a socket that matter here.
const (
	stateEstablished = 1
	stateSynSent     = 2
	stateCloseWait   = 8
	stateListen      = 10
)

// open tells whether a process still exchanges something over the socket, or is about to.
func (x socket) open() bool {
	return x.state == stateEstablished || x.state == stateSynSent || x.state == stateCloseWait
}

// parseTable reads /proc/net/tcp or tcp6. Lines that it does not understand are left out.
func parseTable(text string) []socket {
	var all []socket
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, ok := parseHexAddr(f[1])
		remote, rok := parseHexAddr(f[2])
		state, err := strconv.ParseInt(f[3], 16, 32)
		user, uerr := strconv.ParseUint(f[7], 10, 32)
		inode, ierr := strconv.ParseUint(f[9], 10, 64)
		if !ok || !rok || err != nil || uerr != nil || ierr != nil {
			continue
		}
		all = append(all, socket{local: local, remote: remote, state: int(state), user: uint32(user), inode: inode})
	}
	return all
}

// parseHexAddr reads an address as the kernel writes it: words of four bytes in the machine's order, then the port.
func parseHexAddr(text string) (netip.AddrPort, bool) {
	addr, port, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(addr)
	p, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		word := uint32(b[i])<<24 | uint32(b[i+1])<<16 | uint32(b[i+2])<<8 | uint32(b[i+3])
		if littleEndian {
			word = bits.ReverseBytes32(word)
		}
		b[i], b[i+1], b[i+2], b[i+3] = byte(word>>24), byte(word>>16), byte(word>>8), byte(word)
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}
