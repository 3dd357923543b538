// Package bytexml reads an XML document as a tree that knows where each part lies in the bytes, and edits it by splicing: what an edit does
// not name stays as it is, byte for byte, with its comments, its odd white space, its quotes and its line ends.
//
// After an edit all nodes got before are stale; each edit returns the fresh node that it was about.
package bytexml

import "strings"

// Doc is one XML document.
type Doc struct {
	data []byte
	root *Node
}

// Node is one element.
type Node struct {
	Name     string // as written, with its prefix
	Attrs    []Attr
	Children []*Node // elements only
	Parent   *Node   // nil: the root element

	start, nameEnd, openEnd int // of the start tag
	closeStart, end         int // of the end tag; both are openEnd for <x/>
	selfClosing             bool
}

// Attr is one attribute of an element.
type Attr struct {
	Name, Value string

	start            int // of the white space before it
	valStart, valEnd int // between the quotes
	end              int // behind the closing quote
}

// Element is a new element, for Insert.
type Element struct {
	Name     string
	Attrs    [][2]string // name, value
	Children []Element
}

// Bytes returns the document. The caller does not change it.
func (d *Doc) Bytes() []byte { return d.data }

// Root returns the root element.
func (d *Doc) Root() *Node { return d.root }

// Raw returns the bytes of n, from the start of its start tag to the end of its end tag.
func (d *Doc) Raw(n *Node) []byte { return d.data[n.start:n.end] }

// Attr returns the value of an attribute and whether it is there. Names are compared without regard to case, as IIS does.
func (n *Node) Attr(name string) (string, bool) {
	for _, a := range n.Attrs {
		if strings.EqualFold(a.Name, name) {
			return a.Value, true
		}
	}
	return "", false
}

// Child returns the first child element of that name, nil if there is none.
func (n *Node) Child(name string) *Node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// All returns the child elements of that name.
func (n *Node) All(name string) []*Node {
	var all []*Node
	for _, c := range n.Children {
		if c.Name == name {
			all = append(all, c)
		}
	}
	return all
}

// Path tells where n lies, as the index of the child at each level.
func (n *Node) Path() []int {
	var p []int
	for ; n.Parent != nil; n = n.Parent {
		for i, c := range n.Parent.Children {
			if c == n {
				p = append([]int{i}, p...)
				break
			}
		}
	}
	return p
}

// At is the node that lies at path, nil if there is none.
func (d *Doc) At(path []int) *Node {
	n := d.root
	for _, i := range path {
		if i >= len(n.Children) {
			return nil
		}
		n = n.Children[i]
	}
	return n
}
