package proxy

import (
	"bufio"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// hopByHop reports whether the field named, in canonical form, is about one connection only, not about the message (RFC 9110, 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// reservedAnswerField reports whether a field of that name in an answer cannot be Config.ReleaseHeader.
func reservedAnswerField(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return hopByHop(name) || name == "Content-Length" || name == "Content-Type" || name == "Date" || name == "Set-Cookie" || name == "Retry-After"
}

// named returns the fields, in canonical form, that the Connection fields of h name as hop-by-hop.
func named(h http.Header) []string {
	var out []string
	for _, v := range h["Connection"] {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.TrimSpace(t); t != "" {
				out = append(out, http.CanonicalHeaderKey(t))
			}
		}
	}
	return out
}

// hasToken reports whether one of the comma-separated elements of the fields is token, without regard to case.
func hasToken(fields []string, token string) bool {
	for _, v := range fields {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// acceptsTrailers reports whether one of the TE fields has the element "trailers", with or without parameters.
func acceptsTrailers(te []string) bool {
	for _, v := range te {
		for t := range strings.SplitSeq(v, ",") {
			t, _, _ = strings.Cut(t, ";")
			if strings.EqualFold(strings.TrimSpace(t), "trailers") {
				return true
			}
		}
	}
	return false
}

// upgradeOf returns the protocol that the client wants to change to; "" if it does not. A request with a body cannot: bytes behind the head
// would be the body's and the new protocol's at once.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.ContentLength != 0 || !hasToken(r.Header["Connection"], "upgrade") {
		return ""
	}
	return strings.Join(r.Header["Upgrade"], ", ")
}

// expectsContinue reports whether the client waits for a 100 before it sends its body.
func expectsContinue(r *http.Request) bool {
	return r.ContentLength != 0 && r.ProtoAtLeast(1, 1) && hasToken(r.Header["Expect"], "100-continue")
}

// forwarded is what the request tells the slot of the client.
type forwarded struct {
	trusted bool // the peer's own Forwarded and X-Forwarded-* fields are kept
	ip      string
}

// forwardedBy says it of a peer with that address.
func (d *door) forwardedBy(peer string) forwarded {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return forwarded{} // a Unix socket, or a test's invention: nobody that could be named
	}
	f := forwarded{ip: host}
	if len(d.cfg.trusted) == 0 {
		return f
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return f
	}
	a = a.Unmap().WithZone("")
	for _, n := range d.cfg.trusted {
		if n.Contains(a) {
			f.trusted = true
		}
	}
	return f
}

// writeRequest writes the head of r to the slot. Only hop-by-hop fields and those about forwarding are changed; a request target is passed
// on as it was written.
func writeRequest(bw *bufio.Writer, r *http.Request, f forwarded, upgrade string, expect bool) error {
	bw.WriteString(r.Method)
	bw.WriteByte(' ')
	bw.WriteString(requestTarget(r))
	bw.WriteString(" HTTP/1.1\r\nHost: ")
	bw.WriteString(r.Host)
	bw.WriteString("\r\n")

	drop := named(r.Header)
	for name, values := range r.Header {
		switch {
		case hopByHop(name), name == "Host", name == "Content-Length", name == "Expect", slices.Contains(drop, name):
			continue
		case name == "X-Forwarded-For": // written below, with the peer in it
			continue
		case !f.trusted && aboutForwarding(name):
			continue
		}
		for _, v := range values {
			writeField(bw, name, v)
		}
	}
	for _, x := range [...]struct{ name, value string }{
		{"X-Forwarded-For", forwardedFor(r, f)},
		{"X-Forwarded-Host", r.Host},
		{"X-Forwarded-Proto", scheme(r)},
	} {
		if x.value != "" && (x.name == "X-Forwarded-For" || !f.trusted || len(r.Header[x.name]) == 0 || slices.Contains(drop, x.name)) {
			writeField(bw, x.name, x.value)
		}
	}

	connection := ""
	if acceptsTrailers(r.Header["Te"]) {
		writeField(bw, "TE", "trailers")
		connection = "TE"
	}
	if upgrade != "" {
		writeField(bw, "Upgrade", upgrade)
		connection = join(connection, "Upgrade")
	}
	if connection != "" {
		writeField(bw, "Connection", connection)
	}
	if expect {
		writeField(bw, "Expect", "100-continue")
	}
	switch {
	case r.ContentLength > 0, r.ContentLength == 0 && len(r.Header["Content-Length"]) > 0:
		writeField(bw, "Content-Length", strconv.FormatInt(r.ContentLength, 10))
	case r.ContentLength < 0:
		if len(r.Trailer) > 0 {
			names := ""
			for name := range r.Trailer {
				names = join(names, name)
			}
			writeField(bw, "Trailer", names)
		}
		writeField(bw, "Transfer-Encoding", "chunked")
	}
	bw.WriteString("\r\n")
	return bw.Flush()
}

// aboutForwarding reports whether the field tells who forwarded the request. Some applications read an underscore as a dash.
func aboutForwarding(name string) bool {
	if strings.Contains(name, "_") {
		name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-")
}

// requestTarget is the target in origin form, or "*".
func requestTarget(r *http.Request) string {
	if t := r.RequestURI; t == "*" || strings.HasPrefix(t, "/") {
		return t
	}
	return r.URL.RequestURI() // absolute form, or a request that no server has read
}

func forwardedFor(r *http.Request, f forwarded) string {
	if !f.trusted {
		return f.ip
	}
	return join(strings.Join(r.Header["X-Forwarded-For"], ", "), f.ip)
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	if b == "" {
		return a
	}
	return a + ", " + b
}

func writeField(bw *bufio.Writer, name, value string) {
	bw.WriteString(name)
	bw.WriteString(": ")
	bw.WriteString(value)
	bw.WriteString("\r\n")
}

// safeField makes s fit for the value of a header field.
func safeField(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '_'
		}
		return c
	}, s)
}

// idempotent reports whether doing the request twice is the same as doing it once, by its method (RFC 9110, 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// mark is the value of Config.ReleaseHeader.
func mark(k route.Key) string { return safeField(k.Slot + "/" + k.Release) }
