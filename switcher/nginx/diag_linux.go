package nginx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of what the kernel's socket diagnosis takes and gives (linux/inet_diag.h).
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagAnswer  = 72
)

// States that are asked for, as bits.
const (
	// anyState is all but TIME_WAIT and CLOSE. A busy front door has tens of thousands of the former, which belong to no process.
	anyState = 0xfff &^ (1 << 6) &^ (1 << 7)
	// listenState alone costs next to nothing: the kernel keeps those that listen apart, and the others in a table of many thousand rows.
	listenState = 1 << stateListen
)

// diagnose asks the kernel for the TCP sockets of our own network that are in any of the states.
func diagnose(states uint32) ([]socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	var all []socket
	for i, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, diagRequest)
		binary.NativeEndian.PutUint32(req[0:], diagRequest)
		binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
		binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		binary.NativeEndian.PutUint32(req[8:], uint32(i+1))
		req[unix.SizeofNlMsghdr], req[unix.SizeofNlMsghdr+1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(req[unix.SizeofNlMsghdr+4:], states)
		if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, os.NewSyscallError("sendto", err)
		}
		some, err := receive(fd)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// receive reads answers up to the last one.
func receive(fd int) ([]socket, error) {
	var all []socket
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		some, done, err := parseDiag(buf[:n])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if done {
			return all, nil
		}
	}
}

// parseDiag reads one packet of answers. done: it was the last one.
func parseDiag(b []byte) (all []socket, done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return all, true, fmt.Errorf("socket diagnosis: a message of %d bytes in %d", size, len(b))
		}
		kind, flags, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]
		b = b[min(len(b), (size+3)&^3):]
		switch {
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return all, true, errors.New("socket diagnosis: it was interrupted")
		case kind == unix.NLMSG_DONE:
			return all, true, nil
		case kind == unix.NLMSG_ERROR:
			if len(body) < 4 {
				return all, true, errors.New("socket diagnosis: an error without number")
			}
			return all, true, fmt.Errorf("socket diagnosis: %w", syscall.Errno(-int32(binary.NativeEndian.Uint32(body))))
		case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < diagAnswer:
			continue
		}
		n := 4
		if body[0] == unix.AF_INET6 {
			n = 16
		}
		local, _ := netip.AddrFromSlice(body[8 : 8+n])
		remote, _ := netip.AddrFromSlice(body[24 : 24+n])
		all = append(all, socket{
			local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(body[4:])),
			remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(body[6:])),
			state:  int(body[1]),
			user:   binary.NativeEndian.Uint32(body[64:]),
			inode:  uint64(binary.NativeEndian.Uint32(body[68:])),
		})
	}
	return all, false, nil
}

// sameNetwork tells whether the process has the same network as we.
func sameNetwork(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	its, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	return err == nil && own == its
}
