package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/sockets"
)

// SocketDrainer counts the TCP connections to the addresses of the slots, out of the operating system's table. It works on Linux and on Windows;
// elsewhere errors.ErrUnsupported is returned, by Check already.
//
// A connection counts as one request, whatever goes on in it: also an idle one that a load balancer keeps for later, so that a slot is drained
// only after that has closed its idle connections, and one that carries many requests at once. The evidence is approximate, since the table is
// not read at one moment. It is unknown where nobody listens at the address on this machine: the slot may be in a container, whose
// connections are not in the table.
type SocketDrainer struct {
	// Addresses are where the slots listen, by the slot's name: "127.0.0.1:5001". The host is an IP address. Required. A slot that listens
	// on all addresses of the machine is found by its port.
	Addresses map[string]string

	// Outgoing counts the connections from this machine to the addresses, in place of those that the slots have accepted: for slots on other
	// machines to which nobody but this machine's load balancer sends requests.
	Outgoing bool

	each func(func(sockets.Conn)) error // nil: the system's table
}

var (
	_ abswap.Drainer = (*SocketDrainer)(nil)
	_ abswap.Checker = (*SocketDrainer)(nil)
)

// InFlight counts the connections of s now.
func (d *SocketDrainer) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	if err := ctx.Err(); err != nil {
		return abswap.Load{}, context.Cause(ctx)
	}
	address, err := d.address(s)
	if err != nil {
		return abswap.Load{}, err
	}
	each := d.each
	if each == nil {
		each = sockets.Each
	}
	var all []sockets.Conn
	err = each(func(c sockets.Conn) {
		if c.State != sockets.StateOther && (c.Local.Port() == address.Port() || c.Remote.Port() == address.Port()) {
			all = append(all, c)
		}
	})
	if err != nil {
		return abswap.Load{}, fmt.Errorf("table of sockets: %w", err)
	}
	if d.Outgoing {
		return abswap.Load{Requests: count(all, func(c sockets.Conn) bool { return c.Remote == address && open(c) }),
			Evidence: abswap.EvidenceApproximate, Source: "socket table, outgoing"}, nil
	}
	exact, wild := listeners(all, address)
	l := abswap.Load{Evidence: abswap.EvidenceApproximate, Source: "socket table"}
	l.Requests = count(all, func(c sockets.Conn) bool {
		return c.Local.Port() == address.Port() && (wild || !exact || c.Local.Addr() == address.Addr()) && accepted(c)
	})
	if !exact && !wild {
		l.Evidence, l.Source = abswap.EvidenceUnknown, fmt.Sprintf("socket table: nobody listens on %s on this machine", address)
	}
	return l, nil
}

// listeners tells whether somebody listens on the address itself, and whether on all addresses with its port.
func listeners(all []sockets.Conn, address netip.AddrPort) (exact, wild bool) {
	for _, c := range all {
		if c.State != sockets.StateListen || c.Local.Port() != address.Port() {
			continue
		}
		exact = exact || c.Local == address
		// Whether a listener on "::" takes IPv4 too is not in the table: it counts as if it did.
		wild = wild || c.Local.Addr().IsUnspecified()
	}
	return exact, wild
}

func count(all []sockets.Conn, is func(sockets.Conn) bool) int {
	n := 0
	for _, c := range all {
		if is(c) {
			n++
		}
	}
	return n
}

// accepted tells whether the application of a listener has, or will have, work with the connection.
func accepted(c sockets.Conn) bool {
	switch c.State {
	case sockets.StateSynReceived, sockets.StateEstablished, sockets.StateCloseWait: // close-wait: the client has said all, and waits
		return true
	case sockets.StateFinWait:
		return c.Owned // the application has said all and still reads
	}
	return false
}

// open tells whether a connection that this machine has made is in use.
func open(c sockets.Conn) bool { return c.State == sockets.StateSynSent || accepted(c) }

func (d *SocketDrainer) address(s abswap.Slot) (netip.AddrPort, error) {
	if s == nil {
		return netip.AddrPort{}, fmt.Errorf("socket drainer: the slot is nil: %w", abswap.ErrUnknownSlot)
	}
	text, ok := d.Addresses[s.Name()]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("socket drainer: slot %q has no address: %w", s.Name(), abswap.ErrUnknownSlot)
	}
	address, err := parseAddress(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("socket drainer: slot %q: %w: %w", s.Name(), err, abswap.ErrPermanent)
	}
	return address, nil
}

func parseAddress(text string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("address %q is not an IP address with a port, such as 127.0.0.1:5001", text)
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), nil
}

// Check looks for addresses that are missing, no addresses, or those of two slots at once, and whether the system tells its sockets.
func (d *SocketDrainer) Check(ctx context.Context, r abswap.CheckRequest) error {
	var errs []error
	seen := map[netip.AddrPort]string{}
	for _, s := range r.Slots {
		address, err := d.address(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, ok := seen[address]; ok {
			errs = append(errs, fmt.Errorf("socket drainer: slots %q and %q have one address, %s: their connections cannot be told apart", other, s.Name(), address))
		}
		seen[address] = s.Name()
		if d.Outgoing && address.Addr().IsUnspecified() {
			errs = append(errs, fmt.Errorf("socket drainer: slot %q: nobody connects to %s: name the address to which the load balancer does", s.Name(), address))
		}
	}
	if len(errs) > 0 {
		return multi.Join(errs...)
	}
	if i := slices.IndexFunc(r.Slots, func(s abswap.Slot) bool { _, ok := d.Addresses[s.Name()]; return ok }); i >= 0 {
		if _, err := d.InFlight(ctx, r.Slots[i]); err != nil {
			what := "cannot be read"
			if errors.Is(err, errors.ErrUnsupported) {
				what = "is not to be had on this system"
			}
			return fmt.Errorf("socket drainer: the table %s: %w", what, err)
		}
	}
	return nil
}
