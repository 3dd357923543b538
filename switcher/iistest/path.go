package iistest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// param is a property argument: /name:value, or with an operation /+name, /-name, /~name.
type param struct {
	op       byte // 0: set
	path     string
	value    string
	hasValue bool
}

// readParam reads an argument without its leading / or -. The first colon outside brackets ends the path.
func readParam(arg string) param {
	var p param
	if arg != "" && strings.IndexByte("+-~", arg[0]) >= 0 {
		p.op, arg = arg[0], arg[1:]
	}
	depth, quoted := 0, false
	for i := range len(arg) {
		switch c := arg[i]; {
		case c == '\'' && depth > 0:
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ':' && depth == 0:
			p.path, p.value, p.hasValue = arg[:i], arg[i+1:], true
			return p
		}
	}
	p.path = arg
	return p
}

// step is one part of a property path: a name, or the index of a collection.
type step struct {
	name    string
	index   bool
	keys    [][2]string
	at      string // @start, @end, @N
	written string
}

// readPath reads a property path such as [name='A'].bindings.[protocol='http',bindingInformation='*:80:'].sslFlags.
func readPath(path string, doubled bool) ([]step, error) {
	var steps []step
	for rest := path; rest != ""; {
		if rest[0] != '[' {
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			name := rest[:end]
			if name == "" || strings.ContainsAny(name, "'=,]\" ") {
				return nil, malformedIndexer()
			}
			steps = append(steps, step{name: name, written: name})
			rest = strings.TrimPrefix(rest[end:], ".")
			continue
		}
		st, after, ok := readIndexer(rest[1:], doubled)
		if !ok {
			return nil, malformedIndexer()
		}
		st.written = rest[:len(rest)-len(after)]
		steps = append(steps, st)
		rest = strings.TrimPrefix(after, ".")
	}
	return steps, nil
}

// readIndexer reads what follows an opening bracket.
func readIndexer(s string, doubled bool) (st step, rest string, ok bool) {
	st.index = true
	for {
		switch {
		case strings.HasPrefix(s, "@") && len(st.keys) == 0 && st.at == "":
			end := strings.IndexAny(s, ",]")
			if end < 0 {
				return st, "", false
			}
			st.at = strings.ToLower(s[1:end])
			if _, err := strconv.Atoi(st.at); err != nil && st.at != "start" && st.at != "end" {
				return st, "", false
			}
			s = s[end:]
		default:
			name, after, found := strings.Cut(s, "='")
			if !found || name == "" || strings.ContainsAny(name, "[],'\"") {
				return st, "", false
			}
			var value strings.Builder
			for {
				text, more, closed := strings.Cut(after, "'")
				if !closed {
					return st, "", false
				}
				value.WriteString(text)
				after = more
				if doubled && strings.HasPrefix(after, "'") {
					value.WriteByte('\'')
					after = after[1:]
					continue
				}
				break
			}
			st.keys = append(st.keys, [2]string{strings.TrimSpace(name), value.String()})
			s = after
		}
		switch {
		case strings.HasPrefix(s, ","):
			s = s[1:]
		case strings.HasPrefix(s, "]"):
			return st, s[1:], true
		default:
			return st, "", false
		}
	}
}

// cursor is a place in a document: an element and what the schema says of it. schema is nil where that says nothing.
type cursor struct {
	node   *bytexml.Node
	schema *element
}

// items is the element name of the collection at a place.
func (c cursor) items() string {
	switch {
	case c.schema != nil && c.schema.item != nil:
		return c.schema.item.name
	case c.schema != nil:
		return ""
	case len(c.node.Children) > 0 && c.node.Child(itemName(c.node.Name)) == nil && c.node.Name != "webFarm":
		return c.node.Children[0].Name
	}
	return itemName(c.node.Name)
}

// item finds the first member of the collection at c that has all the keys.
func (c cursor) item(keys [][2]string) (cursor, bool) {
	var schema *element
	if c.schema != nil {
		schema = c.schema.item
	}
	for _, n := range c.node.All(c.items()) {
		fits := !slices.ContainsFunc(keys, func(k [2]string) bool {
			v, ok := n.Attr(k[0])
			if !ok && schema != nil {
				if a := schema.attr(k[0]); a != nil {
					v = a.zero
				}
			}
			return !strings.EqualFold(v, k[1])
		})
		if fits {
			return cursor{n, schema}, true
		}
	}
	return cursor{}, false
}

// child goes to a fixed child element; nil node: it is not written. ok is false if the schema has no such child.
func (c cursor) child(name string) (_ cursor, ok bool) {
	if c.schema == nil {
		return cursor{c.node.Child(name), nil}, true
	}
	sub := c.schema.child(name)
	if sub == nil {
		return cursor{}, false
	}
	return cursor{c.node.Child(sub.name), sub}, true
}

