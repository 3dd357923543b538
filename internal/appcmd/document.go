package appcmd

import (
	"fmt"
	"strings"
)

// Document is what a command printed, in whichever form: plain text, /text:* or /xml.
type Document struct {
	XML      bool       `json:"xml,omitempty"`      // it has an element <appcmd>, be it an empty one
	Entries  []Entry    `json:"entries,omitempty"`  // objects, in order
	Sections []*Element `json:"sections,omitempty"` // bare elements, as list config prints them
	Status   []string   `json:"status,omitempty"`   // lines that tell what was done, or how appcmd is used; in the machine's language
	Error    *Message   `json:"error,omitempty"`    // the first that was printed
}

// Entry is one object as it was printed.
type Entry struct {
	Tag      string     `json:"tag"`            // SITE, APP, VDIR, APPPOOL, WP, REQUEST, ...
	Name     string     `json:"name,omitempty"` // what plain text has in quotes; "" in the other forms, where it is an attribute
	Attrs    []Attr     `json:"attrs,omitempty"`
	Children []*Element `json:"children,omitempty"` // its configuration, where that was asked for
}

// Message is an error as it was printed.
type Message struct {
	HResult uint32 `json:"hresult,omitempty"` // 0: none
	Text    string `json:"text"`              // in the machine's language; may have several lines
}

// Empty reports whether nothing is in d: no objects, and no texts.
func (d *Document) Empty() bool {
	return len(d.Entries) == 0 && len(d.Sections) == 0 && len(d.Status) == 0 && d.Error == nil
}

// Parse reads what a command printed, as Decode returns it. It is liberal in the order, case and spelling of what it knows and keeps what it
// does not know. ErrTruncated if the text ends before it is complete, ErrMalformed if it is not understood; the error never shows values,
// which may be secrets. The values of passwords are replaced by Hidden.
func Parse(text string) (*Document, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// parse returns, with an error too, what it has read.
func parse(text string) (*Document, error) {
	d := &Document{}
	text = strings.TrimPrefix(text, "\uFEFF")
	if trimmed := strings.TrimLeft(text, " \t\n"); strings.HasPrefix(trimmed, "<") {
		return d, d.readXML(trimmed)
	}
	return d, d.readText(text)
}

// ParseValues reads the output of a list with /text:attr: one value a line, for each object one.
func ParseValues(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if m, found := findMessage(text); found {
		return nil, fmt.Errorf("an error instead of values (hresult %08x): %w", m.HResult, ErrMalformed)
	}
	if !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("last line: %w", ErrTruncated)
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), nil
}

// Section returns the element of a section, "system.webServer/proxy": within its groups, alone, or with its groups in its name; nil if it
// is not shown.
func (d *Document) Section(name string) *Element {
	parts := strings.Split(name, "/")
	dashed := strings.Join(parts, "-")
	roots := append([]*Element(nil), d.Sections...)
	for _, e := range d.Entries {
		roots = append(roots, e.Children...)
	}
	for _, r := range roots {
		if strings.EqualFold(r.Name, dashed) || strings.EqualFold(r.Name, parts[len(parts)-1]) {
			return r
		}
		for i, p := range parts { // groups that are left out at the begin do not matter
			if strings.EqualFold(r.Name, p) {
				if e := r.Find(parts[i+1:]...); e != nil {
					return e
				}
			}
		}
	}
	return nil
}

// plainName makes names that differ only in case and in dots, dashes and underscores equal: APPPOOL.NAME, apppool_name.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '.' || r == '_' || r == '-':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Get returns the first attribute that has one of these names, in any case and with any dots and underscores; names before others.
func (e Entry) Get(names ...string) (string, bool) {
	for _, n := range names {
		n = plainName(n)
		for _, a := range e.Attrs {
			if plainName(a.Name) == n {
				return a.Value, true
			}
		}
	}
	return "", false
}

// get is Get without the bool, and without blanks around the value.
func (e Entry) get(names ...string) string {
	v, _ := e.Get(names...)
	return strings.TrimSpace(v)
}

// child returns the configuration element of this name; nil if it was not asked for.
func (e Entry) child(name string) *Element {
	return (&Element{Children: e.Children}).Child(name)
}

// each calls f for the entries that have this tag.
func (d *Document) each(tag string, f func(Entry) error) error {
	for _, e := range d.Entries {
		if e.Tag != tag {
			continue
		}
		if err := f(e); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	return nil
}
