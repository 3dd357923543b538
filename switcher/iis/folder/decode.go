package folder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// decode returns XML text as UTF-8, without a byte order mark. Texts in encodings of one byte are left to charset.
func decode(data []byte) ([]byte, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return data[3:], nil
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		order, data = binary.LittleEndian, data[2:]
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		order, data = binary.BigEndian, data[2:]
	case bytes.HasPrefix(data, []byte("<\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte("\x00<")):
		order = binary.BigEndian
	default:
		return data, nil
	}
	if len(data)%2 != 0 {
		return nil, errors.New("web.config is not well-formed: it is UTF-16 with half a character at its end")
	}
	units := make([]uint16, len(data)/2)
	for n := range units {
		units[n] = order.Uint16(data[2*n:])
	}
	return []byte(string(utf16.Decode(units))), nil
}

// charset reads the encodings that an XML declaration may name. UTF-16 has been decoded already.
func charset(label string, input io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "utf-16", "unicode", "us-ascii", "ascii":
		return input, nil
	case "iso-8859-1", "iso-8859-15", "latin1", "windows-1250", "windows-1251", "windows-1252":
		return &bytewise{in: input}, nil // what is looked for here is all ASCII
	}
	return nil, fmt.Errorf("encoding %q is not known here", label)
}

// bytewise makes each byte a character, and so valid UTF-8 of any text that is ASCII but for names and comments.
type bytewise struct {
	in   io.Reader
	rest []byte
}

func (b *bytewise) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		buf := make([]byte, 512)
		n, err := b.in.Read(buf)
		if n == 0 {
			return 0, err
		}
		for _, c := range buf[:n] {
			b.rest = append(b.rest, string(rune(c))...)
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
