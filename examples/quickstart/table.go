package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// brokenShown is how many broken promises are told one by one.
const brokenShown = 12

// printTable writes what was measured, one line per deployment.
func printTable(w io.Writer, v verdict) {
	table := [][]string{{"deploy", "outcome", "requests", "lost", "late", "cut", "switch", "drain", "p99 near", "p99 steady"}}
	for _, r := range v.Deploys {
		table = append(table, []string{r.Name, r.Outcome, thousands(r.Requests), thousands(r.Lost), thousands(r.Late), thousands(r.Cut),
			short(r.SwitchUS), short(r.DrainMS * 1000), short(r.P99NearUS), short(r.P99SteadyUS)})
	}
	width := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range table {
		var b strings.Builder
		for i, cell := range line {
			gap := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i < 2 {
				b.WriteString(cell + gap + "  ") // words to the left, numbers to the right
			} else {
				b.WriteString(gap + cell + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// printVerdict writes whether the promises were kept, and those that were not.
func printVerdict(w io.Writer, v verdict) {
	for i, b := range v.Broken {
		if i == brokenShown {
			fmt.Fprintf(w, "... and %s more\n", thousands(len(v.Broken)-i))
			break
		}
		fmt.Fprintln(w, "BROKEN:", b)
	}
	if v.OK {
		fmt.Fprintln(w, "Nothing was lost, late or cut.")
	}
}

// printJSON writes v as one line.
func printJSON(w io.Writer, v verdict) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// short writes microseconds as a person reads them; "-" for none.
func short(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case us == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", us)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
