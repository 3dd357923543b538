package appcmd

import (
	"fmt"
	"strings"
)

// takeTree reads the form of /text:*:
//
//	SITE
//	  SITE.NAME:"Default Web Site"
//	  [site]
//	    name:"Default Web Site"
//	    [bindings]
//
// Indentation tells how deep an element lies; attributes, whose indentation was seen to get lost, belong to the element before them. A
// value in quotes goes on over line breaks to a quote at the end of a line. The first documentation had values without quotes.
func (d *Document) takeTree(lines []string) (int, error) {
	e := Entry{Tag: lines[0]}
	root := &Element{}
	type level struct {
		indent int
		e      *Element
	}
	open := []level{{-1, root}}
	n := 1
	for n < len(lines) {
		line := strings.TrimRight(lines[n], " \t")
		if line == "" {
			n++
			continue
		}
		if treeStart.MatchString(line) && n+1 < len(lines) && startsTree(lines[n+1]) || startsSomething(line) {
			break
		}
		if m := treeChild.FindStringSubmatch(line); m != nil {
			indent := len(m[1])
			for len(open) > 1 && open[len(open)-1].indent >= indent {
				open = open[:len(open)-1]
			}
			if len(open) > maxDepth {
				return 0, fmt.Errorf("%s: over %d levels of elements: %w", e.Tag, maxDepth, ErrMalformed)
			}
			child := &Element{Name: m[2]}
			parent := open[len(open)-1].e
			parent.Children = append(parent.Children, child)
			open = append(open, level{indent, child})
			n++
			continue
		}
		attr, taken, err := takeValue(lines[n:])
		if err != nil {
			return 0, fmt.Errorf("%s, its line %d: %w", e.Tag, n+1, err)
		}
		to := open[len(open)-1].e
		to.Attrs = append(to.Attrs, hidden(attr))
		n += taken
	}
	e.Attrs, e.Children = root.Attrs, root.Children
	d.Entries = append(d.Entries, e)
	return n, nil
}

func takeValue(lines []string) (Attr, int, error) {
	m := treeKey.FindStringSubmatch(lines[0])
	switch {
	case m != nil:
	case strings.Trim(lines[0], " .") == "": // somebody left lines out
		return Attr{}, 0, ErrTruncated
	default:
		return Attr{}, 0, ErrMalformed
	}
	_, rest, _ := strings.Cut(lines[0], m[1]+":")
	value, quoted := strings.CutPrefix(rest, `"`)
	if !quoted {
		return Attr{m[1], strings.TrimSpace(rest)}, 1, nil
	}
	for n := 1; ; n++ {
		if v, ok := strings.CutSuffix(strings.TrimRight(value, " \t"), `"`); ok {
			return Attr{m[1], v}, n, nil
		}
		if n == len(lines) {
			return Attr{}, 0, ErrTruncated
		}
		value += "\n" + lines[n]
	}
}
