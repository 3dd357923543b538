package appcmd

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// maxDepth is how deep elements may lie in each other: configuration has less than twenty levels.
const maxDepth = 200

// readXML reads documents that stand one after the other, each either <appcmd> or a bare section, and what plain text follows.
func (d *Document) readXML(text string) error {
	text = legalXML(text)
	for line := 1; ; {
		text, line = skipBlank(text, line)
		if text == "" {
			return nil
		}
		if !strings.HasPrefix(text, "<") {
			return d.readText(text)
		}
		root, n, err := oneElement(text)
		if root != nil {
			if aerr := d.addRoot(root, err == nil); err == nil {
				err = aerr
			}
		}
		if err != nil {
			return fmt.Errorf("XML from line %d on: %w", line, err)
		}
		line += strings.Count(text[:n], "\n")
		text = text[n:]
	}
}

func skipBlank(text string, line int) (string, int) {
	rest := strings.TrimLeft(text, " \t\n")
	return rest, line + strings.Count(text[:len(text)-len(rest)], "\n")
}

// addRoot takes what is in root into d. Of one that is not whole only errors are taken.
func (d *Document) addRoot(root *Element, whole bool) error {
	if !strings.EqualFold(root.Name, "appcmd") {
		if whole {
			d.Sections = append(d.Sections, root)
		}
		return nil
	}
	d.XML = true
	for _, e := range root.Children {
		tag := strings.ToUpper(e.Name)
		switch {
		case tag == "ERROR":
			if d.Error == nil {
				m := Message{HResult: parseHResult(loose(e, "hresult")), Text: strings.TrimSpace(loose(e, "message"))}
				d.Error = &m
			}
		case !whole:
		case tag == "STATUS":
			d.Status = append(d.Status, loose(e, "message"))
		default:
			d.Entries = append(d.Entries, Entry{Tag: tag, Attrs: e.Attrs, Children: e.Children})
		}
	}
	return nil
}

func loose(e *Element, name string) string {
	v, _ := Entry{Attrs: e.Attrs}.Get(name)
	return v
}

// oneElement reads the first element of text and tells where it ends. With an error root is what there is of it, or nil.
func oneElement(text string) (root *Element, end int, err error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // it is decoded already
	var open []*Element
	for {
		tok, err := dec.RawToken() // namespaces are of no interest: tags are compared here
		if err != nil {
			if _, cut := err.(*xml.SyntaxError); cut && dec.InputOffset() < int64(len(text)) && !strings.HasSuffix(err.Error(), "unexpected EOF") {
				return root, 0, ErrMalformed // without err: it may show a piece of a value
			}
			return root, 0, ErrTruncated
		}
		switch t := tok.(type) {
		case xml.StartElement:
			e := &Element{Name: rawName(t.Name)}
			for _, a := range t.Attr {
				e.Attrs = append(e.Attrs, hidden(Attr{rawName(a.Name), a.Value}))
			}
			if len(open) == maxDepth {
				return root, 0, fmt.Errorf("over %d levels of elements: %w", maxDepth, ErrMalformed)
			}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.Children = append(parent.Children, e)
			} else {
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].Name != rawName(t.Name) {
				return root, 0, ErrMalformed
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return root, int(dec.InputOffset()), nil
			}
		case xml.CharData:
			if len(open) == 0 && strings.TrimSpace(string(t)) != "" {
				return root, 0, ErrMalformed
			}
		}
	}
}

func rawName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// hidden hides the value of a password.
func hidden(a Attr) Attr {
	if a.Value != "" && isSecret(a.Name) {
		a.Value = Hidden
	}
	return a
}

func illegal(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

var charRef = regexp.MustCompile(`&#(x[0-9A-Fa-f]+|[0-9]+);`)

// legalXML replaces characters that XML does not have, plain or as references, which names and URLs may nevertheless contain.
func legalXML(s string) string {
	if strings.ContainsFunc(s, illegal) {
		s = strings.Map(func(r rune) rune {
			if illegal(r) {
				return '\uFFFD'
			}
			return r
		}, s)
	}
	if !strings.Contains(s, "&#") {
		return s
	}
	return charRef.ReplaceAllStringFunc(s, func(ref string) string {
		digits, base := ref[2:len(ref)-1], 10
		if digits[0] == 'x' {
			digits, base = digits[1:], 16
		}
		n, err := strconv.ParseUint(digits, base, 32)
		legal := err == nil && (n == 9 || n == 10 || n == 13 || n >= 0x20 && n < 0xD800 || n >= 0xE000 && n < 0xFFFE || n >= 0x10000 && n <= 0x10FFFF)
		if !legal {
			return "\uFFFD"
		}
		return ref
	})
}
