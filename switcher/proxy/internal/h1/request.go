package h1

import "bytes"

func indexLF(p []byte) int { return bytes.IndexByte(p, '\n') }

// Facts are what of a request's head is still needed once it has been sent on.
type Facts struct {
	Length     int64 // of the body; 0: none, -1: chunked
	Minor      uint8 // 0: HTTP/1.0, 1: HTTP/1.1
	Idempotent bool  // doing the request twice is the same as doing it once, by its method (RFC 9110, 9.2.2)
	Head       bool  // the method is HEAD
	Expects    bool  // the client waits for a 100 before it sends its body
	Close      bool  // the client said "close"
	KeepAlive  bool  // the client said "keep-alive"
	Upgrades   bool  // the client wants to change to another protocol, and can
}

// Request is the head of a request, by places in the bytes that were read. It is used again for the next one.
type Request struct {
	Facts
	lines
	method    int    // its length
	target    [2]int // in origin form; empty: "*", or "/" before a query
	path      [2]int // of target, without the query
	authority [2]int // of a target in absolute form, or else of Host
	star      bool   // the target is "*", which may have been written otherwise
	slash     bool   // the target lacks a "/" at its beginning
	absolute  bool
	begun     bool // the request line has been read
	sized     bool // there is a Content-Length
	hosts     int
	chunked   bool
	named     bool // Connection names other fields
	trailers  bool // TE says that the client takes trailers
	wants     bool // Connection says "upgrade"
	odd       bool // Expect says something else
}

// Reset makes r ready for the next head.
func (r *Request) Reset() {
	l := r.lines
	*r = Request{lines: l}
	r.reset()
}

// Len returns how many bytes the head has, once Scan has found it complete.
func (r *Request) Len() int { return r.at }

// Begun reports whether a part of the head has been read.
func (r *Request) Begun() bool { return r.begun }

// Scan reads on in head, which holds all that has come so far, from the first byte of the head. It puts the names of fields into canonical
// writing, in place. It returns true when the head is complete; head may be longer. A byte is looked at once, however many pieces it comes in.
func (r *Request) Scan(head []byte) (bool, *Fault) {
	for {
		from, to, ok, fault := r.next(head)
		if !ok || fault != nil {
			return false, fault
		}
		if !r.begun {
			if fault := r.line(head[:to], from); fault != nil {
				return false, fault
			}
			r.begun = true
			continue
		}
		if from == to {
			return true, r.finish(head)
		}
		f, fault := r.add(head, from, to)
		if fault != nil {
			return false, fault
		}
		if f.kind != plain {
			if fault := r.note(head, f); fault != nil {
				return false, fault
			}
		}
	}
}

// line reads the request line, which begins at from and ends where head does.
func (r *Request) line(head []byte, from int) *Fault {
	i := from
	for i < len(head) && chars[head[i]]&tokenChar != 0 {
		i++
	}
	if i == from || i == len(head) || head[i] != ' ' {
		return errLine
	}
	r.method = i
	m := head[:i]
	i++
	target := i
	for i < len(head) && chars[head[i]]&targetChar != 0 {
		i++
	}
	if i == target || i == len(head) || head[i] != ' ' {
		return errTarget
	}
	v := head[i+1:]
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || chars[v[5]]&digitChar == 0 || chars[v[7]]&digitChar == 0 {
		return errLine
	}
	if v[5] != '1' {
		return errVersion
	}
	if v[7] != '0' {
		r.Minor = 1
	}
	switch string(m) {
	case "GET", "OPTIONS", "TRACE", "PUT", "DELETE":
		r.Idempotent = true
	case "HEAD":
		r.Idempotent, r.Head = true, true
	case "CONNECT":
		return errConnect
	}
	return r.aim(head[:i], target, string(m) == "OPTIONS")
}

// aim reads the request target, which lies from at to the end of head (RFC 9112, 3.2).
func (r *Request) aim(head []byte, at int, options bool) *Fault {
	t := head[at:]
	switch {
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if !options {
			return errTarget
		}
		r.star = true
		r.path = [2]int{at, at + 1}
		return nil
	default:
		scheme := len("http://")
		if len(t) < scheme || !fold(t[:scheme], "http://") {
			if scheme++; len(t) < scheme || !fold(t[:scheme], "https://") {
				return errTarget
			}
		}
		end := at + scheme
		for end < len(head) && head[end] != '/' && head[end] != '?' {
			end++
		}
		if end == at+scheme || !validHost(head[at+scheme:end]) || head[at+scheme] == ':' {
			return errTarget
		}
		r.absolute = true
		r.authority = [2]int{at + scheme, end}
		at = end
		if at == len(head) && options {
			r.star = true
			r.path = [2]int{at, at}
			return nil
		}
		r.slash = at == len(head) || head[at] == '?'
	}
	r.target = [2]int{at, len(head)}
	path := len(head)
	if i := bytes.IndexByte(head[at:], '?'); i >= 0 {
		path = at + i
	}
	r.path = [2]int{at, path}
	if !validEscapes(head[at:path]) {
		return errTarget
	}
	return nil
}

