package evidence

import (
	"net/netip"

	"github.com/abswap/abswap/internal/sockets"
)

// ParseAnswer reads an answer of an in-flight endpoint and tells its requests.
func ParseAnswer(contentType string, body []byte) (requests, upgraded, sessions int, err error) {
	a, err := parse(contentType, body)
	return a.requests, a.upgraded, a.sessions, err
}

// ParseAddress reads an address of SocketDrainer.Addresses.
func ParseAddress(text string) (netip.AddrPort, error) { return parseAddress(text) }

// WithTable makes d read these sockets in place of the system's.
func WithTable(d *SocketDrainer, table ...sockets.Conn) *SocketDrainer {
	d.each = func(f func(sockets.Conn)) error {
		for _, c := range table {
			f(c)
		}
		return nil
	}
	return d
}
