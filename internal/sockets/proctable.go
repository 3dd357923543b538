package sockets

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseProc reads /proc/net/tcp or tcp6. A line is "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...", addresses
// and the state in hexadecimal.
func parseProc(table io.Reader, f func(Conn)) error {
	lines := bufio.NewScanner(table)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 10 {
			return fmt.Errorf("line %q has only %d fields", lines.Text(), len(fields))
		}
		local, err := parseHex(fields[1])
		if err != nil {
			return err
		}
		remote, err := parseHex(fields[2])
		if err != nil {
			return err
		}
		state, err := strconv.ParseUint(fields[3], 16, 8)
		if err != nil {
			return fmt.Errorf("state %q: %w", fields[3], err)
		}
		f(Conn{Local: local, Remote: remote, State: procState(state), Owned: fields[9] != "0"})
	}
	return lines.Err()
}

func procState(n uint64) State {
	switch n {
	case 0x01:
		return StateEstablished
	case 0x02:
		return StateSynSent
	case 0x03, 0x0c: // 0c: the same, in a newer form
		return StateSynReceived
	case 0x04, 0x05:
		return StateFinWait
	case 0x08:
		return StateCloseWait
	case 0x0a:
		return StateListen
	}
	return StateOther
}

// parseHex reads "0100007F:1389": the address in words of four bytes, each in the byte order of the machine, and the port.
func parseHex(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("address %q is neither IPv4 nor IPv6", s)
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: port: %w", s, err)
	}
	for w := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}
