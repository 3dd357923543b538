package proc

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listeners tells who listens where a connection to addr would end: on that very address, or, if nobody does, on its port of all
// addresses. It is empty if nobody does. errors.ErrUnsupported: this system does not tell.
func Listeners(addr netip.AddrPort) ([]Owner, error) {
	inodes, err := listening(addr)
	if err != nil || len(inodes) == 0 {
		return nil, err
	}
	all, err := snapshot()
	if err != nil {
		return nil, err
	}
	var owners []Owner
	found := map[string]bool{}
	for _, in := range all {
		held, _ := socketsOf(in.id.PID) // what is not shown is told as an owner unknown
		for _, inode := range inodes {
			if held[inode] {
				found[inode] = true
				owners = append(owners, Owner{ID: in.id, Name: in.name})
				break
			}
		}
	}
	if len(found) < len(inodes) {
		owners = append(owners, Owner{})
	}
	return owners, nil
}

// ListensOnly returns nil if every socket that listens at addr, as in Listeners, is held by one of ids; else the error says who has it.
// errors.ErrUnsupported: the system does not tell, or not of these.
func ListensOnly(addr netip.AddrPort, ids []ID) error {
	inodes, err := listening(addr)
	if err != nil {
		return err
	}
	if len(inodes) == 0 {
		return fmt.Errorf("nobody listens on %s", addr)
	}
	left := slices.Clone(inodes)
	secret := false
	for _, id := range ids {
		held, err := socketsOf(id.PID)
		secret = secret || errors.Is(err, fs.ErrPermission)
		left = slices.DeleteFunc(left, func(inode string) bool { return held[inode] })
		if len(left) == 0 {
			return nil
		}
	}
	owners, err := Listeners(addr)
	if err != nil {
		return err
	}
	owners = slices.DeleteFunc(owners, func(o Owner) bool { return slices.Contains(ids, o.ID) })
	if others := slices.ContainsFunc(owners, func(o Owner) bool { return o.ID.PID != 0 }); secret && !others {
		return errors.ErrUnsupported // a program with capabilities shows its files to root only
	}
	return &ForeignError{Addr: addr, Owners: owners}
}

// listening returns the numbers of the sockets that listen at addr. The kernel's tables name the listeners first, and there may be tens of
// thousands of other sockets behind them: only if no listener is found so are the tables read whole, for kernels of another order.
func listening(addr netip.AddrPort) ([]string, error) {
	for _, whole := range []bool{false, true} {
		var exact, wild []string
		for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			e, w, err := readTable(table, addr, whole)
			if errors.Is(err, fs.ErrNotExist) { // tcp6: no IPv6 here
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", table, err)
			}
			exact, wild = append(exact, e...), append(wild, w...)
		}
		if len(exact) > 0 {
			return exact, nil
		}
		if len(wild) > 0 {
			return wild, nil
		}
	}
	return nil, nil
}

func readTable(path string, addr netip.AddrPort, whole bool) (exact, wild []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return parseTable(f, addr, whole)
}

// parseTable reads /proc/net/tcp or tcp6, up to the first socket that does not listen or whole, and returns the numbers of the sockets
// that listen on addr itself, and on its port of all addresses. A line is "sl local_address rem_address st tx:rx tr:when retrnsmt uid
// timeout inode ...", addresses in hexadecimal.
func parseTable(table io.Reader, addr netip.AddrPort, whole bool) (exact, wild []string, err error) {
	const listen = "0A"
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) < 10 {
			return nil, nil, fmt.Errorf("line %q has only %d fields", lines.Text(), len(f))
		}
		if f[3] != listen {
			if whole {
				continue
			}
			break
		}
		local, err := parseHexAddr(f[1])
		if err != nil {
			return nil, nil, err
		}
		if local.Port() != addr.Port() {
			continue
		}
		switch at := local.Addr().Unmap(); {
		case at == addr.Addr().Unmap():
			exact = append(exact, f[9])
		case at.IsUnspecified() && (at.Is6() || addr.Addr().Unmap().Is4()):
			wild = append(wild, f[9])
		}
	}
	return exact, wild, lines.Err()
}

// parseHexAddr reads "0100007F:1389": the address in words of four bytes, each in the byte order of the machine, and the port.
func parseHexAddr(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || (len(raw) != 4 && len(raw) != 16) {
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
	return netip.AddrPortFrom(a, uint16(p)), nil
}

// socketsOf returns the numbers of the sockets that the process has open.
func socketsOf(pid int) (map[string]bool, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, e := range entries {
		to, err := os.Readlink(dir + e.Name())
		if inode, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
			held[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return held, nil
}
