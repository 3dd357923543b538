package h1

// Limits of what stands around the data of a chunked body.
const (
	maxChunkExt   = 1 << 10  // bytes of one chunk's extension
	maxTrailer    = 64 << 10 // bytes
	maxSizeDigits = 16
)

// chunkState is what the next byte of a chunked body is part of.
type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkQuoted  // a quoted string in an extension
	chunkEscaped // the byte behind a backslash in it
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
)

// Chunks reads a chunked body as it comes and hands it on: sizes without leading zeros, data, and the trailer fields that may be, but no
// extensions. The last chunk is handed on with the trailer's end, so that what is broken is never seen whole.
type Chunks struct {
	Bare bool  // hand on the data only
	Data int64 // bytes of data so far

	state   chunkState
	digits  uint8
	ext     uint16 // bytes of the extension so far
	left    uint64 // of the chunk's data
	trailer []byte // what came behind the last chunk's size
}

// Next reads p, which follows what it has read before. out is what is to be handed on; it lies in p, but for an end that does not fit there.
// n is how much of p belongs to the body: all, unless done.
func (c *Chunks) Next(p []byte) (out []byte, n int, done bool, fault *Fault) {
	w := 0 // p[:w] is handed on
	for n < len(p) {
		b := p[n]
		handOn := !c.Bare
		switch c.state {
		case chunkData:
			k := int(min(c.left, uint64(len(p)-n)))
			if w != n {
				copy(p[w:], p[n:n+k])
			}
			w, n = w+k, n+k
			c.Data += int64(k)
			if c.left -= uint64(k); c.left == 0 {
				c.state = chunkDataCR
			}
			continue
		case chunkSize:
			if h := hexOf(b); h >= 0 {
				if c.digits++; c.digits > maxSizeDigits || c.left>>59 != 0 {
					return nil, n, false, errChunkSize
				}
				c.left = c.left<<4 | uint64(h)
				handOn = handOn && c.left > 0
				break
			}
			switch {
			case c.digits == 0:
				return nil, n, false, errChunkSize
			case b == '\r':
				c.state = chunkSizeLF
				handOn = handOn && c.left > 0
			case b == ';':
				c.state = chunkExt
				handOn = false
			default:
				return nil, n, false, errChunkSize
			}
		case chunkExt, chunkQuoted, chunkEscaped:
			if fault := c.extension(b); fault != nil {
				return nil, n, false, fault
			}
			handOn = handOn && c.state == chunkSizeLF && c.left > 0
		case chunkSizeLF:
			if b != '\n' {
				return nil, n, false, errChunkSize
			}
			c.digits, c.ext = 0, 0
			c.state = chunkData
			if c.left == 0 {
				c.state = chunkTrailer
				handOn = false
			}
		case chunkDataCR:
			if b != '\r' {
				return nil, n, false, errChunkEnd
			}
			c.state = chunkDataLF
		case chunkDataLF:
			if b != '\n' {
				return nil, n, false, errChunkEnd
			}
			c.state = chunkSize
		case chunkTrailer:
			k, over, fault := c.readTrailer(p[n:])
			n += k
			if fault != nil {
				return nil, n, false, fault
			}
			if !over {
				return p[:w], n, false, nil
			}
			out, fault = c.end(p[:w], n)
			return out, n, true, fault
		}
		n++
		if handOn {
			p[w] = b
			w++
		}
	}
	return p[:w], n, false, nil
}

// extension reads a byte behind the size of a chunk (RFC 9112, 7.1.1).
func (c *Chunks) extension(b byte) *Fault {
	if c.ext++; c.ext > maxChunkExt {
		return errChunkExt
	}
	if b < ' ' && b != '\t' && b != '\r' || b == 0x7f {
		return errChunkExt
	}
	switch {
	case b == '\r':
		if c.state != chunkExt {
			return errChunkExt
		}
		c.state = chunkSizeLF
	case c.state == chunkEscaped:
		c.state = chunkQuoted
	case c.state == chunkQuoted && b == '\\':
		c.state = chunkEscaped
	case b == '"' && c.state == chunkQuoted:
		c.state = chunkExt
	case b == '"':
		c.state = chunkQuoted
	}
	return nil
}

// readTrailer takes in what follows the last chunk, up to and with the empty line that ends it.
func (c *Chunks) readTrailer(p []byte) (n int, over bool, fault *Fault) {
	for n < len(p) {
		i := indexLF(p[n:])
		k := len(p) - n
		if i >= 0 {
			k = i + 1
		}
		if len(c.trailer)+k > maxTrailer {
			return n, false, errTrailerTooBig
		}
		if i == 1 && len(c.trailer) == 0 && p[n] == '\r' { // nothing at all, as nearly always
			return n + 2, true, nil
		}
		c.trailer = append(c.trailer, p[n:n+k]...)
		n += k
		if i < 0 {
			return n, false, nil
		}
		t := c.trailer
		if len(t) < 2 || t[len(t)-2] != '\r' {
			return n, false, errTrailer
		}
		if len(t) == 2 || len(t) >= 4 && t[len(t)-4] == '\r' && t[len(t)-3] == '\n' {
			return n, true, nil
		}
	}
	return n, false, nil
}

// end appends the last chunk and the trailer to out, which lies at the beginning of room bytes.
func (c *Chunks) end(out []byte, room int) ([]byte, *Fault) {
	const nothing = "0\r\n\r\n"
	tail := []byte(nothing)
	if len(c.trailer) > 0 {
		tail = tail[:3]
		var l lines
		l.reset()
		for {
			from, to, ok, fault := l.next(c.trailer)
			if fault != nil || !ok {
				return nil, errTrailer
			}
			if from == to {
				break
			}
			f, fault := fieldAt(c.trailer, from, to)
			if fault != nil {
				return nil, errTrailer
			}
			if name := f.name(c.trailer); trailerMay(name) {
				tail = appendField(tail, name, f.text(c.trailer))
			}
		}
		tail = append(tail, "\r\n"...)
	}
	c.trailer = nil
	if c.Bare {
		return out, nil
	}
	if len(out)+len(tail) <= room {
		return append(out, tail...), nil
	}
	return append(append(make([]byte, 0, len(out)+len(tail)), out...), tail...), nil
}
