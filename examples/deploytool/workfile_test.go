package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// workFile is where the applications of a machine write what they do, if it is there: in the folder that has the config.
const workFile = "work.log"

// workLog is that file, seen from an application in its release's folder.
type workLog struct{ *os.File }

func openWorkLog() workLog {
	f, err := os.OpenFile(filepath.Join("..", "..", workFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return workLog{}
	}
	return workLog{f}
}

// delivered notes that a POST has come.
func (l workLog) delivered(id string) {
	if l.File != nil && id != "" {
		fmt.Fprintf(l, "delivered %s\n", id)
	}
}

// done notes that a request was answered.
func (l workLog) done(release string, began time.Time) {
	if l.File != nil {
		fmt.Fprintf(l, "done %s %d %d\n", release, began.UnixNano(), time.Now().UnixNano())
	}
}

// work is what the applications of a machine did.
type work struct {
	deliveries map[string]int    // by ID of the POST
	spans      map[string][]span // by release
}

// span is the time in which a release worked on a request that it could answer, in nanoseconds since 1970.
type span struct{ begin, end int64 }

func (m *machine) work(t *testing.T) work {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, workFile))
	require.NoError(t, err)
	w := work{deliveries: map[string]int{}, spans: map[string][]span{}}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "delivered":
			w.deliveries[f[1]]++
		case len(f) == 4 && f[0] == "done":
			begin, err := strconv.ParseInt(f[2], 10, 64)
			require.NoError(t, err, "%q", line)
			end, err := strconv.ParseInt(f[3], 10, 64)
			require.NoError(t, err, "%q", line)
			w.spans[f[1]] = append(w.spans[f[1]], span{begin, end})
		default:
			require.Fail(t, "what was done cannot be read", "%q", line)
		}
	}
	return w
}

// misdelivered returns what is wrong with the deliveries: a POST that came twice, or one that was answered and never came.
func (w work) misdelivered(c *clients) (wrong []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, answered := range c.posts {
		if n := w.deliveries[id]; n > 1 || answered && n == 0 {
			wrong = append(wrong, fmt.Sprintf("POST %s, answered %v, was delivered %d times", id, answered, n))
		}
	}
	return wrong
}

// overlaps counts requests that one release worked on while the other one did.
func (w work) overlaps(one, other string) (n int) {
	for _, a := range w.spans[one] {
		for _, b := range w.spans[other] {
			if a.begin < b.end && b.begin < a.end {
				n++
			}
		}
	}
	return n
}