// validEscapes reports whether each per cent sign of a path begins an escape.
func validEscapes(path []byte) bool {
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 {
			return true
		}
		if i+2 >= len(path) || hexOf(path[i+1]) < 0 || hexOf(path[i+2]) < 0 {
			return false
		}
		path = path[i+3:]
	}
}

func hexOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// note takes in what a field says about how to read and carry the request.
func (r *Request) note(head []byte, f *field) *Fault {
	v := f.text(head)
	switch f.kind {
	case host:
		if r.hosts++; r.hosts > 1 {
			return errHosts
		}
		if !validHost(v) {
			return errHost
		}
		if !r.absolute {
			r.authority = [2]int{int(f.value), int(f.end)}
		}
	case contentLength:
		if r.sized {
			return errLengths
		}
		n, ok := decimal(v)
		if !ok {
			return errLength
		}
		r.sized, r.Length = true, n
	case transferEncoding:
		if r.chunked {
			return errCodings
		}
		if fault := onlyChunked(v); fault != nil {
			return fault
		}
		r.chunked = true
	case connection:
		r.noteConnection(v)
	case te:
		r.trailers = r.trailers || acceptsTrailers(v)
	case expect:
		if fold(v, "100-continue") {
			r.Expects = true
		} else if hasElement(v, "100-continue") {
			r.Expects = true
		} else if len(v) > 0 {
			r.odd = true
		}
	}
	return nil
}

// onlyChunked refuses every value of Transfer-Encoding but a single "chunked".
func onlyChunked(v []byte) *Fault {
	if fold(v, "chunked") {
		return nil
	}
	var last []byte
	elements, chunked := 0, 0
	for list, more := v, true; more; elements++ {
		if last, list, more = nextElement(list); fold(last, "chunked") {
			chunked++
		}
	}
	if chunked > 1 || chunked == 1 && !fold(last, "chunked") || len(last) == 0 {
		return errCodings
	}
	return errCoding
}

func (r *Request) noteConnection(list []byte) {
	for more := true; more; {
		var e []byte
		e, list, more = nextElement(list)
		switch {
		case len(e) == 0, fold(e, "te"):
		case fold(e, "close"):
			r.Close = true
		case fold(e, "keep-alive"):
			r.KeepAlive = true
		case fold(e, "upgrade"):
			r.wants = true
		default:
			r.named = true
		}
	}
}

// acceptsTrailers reports whether a list has the element "trailers", with or without parameters.
func acceptsTrailers(list []byte) bool {
	for more := true; more; {
		var e []byte
		e, list, more = nextElement(list)
		if i := bytes.IndexByte(e, ';'); i >= 0 {
			e = trim(e[:i])
		}
		if fold(e, "trailers") {
			return true
		}
	}
	return false
}

// finish judges the head as a whole.
func (r *Request) finish(head []byte) *Fault {
	switch {
	case r.hosts == 0 && r.Minor > 0:
		return errNoHost
	case r.chunked && r.Minor == 0:
		return errOldCoding
	case r.chunked && r.sized:
		return errBoth
	case r.odd && !r.Expects:
		return errExpect
	}
	if r.chunked {
		r.Length = -1
	}
	r.Expects = r.Expects && r.Length != 0 && r.Minor > 0
	r.Upgrades = r.wants && r.Length == 0 && r.Minor > 0 && len(r.Upgrade(head)) > 0
	return nil
}

// Method returns the method.
func (r *Request) Method(head []byte) []byte { return head[:r.method] }

// Path returns the path of the target as it was written.
func (r *Request) Path(head []byte) []byte {
	switch {
	case r.star:
		return []byte{'*'}
	case r.slash:
		return []byte{'/'}
	}
	return head[r.path[0]:r.path[1]]
}

// Authority returns what the request is meant for: of an absolute target that, else what Host says.
func (r *Request) Authority(head []byte) []byte { return head[r.authority[0]:r.authority[1]] }

// Upgrade returns the protocols that the Upgrade fields name. With one field nothing is allocated.
func (r *Request) Upgrade(head []byte) []byte { return r.all(head, upgrade) }

