package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/abswap/abswap"
)

// near is how far before and after a move of traffic a request counts as near the switch.
const near = 500 * time.Millisecond

// deployment is one act of the story: what was to happen, and what abswap says has happened.
type deployment struct {
	name     string
	want     abswap.Outcome
	serving  string // version that shall answer at the end of it
	unseen   string // version that may not get any traffic at all; "": none
	busy     bool   // long work has to be under way when the traffic moves, or nothing is proven
	began    time.Duration
	report   abswap.Report
	answered string // version that answered at the front door at the end
	atSwitch int    // pieces of long work under way in the old slot when the traffic first moved
}

// row is what the table and the JSON object say of one deployment.
type row struct {
	Name        string `json:"name"`
	Outcome     string `json:"outcome"`
	Requests    int    `json:"requests"`      // that were due from its beginning to the next one's, long work included
	Lost        int    `json:"lost"`          // without a right answer, or delivered not once but never or twice
	Late        int    `json:"late"`          // begun after a move had returned, answered by a slot that it had turned off
	Cut         int    `json:"cut"`           // long work broken after it had begun
	SwitchUS    int64  `json:"switch_us"`     // the longest move of traffic
	DrainMS     int64  `json:"drain_ms"`      // from the last move until the clients of the slots that it turned off had all they wanted
	P99NearUS   int64  `json:"p99_near_us"`   // of the short requests within half a second of its moves; 0: there were none
	P99SteadyUS int64  `json:"p99_steady_us"` // of the others, far from any move
}

// verdict is the end of a run.
type verdict struct {
	OK      bool     `json:"ok"`
	Deploys []row    `json:"deploys"`
	Broken  []string `json:"-"` // promises that were not kept, and what else makes the run worth nothing
}

// judge compares what the clients saw and what the applications wrote down with what was promised.
func judge(acts []deployment, moves []move, recs []record, got deliveries) verdict {
	v := verdict{Deploys: make([]row, len(acts))}
	broken := func(format string, args ...any) { v.Broken = append(v.Broken, fmt.Sprintf(format, args...)) }
	at := func(t time.Duration) int { // the act in which t lies
		for i := len(acts) - 1; i > 0; i-- {
			if t >= acts[i].began {
				return i
			}
		}
		return 0
	}
	beside, steady := make([][]time.Duration, len(acts)), make([][]time.Duration, len(acts))
	answers := map[string]int{}
	for _, r := range recs {
		i := at(r.due)
		row := &v.Deploys[i]
		row.Requests++
		answers[r.release]++
		switch {
		case r.err != "" && r.kind.long() && r.began:
			v.Deploys[at(r.ended)].Cut++
			broken("%s: cut: %s", acts[at(r.ended)].name, r)
		case r.err != "":
			row.Lost++
			broken("%s: lost: %s", acts[i].name, r)
		case r.id != "" && got.times[r.id] != 1:
			row.Lost++
			broken("%s: lost: delivered %d times: %s", acts[i].name, got.times[r.id], r)
		}
		// What a client was told is an error may have been delivered or not, but never twice.
		if r.err != "" && r.id != "" && got.times[r.id] > 1 {
			broken("%s: delivered %d times: %s", acts[i].name, got.times[r.id], r)
		}
		if isLate(r, moves) {
			row.Late++
			broken("%s: late: %s", acts[i].name, r)
		}
		if r.err == "" && (r.kind == kindGet || r.kind == kindPost) {
			if m := nearTo(r.due, moves); m >= 0 {
				i := at(moves[m].called)
				beside[i] = append(beside[i], r.ended-r.due)
			} else {
				steady[i] = append(steady[i], r.ended-r.due)
			}
		}
	}
	for i, a := range acts {
		row := &v.Deploys[i]
		row.Name, row.Outcome = a.name, string(a.report.Outcome)
		row.P99NearUS, row.P99SteadyUS = p99(beside[i]).Microseconds(), p99(steady[i]).Microseconds()
		for m := range moves {
			if at(moves[m].called) == i {
				row.SwitchUS = max(row.SwitchUS, (moves[m].returned - moves[m].called).Microseconds())
				row.DrainMS = drained(recs, moves[:m+1]).Milliseconds()
			}
		}
		for _, d := range a.report.Drains {
			if !d.Drained {
				broken("%s: slot %q did not drain: %d left", a.name, d.Slot, d.Last.Total())
			}
		}
		if a.report.Outcome != a.want {
			broken("%s: the outcome is %q, not %q: %s", a.name, a.report.Outcome, a.want, a.report.Err)
		}
		if a.answered != a.serving {
			broken("%s: version %q answers at the front door, not %q", a.name, a.answered, a.serving)
		}
		if a.unseen != "" && (answers[a.unseen] > 0 || got.traffic[a.unseen]) {
			broken("%s: version %q got traffic and never was to: %d answers came from it", a.name, a.unseen, answers[a.unseen])
		}
		if a.busy && a.atSwitch == 0 {
			broken("%s: nothing long was under way at the switch, so nothing is proven: give the run more -seconds", a.name)
		}
	}
	v.OK = len(v.Broken) == 0
	return v
}

// fail adds what makes the run worth nothing.
func (v *verdict) fail(why string) {
	v.OK, v.Broken = false, append(v.Broken, why)
	if v.Deploys == nil {
		v.Deploys = []row{} // in JSON: [], not null
	}
}

// String tells of a piece of work, for the reader of a failed run.
func (r record) String() string {
	s := string(r.kind)
	if r.id != "" {
		s += " " + r.id
	}
	s += fmt.Sprintf(", due at %.3fs", r.due.Seconds())
	if r.sent > 0 {
		s += fmt.Sprintf(", sent at %.6fs", r.sent.Seconds())
	}
	if r.slot != "" {
		s += fmt.Sprintf(", answered at %.6fs by %s in %s", r.told.Seconds(), r.release, r.slot)
	}
	s += fmt.Sprintf(", ended at %.3fs", r.ended.Seconds())
	if r.err != "" {
		s += ": " + r.err
	}
	return s
}

// isLate tells whether a request was answered by a slot that had been turned off before its first byte was sent. The slots that may answer
// are those of the last move that had returned before that byte was sent, and those of the moves that were under way, or came, before
// the client heard from the slot. Before the first move has returned nothing is promised.
func isLate(r record, moves []move) bool {
	if r.slot == "" || r.sent == 0 {
		return false
	}
	promised := false
	var may []string
	for _, m := range moves {
		switch {
		case m.returned < r.sent && m.err == nil:
			promised, may = true, m.slots
		case m.called <= r.told:
			may = slices.Concat(may, m.slots)
		}
	}
	return promised && !slices.Contains(may, r.slot)
}

// drained is how long the clients of the slots that the last move turned off were busy with them after it.
func drained(recs []record, moves []move) time.Duration {
	last := moves[len(moves)-1]
	end := last.returned
	for _, r := range recs {
		if r.slot != "" && r.sent < last.returned && r.ended > end && !slices.Contains(last.slots, r.slot) {
			end = r.ended
		}
	}
	return end - last.returned
}

// nearTo returns the index of the first move that t is within half a second of; -1 if there is none.
func nearTo(t time.Duration, moves []move) int {
	return slices.IndexFunc(moves, func(m move) bool { return t >= m.called-near && t <= m.returned+near })
}

// p99 is the latency that 99 of 100 requests do not exceed; 0 if there are none.
func p99(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[(len(d)*99+99)/100-1]
}
