package bye_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/proxy/internal/bye"
)

// frame is one as a peer would send it.
func frame(op byte, masked bool, n int) []byte {
	b := []byte{0x80 | op, 0}
	switch {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, n)...)
}

func TestFramesInPieces(t *testing.T) {
	var all []byte
	ends := map[int]bool{0: true}
	for _, masked := range []bool{false, true} {
		for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
			all = append(all, frame(2, masked, n)...)
			ends[len(all)] = true
		}
	}
	for _, step := range []int{1, 2, 3, 7, 1000, 70000, len(all)} {
		f := bye.Frames{}
		for at := 0; at < len(all); at += step {
			assert.Equal(t, ends[at], f.Whole(), "step %d at %d", step, at)
			f.Pass(all[at:min(at+step, len(all))])
		}
		assert.True(t, f.Whole())
		assert.False(t, f.Closed)
	}
	f, at := bye.Frames{}, 0
	for at < len(all) {
		at += f.Next(all[at:])
		assert.True(t, ends[at] && f.Whole(), "Next ends where a frame does")
	}
	f.Pass(bye.Close(1001, true))
	assert.True(t, f.Closed && f.Whole())
	assert.Equal(t, []byte{0x88, 2, 3, 233}, bye.Close(1001, false))
}

func TestEventsEndAtEmptyLines(t *testing.T) {
	for _, text := range []string{"data: x\n\n", "data: x\r\n\r\n", "data: x\r\r", "data: x\n\r\n", "id: 1\ndata: y\n\n", ":\n\n"} {
		for step := 1; step <= len(text); step++ {
			e := bye.Events{}
			assert.True(t, e.Whole())
			for at := 0; at < len(text); at += step {
				e.Pass([]byte(text[at:min(at+step, len(text))]))
			}
			assert.True(t, e.Whole(), "%q by %d", text, step)
		}
		e := bye.Events{}
		assert.Equal(t, len(text), e.Next([]byte(text+"data: z")), "%q", text)
	}
	for _, text := range []string{"data: x", "data: x\n", "data: x\r\n", "data: x\r", "data: x\n\ndata: y\n"} {
		e := bye.Events{}
		e.Pass([]byte(text))
		assert.False(t, e.Whole(), "%q", text)
	}
}

// FuzzEvents holds the short way of Pass against the long one.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{"a\n\n", "a\r\n\r\nb", "\r\r\n\n", "xx\n\r\r\n", "aaaaaaa\r", "aaaa\n\n\n\n"} {
		f.Add([]byte(s), uint8(5))
	}
	f.Fuzz(func(t *testing.T, p []byte, step uint8) {
		a, b := bye.Events{}, bye.Events{}
		for at, n := 0, int(step)+1; at < len(p); at += n {
			piece := p[at:min(at+n, len(p))]
			a.Pass(piece)
			for _, c := range piece {
				b.Pass([]byte{c})
			}
			if a.Whole() != b.Whole() {
				t.Fatalf("%q: after %d bytes: %v, byte by byte %v", p, at+len(piece), a.Whole(), b.Whole())
			}
		}
		if lines := strings.ReplaceAll(strings.ReplaceAll(string(p), "\r\n", "\n"), "\r", "\n"); strings.HasSuffix(lines, "\n\n") && !b.Whole() {
			t.Fatalf("%q ends an event", p)
		}
	})
}
