package appcmd

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// private is where bytes go that mean nothing in their code page: U+F780 to U+F7FF, each to one of its own, so that two different names
// stay different. No name with such a character is sent back to appcmd.
const private = 0xF700

func undecoded(r rune) bool { return r >= private+0x80 && r <= private+0xFF }

// Decode brings output into UTF-8 with line ends \n. What is valid UTF-8 is taken as that, also UTF-16 with a mark at its begin; all else
// is of codePage (0: the OEM code page of this machine, in which appcmd was seen to print when its output is redirected; XML says that it
// is UTF-8). A byte that cannot be decoded becomes a character of the private area: nothing is lost, or taken for something else.
func Decode(b []byte, codePage uint32) string {
	var s string
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}):
		s = fromUTF16(b[2:], binary.LittleEndian)
	case bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		s = fromUTF16(b[2:], binary.BigEndian)
	case utf8.Valid(b):
		s = strings.TrimPrefix(string(b), "\uFEFF")
	default:
		s = fromCodePage(b, codePage)
	}
	return unixLines(s)
}

// unixLines makes \n of \r\n, and of \r\r\n, with which usage texts end their lines.
func unixLines(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\r' {
			b.WriteByte(s[i])
			continue
		}
		for i+1 < len(s) && s[i+1] == '\r' {
			i++
		}
		if i+1 >= len(s) || s[i+1] != '\n' {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func fromUTF16(b []byte, order binary.ByteOrder) string {
	u := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, order.Uint16(b))
	}
	return string(utf16.Decode(u))
}

func fromCodePage(b []byte, page uint32) string {
	if page == 0 {
		page = oemCodePage()
	}
	table := []rune(codePage(page))
	if len(table) == 0 {
		if s, ok := systemDecode(b, page); ok {
			return s
		}
	}
	var s strings.Builder
	for _, c := range b {
		switch {
		case c < 0x80:
			s.WriteByte(c)
		case len(table) == 128:
			s.WriteRune(table[c-0x80])
		default:
			s.WriteRune(private + rune(c))
		}
	}
	return s.String()
}
