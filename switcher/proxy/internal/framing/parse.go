package framing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Message is a request as it was read.
type Message struct {
	Method, Target, Version string
	Fields                  []Field
	Body                    string
	Trailers                []Field
	Raw                     string // the exact bytes, head, chunks and all
	Chunked                 bool
}

// Field is one line of a head or a trailer.
type Field struct{ Name, Value string }

// Values returns the values of the fields of that name, in any case, in their order.
func (m *Message) Values(name string) []string {
	var out []string
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value)
		}
	}
	return out
}

// Host returns the value of the Host field.
func (m *Message) Host() string { return strings.Join(m.Values("Host"), ", ") }

// Fault is what is wrong with a message, and how a server answers it.
type Fault struct {
	Status int
	Text   string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (%d)", f.Text, f.Status) }

func fault(format string, args ...any) error {
	return &Fault{Status: 400, Text: fmt.Sprintf(format, args...)}
}

// limits of a message.
const (
	maxHead = 1 << 20
	maxSize = 4 << 10 // of a chunk's line, with its extensions
	maxBody = 16 << 20
)

// strict reads requests by the letter of RFC 9112, and refuses whatever could be read in two ways. It shares nothing with net/http.
type strict struct {
	br   *bufio.Reader
	raw  strings.Builder
	left int // bytes that the head or the trailers may still have
}

// read returns the next request. Whatever it returns, m.Raw is what was read of it. The error is io.EOF if the stream ended before it, a
// *Fault if it is wrong, or what the reader said.
func (s *strict) read() (m *Message, err error) {
	m = &Message{}
	s.raw.Reset()
	s.left = maxHead
	defer func() {
		m.Raw = s.raw.String()
		if errors.Is(err, io.EOF) && m.Raw != "" {
			err = io.ErrUnexpectedEOF
		}
	}()
	if err := s.head(m); err != nil {
		return m, err
	}
	n, err := framingOf(m)
	if err != nil {
		return m, err
	}
	if !m.Chunked {
		m.Body, err = s.take(n)
		return m, err
	}
	return m, s.chunks(m)
}

func (s *strict) byte() (byte, error) {
	c, err := s.br.ReadByte()
	if err == nil {
		s.raw.WriteByte(c)
	}
	return c, err
}

// line reads one line, which ends with CR LF and has no other CR, LF or NUL.
func (s *strict) line() (string, error) {
	var b []byte
	for {
		c, err := s.byte()
		if err != nil {
			return "", err
		}
		if s.left--; s.left < 0 {
			return "", &Fault{Status: 431, Text: "too long"}
		}
		switch c {
		case '\n':
			return "", fault("bare LF")
		case 0:
			return "", fault("NUL")
		case '\r':
			if c, err = s.byte(); err != nil {
				return "", err
			}
			if c != '\n' {
				return "", fault("bare CR")
			}
			return string(b), nil
		}
		b = append(b, c)
	}
}

func (s *strict) take(n int64) (string, error) {
	if n > maxBody {
		return "", &Fault{Status: 413, Text: "too long a body"}
	}
	b := make([]byte, 0, min(n, 64<<10))
	for range n {
		c, err := s.byte()
		if err != nil {
			return string(b), err
		}
		b = append(b, c)
	}
	return string(b), nil
}

func (s *strict) head(m *Message) error {
	l, err := s.line()
	if err != nil {
		return err
	}
	parts := strings.Split(l, " ")
	if len(parts) != 3 {
		return fault("request line %.80q", l)
	}
	m.Method, m.Target, m.Version = parts[0], parts[1], parts[2]
	if !token(m.Method) {
		return fault("method %.80q", m.Method)
	}
	switch v := m.Version; {
	case v == "HTTP/1.1", v == "HTTP/1.0":
	case len(v) == 8 && v[:5] == "HTTP/" && v[5] >= '0' && v[5] <= '9' && v[6] == '.' && v[7] >= '0' && v[7] <= '9':
		return &Fault{Status: 505, Text: "version " + v}
	default:
		return fault("version %.80q", v)
	}
	if m.Fields, err = s.fields(); err != nil {
		return err
	}
	if err := checkTarget(m.Method, m.Target); err != nil {
		return err
	}
	hosts := m.Values("Host")
	switch {
	case len(hosts) > 1, len(hosts) == 0 && m.Version == "HTTP/1.1":
		return fault("%d fields of Host", len(hosts))
	case len(hosts) == 1 && hosts[0] != "" && !authority(hosts[0]):
		return fault("host %.80q", hosts[0])
	}
	return nil
}

// fields reads lines up to the empty one.
func (s *strict) fields() ([]Field, error) {
	var out []Field
	for {
		l, err := s.line()
		if err != nil {
			return nil, err
		}
		if l == "" {
			return out, nil
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || !token(name) {
			return nil, fault("field %.80q", l)
		}
		value = strings.Trim(value, " \t")
		for _, c := range []byte(value) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return nil, fault("control character in field %q", name)
			}
		}
		out = append(out, Field{name, value})
	}
}

