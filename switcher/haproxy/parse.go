package haproxy

import (
	"fmt"
	"strconv"
	"strings"
)

// worker is a row of "show proc".
type worker struct {
	pid     int
	old     bool // made old by a reload: it takes no new connections
	reloads int
	uptime  string
	version string
}

// processes is what "show proc" tells.
type processes struct {
	failed  int // reloads that failed since the last that went well
	workers []worker
}

// parseProcesses reads "show proc" of the master. Columns are found by the heading, which differs between versions.
func parseProcesses(text string) (processes, error) {
	var p processes
	var columns map[string]int
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "#<PID>"):
			columns = map[string]int{}
			for i, name := range strings.FieldsFunc(line, func(r rune) bool { return r == '<' || r == '>' }) {
				columns[strings.ToLower(strings.TrimSpace(name))] = i
			}
			// "#", "PID", "   ", "type", ...: every second one is a name.
			for name, i := range columns {
				if name == "" || name == "#" {
					delete(columns, name)
				} else {
					columns[name] = (i - 1) / 2
				}
			}
			continue
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimPrefix(line, "#"))
			continue
		}
		if columns == nil {
			return p, fmt.Errorf("%w: show proc has no heading but %q", ErrBadAnswer, line)
		}
		before, rest, failed := strings.Cut(line, "[failed:")
		if failed {
			n, after, ok := strings.Cut(rest, "]")
			count, err := strconv.Atoi(strings.TrimSpace(n))
			if !ok || err != nil || count < 0 {
				return p, fmt.Errorf("%w: show proc: %q", ErrBadAnswer, line)
			}
			line, p.failed = before+after, count
		}
		fields := strings.Fields(strings.ReplaceAll(line, "[was: ", "[was:")) // what up to 2.4 says of the number of an old worker
		get := func(name string) string {
			if i, ok := columns[name]; ok && i < len(fields) {
				return fields[i]
			}
			return ""
		}
		if get("type") != "worker" {
			continue // the master, or a program
		}
		pid, err := strconv.Atoi(get("pid"))
		reloads, errReloads := strconv.Atoi(get("reloads"))
		if err != nil || errReloads != nil || pid <= 0 {
			return p, fmt.Errorf("%w: show proc: %q", ErrBadAnswer, line)
		}
		p.workers = append(p.workers, worker{pid: pid, old: section == "old workers", reloads: reloads, uptime: get("uptime"), version: get("version")})
	}
	if columns == nil {
		return p, fmt.Errorf("%w: show proc is empty", ErrBadAnswer)
	}
	return p, nil
}

// stat is a row of "show stat": a server of a backend, or the backend itself under the name BACKEND.
type stat struct {
	name    string
	current int // scur: requests, or connections in TCP mode
	queued  int // qcur
	status  string
	backup  bool
	cookie  string
	mode    string
	algo    string
}

const backendRow = "BACKEND"

// parseStats reads "show stat" and returns the rows of a backend.
func parseStats(text, backend string) ([]stat, error) {
	var columns map[string]int
	var rows []stat
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if head, ok := strings.CutPrefix(line, "# "); ok {
			columns = map[string]int{}
			for i, name := range strings.Split(head, ",") {
				if _, twice := columns[name]; !twice {
					columns[name] = i
				}
			}
			for _, name := range []string{"pxname", "svname", "scur", "qcur", "status"} {
				if _, ok := columns[name]; !ok {
					return nil, fmt.Errorf("%w: show stat has no column %q", ErrBadAnswer, name)
				}
			}
			continue
		}
		if line == "" {
			continue
		}
		if columns == nil {
			return nil, fmt.Errorf("%w: show stat has no heading but %q", ErrBadAnswer, firstLine(line))
		}
		fields, err := splitCSV(line)
		if err != nil {
			return nil, err
		}
		get := func(name string) string {
			if i, ok := columns[name]; ok && i < len(fields) {
				return fields[i]
			}
			return ""
		}
		if get("pxname") != backend {
			continue
		}
		s := stat{name: get("svname"), status: get("status"), cookie: get("cookie"), mode: get("mode"), algo: get("algo")}
		s.backup = s.name != backendRow && get("bck") == "1"
		for _, n := range []struct {
			column string
			to     *int
		}{{"scur", &s.current}, {"qcur", &s.queued}} {
			*n.to, err = strconv.Atoi(get(n.column))
			if err != nil || *n.to < 0 {
				return nil, fmt.Errorf("%w: show stat: %s of %s/%s is %q", ErrBadAnswer, n.column, backend, s.name, get(n.column))
			}
		}
		rows = append(rows, s)
	}
	if columns == nil {
		return nil, fmt.Errorf("%w: show stat is empty", ErrBadAnswer)
	}
	return rows, nil
}

// splitCSV splits a line whose fields may stand in double quotes.
func splitCSV(line string) ([]string, error) {
	if !strings.Contains(line, `"`) {
		return strings.Split(line, ","), nil
	}
	var fields []string
	for {
		quoted, ok := strings.CutPrefix(line, `"`)
		if !ok {
			field, rest, more := strings.Cut(line, ",")
			fields = append(fields, field)
			if !more {
				return fields, nil
			}
			line = rest
			continue
		}
		var b strings.Builder
		for {
			part, rest, ok := strings.Cut(quoted, `"`)
			if !ok {
				return nil, fmt.Errorf("%w: a quote is not closed", ErrBadAnswer)
			}
			b.WriteString(part)
			if quoted, ok = strings.CutPrefix(rest, `"`); !ok { // a doubled quote stands for one
				line = rest
				break
			}
			b.WriteByte('"')
		}
		fields = append(fields, b.String())
		rest, more := strings.CutPrefix(line, ",")
		if !more {
			if line != "" {
				return nil, fmt.Errorf("%w: text after a quoted field", ErrBadAnswer)
			}
			return fields, nil
		}
		line = rest
	}
}

// parseMapValue reads "get map": the value that the key leads to. A file that several lookups use is told once for each.
func parseMapValue(text string) (string, error) {
	value, found := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !strings.HasPrefix(line, "type=") {
			return "", fmt.Errorf("%w: get map: %q", ErrBadAnswer, firstLine(line))
		}
		if strings.Contains(line, "found=no") {
			return "", ErrNoKey
		}
		_, rest, ok := strings.Cut(line, `, value="`)
		v, _, closed := strings.Cut(rest, `"`)
		if !ok || !closed || !strings.Contains(line, "found=yes") {
			return "", fmt.Errorf("%w: get map: %q", ErrBadAnswer, firstLine(line))
		}
		if found && v != value {
			return "", fmt.Errorf("%w: get map: %q and %q for one key", ErrBadAnswer, value, v)
		}
		value, found = v, true
	}
	if !found {
		return "", fmt.Errorf("%w: get map is empty", ErrBadAnswer)
	}
	return value, nil
}

// parseInfo reads one number of "show info".
func parseInfo(text, name string) (int, error) {
	for line := range strings.Lines(text) {
		if key, v, ok := strings.Cut(line, ":"); ok && key == name {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || n < 0 {
				break
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: show info does not tell %s", ErrBadAnswer, name)
}
