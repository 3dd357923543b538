package proxy_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// h2raw is a client of HTTP/2 that writes what it is told to, frame by frame. Fields go as literals that no table keeps.
type h2raw struct {
	net.Conn
	t        testing.TB
	settings map[uint16]uint32 // the server's
}

// Frames and flags (RFC 9113, 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	endStream  = 0x1
	ack        = 0x1
	endHeaders = 0x4
)

func (f *front) h2raw(t testing.TB) *h2raw {
	c, err := net.Dial("tcp", f.addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	r := &h2raw{Conn: c, t: t}
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	r.frame(frameSettings, 0, 0, nil)
	for r.settings == nil {
		_, _, _, _, err := r.next()
		require.NoError(t, err)
	}
	return r
}

// frame writes one; an error is not told: what comes back shows what became of it.
func (c *h2raw) frame(kind, flags byte, stream uint32, payload []byte) error {
	b := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(b, uint32(len(payload))<<8|uint32(kind))
	b[4] = flags
	binary.BigEndian.PutUint32(b[5:], stream)
	_, err := c.Write(append(b, payload...))
	return err
}

// next reads a frame, and does what settings ask for.
func (c *h2raw) next() (kind, flags byte, stream uint32, payload []byte, err error) {
	var h [9]byte
	if _, err = io.ReadFull(c, h[:]); err != nil {
		return
	}
	kind, flags, stream = h[3], h[4], binary.BigEndian.Uint32(h[5:])
	payload = make([]byte, binary.BigEndian.Uint32(h[:])>>8)
	if _, err = io.ReadFull(c, payload); err != nil {
		return
	}
	if kind == frameSettings && flags&ack == 0 {
		c.settings = map[uint16]uint32{}
		for p := payload; len(p) >= 6; p = p[6:] {
			c.settings[binary.BigEndian.Uint16(p)] = binary.BigEndian.Uint32(p[2:])
		}
		c.frame(frameSettings, ack, 0, nil)
	}
	return
}

// fields are those of a header block, pseudo-headers too.
type fields [][2]string

func (f fields) block() (b []byte) {
	length := func(s string) {
		n := len(s)
		if n < 127 {
			b = append(b, byte(n))
			return
		}
		b = append(b, 127)
		for n -= 127; n >= 128; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		b = append(b, byte(n))
	}
	for _, x := range f {
		b = append(b, 0)
		length(x[0])
		b = append(b, x[0]...)
		length(x[1])
		b = append(b, x[1]...)
	}
	return b
}

// verdict reads what became of a stream: the status if it is 200 or 400, else 1 for another one; 0 for a reset, or the connection's end.
func (c *h2raw) verdict(stream uint32) int {
	for {
		kind, _, id, payload, err := c.next()
		switch {
		case err != nil, kind == frameGoAway && binary.BigEndian.Uint32(payload[4:]) != 0, kind == frameReset && id == stream:
			return 0
		case kind == frameHeaders && id == stream && len(payload) > 3 && string(payload[1:4]) == "\x82\x08\x01": // 100, as Huffman writes it
		case kind == frameHeaders && id == stream && payload[0] == 0x88:
			return 200
		case kind == frameHeaders && id == stream && payload[0] == 0x8c:
			return 400
		case kind == frameHeaders && id == stream:
			return 1
		}
	}
}
