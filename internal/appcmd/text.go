package appcmd

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	recordStart = regexp.MustCompile(`^([A-Z][A-Z0-9]*) "`)
	treeStart   = regexp.MustCompile(`^[A-Z][A-Z0-9]{1,30}$`)
	treeKey     = regexp.MustCompile(`^\s*([A-Za-z_][A-Za-z0-9_.:\-]*?):(?:"| |$)`)
	treeChild   = regexp.MustCompile(`^(\s*)\[([A-Za-z_][A-Za-z0-9_.:\-]*)\]$`)
)

// textKeys are the keys of plain text, in the order in which they are printed.
func textKeys(tag string) []string {
	switch tag {
	case "SITE":
		return []string{"id", "bindings", "state"}
	case "APP":
		return []string{"applicationPool"}
	case "VDIR":
		return []string{"physicalPath"}
	case "APPPOOL":
		return []string{"MgdVersion", "MgdMode", "state"}
	case "WP":
		return []string{"applicationPool", "apppool"}
	case "REQUEST":
		return []string{"url", "time", "client", "stage", "module"}
	case "TRACE":
		return []string{"url", "statuscode", "wp"}
	}
	return nil
}

// readText reads plain text and /text:*. Both begin each object with a line of its own; values may have line breaks in them.
func (d *Document) readText(text string) error {
	whole := strings.HasSuffix(text, "\n")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); {
		line := strings.TrimRight(lines[i], " \t")
		if line == "" {
			i++
			continue
		}
		n, err := d.take(lines[i:], line)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if i += n; i >= len(lines) && !whole { // it could be cut off in the middle of a value and look right
			return fmt.Errorf("last line: %w", ErrTruncated)
		}
	}
	return nil
}

// take reads what begins with the first of lines, and returns how many it takes.
func (d *Document) take(lines []string, first string) (int, error) {
	if m, n, closed := takeError(lines); n > 0 {
		if d.Error == nil {
			d.Error = &m
		}
		if !closed {
			return 0, ErrTruncated
		}
		return n, nil
	}
	switch {
	case strings.HasPrefix(first, "<"):
		// XML behind a line of text.
		return len(lines), d.readXML(strings.Join(lines, "\n"))
	case recordStart.MatchString(first):
		return d.takeRecord(lines)
	case treeStart.MatchString(first) && len(lines) > 1 && startsTree(lines[1]):
		return d.takeTree(lines)
	case treeStart.MatchString(first) && strings.TrimSpace(strings.Join(lines[1:], "")) == "":
		return 0, fmt.Errorf("%s: %w", first, ErrTruncated)
	}
	d.Status = append(d.Status, first)
	return 1, nil
}

func startsTree(line string) bool {
	return treeKey.MatchString(line) || treeChild.MatchString(strings.TrimRight(line, " \t"))
}

// takeRecord reads TAG "name" (key:value,...). Names may have parentheses in them; values anything.
func (d *Document) takeRecord(lines []string) (int, error) {
	n := 1
	for n < len(lines) && !startsSomething(lines[n]) {
		n++
	}
	record := strings.TrimRight(strings.Join(lines[:n], "\n"), " \t\n")
	tag := recordStart.FindStringSubmatch(record)[1]
	rest := record[len(tag)+2:]
	keys := textKeys(tag)
	if keys == nil && strings.HasSuffix(rest, `"`) { // BACKUP "name"
		d.Entries = append(d.Entries, Entry{Tag: tag, Name: rest[:len(rest)-1]})
		return n, nil
	}
	if !strings.HasSuffix(rest, ")") {
		return 0, fmt.Errorf("%s: %w", tag, ErrTruncated)
	}
	name, fields, ok := splitName(tag, rest[:len(rest)-1], keys)
	if !ok {
		return 0, fmt.Errorf("%s: no name in quotes, with keys after it: %w", tag, ErrTruncated)
	}
	e := Entry{Tag: tag, Name: name}
	if keys == nil {
		e.Attrs = append(e.Attrs, Attr{Name: "value", Value: fields})
	} else {
		e.Attrs = splitFields(fields, keys)
	}
	d.Entries = append(d.Entries, e)
	return n, nil
}

// startsSomething reports whether a line begins something new: else it goes on with the value before.
func startsSomething(line string) bool {
	return recordStart.MatchString(line) || errorLine.MatchString(line) || strings.HasPrefix(line, `"`) || objectDone.MatchString(line)
}

var objectDone = regexp.MustCompile(`^[A-Z][A-Z0-9]* object "`)

// splitName finds the end of the name: a quote, followed by a parenthesis and a key that this object has. What follows the name of a request
// is what a client sent, so the first such place counts there; else the last.
func splitName(tag, s string, keys []string) (name, fields string, ok bool) {
	for from := 0; ; {
		i := strings.Index(s[from:], `" (`)
		if i < 0 {
			return name, fields, ok
		}
		at := from + i
		from = at + 1
		after := strings.TrimLeft(s[at+3:], " ")
		if keys != nil && !startsWithKey(after, keys) {
			continue
		}
		name, fields, ok = s[:at], after, true
		if tag == "REQUEST" || tag == "TRACE" {
			return name, fields, true
		}
	}
}

func startsWithKey(s string, keys []string) bool {
	for _, k := range keys {
		if len(s) > len(k) && strings.EqualFold(s[:len(k)], k) && s[len(k)] == ':' {
			return true
		}
	}
	return false
}

// splitFields takes "id:1,bindings:http/*:80:,state:Started" apart: from the right, by known keys, since values have commas and colons.
func splitFields(s string, keys []string) []Attr {
	var attrs []Attr
	for i := len(keys) - 1; i >= 0; i-- {
		at, width := lastKey(s, keys[i])
		if at < 0 {
			continue
		}
		attrs = append(attrs, hidden(Attr{Name: keys[i], Value: strings.TrimSpace(s[at+width:])}))
		s = strings.TrimRight(s[:at], " ")
	}
	for i, j := 0, len(attrs)-1; i < j; i, j = i+1, j-1 {
		attrs[i], attrs[j] = attrs[j], attrs[i]
	}
	return attrs
}

// lastKey finds the last place of a key: at the begin, or behind a comma and blanks. It returns where that begins, and how long it is up to
// the value.
func lastKey(s, key string) (at, width int) {
	lower, key := strings.ToLower(s), strings.ToLower(key)+":"
	if len(lower) != len(s) {
		lower = s // letters whose other case is longer
	}
	for end := len(s); ; {
		i := strings.LastIndex(lower[:end], key)
		if i < 0 {
			return -1, 0
		}
		before := strings.TrimRight(s[:i], " ")
		if before == "" {
			return 0, i + len(key)
		}
		if before[len(before)-1] == ',' {
			return len(before) - 1, i + len(key) - len(before) + 1
		}
		end = i
	}
}
