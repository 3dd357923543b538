package h1

import (
	"encoding/binary"
	"strings"
)

// What a byte may be part of.
const (
	tokenChar  uint8 = 1 << iota // a method, or the name of a field
	lowerChar                    // a letter
	upperChar                    // a letter
	targetChar                   // a request target
	hostChar                     // a name in Host
	digitChar
)

// chars tells of each byte what it may be part of. It is never changed.
var chars = charTable()

func charTable() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z':
			t[c] = tokenChar | lowerChar | hostChar
		case c >= 'A' && c <= 'Z':
			t[c] = tokenChar | upperChar | hostChar
		case c >= '0' && c <= '9':
			t[c] = tokenChar | digitChar | hostChar
		}
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= targetChar
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenChar
	}
	for _, c := range []byte("-._~!$&'()*+;=") { // of what RFC 3986 allows a comma is left out, which also joins two fields, and escapes
		t[c] |= hostChar
	}
	return t
}

// scanName returns how long the field name is with which line begins. It puts it into canonical writing, in place: a capital at the beginning
// and behind each dash. underscore says that there is one.
func scanName(line []byte) (n int, underscore bool) {
	first := true
	for i, c := range line {
		k := chars[c]
		if k&tokenChar == 0 {
			return i, underscore
		}
		if first {
			if k&lowerChar != 0 {
				line[i] = c - ('a' - 'A')
			}
		} else if k&upperChar != 0 {
			line[i] = c + ('a' - 'A')
		}
		first = c == '-'
		underscore = underscore || c == '_'
	}
	return len(line), underscore
}

const (
	eachByte = 0x0101010101010101
	topBits  = 0x8080808080808080
)

// cleanText reports whether v holds no control character but tabs.
func cleanText(v []byte) bool {
	for ; len(v) >= 8; v = v[8:] {
		x := binary.LittleEndian.Uint64(v)
		del := x ^ 0x7f*eachByte
		if (x-0x20*eachByte)&^x&topBits|(del-eachByte)&^del&topBits != 0 && !cleanBytes(v[:8]) {
			return false
		}
	}
	return cleanBytes(v)
}

func cleanBytes(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// trim cuts off blanks at both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && isBlank(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isBlank(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

// fold reports whether v is lower, which is written in lower case, without regard to the case of ASCII letters.
func fold(v []byte, lower string) bool {
	if len(v) != len(lower) {
		return false
	}
	for i, c := range v {
		if chars[c]&upperChar != 0 {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// nextElement cuts the first element off a comma-separated list; more is false when nothing is left.
func nextElement(list []byte) (element, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, false
}

// hasElement reports whether a comma-separated list has an element, which is given in lower case.
func hasElement(list []byte, lower string) bool {
	for more := true; more; {
		var e []byte
		if e, list, more = nextElement(list); fold(e, lower) {
			return true
		}
	}
	return false
}

// validHost reports whether v is host or host:port as a URI may have it (RFC 3986, 3.2.2), or empty.
func validHost(v []byte) bool {
	i := 0
	if len(v) > 0 && v[0] == '[' {
		for i = 1; i < len(v) && v[i] != ']'; i++ {
			if hexOf(v[i]) < 0 && v[i] != ':' && v[i] != '.' {
				return false
			}
		}
		if i == len(v) || i == 1 {
			return false
		}
		i++
	} else {
		for i < len(v) && chars[v[i]]&hostChar != 0 {
			i++
		}
	}
	if i == len(v) {
		return true
	}
	if v[i] != ':' || i == 0 {
		return false
	}
	port, ok := decimal(v[i+1:])
	return i+1 == len(v) || ok && port <= 65535
}

// ValidHost reports whether v is host or host:port as a URI may have it, or empty.
func ValidHost(v string) bool { return validHost([]byte(v)) }

// ValidTarget reports whether t, which begins with a "/", is a request target that can be written as it is.
func ValidTarget(t string) bool {
	for i := range len(t) {
		if chars[t[i]]&targetChar == 0 {
			return false
		}
	}
	path, _, _ := strings.Cut(t, "?")
	return validEscapes([]byte(path))
}

// decimal reads a number of digits only that fits into 63 bits.
func decimal(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, c := range v {
		if chars[c]&digitChar == 0 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
