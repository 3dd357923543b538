package h1

import "strconv"

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

// Response is the head of an answer, by places in the bytes that were read. It is used again for the next one.
type Response struct {
	lines
	Status   int
	Minor    uint8
	Length   int64 // what Content-Length says; -1: nothing
	Chunked  bool
	Close    bool // the slot closes the connection behind it
	keep     bool // it said "keep-alive"
	reason   [2]int
	begun    bool
	named    bool
	switches bool // Connection says "upgrade"
}

// Reset makes r ready for the next head.
func (r *Response) Reset() {
	l := r.lines
	*r = Response{lines: l, Length: -1}
	r.reset()
}

// Len returns how many bytes the head has, once Scan has found it complete.
func (r *Response) Len() int { return r.at }

// Scan is as Request.Scan.
func (r *Response) Scan(head []byte) (bool, *Fault) {
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
			return true, r.finish()
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

// line reads the status line: HTTP/1.x, three digits, and a reason, which may be missing with the blank before it.
func (r *Response) line(head []byte, from int) *Fault {
	l := head[from:]
	if len(l) < len("HTTP/1.1 200") || string(l[:7]) != "HTTP/1." || chars[l[7]]&digitChar == 0 || l[8] != ' ' || len(l) > 12 && l[12] != ' ' {
		return errStatus
	}
	n, ok := decimal(l[9:12])
	if !ok || n < 100 || !cleanText(l[12:]) {
		return errStatus
	}
	r.Status = int(n)
	if l[7] != '0' {
		r.Minor = 1
	}
	r.reason = [2]int{from + min(13, len(l)), len(head)}
	return nil
}

func (r *Response) note(head []byte, f *field) *Fault {
	v := f.text(head)
	switch f.kind {
	case contentLength:
		n, ok := decimal(v)
		if !ok {
			return errLength
		}
		if r.Length >= 0 && r.Length != n {
			return errLengths
		}
		r.Length = n
	case transferEncoding:
		if r.Chunked {
			return errCodings
		}
		if fault := onlyChunked(v); fault != nil {
			return fault
		}
		r.Chunked = true
	case connection:
		for list, more := v, true; more; {
			var e []byte
			e, list, more = nextElement(list)
			switch {
			case len(e) == 0:
			case fold(e, "close"):
				r.Close = true
			case fold(e, "keep-alive"):
				r.keep = true
			case fold(e, "upgrade"):
				r.switches = true
			default:
				r.named = true
			}
		}
	}
	return nil
}

func (r *Response) finish() *Fault {
	switch {
	case r.Chunked && r.Minor == 0:
		return errOldCoding
	case r.Chunked && r.Length >= 0:
		return errBoth
	}
	r.Close = r.Close || r.Minor == 0 && !r.keep
	return nil
}

// Bodiless reports whether the answer has no body, whatever its fields say (RFC 9112, 6.3).
func (r *Response) Bodiless(head bool) bool {
	return head || r.Status < 200 || r.Status == 204 || r.Status == 304
}

// Upgrade returns the protocol of a 101.
func (r *Response) Upgrade(head []byte) []byte { return r.all(head, upgrade) }

// Style is how an answer goes to a client.
type Style struct {
	Minor    uint8  // the client's version
	Chunked  bool   // its body goes in chunks
	Close    bool   // the connection ends behind it
	Keep     bool   // an old client must be told that it does not
	Mark     string // the field by which every answer says who gave it, in canonical writing; "": none
	MarkAs   string // how it is written
	Marked   string // its value
	Cookie   string // the value of a Set-Cookie field that is added; "": none
	Protocol []byte // a 101 changes to it
}

// Append appends the head as it goes to the client. Only what concerns the connection to the slot is changed.
func (r *Response) Append(dst, head []byte, s Style) []byte {
	if s.Minor == 0 {
		dst = append(dst, "HTTP/1.0 "...)
	} else {
		dst = append(dst, "HTTP/1.1 "...)
	}
	dst = appendInt(dst, int64(r.Status))
	dst = append(dst, ' ')
	dst = append(dst, head[r.reason[0]:r.reason[1]]...)
	dst = append(dst, "\r\n"...)
	c := copier{dst, head, -1}
	length := false
	for i := range r.fields {
		f := &r.fields[i]
		keep := true
		switch f.kind {
		case hop, connection, te, trailer, transferEncoding, upgrade:
			keep = false
		case contentLength:
			keep = !length && !s.Chunked && r.Status >= 200
			length = true
		}
		if keep && (r.named && f.kind != contentLength && r.lines.named(head, f.name(head)) || // how to read the message is not the slot's to take back
			s.Mark != "" && len(s.Mark) == int(f.colon-f.line) && string(f.name(head)) == s.Mark) {
			keep = false
		}
		if !keep {
			c.flush(int(f.line))
			continue
		}
		c.keep(f)
	}
	c.flush(r.at - 2)
	dst = c.dst
	if s.Chunked {
		dst = r.appendTrailerNames(dst, head)
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if s.Mark != "" && r.Status >= 200 || s.Mark != "" && s.Protocol != nil {
		dst = appendField(dst, s.MarkAs, s.Marked)
	}
	if s.Cookie != "" {
		dst = appendField(dst, "Set-Cookie", s.Cookie)
	}
	switch {
	case s.Protocol != nil:
		dst = appendField(dst, "Upgrade", s.Protocol)
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case s.Close:
		dst = append(dst, "Connection: close\r\n"...)
	case s.Keep:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}
