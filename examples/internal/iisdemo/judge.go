package iisdemo

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/iis"
)

// judge compares what the clients saw with what was promised.
type judge struct {
	losses map[string]bool // rules that the strategy does not keep here

	mu     *sync.Mutex
	states []state // in the order of time

	sum     row
	excused int // lost, late and cut requests that losses explain
	broken  []string
}

// state is who may answer from a moment on.
type state struct {
	from     time.Time
	releases []string
}

// row is what the clients felt of one move.
type row struct {
	requests, uploads, lost, late, cut int
	slowest                            time.Duration // of the short requests that were answered
}

func newJudge(losses []iis.Loss) judge {
	j := judge{losses: map[string]bool{}, mu: &sync.Mutex{}}
	for _, l := range losses {
		j.losses[l.Rule] = true
	}
	return j
}

// allow says who may answer from now on.
func (j *judge) allow(releases ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.states = append(j.states, state{time.Now(), releases})
}

// serving is the one that may answer now.
func (j *judge) serving() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.states) == 0 {
		return ""
	}
	return j.states[len(j.states)-1].releases[0]
}

// during returns who might answer at any moment between two, and whether there was a switch among these moments.
func (j *judge) during(from, to time.Time) (releases []string, switching bool) {
	for i, s := range j.states {
		if s.from.After(to) || i+1 < len(j.states) && j.states[i+1].from.Before(from) {
			continue
		}
		releases = append(releases, s.releases...)
		switching = switching || len(s.releases) > 1
	}
	return releases, switching
}

// judge judges all requests. The rows are those of the moves.
func (j *judge) judge(all []request, moves []*move) []row {
	rows := make([]row, len(moves))
	for _, r := range all {
		at := &row{}
		for i := range moves {
			if !r.sent.Before(moves[i].began) || r.upload && moves[i].upload != nil && moves[i].from == r.release && r.ended.After(moves[i].began) {
				at = &rows[i]
			}
		}
		for _, one := range []*row{at, &j.sum} {
			j.count(one, r)
		}
		j.excuse(r)
	}
	return rows
}

// kind tells what went wrong with a request: "lost", "late", "cut" or, nothing, "".
func (j *judge) kind(r request) string {
	may, _ := j.during(r.sent, r.ended)
	switch {
	case r.err != nil && r.upload:
		return "cut"
	case r.err != nil:
		return "lost"
	case !r.upload && len(may) > 0 && !slices.Contains(may, r.release):
		return "late"
	}
	return ""
}

func (j *judge) count(to *row, r request) {
	to.requests++
	if r.upload {
		to.uploads++
	}
	switch j.kind(r) {
	case "lost":
		to.lost++
	case "late":
		to.late++
	case "cut":
		to.cut++
	case "":
		if !r.upload {
			to.slowest = max(to.slowest, r.ended.Sub(r.sent))
		}
	}
}

// excuse finds out whether what went wrong is something that was promised.
func (j *judge) excuse(r request) {
	kind := j.kind(r)
	_, switching := j.during(r.sent, r.ended)
	switch {
	case kind == "":
		return
	case kind == "lost" && j.losses["S2"] && switching, kind == "cut" && j.losses["S3"], kind == "late" && j.losses["S1 kept-alive"] && r.reused:
		j.excused++
		return
	}
	text := fmt.Sprintf("%s: a request of %s", kind, r.sent.Format("15:04:05.000"))
	if r.upload {
		text = fmt.Sprintf("%s: an upload that began at %s", kind, r.sent.Format("15:04:05.000"))
	}
	if r.err != nil {
		text += ": " + r.err.Error()
	} else {
		may, _ := j.during(r.sent, r.ended)
		text += fmt.Sprintf(": answered by %s, where %s had to", r.release, strings.Join(may, " or "))
	}
	j.broken = append(j.broken, text)
}
