package appcmd

import (
	"strconv"
	"strings"
)

// Hidden stands in an Element where the output had the value of a password. (What is encrypted in the file is shown in clear by appcmd.)
const Hidden = Masked

// Element is an element of configuration.
type Element struct {
	Name     string     `json:"name"`
	Attrs    []Attr     `json:"attrs,omitempty"`
	Children []*Element `json:"children,omitempty"`
}

// Attr is an attribute of an Element or an Item.
type Attr struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Attr returns the attribute name, without regard to case, and whether it is there.
func (e *Element) Attr(name string) (string, bool) {
	if e == nil {
		return "", false
	}
	for _, a := range e.Attrs {
		if strings.EqualFold(a.Name, name) {
			return a.Value, true
		}
	}
	return "", false
}

func (e *Element) has(name string) bool {
	_, ok := e.Attr(name)
	return ok
}

// Get returns the attribute name; "" if it is not there.
func (e *Element) Get(name string) string {
	v, _ := e.Attr(name)
	return v
}

// Bool returns the attribute name as a bool; def if it is not there or is none.
func (e *Element) Bool(name string, def bool) bool {
	v, _ := e.Attr(name)
	if b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(v))); err == nil {
		return b
	}
	return def
}

// Child returns the first child element of this name, without regard to case; nil if there is none, or e is nil.
func (e *Element) Child(name string) *Element {
	for _, c := range e.All(name) {
		return c
	}
	return nil
}

// All returns the child elements of this name.
func (e *Element) All(name string) []*Element {
	if e == nil {
		return nil
	}
	var all []*Element
	for _, c := range e.Children {
		if strings.EqualFold(c.Name, name) {
			all = append(all, c)
		}
	}
	return all
}

// Find walks down from e by the first child of each name; nil if one is missing.
func (e *Element) Find(path ...string) *Element {
	for _, name := range path {
		e = e.Child(name)
	}
	return e
}
