package nginx

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// directive is one directive of a configuration.
type directive struct {
	name   string
	args   []string
	block  []directive
	braces bool // it has a block, be it empty
	file   string
	line   int
}

// where names the place of a directive.
func (d directive) where() string { return fmt.Sprintf("%s:%d", d.file, d.line) }

// maxDepth bounds blocks and includes within one another.
const maxDepth = 40

// parseConf reads a configuration file.
func parseConf(file, text string) ([]directive, error) {
	p := &parser{file: file, text: text, line: 1}
	all, err := p.block(0)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, p.line, err)
	}
	return all, nil
}

type parser struct {
	file, text string
	at, line   int
}

// block reads directives up to the end of the block, or of the file at depth 0.
func (p *parser) block(depth int) ([]directive, error) {
	if depth > maxDepth {
		return nil, errors.New("blocks lie too deep in one another")
	}
	var all []directive
	var words []string
	begun := 0
	for {
		word, quoted, err := p.word()
		if err != nil {
			return nil, err
		}
		if quoted || word != "" && word != ";" && word != "{" && word != "}" {
			if words == nil {
				begun = p.line
			}
			words = append(words, word)
			continue
		}
		if word == "" || word == "}" {
			switch {
			case words != nil:
				return nil, fmt.Errorf("directive %q has no end", words[0])
			case (word == "") != (depth == 0):
				return nil, errors.New("the braces do not match")
			}
			return all, nil
		}
		if words == nil {
			return nil, fmt.Errorf("unexpected %q", word)
		}
		d := directive{name: words[0], args: words[1:], file: p.file, line: begun, braces: word == "{"}
		if d.braces && strings.HasSuffix(d.name, "_by_lua_block") {
			err = p.skipLua()
		} else if d.braces {
			d.block, err = p.block(depth + 1)
		}
		if err != nil {
			return nil, err
		}
		all, words = append(all, d), nil
	}
}

// word returns the next word; "" at the end of the text. ; { and } are words unless they were quoted.
func (p *parser) word() (word string, quoted bool, err error) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case '\n':
			p.line++
			p.at++
		case ' ', '\t', '\r':
			p.at++
		case '#':
			end := strings.IndexByte(p.text[p.at:], '\n')
			if end < 0 {
				end = len(p.text) - p.at
			}
			p.at += end
		case ';', '{', '}':
			p.at++
			return string(c), false, nil
		case '"', '\'':
			p.at++
			word, err = p.until(string(c))
			p.at++
			return word, true, err
		default:
			word, err = p.until(" \t\r\n;{")
			return word, word != "" && strings.Contains(";{}", word), err
		}
	}
	return "", false, nil
}

// until reads up to one of the ends, which it does not take. A brace after $ belongs to the word.
func (p *parser) until(ends string) (string, error) {
	var b strings.Builder
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			if e := p.text[p.at]; strings.IndexByte(`"'\`, e) < 0 { // other escapes are the directive's own matter
				b.WriteByte('\\')
			}
			c = p.text[p.at]
		case c == '$' && p.at+1 < len(p.text) && p.text[p.at+1] == '{':
			b.WriteString("${")
			p.at++
			continue
		case strings.IndexByte(ends, c) >= 0:
			return b.String(), nil
		}
		if c == '\n' {
			p.line++
		}
		b.WriteByte(c)
	}
	if len(ends) == 1 {
		return "", errors.New("a quote has no end")
	}
	return b.String(), nil
}

// skipLua passes over the code of a Lua block.
func (p *parser) skipLua() error {
	for depth := 1; p.at < len(p.text); {
		c := p.text[p.at]
		p.at++
		switch c {
		case '\n':
			p.line++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return nil
			}
		}
	}
	return errors.New("a Lua block has no end")
}

// section is one file of what nginx -T prints.
type section struct{ path, text string }

// parseDump takes apart what nginx -T prints.
func parseDump(text string) []section {
	var all []section
	var body strings.Builder
	flush := func() {
		if len(all) > 0 {
			all[len(all)-1].text = body.String()
		}
		body.Reset()
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "# configuration file ")
		if path, colon := strings.CutSuffix(rest, ":"); ok && colon && absolute(path) {
			flush()
			all = append(all, section{path: path})
			continue
		}
		body.WriteString(line)
	}
	flush()
	return all
}

// expand puts the files of a dump together as nginx does: the first one, with every include in its place.
func expand(all []section) ([]directive, error) {
	if len(all) == 0 {
		return nil, errors.New("nginx -T printed no configuration")
	}
	parsed := map[string][]directive{}
	for _, x := range all {
		d, err := parseConf(x.path, x.text)
		if err != nil {
			return nil, fmt.Errorf("the configuration cannot be read: %w", err)
		}
		parsed[x.path] = d
	}
	budget := 1_000_000
	var in func(list []directive, depth int) ([]directive, error)
	in = func(list []directive, depth int) ([]directive, error) {
		if depth > maxDepth {
			return nil, errors.New("the configuration cannot be read: includes lie too deep in one another")
		}
		var out []directive
		for _, d := range list {
			if budget--; budget < 0 {
				return nil, errors.New("the configuration cannot be read: it is too large")
			}
			if d.braces {
				block, err := in(d.block, depth+1)
				if err != nil {
					return nil, err
				}
				d.block = block
				out = append(out, d)
				continue
			}
			out = append(out, d) // the include directive itself stays too: its place is of interest
			if d.name != "include" || len(d.args) != 1 {
				continue
			}
			pattern := includePattern(all[0].path, d.args[0])
			for _, x := range all {
				if ok, err := path.Match(pattern, x.path); err == nil && ok || x.path == pattern {
					inner, err := in(parsed[x.path], depth+1)
					if err != nil {
						return nil, err
					}
					out = append(out, inner...)
				}
			}
		}
		return out, nil
	}
	return in(parsed[all[0].path], 0)
}

// includePattern makes the argument of an include absolute: it counts from the folder of the main file.
func includePattern(main, arg string) string {
	if absolute(arg) {
		return arg
	}
	return path.Join(path.Dir(main), arg)
}

// absolute tells whether a path of a configuration is absolute: they are written as on Unix, wherever this runs.
func absolute(name string) bool { return path.IsAbs(name) || filepath.IsAbs(name) }

// walk calls f for every directive with those that it lies in, the outermost first.
func walk(list []directive, f func(d directive, within []directive)) {
	var in func(list, within []directive)
	in = func(list, within []directive) {
		for _, d := range list {
			f(d, within)
			in(d.block, append(within[:len(within):len(within)], d))
		}
	}
	in(list, nil)
}