// all returns the values of all fields of a kind, joined by commas. With one field nothing is allocated.
func (l *lines) all(head []byte, k kind) []byte {
	var out []byte
	n := 0
	for i := range l.fields {
		if f := &l.fields[i]; f.kind == k {
			v := f.text(head)
			if n++; n == 1 {
				out = v
				continue
			}
			out = append(append(append([]byte(nil), out...), ", "...), v...)
		}
	}
	return out
}

// Sender is who sent a request, as the slot is told.
type Sender struct {
	IP      string // "": it has none
	Trusted bool   // it is a proxy whose own Forwarded and X-Forwarded-* fields are kept and continued
	TLS     bool
}

// Append appends the head as it goes to the slot. Only what concerns the client's connection and who forwarded the request is changed.
func (r *Request) Append(dst, head []byte, by Sender) []byte {
	dst = append(dst, head[:r.method]...)
	dst = append(dst, ' ')
	switch {
	case r.star:
		dst = append(dst, '*')
	case r.slash:
		dst = append(dst, '/')
	}
	authority := r.Authority(head)
	dst = append(dst, head[r.target[0]:r.target[1]]...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, authority...)
	dst = append(dst, "\r\n"...)

	c := copier{dst, head, -1}
	hasHost, hasProto := false, false
	for i := range r.fields {
		f := &r.fields[i]
		keep := true
		if f.kind != plain {
			switch f.kind {
			case forwardedHost, forwardedProto, aboutForwarding:
				keep = by.Trusted
			default:
				keep = false
			}
		}
		if keep && r.named && r.lines.named(head, f.name(head)) {
			keep = false
		}
		if !keep {
			c.flush(int(f.line))
			continue
		}
		hasHost = hasHost || f.kind == forwardedHost
		hasProto = hasProto || f.kind == forwardedProto
		c.keep(f)
	}
	c.flush(r.at - 2)
	dst = c.dst

	if dst = append(dst, forwardedForName...); !r.appendForwardedFor(&dst, head, by) {
		dst = dst[:len(dst)-len(forwardedForName)]
	}
	if len(authority) > 0 && !hasHost {
		dst = appendField(dst, "X-Forwarded-Host", authority)
	}
	if !hasProto {
		if by.TLS {
			dst = append(dst, "X-Forwarded-Proto: https\r\n"...)
		} else {
			dst = append(dst, "X-Forwarded-Proto: http\r\n"...)
		}
	}
	return append(r.appendHop(dst, head), "\r\n"...)
}

const forwardedForName = "X-Forwarded-For: "

// appendForwardedFor appends the value and the end of the line, and reports whether there is a value.
func (r *Request) appendForwardedFor(dst *[]byte, head []byte, by Sender) bool {
	d := *dst
	from := len(d)
	if by.Trusted {
		for i := range r.fields {
			if f := &r.fields[i]; f.kind == forwardedFor {
				if len(d) > from {
					d = append(d, ", "...)
				}
				d = append(d, f.text(head)...)
			}
		}
	}
	if by.IP != "" {
		if len(d) > from {
			d = append(d, ", "...)
		}
		d = append(d, by.IP...)
	}
	if len(d) == from {
		return false
	}
	*dst = append(d, "\r\n"...)
	return true
}

// appendHop appends what is about the connection to the slot.
func (r *Request) appendHop(dst, head []byte) []byte {
	if r.trailers {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	if r.Upgrades {
		dst = appendField(dst, "Upgrade", r.Upgrade(head))
	}
	switch {
	case r.trailers && r.Upgrades:
		dst = append(dst, "Connection: TE, Upgrade\r\n"...)
	case r.trailers:
		dst = append(dst, "Connection: TE\r\n"...)
	case r.Upgrades:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	}
	if r.Expects {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Length > 0, r.sized:
		dst = append(dst, "Content-Length: "...)
		dst = appendInt(dst, r.Length)
		dst = append(dst, "\r\n"...)
	case r.Length < 0:
		dst = r.appendTrailerNames(dst, head)
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return dst
}

// appendTrailerNames appends one Trailer field with the names that may stand in a trailer.
func (l *lines) appendTrailerNames(dst, head []byte) []byte {
	n := 0
	for i := range l.fields {
		f := &l.fields[i]
		if f.kind != trailer {
			continue
		}
		for list, more := f.text(head), true; more; {
			var e []byte
			e, list, more = nextElement(list)
			if k, _ := scanName(e); len(e) == 0 || k < len(e) || !trailerMay(e) {
				continue
			}
			if n++; n == 1 {
				dst = append(dst, "Trailer: "...)
			} else {
				dst = append(dst, ", "...)
			}
			dst = append(dst, e...)
		}
	}
	if n > 0 {
		dst = append(dst, "\r\n"...)
	}
	return dst
}