// change applies one property argument below base, and returns the fresh base.
func (f *file) change(base cursor, p param, doubled bool) (cursor, error) {
	steps, err := readPath(p.path, doubled)
	if err != nil {
		return base, err
	}
	if len(steps) == 0 {
		return base, unknownAttribute(p.path)
	}
	home := base.node.Path()
	fail := func(err error) (cursor, error) { return cursor{f.doc.At(home), base.schema}, err }
	at := base
	for _, st := range steps[:len(steps)-1] {
		if at, err = f.walk(at, st, p); err != nil {
			return fail(err)
		}
	}
	last := steps[len(steps)-1]
	switch {
	case p.op == 0 && !last.index && p.hasValue:
		err = f.setAttr(at, last.name, p)
	case p.op == '+' && last.index && !p.hasValue:
		err = f.addItem(at, last)
	case p.op == '-' && last.index:
		item, ok := at.item(last.keys)
		if !ok {
			err = noElement()
			break
		}
		_, err = f.doc.Remove(item.node)
	case p.op == '-' || p.op == '~':
		err = f.clear(at, last)
	default:
		err = unknownAttribute(p.path)
	}
	return fail(err)
}

// walk goes one step on, making fixed children that are not written yet.
func (f *file) walk(at cursor, st step, p param) (cursor, error) {
	if st.index {
		item, ok := at.item(st.keys)
		if !ok {
			return at, noElement()
		}
		return item, nil
	}
	next, ok := at.child(st.name)
	if !ok {
		return at, unknownAttribute(p.path)
	}
	if next.node != nil {
		return next, nil
	}
	if p.op == '-' || p.op == '~' {
		return at, noElement()
	}
	name := st.name
	if next.schema != nil {
		name = next.schema.name
	}
	n, err := f.doc.Insert(at.node, len(at.node.Children), bytexml.Element{Name: name})
	return cursor{n, next.schema}, err
}

func (f *file) setAttr(at cursor, name string, p param) error {
	value := p.value
	if at.schema != nil {
		a := at.schema.attr(name)
		if a == nil {
			return unknownAttribute(p.path)
		}
		var ok bool
		if value, ok = a.check(value); !ok {
			return badValue()
		}
		name = a.name
		if slices.Contains(at.schema.keys, name) && at.node.Parent != nil { // a rename
			for _, o := range at.node.Parent.All(at.node.Name) {
				if v, _ := o.Attr(name); len(at.schema.keys) == 1 && strings.EqualFold(v, value) && !slices.Equal(o.Path(), at.node.Path()) {
					return duplicate(value)
				}
			}
		}
	}
	_, err := f.doc.SetAttr(at.node, name, value)
	return err
}

func (f *file) addItem(at cursor, st step) error {
	e := bytexml.Element{Name: at.items()}
	if e.Name == "" || len(st.keys) == 0 {
		return malformedIndexer()
	}
	unique := st.keys
	if at.schema != nil {
		unique = nil
		for _, key := range at.schema.item.keys {
			for _, k := range st.keys {
				if strings.EqualFold(k[0], key) {
					unique = append(unique, k)
				}
			}
		}
	} else {
		unique = unique[:1] // the first one names it
	}
	for _, k := range st.keys {
		name, value := k[0], k[1]
		if at.schema != nil {
			a := at.schema.item.attr(name)
			if a == nil {
				return unknownAttribute(name)
			}
			var ok bool
			if value, ok = a.check(value); !ok {
				return badValue()
			}
			name = a.name
		}
		e.Attrs = append(e.Attrs, [2]string{name, value})
	}
	if at.schema != nil && len(unique) < len(at.schema.item.keys) {
		return missingAttributes(e.Name)
	}
	if _, there := at.item(unique); there {
		return duplicateItem(e.Name, unique)
	}
	index := lastItem(at.node, e.Name)
	if n, err := strconv.Atoi(st.at); err == nil {
		index = n
	} else if st.at == "start" {
		index = 0
	}
	_, err := f.doc.Insert(at.node, index, e)
	return err
}

// clear removes an attribute, or all members of a collection.
func (f *file) clear(at cursor, st step) error {
	if _, ok := at.node.Attr(st.name); ok {
		_, err := f.doc.RemoveAttr(at.node, st.name)
		return err
	}
	c, ok := at.child(st.name)
	if !ok || c.node == nil {
		return noElement()
	}
	for len(c.node.Children) > 0 {
		n, err := f.doc.Remove(c.node.Children[0])
		if err != nil {
			return err
		}
		c.node = n
	}
	return nil
}

// value reads the attribute at a path below an object's element, with its default.
func (f *file) value(base cursor, defaults *bytexml.Node, path string) (string, bool) {
	steps, err := readPath(path, false)
	if err != nil || len(steps) == 0 || base.schema == nil {
		return "", false
	}
	at := base
	for _, st := range steps[:len(steps)-1] {
		if st.index {
			if at.node == nil {
				return "", false
			}
			item, ok := at.item(st.keys)
			if !ok {
				return "", false
			}
			at, defaults = item, defaultsOf(item.node, item.schema)
			continue
		}
		sub := at.schema.child(st.name)
		if sub == nil {
			return "", false
		}
		if at.node != nil {
			at.node = at.node.Child(sub.name)
		}
		if defaults != nil {
			defaults = defaults.Child(sub.name)
		}
		at.schema = sub
	}
	last := steps[len(steps)-1]
	a := at.schema.attr(last.name)
	if last.index || a == nil {
		return "", false
	}
	for _, n := range []*bytexml.Node{at.node, defaults} {
		if n != nil {
			if v, ok := n.Attr(a.name); ok {
				return v, true
			}
		}
	}
	return a.zero, true
}