// framingOf returns the length of the body, or sets m.Chunked.
func framingOf(m *Message) (int64, error) {
	te, cl := m.Values("Transfer-Encoding"), m.Values("Content-Length")
	switch {
	case len(te) > 0 && len(cl) > 0:
		return 0, fault("both a length and a transfer coding")
	case len(te) > 0 && m.Version == "HTTP/1.0":
		return 0, fault("a transfer coding in HTTP/1.0")
	case len(te) > 1, len(cl) > 1:
		return 0, fault("framing twice")
	case len(te) == 1:
		if !strings.EqualFold(te[0], "chunked") {
			return 0, fault("transfer coding %.80q", te[0])
		}
		m.Chunked = true
		return 0, nil
	case len(cl) == 1:
		return number(cl[0], "0123456789", 10)
	}
	return 0, nil
}

// chunks reads a chunked body and its trailers.
func (s *strict) chunks(m *Message) error {
	var body strings.Builder
	defer func() { m.Body = body.String() }()
	for {
		s.left = maxSize
		l, err := s.line()
		if err != nil {
			return err
		}
		size, ext, _ := strings.Cut(l, ";")
		if ext != "" {
			size = strings.TrimRight(size, " \t")
		}
		n, err := number(size, "0123456789abcdefABCDEF", 16)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		data, err := s.take(n)
		body.WriteString(data)
		if err != nil {
			return err
		}
		if end, err := s.take(2); err != nil {
			return err
		} else if end != "\r\n" {
			return fault("chunk ends with %q", end)
		}
	}
	var err error
	s.left = maxHead
	if m.Trailers, err = s.fields(); err != nil {
		return err
	}
	for _, f := range m.Trailers {
		switch strings.ToLower(f.Name) {
		case "content-length", "transfer-encoding", "host", "connection":
			return fault("trailer %q", f.Name)
		}
	}
	return nil
}

func number(s, digits string, base int) (int64, error) {
	if s == "" || strings.Trim(s, digits) != "" {
		return 0, fault("number %.80q", s)
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		return 0, fault("number %.80q is too large", s)
	}
	return n, nil
}

func token(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// authority accepts a host, with or without a port.
func authority(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:.") != "" || end+1 < len(s) && s[end+1] != ':' {
			return false
		}
		host, port = "x", strings.TrimPrefix(s[end+1:], ":")
	} else if before, after, ok := strings.Cut(s, ":"); ok {
		host, port = before, after
	}
	if port != "" {
		if n, err := number(port, "0123456789", 10); err != nil || n > 65535 {
			return false
		}
	}
	for _, c := range []byte(host) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("-._~!$&'()*+;=%", c) < 0 {
			return false
		}
	}
	return host != "" && !strings.Contains(host, "%")
}

// checkTarget accepts a target in origin form, a star for OPTIONS, and an http or https URL.
func checkTarget(method, t string) error {
	for _, c := range []byte(t) {
		if c <= ' ' || c == 0x7f || c == '#' {
			return fault("target %.80q", t)
		}
	}
	switch {
	case strings.HasPrefix(t, "/"), t == "*" && method == "OPTIONS":
		return nil
	case method != "CONNECT":
		if host, _, ok := absolute(t); ok && authority(host) {
			return nil
		}
	}
	return fault("target %.80q", t)
}

// absolute takes a URL apart: its authority, and the rest in origin form.
func absolute(t string) (host, rest string, ok bool) {
	scheme, after, ok := strings.Cut(t, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", false
	}
	i := strings.IndexAny(after, "/?")
	if i < 0 {
		return after, "/", true
	}
	rest = after[i:]
	if rest[0] == '?' {
		rest = "/" + rest
	}
	return after[:i], rest, true
}
