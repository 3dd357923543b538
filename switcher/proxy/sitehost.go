package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxHost is how long a name may be (RFC 1035, 2.3.4), with room for a dot at its end, a port, and the brackets of an address.
const maxHost = 264

// hostKey is a host as sites are looked up by it, in buf: without a port, without the dot at its end, in small letters. It is empty if there is
// none, or none that a site could have.
func hostKey(buf *[maxHost]byte, host string) []byte {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (host[0] != '[' || host[i-1] == ']') {
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > len(buf) {
		return nil
	}
	for i := range len(host) {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	return buf[:len(host)]
}

// siteName returns the key of a host that a site is to have: a name, an address, "*." before a name, or "*".
func siteName(host string) (string, error) {
	bad := func(why string) (string, error) { return "", fmt.Errorf("host %q: %s", host, why) }
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "*" {
		return name, nil
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil {
		if a.Zone() != "" {
			return bad("an address with a zone is none that a client writes")
		}
		if a.Is6() {
			return "[" + a.String() + "]", nil
		}
		return a.String(), nil
	}
	rest := strings.TrimPrefix(name, "*.")
	switch {
	case rest == "":
		return bad("it is empty; \"*\" is for all hosts that no other site has")
	case len(name) > 253:
		return bad("it is longer than a name can be")
	case strings.ContainsRune(rest, ':'):
		return bad("a site is told by its name alone, without a port")
	case strings.ContainsRune(rest, '*'):
		return bad("a wildcard stands for the first label, as in *.example.com")
	}
	for label := range strings.SplitSeq(rest, ".") {
		if label == "" || len(label) > 63 {
			return bad("a label of it is empty or longer than 63 bytes")
		}
	}
	for _, c := range []byte(rest) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("-._~!$&'()+,;=%", c) >= 0:
		case c >= 0x80:
			return bad("write it as clients send it, in its ASCII form (xn--...)")
		default:
			return bad(fmt.Sprintf("%q cannot be in it", c))
		}
	}
	return name, nil
}

// siteNames returns the keys of hosts, each once. The error lists all mistakes.
func siteNames(hosts []string) (names []string, errs []error) {
	if len(hosts) == 0 {
		return nil, []error{errors.New("no host is named")}
	}
	seen := map[string]bool{}
	for _, h := range hosts {
		n, err := siteName(h)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !seen[n]:
			seen[n] = true
			names = append(names, n)
		}
	}
	return names, errs
}
