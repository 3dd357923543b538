package haproxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// session is a stream of "show sess all": a request, or a connection in TCP mode.
type session struct {
	id       string        // "0x55935366ee50"
	began    time.Time     // by HAProxy's clock, in a zone that it does not tell
	age      time.Duration // in whole seconds, or coarser
	source   string
	aside    bool // no client's: a command to the runtime API, such as the one that lists the sessions, or what peers tell each other
	backend  string
	server   string // "": none yet
	method   string // "": none, or not known
	upgraded bool   // it has left HTTP
	in, out  int64
}

// parseSessions reads "show sess all".
func parseSessions(text string) ([]session, error) {
	var all []session
	var s *session
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "0x"):
			one, err := parseSessionHead(line)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
			s = &all[len(all)-1]
		case s == nil:
			return nil, fmt.Errorf("%w: show sess begins with %q", ErrBadAnswer, firstLine(line))
		default:
			s.detail(strings.TrimSpace(line))
		}
	}
	return all, nil
}

// parseSessionHead reads "0x55935366ee50: [23/Nov/2026:01:26:40.501478] id=15 proto=tcpv4 source=127.0.0.1:47146".
func parseSessionHead(line string) (session, error) {
	id, rest, ok := strings.Cut(line, ": [")
	stamp, rest, closed := strings.Cut(rest, "]")
	began, err := time.Parse("02/Jan/2006:15:04:05.000000", stamp)
	if !ok || !closed || err != nil {
		return session{}, fmt.Errorf("%w: show sess: %q", ErrBadAnswer, firstLine(line))
	}
	return session{id: id, began: began, source: attribute(rest, "source")}, nil
}

// detail reads one of the further lines, of which only some matter.
func (s *session) detail(line string) {
	switch {
	case strings.HasPrefix(line, "frontend="):
		s.aside = attribute(line, "frontend") == "GLOBAL" || strings.Contains(line, " mode=peers)")
	case strings.HasPrefix(line, "backend="):
		s.backend = known(attribute(line, "backend"))
	case strings.HasPrefix(line, "server="):
		s.server = known(attribute(line, "server"))
	case strings.HasPrefix(line, "task="):
		s.age = parseAge(strings.TrimSuffix(attribute(line, "age"), ")"))
	case strings.HasPrefix(line, "txn="):
		s.upgraded = attribute(line, "req.st") == "MSG_TUNNEL" && attribute(line, "rsp.st") == "MSG_TUNNEL"
		s.method = method(attribute(line, "meth"))
	case strings.HasPrefix(line, "req="):
		s.in = total(line)
	case strings.HasPrefix(line, "res="):
		s.out = total(line)
	}
}

// known is a name, or "" where HAProxy says that there is none.
func known(name string) string {
	if strings.HasPrefix(name, "<") {
		return ""
	}
	return name
}

// attribute finds name=value in a line.
func attribute(line, name string) string {
	for f := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return v
		}
	}
	return ""
}

func total(line string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(attribute(line, "total"), ")"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// method names HAProxy's number of a request method.
func method(n string) string {
	all := []string{"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"}
	if i, err := strconv.Atoi(n); err == nil && i >= 0 && i < len(all) {
		return all[i]
	}
	return ""
}

// parseAge reads "59s", "1m2s", "3h4m" or "5d6h"; what it cannot read is 0.
func parseAge(text string) time.Duration {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		days, rest = "0", text
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 || n > 100_000 {
		return 0
	}
	d, err := time.ParseDuration(rest)
	if err != nil && rest != "" || d < 0 {
		return 0
	}
	return time.Duration(n)*24*time.Hour + d
}

// ages turns the times at which sessions began into exact ages at now. HAProxy tells them in a zone of its own, which the coarse ages betray:
// zones differ by quarters of an hour.
func ages(all []session, now time.Time) []time.Duration {
	const quarter = 15 * time.Minute
	exact := make([]time.Duration, len(all))
	for i, s := range all {
		wall := now.Sub(s.began)
		exact[i] = max(wall-(wall-s.age).Round(quarter), 0)
	}
	return exact
}
