// Package trace keeps what a load generator saw request by request, so that a picture can be drawn of it later.
package trace

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Trace is one recorded run. Times are microseconds since its start.
type Trace struct {
	Name     string
	Swaps    []Swap
	Requests []Request
}

// Swap is one swap command, from when it was given to when it was acknowledged.
type Swap struct {
	To       byte
	Cmd, Ack float64
}

// Request is one request: when it was due, how long after that its answer was complete, and which version gave it.
type Request struct {
	Due, Latency float64
	Version      byte   // '-' if there was no answer
	Failed       string // why; "": it did not
}

// Write writes t as lines of text.
func (t *Trace) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "trace %s\n", t.Name)
	for _, s := range t.Swaps {
		fmt.Fprintf(b, "swap %c %.1f %.1f\n", s.To, s.Cmd, s.Ack)
	}
	for _, r := range t.Requests {
		if r.Failed != "" {
			fmt.Fprintf(b, "failed %.1f %s\n", r.Due, r.Failed)
		} else {
			fmt.Fprintf(b, "%.1f %.1f %c\n", r.Due, r.Latency, r.Version)
		}
	}
	return b.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) (*Trace, error) {
	t := &Trace{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		l := lines.Text()
		var err error
		switch word, rest, _ := strings.Cut(l, " "); {
		case n == 1 && word == "trace":
			t.Name = rest
		case n == 1:
			err = fmt.Errorf("not a trace")
		case word == "swap":
			var s Swap
			_, err = fmt.Sscanf(rest, "%c %f %f", &s.To, &s.Cmd, &s.Ack)
			t.Swaps = append(t.Swaps, s)
		case word == "failed":
			q := Request{Version: '-'}
			_, err = fmt.Sscanf(rest, "%f %s", &q.Due, &q.Failed)
			t.Requests = append(t.Requests, q)
		default:
			var q Request
			_, err = fmt.Sscanf(l, "%f %f %c", &q.Due, &q.Latency, &q.Version)
			t.Requests = append(t.Requests, q)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, l, err)
		}
	}
	return t, lines.Err()
}
