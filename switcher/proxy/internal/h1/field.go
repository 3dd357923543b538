package h1

// Limits of a head, unless Config sets lower ones for those of clients.
const (
	MaxHead   = 1 << 20 // bytes
	MaxFields = 1000
)

// kind says what a field of a head means for its way through.
type kind uint8

const (
	plain kind = iota // nothing
	hop               // it is about one connection only, and about nothing that we do there
	connection
	te
	trailer
	transferEncoding
	upgrade
	host
	contentLength
	expect
	forwardedFor
	forwardedHost
	forwardedProto
	aboutForwarding // another field that tells who forwarded the request
)

// kindOf returns the kind of the field with that canonical name (RFC 9110, 7.6.1 for those of one connection).
func kindOf(name []byte, underscore bool) kind {
	switch string(name) {
	case "Host":
		return host
	case "Connection":
		return connection
	case "Content-Length":
		return contentLength
	case "Transfer-Encoding":
		return transferEncoding
	case "Te":
		return te
	case "Trailer":
		return trailer
	case "Upgrade":
		return upgrade
	case "Expect":
		return expect
	case "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization":
		return hop
	case "X-Forwarded-For":
		return forwardedFor
	case "X-Forwarded-Host":
		return forwardedHost
	case "X-Forwarded-Proto":
		return forwardedProto
	}
	if tellsForwarding(name, underscore) {
		return aboutForwarding
	}
	return plain
}

// tellsForwarding reports whether a name is Forwarded, or one of X-Forwarded-*. Some applications read an underscore as a dash.
func tellsForwarding(name []byte, underscore bool) bool {
	const prefix, whole = "x-forwarded-", "forwarded"
	if len(name) == len(whole) {
		return name[0] == 'F' && fold(name, whole)
	}
	if name[0] != 'X' || len(name) < len(prefix) {
		return false
	}
	if !underscore {
		return string(name[:len(prefix)]) == "X-Forwarded-"
	}
	for i, c := range name[:len(prefix)] {
		switch {
		case c == '_':
			c = '-'
		case chars[c]&upperChar != 0:
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// trailerMay reports whether the field with that canonical name may stand in a trailer: those that say how to read the message may not.
func trailerMay(name []byte) bool {
	switch kindOf(name, false) {
	case plain, expect, forwardedFor, forwardedHost, forwardedProto, aboutForwarding:
	default:
		return false
	}
	switch string(name) {
	case "Content-Encoding", "Content-Type", "Content-Range":
		return false
	}
	return true
}

// field is one line of a head, by places in it. Lines follow one another without a gap.
type field struct {
	line, colon uint32 // of the name's first byte, and of the colon
	value, end  uint32 // of the value without blanks around it
	kind        kind
	tidy        bool // it is written as "Name: value" in canonical writing
}

func (f *field) name(head []byte) []byte { return head[f.line:f.colon] }
func (f *field) text(head []byte) []byte { return head[f.value:f.end] }

// fieldAt reads the line of a head that lies at [from, to), without its CRLF.
func fieldAt(head []byte, from, to int) (field, *Fault) {
	line := head[from:to]
	if isBlank(line[0]) {
		return field{}, errFold
	}
	n, underscore := scanName(line)
	if n == 0 || n == len(line) || line[n] != ':' {
		return field{}, errName
	}
	v := trim(line[n+1:])
	if !cleanText(v) {
		return field{}, errValue
	}
	value := n + 1
	for value < len(line) && isBlank(line[value]) {
		value++
	}
	f := field{line: uint32(from), colon: uint32(from + n), value: uint32(from + value), end: uint32(from + value + len(v))}
	f.kind = kindOf(line[:n], underscore)
	f.tidy = value == n+2 && line[n+1] == ' ' && value+len(v) == len(line)
	return f, nil
}

// lines reads a head line by line, as it comes. Its places are relative to the head's first byte.
type lines struct {
	fields []field
	at     int // where the line begins that is being read
	seen   int // up to here there is no end of it
	bytes  int // how long the head may be
	count  int // how many fields it may have
}

func (l *lines) reset() {
	l.fields = l.fields[:0]
	l.at, l.seen = 0, 0
	l.bytes, l.count = MaxHead, MaxFields
}

// limit sets lower limits; 0: the limit that there is.
func (l *lines) limit(bytes, fields int) {
	if bytes > 0 {
		l.bytes = min(bytes, MaxHead)
	}
	if fields > 0 {
		l.count = min(fields, MaxFields)
	}
}

// next returns where the next line lies, without its CRLF; ok is false if head does not have all of it yet.
func (l *lines) next(head []byte) (from, to int, ok bool, f *Fault) {
	i := indexLF(head[l.seen:])
	if i < 0 {
		l.seen = len(head)
		if l.seen > l.bytes {
			return 0, 0, false, errHeadSize
		}
		return 0, 0, false, nil
	}
	from, to = l.at, l.seen+i-1
	if to < from || head[to] != '\r' {
		return 0, 0, false, errBareLF
	}
	l.at = to + 2
	l.seen = l.at
	if l.at > l.bytes {
		return 0, 0, false, errHeadSize
	}
	return from, to, true, nil
}

// add takes a line in.
func (l *lines) add(head []byte, from, to int) (*field, *Fault) {
	if len(l.fields) == l.count {
		return nil, errHeadFields
	}
	f, fault := fieldAt(head, from, to)
	if fault != nil {
		return nil, fault
	}
	l.fields = append(l.fields, f)
	return &l.fields[len(l.fields)-1], nil
}

// named reports whether one of the Connection fields names the field with that canonical name.
func (l *lines) named(head, name []byte) bool {
	for i := range l.fields {
		if f := &l.fields[i]; f.kind == connection {
			for list, more := f.text(head), true; more; {
				var e []byte
				if e, list, more = nextElement(list); len(e) == len(name) && foldBoth(e, name) {
					return true
				}
			}
		}
	}
	return false
}

// foldBoth compares without regard to the case of ASCII letters; both are of one length.
func foldBoth(a, b []byte) bool {
	for i, c := range a {
		d := b[i]
		if c != d && (chars[c]&(upperChar|lowerChar) == 0 || c|0x20 != d|0x20) {
			return false
		}
	}
	return true
}

// copier copies lines of a head, as many at a time as follow one another unchanged.
type copier struct {
	dst, head []byte
	from      int // of what is still to be copied; -1: nothing
}

func (c *copier) keep(f *field) {
	if f.tidy {
		if c.from < 0 {
			c.from = int(f.line)
		}
		return
	}
	c.flush(int(f.line))
	c.dst = appendField(c.dst, f.name(c.head), f.text(c.head))
}

// flush copies what is to be copied before the line at.
func (c *copier) flush(at int) {
	if c.from >= 0 {
		c.dst = append(c.dst, c.head[c.from:at]...)
		c.from = -1
	}
}

func appendField[V ~string | ~[]byte, N ~string | ~[]byte](dst []byte, name N, value V) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}
