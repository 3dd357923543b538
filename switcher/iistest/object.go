package iistest

import (
	"fmt"
	"strings"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// object is one that a list shows.
type object struct {
	tag   string
	id    string
	short [][2]string // of a text line, in parentheses
	attrs [][2]string // of an XML element
	at    cursor      // its configuration; no node: it has none
	zero  *bytexml.Node
	comma string // between the short properties; "": ","

	hidden [][2]string // not shown, but filters know them
}

// get finds a property by any of its names.
func (o object) get(f *file, name string) (string, bool) {
	for _, list := range [][][2]string{o.attrs, o.short, o.hidden} {
		for _, a := range list {
			if strings.EqualFold(a[0], name) {
				return a[1], true
			}
		}
	}
	if o.at.node == nil || f == nil {
		return "", false
	}
	return f.value(o.at, o.zero, name)
}

// list prints the objects that the command's filters leave.
func (r *run) list(all []object, f *file, err error) error {
	if err != nil {
		return err
	}
	r.listed = true
	for _, o := range all {
		fits := true
		for _, p := range r.params {
			v, ok := o.get(f, p.path)
			if p.op != 0 || !ok && !r.filterable(p.path) {
				return unknownAttribute(p.path)
			}
			fits = fits && ok && strings.EqualFold(v, p.value)
		}
		if fits {
			r.objects = append(r.objects, o)
		}
	}
	for _, o := range r.objects {
		r.printText(o, f)
	}
	r.shown = f
	return nil
}

// filterable tells whether a property that one object lacks may still be asked for: it may be one that names others.
func (r *run) filterable(path string) bool {
	return strings.HasSuffix(strings.ToLower(path), ".name") || strings.HasPrefix(path, "[")
}

func (r *run) printText(o object, f *file) {
	switch {
	case r.textOf == "*":
		r.out.WriteString(o.tag + "\n")
		for _, a := range o.attrs {
			fmt.Fprintf(&r.out, "  %s:\"%s\"\n", a[0], a[1])
		}
		if o.at.node != nil {
			fmt.Fprintf(&r.out, "  [%s]\n", o.at.node.Name)
			treeText(&r.out, o.at, o.zero, "    ")
		}
	case r.textOf != "":
		if v, ok := o.get(f, r.textOf); ok {
			r.out.WriteString(v + "\n")
		}
	case r.config != "" && o.at.node != nil:
		r.out.WriteString(r.configText(o, f) + "\n")
	default:
		comma := o.comma
		if comma == "" {
			comma = ","
		}
		var parts []string
		for _, a := range o.short {
			parts = append(parts, a[0]+":"+a[1])
		}
		if len(parts) == 0 {
			fmt.Fprintf(&r.out, "%s \"%s\"\n", o.tag, o.id)
			return
		}
		fmt.Fprintf(&r.out, "%s \"%s\" (%s)\n", o.tag, o.id, strings.Join(parts, comma))
	}
}

// treeText writes an element with all its attributes, defaults too, as indented text.
func treeText(b *strings.Builder, at cursor, zero *bytexml.Node, indent string) {
	walkFull(at, zero, func(name, value string) {
		fmt.Fprintf(b, "%s%s:\"%s\"\n", indent, name, value)
	}, func(name string, c cursor, z *bytexml.Node) {
		fmt.Fprintf(b, "%s[%s]\n", indent, name)
		treeText(b, c, z, indent+"  ")
	})
}

// walkFull goes through the attributes of an element, with their defaults, then through its children and the members of its collection.
func walkFull(at cursor, zero *bytexml.Node, attr func(name, value string), child func(name string, c cursor, zero *bytexml.Node)) {
	if at.schema == nil {
		for _, a := range at.node.Attrs {
			attr(a.Name, a.Value)
		}
		for _, c := range at.node.Children {
			child(c.Name, cursor{c, nil}, nil)
		}
		return
	}
	for _, a := range at.schema.attrs {
		v := a.zero
		for _, n := range []*bytexml.Node{zero, at.node} {
			if n != nil {
				if set, ok := n.Attr(a.name); ok {
					v = set
				}
			}
		}
		attr(a.name, v)
	}
	for _, sub := range at.schema.children {
		c := cursor{nil, sub}
		if at.node != nil {
			c.node = at.node.Child(sub.name)
		}
		if sub.sparse && c.node == nil {
			continue
		}
		var z *bytexml.Node
		if zero != nil {
			z = zero.Child(sub.name)
		}
		child(sub.name, c, z)
	}
	if at.node == nil {
		return
	}
	for _, c := range at.node.Children {
		switch {
		case at.schema.item != nil && c.Name == at.schema.item.name:
			child(c.Name, cursor{c, at.schema.item}, defaultsOf(c, at.schema.item))
		case at.schema.child(c.Name) == nil:
			child(c.Name, cursor{c, nil}, nil) // what the schema does not know
		}
	}
}

// defaultsOf finds the element with the defaults of a collection's member: the nearest one outward.
func defaultsOf(n *bytexml.Node, schema *element) *bytexml.Node {
	if schema.defaults == "" {
		return nil
	}
	for p := n.Parent; p != nil; p = p.Parent {
		if z := p.Child(schema.defaults); z != nil {
			return z
		}
	}
	return nil
}

// fullXML writes an element with its defaults as XML.
func fullXML(b *strings.Builder, name string, at cursor, zero *bytexml.Node, indent string) {
	b.WriteString(indent + "<" + name)
	var inner strings.Builder
	walkFull(at, zero, func(name, value string) {
		fmt.Fprintf(b, " %s=\"%s\"", name, bytexml.Escape(value))
	}, func(name string, c cursor, z *bytexml.Node) {
		fullXML(&inner, name, c, z, indent+"    ")
	})
	if inner.Len() == 0 {
		b.WriteString(" />\n")
		return
	}
	b.WriteString(">\n" + inner.String() + indent + "</" + name + ">\n")
}

// configText is the configuration of an object as XML: what is written, or with /config:* everything.
func (r *run) configText(o object, f *file) string {
	if r.config == "*" || f == nil {
		var b strings.Builder
		fullXML(&b, o.at.node.Name, o.at, o.zero, "")
		return strings.TrimSuffix(b.String(), "\n")
	}
	return strings.ReplaceAll(string(f.doc.Raw(o.at.node)), "\r\n", "\n")
}

func (r *run) declaration() string {
	if r.s.q.XMLDeclaration != On {
		return ""
	}
	return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
}

// renderXML writes a list as one document.
func (r *run) renderXML(objects []object) string {
	var b strings.Builder
	b.WriteString(r.declaration() + "<appcmd>\n")
	for _, o := range objects {
		b.WriteString("    <" + o.tag)
		for _, a := range o.attrs {
			fmt.Fprintf(&b, " %s=\"%s\"", a[0], bytexml.Escape(a[1]))
		}
		if r.config == "" || o.at.node == nil {
			b.WriteString(" />\n")
			continue
		}
		b.WriteString(">\n        " + strings.ReplaceAll(r.configText(o, r.shown), "\n", "\n        ") + "\n    </" + o.tag + ">\n")
	}
	b.WriteString("</appcmd>\n")
	return b.String()
}

// renderStatus writes what a command that is no list has said, and its error.
func (r *run) renderStatus(f *failure) string {
	var b strings.Builder
	b.WriteString(r.declaration() + "<appcmd>\n")
	for line := range strings.Lines(r.out.String()) {
		b.WriteString("    <STATUS message=\"" + bytexml.Escape(strings.TrimSuffix(line, "\n")) + "\" />\n")
	}
	if f != nil {
		b.WriteString("    <ERROR")
		if f.hresult != 0 && r.s.q.XMLErrorHResult == On {
			fmt.Fprintf(&b, " hresult=\"%08x\"", f.hresult)
		}
		b.WriteString(" message=\"" + bytexml.Escape(r.s.words(f)) + "\" />\n")
	}
	b.WriteString("</appcmd>\n")
	return b.String()
}
