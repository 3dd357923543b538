package bytexml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Parse reads a document. It refuses what is not well-formed. data is not copied and must not be changed.
func Parse(data []byte) (*Doc, error) {
	d := &Doc{data: data}
	dec := xml.NewDecoder(bytes.NewReader(data))
	var open *Node
	for {
		from := int(dec.InputOffset())
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		to := int(dec.InputOffset())
		switch t := tok.(type) {
		case xml.StartElement:
			if open == nil && d.root != nil {
				return nil, fmt.Errorf("byte %d: a second root element", from)
			}
			n, err := startTag(data, from, to, t)
			if err != nil {
				return nil, err
			}
			n.Parent = open
			if open != nil {
				open.Children = append(open.Children, n)
			} else {
				d.root = n
			}
			open = n
		case xml.EndElement:
			if open == nil || open.Name != qualified(t.Name) {
				return nil, fmt.Errorf("byte %d: end tag %q closes nothing", from, qualified(t.Name))
			}
			if open.selfClosing {
				open.closeStart, open.end = open.openEnd, open.openEnd
			} else {
				open.closeStart, open.end = from, to
			}
			open = open.Parent
		case xml.CharData:
			if open == nil && len(bytes.Trim(t, " \t\r\n\ufeff")) > 0 {
				return nil, fmt.Errorf("byte %d: text outside the root element", from)
			}
		}
	}
	switch {
	case open != nil:
		return nil, fmt.Errorf("element %q is not closed", open.Name)
	case d.root == nil:
		return nil, errors.New("no root element")
	}
	return d, nil
}

func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// startTag finds the parts of the start tag in data[from:to]; the decoder has found it well-formed.
func startTag(data []byte, from, to int, t xml.StartElement) (*Node, error) {
	n := &Node{Name: qualified(t.Name), start: from, openEnd: to, selfClosing: data[to-2] == '/'}
	lost := fmt.Errorf("byte %d: odd start tag %q", from, n.Name)
	if !bytes.HasPrefix(data[from+1:to], []byte(n.Name)) {
		return nil, lost
	}
	n.nameEnd = from + 1 + len(n.Name)
	at := n.nameEnd
	for _, a := range t.Attr {
		attr := Attr{Name: qualified(a.Name), Value: a.Value, start: at}
		if _, twice := n.Attr(attr.Name); twice {
			return nil, fmt.Errorf("byte %d: attribute %q twice", at, attr.Name)
		}
		at = skipSpace(data, at)
		if !bytes.HasPrefix(data[at:to], []byte(attr.Name)) {
			return nil, lost
		}
		at = skipSpace(data, at+len(attr.Name))
		if data[at] != '=' {
			return nil, lost
		}
		at = skipSpace(data, at+1)
		quote := data[at]
		if quote != '"' && quote != '\'' {
			return nil, lost
		}
		attr.valStart = at + 1
		length := bytes.IndexByte(data[attr.valStart:to], quote)
		if length < 0 {
			return nil, lost
		}
		attr.valEnd = attr.valStart + length
		attr.end = attr.valEnd + 1
		at = attr.end
		n.Attrs = append(n.Attrs, attr)
	}
	if rest := strings.TrimSpace(string(data[at:to])); rest != ">" && rest != "/>" {
		return nil, lost
	}
	return n, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func skipSpace(data []byte, at int) int {
	for at < len(data)-1 && isSpace(data[at]) {
		at++
	}
	return at
}
