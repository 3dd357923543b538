// Package sockets reads the operating system's table of TCP sockets.
package sockets

import (
	"fmt"
	"net/netip"
)

// State is the state of a TCP socket.
type State int

const (
	StateOther State = iota // nothing that matters here: closed, TIME_WAIT, LAST_ACK, CLOSING
	StateListen
	StateSynSent
	StateSynReceived
	StateEstablished
	StateFinWait // this side has closed its half: FIN_WAIT1 or FIN_WAIT2
	StateCloseWait
)

// String names the state.
func (s State) String() string {
	names := []string{"other", "listen", "syn-sent", "syn-received", "established", "fin-wait", "close-wait"}
	if s >= 0 && int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", int(s))
}

// Conn is a socket. Addresses of IPv4 are told as such, also where the table has them mapped into IPv6.
type Conn struct {
	Local, Remote netip.AddrPort
	State         State
	Owned         bool // a process has it open; false: the system finishes it alone, or cannot tell
}

// Each calls f for every TCP socket of this machine (on Linux: of this network namespace). The table is not read at one moment: a socket that
// comes or goes meanwhile, and in rare cases another one, may be missing. errors.ErrUnsupported: this system does not tell.
func Each(f func(Conn)) error { return each(f) }
