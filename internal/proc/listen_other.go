//go:build !linux && !windows

package proc

import (
	"errors"
	"net/netip"
)

// Listeners tells who listens where a connection to addr would end: on that very address, or, if nobody does, on its port of all
// addresses. It is empty if nobody does. errors.ErrUnsupported: this system does not tell.
func Listeners(netip.AddrPort) ([]Owner, error) { return nil, errors.ErrUnsupported }

// ListensOnly returns nil if every socket that listens at addr, as in Listeners, is held by one of ids; else the error says who has it.
// errors.ErrUnsupported: this system does not tell.
func ListensOnly(netip.AddrPort, []ID) error { return errors.ErrUnsupported }
