package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/abswap/abswap"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sound is a run in which all went well: v1, then v2 by two moves, then a release that was discarded.
func sound() ([]deployment, []move, []record, deliveries) {
	succeeded := abswap.Report{Outcome: abswap.OutcomeSucceeded}
	drained := succeeded
	drained.Drains = []abswap.DrainResult{{Slot: "blue", Drained: true, Waited: 1500 * time.Millisecond}}
	acts := []deployment{
		{name: "v1", want: abswap.OutcomeSucceeded, serving: "v1", answered: "v1", report: succeeded},
		{name: "v2", want: abswap.OutcomeSucceeded, serving: "v2", answered: "v2", report: drained, began: 2 * time.Second,
			busy: true, atSwitch: 1},
		{name: "v3", want: abswap.OutcomeDiscarded, serving: "v2", answered: "v2", began: 6 * time.Second, unseen: "v3",
			report: abswap.Report{Outcome: abswap.OutcomeDiscarded}},
	}
	moves := []move{
		{called: ms(100), returned: ms(101), slots: []string{"blue"}},
		{called: ms(3000), returned: ms(3001), slots: []string{"blue", "green"}},
		{called: ms(4000), returned: ms(4002), slots: []string{"green"}},
	}
	recs := []record{
		short1(ms(1000), ms(1), "blue", "v1"),
		{kind: kindPost, id: "order-1", due: ms(2100), sent: ms(2101), told: ms(2104), ended: ms(2105), slot: "blue", release: "v1", began: true},
		{kind: kindUpload, id: "upload-2", due: ms(2200), sent: ms(2201), told: ms(2202), ended: ms(5400), slot: "blue", release: "v1",
			began: true},
		short1(ms(3500), ms(2), "green", "v2"),
		short1(ms(3600), ms(3), "blue", "v1"),
		short1(ms(3999), ms(4), "blue", "v1"), // under way at the switch
		short1(ms(5000), ms(1), "green", "v2"),
		short1(ms(7000), ms(1), "green", "v2"),
	}
	got := deliveries{times: map[string]int{"order-1": 1, "upload-2": 1}, traffic: map[string]bool{"v1": true, "v2": true}}
	return acts, moves, recs, got
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// short1 is a GET that was sent when it was due and took took.
func short1(due, took time.Duration, slot, release string) record {
	return record{kind: kindGet, due: due, sent: due, told: due + took, ended: due + took, slot: slot, release: release, began: true}
}

func TestJudgeOfASoundRun(t *testing.T) {
	v := judge(sound())
	assert.True(t, v.OK, v.Broken)
	assert.Equal(t, []row{
		{Name: "v1", Outcome: "succeeded", Requests: 1, SwitchUS: 1000, P99SteadyUS: 1000},
		{Name: "v2", Outcome: "succeeded", Requests: 6, SwitchUS: 2000, DrainMS: 1398, P99NearUS: 4000, P99SteadyUS: 5000},
		{Name: "v3", Outcome: "discarded", Requests: 1, P99SteadyUS: 1000},
	}, v.Deploys)
}

// Every promise, broken once: the judge has to see it, in the right place.
func TestJudgeSeesEachBrokenPromise(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(acts []deployment, moves []move, recs []record, got deliveries)
		says  string
		act   int    // whose row counts it
		count [3]int // lost, late, cut
	}{
		"a request without an answer": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) {
				recs[3] = record{kind: kindGet, due: ms(3500), err: "refused"}
			},
			"v2: lost: GET, due at 3.500s", 1, [3]int{1, 0, 0}},
		"a POST delivered twice": {
			func(_ []deployment, _ []move, _ []record, got deliveries) { got.times["order-1"] = 2 },
			"delivered 2 times: POST order-1", 1, [3]int{1, 0, 0}},
		"a POST acknowledged and never delivered": {
			func(_ []deployment, _ []move, _ []record, got deliveries) { delete(got.times, "order-1") },
			"delivered 0 times: POST order-1", 1, [3]int{1, 0, 0}},
		"an upload that never began": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) { recs[2].began, recs[2].err = false, "503" },
			"lost: upload", 1, [3]int{1, 0, 0}},
		"an upload cut": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) { recs[2].err = "reset" },
			"v2: cut: upload", 1, [3]int{0, 0, 1}},
		"an upload cut in a later act": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) {
				recs[2].err, recs[2].ended = "reset", ms(6500)
			},
			"v3: cut: upload", 2, [3]int{0, 0, 1}},
		"a late request": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) {
				recs[6] = short1(ms(5000), ms(1), "blue", "v1")
			},
			"v2: late: GET", 1, [3]int{0, 1, 0}},
		"a request to a slot that was never activated": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) { recs[0].slot = "green" },
			"v1: late: GET", 0, [3]int{0, 1, 0}},
		"the unfit release answered": {
			func(_ []deployment, _ []move, recs []record, _ deliveries) { recs[7].release = "v3" },
			`version "v3" got traffic`, 2, [3]int{}},
		"the unfit release was asked without the client seeing it": {
			func(_ []deployment, _ []move, _ []record, got deliveries) { got.traffic["v3"] = true },
			`version "v3" got traffic`, 2, [3]int{}},
		"the sick release was not rolled back": {
			func(acts []deployment, _ []move, _ []record, _ deliveries) {
				acts[2].report.Outcome = abswap.OutcomeSucceeded
			},
			`the outcome is "succeeded", not "discarded"`, 2, [3]int{}},
		"the wrong version serves": {
			func(acts []deployment, _ []move, _ []record, _ deliveries) { acts[2].answered = "v1" },
			`version "v1" answers at the front door, not "v2"`, 2, [3]int{}},
		"a slot that did not drain": {
			func(acts []deployment, _ []move, _ []record, _ deliveries) { acts[1].report.Drains[0].Drained = false },
			`slot "blue" did not drain`, 1, [3]int{}},
		"nothing long at the switch": {
			func(acts []deployment, _ []move, _ []record, _ deliveries) { acts[1].atSwitch = 0 },
			"nothing is proven", 1, [3]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			acts, moves, recs, got := sound()
			c.spoil(acts, moves, recs, got)
			v := judge(acts, moves, recs, got)
			assert.False(t, v.OK)
			require.Len(t, v.Broken, 1)
			assert.Contains(t, v.Broken[0], c.says)
			for i, r := range v.Deploys {
				want := [3]int{}
				if i == c.act {
					want = c.count
				}
				assert.Equal(t, want, [3]int{r.Lost, r.Late, r.Cut}, r.Name)
			}
		})
	}
}

