package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/abswap/abswap/switcher/proxy"
)

// configError is all that is wrong with a config file, one line each, in the order of the file.
type configError struct{ lines []string }

func (e *configError) Error() string { return strings.Join(e.lines, "\n") }

// mistakes collects what is wrong with a config file.
type mistakes struct {
	file string
	root yaml.Node
	all  []mistake

	broken bool // a section was not read at all
}

type mistake struct {
	line int // 0: of no line
	text string
}

func (m *mistakes) add(line int, format string, args ...any) {
	m.all = append(m.all, mistake{line, fmt.Sprintf(format, args...)})
}

var (
	lineOf    = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	unknown   = regexp.MustCompile(`^field (.*) not found in type .*$`)
	wrongType = regexp.MustCompile("^cannot unmarshal !!(\\S+) (?:`(.*)` )?into (.*)$")
)

// decoder takes the decoder's findings in. It returns false if the text is no YAML.
func (m *mistakes) decoder(err error) bool {
	typed, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		line, text := splitLine(err.Error())
		m.add(line, "%s", strings.TrimPrefix(text, "yaml: "))
		return false
	}
	for _, e := range typed.Errors {
		line, text := splitLine(e)
		if f := unknown.FindStringSubmatch(text); f != nil {
			text = fmt.Sprintf("unknown key %q", f[1])
		} else if f := wrongType.FindStringSubmatch(text); f != nil {
			text = fmt.Sprintf("%s expected, not %q", kindName(f[3]), f[2])
			if f[2] == "" {
				text = fmt.Sprintf("%s expected, not a %s", kindName(f[3]), map[string]string{"map": "section", "seq": "list"}[f[1]])
			}
		}
		m.broken = m.broken || strings.Contains(text, "already defined")
		m.add(line, "%s", text)
	}
	return true
}

func splitLine(s string) (int, string) {
	if f := lineOf.FindStringSubmatch(s); f != nil {
		n, _ := strconv.Atoi(f[1])
		return n, f[2]
	}
	return 0, s
}

// kindName says in words what a Go type is in the file.
func kindName(goType string) string {
	switch {
	case goType == "bool":
		return "true or false"
	case goType == "int":
		return "a whole number"
	case goType == "string":
		return "a text"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a section with keys"
}

// line finds the line of the value at path: keys, and numbers of list items.
func (m *mistakes) line(path ...any) (int, bool) {
	if len(m.root.Content) == 0 {
		return 0, false
	}
	n := m.root.Content[0]
	for _, p := range path {
		switch p := p.(type) {
		case string:
			i := -1
			if n.Kind == yaml.MappingNode {
				for k := 0; k+1 < len(n.Content); k += 2 {
					if n.Content[k].Value == p {
						i = k + 1
					}
				}
			}
			if i < 0 {
				return 0, false
			}
			n = n.Content[i]
		case int:
			if n.Kind != yaml.SequenceNode || p >= len(n.Content) {
				return 0, false
			}
			n = n.Content[p]
		}
	}
	return n.Line, true
}

// at adds a mistake in the value at path. A line with which the decoder found fault already is not blamed twice.
func (m *mistakes) at(path []any, format string, args ...any) {
	line, _ := m.line(path...)
	if line > 0 && slices.ContainsFunc(m.all, func(x mistake) bool { return x.line == line }) {
		return
	}
	m.add(line, "%s: %s", pathText(path), fmt.Sprintf(format, args...))
}

func pathText(path []any) string {
	var b strings.Builder
	for i, p := range path {
		switch p := p.(type) {
		case string:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		case int:
			fmt.Fprintf(&b, "[%d]", p)
		}
	}
	return b.String()
}

func (m *mistakes) err() error {
	if len(m.all) == 0 {
		return nil
	}
	slices.SortStableFunc(m.all, func(a, b mistake) int { return a.line - b.line })
	e := &configError{}
	for _, x := range m.all {
		if x.line > 0 {
			e.lines = append(e.lines, fmt.Sprintf("%s:%d: %s", m.file, x.line, x.text))
		} else {
			e.lines = append(e.lines, fmt.Sprintf("%s: %s", m.file, x.text))
		}
	}
	return e
}

// check finds what the decoder cannot: what is missing, and what makes no sense.
func (c *config) check(m *mistakes) {
	key := func(path ...any) []any { return path }
	if m.broken {
		return
	}
	required := func(value string, path []any, what string) {
		if _, set := m.line(path...); value == "" || !set {
			m.at(path, "missing: %s", what)
		}
	}
	required(c.Listen, key("listen"), `where the site is reached, as in "0.0.0.0:80"`)
	required(c.State, key("state"), "the folder for journal, slots and control socket")
	if c.Listen != "" {
		if _, port, err := net.SplitHostPort(c.Listen); err != nil {
			m.at(key("listen"), "%q is not host:port", c.Listen)
		} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			m.at(key("listen"), "port %q is not within 1 to 65535", port)
		}
	}
	c.checkControl(m)
	for i, p := range c.TrustedPeers {
		if _, err := netip.ParsePrefix(p); err != nil {
			m.at(key("trusted_peers", i), `%q is not a network, as in "10.0.0.0/8"`, p)
		}
	}
	c.checkSlots(m)
	c.checkDeploy(m)
	for name, n := range map[string]int{"keep_swaps": c.KeepSwaps, "app.warm_rounds": c.App.WarmRounds, "supervise.deaths": c.Supervise.Deaths} {
		if n < 1 {
			path := []any{}
			for _, p := range strings.Split(name, ".") {
				path = append(path, p)
			}
			m.at(path, "%d is below 1", n)
		}
	}
	s := c.Supervise
	if s.BackoffFirst <= 0 {
		m.at(key("supervise", "backoff_first"), "a pause of 0 would be a busy loop")
	} else if s.BackoffMax < s.BackoffFirst {
		m.at(key("supervise", "backoff_max"), "%s is below backoff_first, %s", time.Duration(s.BackoffMax), time.Duration(s.BackoffFirst))
	}
	if s.Pause <= 0 {
		m.at(key("supervise", "pause"), "a pause of 0 is no limit")
	}
	if len(m.all) == 0 {
		c.checkParts(m)
	}
}

