package appcmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/abswap/abswap/internal/multi"
)

// Path leads from an object or a section down to an element of its configuration.
type Path []Step

// Step is one step of a Path. It is made by Item, ItemAt or Elem.
type Step struct {
	elem     string
	position string
	keys     []key
	err      error
}

type key struct{ name, value string }

// Elem is the step to a child element, such as processModel.
func Elem(name string) Step { return Step{elem: name, err: checkAttr(name)} }

// Item is the step to the element of a collection whose attributes have these values: name, value, name, value ...; it is written as
// [name='value',...]. A value cannot contain a single quote: how one would be escaped is not documented.
func Item(keyValues ...string) Step {
	var s Step
	if len(keyValues) == 0 || len(keyValues)%2 != 0 {
		s.err = fmt.Errorf("an item takes names and values in turn, not %d strings", len(keyValues))
		return s
	}
	for i := 0; i < len(keyValues); i += 2 {
		k := key{keyValues[i], keyValues[i+1]}
		s.err = multi.Join(s.err, checkAttr(k.name), checkIndexed(k.name, k.value))
		s.keys = append(s.keys, k)
	}
	return s
}

// ItemAt is an Item with a position, for Append: n counts from 0, -1 is the end.
func ItemAt(n int, keyValues ...string) Step {
	s := Item(keyValues...)
	switch {
	case n == -1:
		s.position = "@end,"
	case n == 0:
		s.position = "@start,"
	case n > 0:
		s.position = "@" + strconv.Itoa(n) + ","
	default:
		s.err = multi.Join(s.err, fmt.Errorf("position %d of an item", n))
	}
	return s
}

// RootApp is the path to the root application of a site within the section of all sites.
func RootApp(site string) Path { return Path{Item("name", site), Item("path", "/")} }

// RootDir is the path to the root virtual directory of a site's root application within the section of all sites.
func RootDir(site string) Path { return append(RootApp(site), Item("path", "/")) }

// BindingItem is the step to a binding in the collection "bindings" of a site.
func BindingItem(b Binding) Step {
	s := Item("protocol", b.Protocol, "bindingInformation", b.Information)
	s.err = multi.Join(s.err, b.Check())
	return s
}

func (p Path) text() (string, error) {
	if len(p) == 0 {
		return "", errors.New("empty path")
	}
	var errs []error
	parts := make([]string, len(p))
	for i, s := range p {
		errs = append(errs, s.err)
		parts[i] = s.text(false)
	}
	return strings.Join(parts, "."), multi.Join(errs...)
}

func (p Path) masked() string {
	secret := p.secret()
	parts := make([]string, len(p))
	for i, s := range p {
		parts[i] = s.masked(secret)
	}
	return strings.Join(parts, ".")
}

// secret reports whether values at p are secrets, whatever their names are: environment variables carry connection strings and keys.
func (p Path) secret() bool {
	for _, s := range p {
		if strings.EqualFold(s.elem, "environmentVariables") {
			return true
		}
	}
	return false
}

func (s Step) text(mask bool) string {
	if s.elem != "" {
		return s.elem
	}
	parts := make([]string, len(s.keys))
	for i, k := range s.keys {
		v := k.value
		if mask && isSecret(k.name) {
			v = Masked
		}
		parts[i] = k.name + "='" + v + "'"
	}
	return "[" + s.position + strings.Join(parts, ",") + "]"
}

func (s Step) masked(within bool) string {
	if !within {
		return s.text(true)
	}
	for i, k := range s.keys {
		if strings.EqualFold(k.name, "value") {
			s.keys = append([]key(nil), s.keys...)
			s.keys[i].value = Masked
		}
	}
	return s.text(true)
}

// secretValues returns the values in s that are secrets.
func (s Step) secretValues(within bool) []string {
	var all []string
	for _, k := range s.keys {
		if k.value != "" && (isSecret(k.name) || within && strings.EqualFold(k.name, "value")) {
			all = append(all, k.value)
		}
	}
	return all
}