func TestLateIsExact(t *testing.T) {
	moves := []move{
		{called: 10, returned: 20, slots: []string{"blue"}},
		{called: 30, returned: 40, slots: []string{"green"}},
		{called: 50, returned: 60, slots: []string{"blue"}, err: errors.New("unknown outcome")},
	}
	for name, c := range map[string]struct {
		sent, told time.Duration
		slot       string
		late       bool
	}{
		"before the first promise":                  {5, 8, "green", false},
		"old slot, before the move":                 {25, 29, "blue", false},
		"new slot, before the move was asked for":   {25, 29, "green", true},
		"new slot, told while the move is made":     {25, 30, "green", false},
		"old slot, sent while the move is made":     {39, 200, "blue", false},
		"old slot, sent in the moment of return":    {40, 45, "blue", false},
		"old slot, sent after return":               {41, 45, "blue", true},
		"a failed move may have happened":           {41, 50, "blue", false},
		"a failed move may not have happened":       {70, 80, "green", false},
		"a failed move has happened":                {70, 80, "blue", false},
		"a third slot is never right":               {70, 80, "red", true},
		"nothing was sent, or nothing was answered": {0, 0, "", false},
	} {
		assert.Equal(t, c.late, isLate(record{sent: c.sent, told: c.told, slot: c.slot}, moves), name)
	}
}

func TestP99(t *testing.T) {
	var d []time.Duration
	assert.Zero(t, p99(d))
	for i := range 200 {
		d = append(d, time.Duration(200-i))
	}
	assert.Equal(t, time.Duration(198), p99(d), "two of two hundred are above")
	assert.Equal(t, time.Duration(7), p99([]time.Duration{7}))
}

func TestJSONIsOneObjectWithTheseKeys(t *testing.T) {
	v := judge(sound())
	var out bytes.Buffer
	require.NoError(t, printJSON(&out, v))
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	assert.Len(t, got, 2)
	assert.Equal(t, true, got["ok"])
	assert.Equal(t, map[string]any{"name": "v2", "outcome": "succeeded", "requests": 6.0, "lost": 0.0, "late": 0.0, "cut": 0.0,
		"switch_us": 2000.0, "drain_ms": 1398.0, "p99_near_us": 4000.0, "p99_steady_us": 5000.0}, got["deploys"].([]any)[1])

	var none verdict
	none.fail("no port")
	out.Reset()
	require.NoError(t, printJSON(&out, none))
	assert.Equal(t, `{"ok":false,"deploys":[]}`+"\n", out.String())
}

func TestTable(t *testing.T) {
	v := judge(sound())
	var out bytes.Buffer
	printTable(&out, v)
	printVerdict(&out, v)
	assert.Equal(t, strings.TrimLeft(`
deploy  outcome    requests  lost  late  cut  switch  drain  p99 near  p99 steady
v1      succeeded         1     0     0    0  1.0 ms      -         -      1.0 ms
v2      succeeded         6     0     0    0  2.0 ms  1.4 s    4.0 ms      5.0 ms
v3      discarded         1     0     0    0       -      -         -      1.0 ms
Nothing was lost, late or cut.
`, "\n"), out.String())

	out.Reset()
	printVerdict(&out, verdict{Broken: make([]string, brokenShown+1234)})
	assert.Contains(t, out.String(), "... and 1,234 more\n")
	assert.NotContains(t, out.String(), "Nothing was lost")
}