func (c *config) checkControl(m *mistakes) {
	if c.Control == "" {
		return
	}
	const longest = 103 // of a socket's path, on the system that allows least
	if p, ok := strings.CutPrefix(c.Control, "unix:"); ok && len(p) > longest {
		m.at([]any{"control"}, "%q has %d bytes, a socket's path has at most %d: name a shorter one, or a loopback address", p, len(p), longest)
	}
	if !strings.HasPrefix(c.Control, "unix:") {
		if host, port, err := net.SplitHostPort(c.Control); err != nil || host == "" || port == "" || port == "0" {
			m.at([]any{"control"}, `%q is neither "unix:/path" nor a loopback address with a port`, c.Control)
		}
	}
}

func (c *config) checkSlots(m *mistakes) {
	if len(c.Slots) < 2 {
		m.at([]any{"slots"}, "%d slots, at least two are needed: one serves while the other gets the next release", len(c.Slots))
	}
	names, addresses := map[string]bool{}, map[string]bool{}
	for i, s := range c.Slots {
		switch {
		case s.Name == "":
			m.at([]any{"slots", i, "name"}, "missing: the name of the slot")
		case names[s.Name]:
			m.at([]any{"slots", i, "name"}, "%q is the name of another slot too", s.Name)
		}
		if s.Address != "" && addresses[s.Address] {
			m.at([]any{"slots", i, "address"}, "%q is the address of another slot too", s.Address)
		}
		names[s.Name], addresses[s.Address] = true, true
	}
	if len(c.App.Command) == 0 {
		m.at([]any{"app", "command"}, `missing: the program and its arguments, as in ["./server"]`)
	}
}

func (c *config) checkDeploy(m *mistakes) {
	last := 0
	for i, p := range c.Deploy.Steps {
		switch {
		case p < 1 || p > 99:
			m.at([]any{"deploy", "steps", i}, "%d is not within 1 to 99; the last step, 100, comes by itself", p)
		case p <= last:
			m.at([]any{"deploy", "steps", i}, "%d comes after %d: steps rise", p, last)
		}
		last = p
	}
	if c.Deploy.Alone && len(c.Deploy.Steps) > 0 {
		m.at([]any{"deploy", "exclusive"}, "the versions never work at the same time, and steps let them: remove one of the two")
	}
	c.Deploy.Drain.check(m)
	if c.Deploy.Hold <= 0 {
		m.at([]any{"deploy", "hold"}, "a hold of 0 holds nothing")
	}
	for i, p := range c.Deploy.Approve {
		if p != 0 && p != 100 && !slices.Contains(c.Deploy.Steps, p) {
			m.at([]any{"deploy", "approve", i}, "%d is neither 0, nor one of steps, nor 100", p)
		}
	}
}

// checkParts lets the parts that are built from the config look at it.
func (c *config) checkParts(m *mistakes) {
	for i, s := range c.Slots {
		if _, err := c.slot(s); err != nil {
			path := []any{"slots", i}
			if i > 0 && len(m.all) > 0 { // what is wrong with app is wrong with each slot: once is enough
				return
			}
			m.at(path, "%v", err)
		}
	}
	if client, err := proxy.NewClient(proxy.ClientConfig{Address: c.Control, Token: strings.Repeat("x", 32)}); err != nil {
		m.at([]any{"control"}, "%v", err)
	} else {
		client.Close()
	}
	if d, err := proxy.New(c.door("")); err != nil {
		m.add(0, "%v", err)
	} else {
		d.Close()
	}
}
