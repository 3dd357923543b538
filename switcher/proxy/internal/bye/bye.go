// Package bye finds where long-lived work may be ended without breaking anything: a websocket between two frames, an event stream between two
// events. It follows the bytes as they pass, and neither keeps nor copies them.
package bye

import "encoding/binary"

// opClose is the opcode of a close frame (RFC 6455, 5.5.1).
const opClose = 8

// Frames follows the frames of one direction of a websocket (RFC 6455, 5.2). Its zero value stands before the first one.
type Frames struct {
	Closed bool // a close frame has passed

	head [10]byte
	have uint8 // bytes of the frame's head that have passed
	need uint8 // bytes of it in all; 0: none has passed
	left uint64
}

// Next follows p up to the end of the frame that it stands in, and returns how much of p that is: at least one byte, if there is one.
func (f *Frames) Next(p []byte) (n int) {
	for f.need == 0 || f.have < f.need {
		if n == len(p) {
			return n
		}
		if int(f.have) < len(f.head) {
			f.head[f.have] = p[n]
		}
		f.have++
		n++
		switch f.have {
		case 1:
			f.need = 2
		case 2:
			f.size()
		}
		if f.have == f.need {
			f.left = f.length()
		}
	}
	k := min(f.left, uint64(len(p)-n))
	f.left -= k
	n += int(k)
	if f.left == 0 {
		f.Closed = f.Closed || f.head[0]&15 == opClose
		f.have, f.need = 0, 0
	}
	return n
}

// size notes how long the head is, of which two bytes have passed.
func (f *Frames) size() {
	switch f.head[1] & 127 {
	case 126:
		f.need = 4
	case 127:
		f.need = 10
	}
	if f.head[1]&128 != 0 {
		f.need += 4 // the mask
	}
}

func (f *Frames) length() uint64 {
	switch n := f.head[1] & 127; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}

// Pass follows all of p.
func (f *Frames) Pass(p []byte) {
	for len(p) > 0 {
		p = p[f.Next(p):]
	}
}

// Whole reports whether no frame has passed in part.
func (f *Frames) Whole() bool { return f.need == 0 }

// Close returns a close frame with that status: as a server sends it, or masked, as a client has to.
func Close(status uint16, masked bool) []byte {
	b := []byte{0x80 | opClose, 2}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0) // this mask changes nothing; it protects scripts' bytes from being taken for HTTP, and these are no script's
	}
	return binary.BigEndian.AppendUint16(b, status)
}

// Events follows an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines end with CRLF, LF or CR, and an empty
// one ends an event. Its zero value stands before the first byte.
type Events struct {
	inEvent bool // an event has passed in part
	inLine  bool // a line has
	cr      bool // the last byte was a CR
}

// Whole reports whether no event has passed in part.
func (e *Events) Whole() bool { return !e.inEvent }

// Next follows p up to the end of the event that it stands in, or to the end of p, and returns how much of p that is.
func (e *Events) Next(p []byte) int {
	for i, b := range p {
		e.byte(b)
		if !e.inEvent {
			if b == '\r' && i+1 < len(p) && p[i+1] == '\n' {
				e.byte('\n')
				return i + 2
			}
			return i + 1
		}
	}
	return len(p)
}

// Pass follows all of p. The last few bytes say where it stands.
func (e *Events) Pass(p []byte) {
	const enough = 4 // two line ends
	if n := len(p); n > enough {
		*e = Events{inEvent: true, inLine: true}
		p = p[n-enough:]
	}
	for _, b := range p {
		e.byte(b)
	}
}

func (e *Events) byte(b byte) {
	switch {
	case b == '\n' && e.cr: // the second half of a line's end
		e.cr = false
	case b == '\n' || b == '\r':
		e.inEvent = e.inLine
		e.inLine = false
		e.cr = b == '\r'
	default:
		e.inEvent, e.inLine, e.cr = true, true, false
	}
}
