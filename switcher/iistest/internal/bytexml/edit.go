package bytexml

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// SetAttr gives n's attribute that value; an attribute that is not there yet becomes the last one. It returns the fresh node.
func (d *Doc) SetAttr(n *Node, name, value string) (*Node, error) {
	for _, a := range n.Attrs {
		if !strings.EqualFold(a.Name, name) {
			continue
		}
		if a.Value == value {
			return n, nil
		}
		return d.splice(n.Path(), a.valStart, a.valEnd, escape(value, d.data[a.valEnd]))
	}
	if !isName(name) {
		return nil, fmt.Errorf("%q cannot name an attribute", name)
	}
	at := n.nameEnd
	if len(n.Attrs) > 0 {
		at = n.Attrs[len(n.Attrs)-1].end
	}
	return d.splice(n.Path(), at, at, " "+name+`="`+escape(value, '"')+`"`)
}

// RemoveAttr takes an attribute away, with the white space before it. It returns the fresh node.
func (d *Doc) RemoveAttr(n *Node, name string) (*Node, error) {
	for _, a := range n.Attrs {
		if strings.EqualFold(a.Name, name) {
			return d.splice(n.Path(), a.start, a.end, "")
		}
	}
	return n, nil
}

// Remove takes n away, with the white space before it if n begins a line. The root element cannot be removed. It returns the fresh parent.
func (d *Doc) Remove(n *Node) (*Node, error) {
	if n.Parent == nil {
		return nil, fmt.Errorf("root element %q cannot be removed", n.Name)
	}
	return d.splice(n.Parent.Path(), d.lineStart(n), n.end, "")
}

// Insert puts a new element into parent: before the child at index, or at the end if there is none. It is laid out as its neighbours are.
// It returns the fresh node of the new element.
func (d *Doc) Insert(parent *Node, index int, e Element) (*Node, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	path := append(parent.Path(), min(max(index, 0), len(parent.Children)))
	if path[len(path)-1] < len(parent.Children) {
		next := parent.Children[path[len(path)-1]]
		at := d.lineStart(next)
		return d.splice(path, at, at, d.gap(next)+e.render(d.gap(next), d.unit()))
	}
	if len(parent.Children) > 0 {
		last := parent.Children[len(parent.Children)-1]
		return d.splice(path, last.end, last.end, d.gap(last)+e.render(d.gap(last), d.unit()))
	}
	outer := d.gap(parent)
	if parent.Parent == nil {
		outer = d.newline()
	}
	inner := outer
	if outer != "" {
		inner += d.unit()
	}
	body := inner + e.render(inner, d.unit()) + outer
	if parent.selfClosing {
		at := parent.openEnd - 2
		for isSpace(d.data[at-1]) {
			at--
		}
		return d.splice(path, at, parent.openEnd, ">"+body+"</"+parent.Name+">")
	}
	at := parent.closeStart
	for at > parent.openEnd && isSpace(d.data[at-1]) {
		at--
	}
	return d.splice(path, at, parent.closeStart, body)
}

func (e Element) check() error {
	if !isName(e.Name) {
		return fmt.Errorf("%q cannot name an element", e.Name)
	}
	for _, a := range e.Attrs {
		if !isName(a[0]) {
			return fmt.Errorf("%q cannot name an attribute", a[0])
		}
	}
	for _, c := range e.Children {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

// isName is stricter than XML: configuration has ASCII names.
func isName(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '-' || r == '.' || r == ':')) {
			return false
		}
	}
	return s != ""
}

// render writes e; gap is what parts its lines (a line end and its indentation), "" for all on one line.
func (e Element) render(gap, unit string) string {
	var b strings.Builder
	b.WriteString("<" + e.Name)
	for _, a := range e.Attrs {
		b.WriteString(" " + a[0] + `="` + escape(a[1], '"') + `"`)
	}
	if len(e.Children) == 0 {
		b.WriteString(" />")
		return b.String()
	}
	b.WriteString(">")
	inner := gap
	if gap != "" {
		inner += unit
	}
	for _, c := range e.Children {
		b.WriteString(inner + c.render(inner, unit))
	}
	b.WriteString(gap + "</" + e.Name + ">")
	return b.String()
}

// splice replaces data[from:to] and reads the document again; path leads to the node to return. An edit that would spoil the document is
// an error and changes nothing.
func (d *Doc) splice(path []int, from, to int, with string) (*Node, error) {
	next, err := Parse(slices.Concat(d.data[:from], []byte(with), d.data[to:]))
	if err != nil {
		return nil, fmt.Errorf("edit spoils the document: %w", err)
	}
	n := next.At(path)
	if n == nil {
		return nil, fmt.Errorf("edit spoils the document: %q came out as something else", with)
	}
	*d = *next
	return n, nil
}

// lineStart is where the line end before n begins if only white space stands between it and n, else n's start.
func (d *Doc) lineStart(n *Node) int {
	at := n.start
	for at > 0 && (d.data[at-1] == ' ' || d.data[at-1] == '\t') {
		at--
	}
	if at == 0 || d.data[at-1] != '\n' {
		return n.start
	}
	at--
	if at > 0 && d.data[at-1] == '\r' {
		at--
	}
	return at
}

// gap is the line end and indentation before n, "" if n does not begin a line.
func (d *Doc) gap(n *Node) string { return string(d.data[d.lineStart(n):n.start]) }

func (d *Doc) newline() string {
	if bytes.Contains(d.data, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// unit is one step of indentation, as the root's first child has it; four blanks if it has none.
func (d *Doc) unit() string {
	if len(d.root.Children) > 0 {
		if in := strings.TrimLeft(d.gap(d.root.Children[0]), "\r\n"); in != "" {
			return in
		}
	}
	return "    "
}

// escape writes a value between quotes.
func escape(s string, quote byte) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '"' && quote == '"':
			b.WriteString("&quot;")
		case r == '\'' && quote == '\'':
			b.WriteString("&apos;")
		case r == '\t' || r == '\n' || r == '\r':
			fmt.Fprintf(&b, "&#x%X;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Escape writes s as the value of an attribute between double quotes.
func Escape(s string) string { return escape(s, '"') }
