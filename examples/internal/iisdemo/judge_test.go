package iisdemo

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iis"
)

// day has v1 until 10 s, a switch from 10 s to 12 s, and v2 from then on.
func day(losses ...iis.Loss) (judge, func(seconds float64) time.Time) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	j := newJudge(losses)
	j.states = []state{{at(0), []string{"v1"}}, {at(10), []string{"v1", "v2"}}, {at(12), []string{"v2"}}}
	return j, at
}

func TestJudge(t *testing.T) {
	broke := errors.New("reset")
	for name, c := range map[string]struct {
		sent, ended             float64
		release                 string
		upload, reused          bool
		err                     error
		losses                  []iis.Loss
		lost, late, cut, broken int
	}{
		"before":                    {sent: 1, ended: 2, release: "v1"},
		"too early":                 {sent: 1, ended: 2, release: "v2", late: 1, broken: 1},
		"in the switch, old":        {sent: 11, ended: 11.1, release: "v1"},
		"in the switch, new":        {sent: 11, ended: 11.1, release: "v2"},
		"over its end":              {sent: 11.9, ended: 12.1, release: "v1"},
		"late":                      {sent: 12.1, ended: 12.2, release: "v1", late: 1, broken: 1},
		"late, and sticking":        {sent: 12.1, ended: 12.2, release: "v1", late: 1, reused: true, losses: []iis.Loss{{Rule: "S1 kept-alive"}}},
		"late, fresh":               {sent: 12.1, ended: 12.2, release: "v1", late: 1, losses: []iis.Loss{{Rule: "S1 kept-alive"}}, broken: 1},
		"lost":                      {sent: 11, ended: 11.2, err: broke, lost: 1, broken: 1},
		"lost in the gap":           {sent: 11, ended: 11.2, err: broke, lost: 1, losses: []iis.Loss{{Rule: "S2"}}},
		"lost out of the gap":       {sent: 13, ended: 13.2, err: broke, lost: 1, losses: []iis.Loss{{Rule: "S2"}}, broken: 1},
		"nobody's answer":           {sent: 13, ended: 13.2, release: "<html>", late: 1, broken: 1},
		"upload over all":           {sent: 1, ended: 20, release: "v1", upload: true},
		"upload cut":                {sent: 1, ended: 20, release: "v1", upload: true, err: broke, cut: 1, broken: 1},
		"upload cut, which we know": {sent: 1, ended: 20, release: "v1", upload: true, err: broke, cut: 1, losses: []iis.Loss{{Rule: "S3"}}},
	} {
		t.Run(name, func(t *testing.T) {
			j, at := day(c.losses...)
			moves := []*move{{from: "v1", to: "v2", began: at(9), upload: &upload{}}}
			j.judge([]request{{upload: c.upload, reused: c.reused, sent: at(c.sent), ended: at(c.ended), release: c.release, err: c.err}}, moves)
			assert.Equal(t, []int{c.lost, c.late, c.cut}, []int{j.sum.lost, j.sum.late, j.sum.cut})
			assert.Len(t, j.broken, c.broken, "%q", j.broken)
			assert.Equal(t, c.lost+c.late+c.cut-c.broken, j.excused)
		})
	}
}
