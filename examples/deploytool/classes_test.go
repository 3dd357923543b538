package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func TestClassRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	text := goodConfig + `deploy:
  drain:
    classes:
      request:
      upload: {policy: finish-moving}
      download: {policy: finish, cap: 4h, grace: 0s}
      stream: {policy: close, window: 0s}
      tunnel: {policy: close, window: 5m, grace: 10s}
`
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := loadConfig(path)
	require.NoError(t, err)
	d := abswap.ClassRule{Still: time.Minute, Window: 30 * time.Second, Grace: 30 * time.Second}
	rule := func(change func(*abswap.ClassRule)) abswap.ClassRule {
		r := d
		change(&r)
		return r
	}
	want := map[abswap.Class]abswap.ClassRule{
		abswap.ClassRequest:  d,
		abswap.ClassUpload:   rule(func(r *abswap.ClassRule) { r.Policy = abswap.FinishMoving }),
		abswap.ClassDownload: rule(func(r *abswap.ClassRule) { r.Cap, r.Grace = 4*time.Hour, -1 }),
		abswap.ClassStream:   rule(func(r *abswap.ClassRule) { r.Policy, r.Window = abswap.ClosePolitely, -1 }),
		abswap.ClassTunnel: rule(func(r *abswap.ClassRule) {
			r.Policy, r.Window, r.Grace = abswap.ClosePolitely, 5*time.Minute, 10*time.Second
		}),
	}
	assert.Equal(t, want, c.Deploy.Drain.rules())
	assert.Nil(t, drainConfig{}.rules())
}

// TestUntil: how long each class is waited for, in a drain that was begun at midnight and goes on, in another run, from one o'clock.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Now()
		b := drainBegin{first, first.Add(time.Hour)}
		at := func(d time.Duration) string { return moment(first.Add(d)) }
		some := func(d time.Duration) *duration { return (*duration)(&d) }
		moving, closing := classPolicy(abswap.FinishMoving), classPolicy(abswap.ClosePolitely)
		hour := duration(time.Hour)
		for want, c := range map[string]struct {
			d    drainConfig
			rule *classConfig
		}{
			"it ends":             {},
			"it ends ":            {d: drainConfig{Timeout: hour, AtDeadline: atDeadline(abswap.KeepWaiting)}},
			"it ends  ":           {d: drainConfig{Timeout: hour, AtDeadline: atDeadline(abswap.CutOff)}, rule: &classConfig{}},
			at(2 * time.Hour):     {d: drainConfig{Timeout: hour, Grace: duration(time.Minute)}},
			at(121 * time.Minute): {d: drainConfig{Timeout: hour, Grace: duration(time.Minute), AtDeadline: atDeadline(abswap.CutOff)}},
			"it is still for 1m":  {rule: &classConfig{Policy: moving}},
			"it is still for 1m30s, " + at(4*time.Hour+30*time.Second) + " at most": {rule: &classConfig{Policy: moving, Still: some(90 * time.Second), Cap: some(4 * time.Hour)}},
			at(time.Hour + 5*time.Minute + 30*time.Second):                          {rule: &classConfig{Policy: closing, Window: some(5 * time.Minute)}},
			at(time.Hour + 30*time.Second):                                          {rule: &classConfig{Policy: closing, Window: some(0)}},
			"it ends   ":                                                            {rule: &classConfig{Policy: closing, Grace: some(0)}},
			at(time.Hour + 10*time.Second):                                          {rule: &classConfig{Policy: closing, Cap: some(time.Hour), Grace: some(10 * time.Second)}},
		} {
			if c.rule != nil {
				c.d.Classes = map[string]classConfig{"upload": *c.rule}
			}
			assert.Equal(t, strings.TrimSpace(want), c.d.until(abswap.ClassUpload, b), want)
		}
		assert.Equal(t, "it ends", drainConfig{Timeout: hour}.until(abswap.ClassUpload, drainBegin{}), "no drain has begun")
		assert.Equal(t, first.Add(60*time.Hour).Local().Format(time.DateTime), moment(first.Add(60*time.Hour)), "another day")
	})
}

// TestProgressByClass: what is left of each class while a drain runs, and what became of it.
func TestProgressByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, terminal := range []bool{false, true} {
			var out bytes.Buffer
			p := newProgress(&out, false, terminal)
			window := duration(time.Minute)
			p.drain = drainConfig{Classes: map[string]classConfig{"stream": {Policy: classPolicy(abswap.ClosePolitely), Window: &window}}}
			asked := ""
			begun := time.Now().Add(-time.Hour)
			p.report = func(swap string) (abswap.Report, error) {
				asked = swap
				return abswap.Report{Steps: []abswap.StepReport{{Phase: abswap.PhaseDraining, Started: begun}}}, nil
			}
			end := time.Now().Add(90 * time.Second).Local().Format(time.TimeOnly)
			tell := func(n int, by map[abswap.Class]abswap.ClassOutcome) {
				p.event(abswap.Event{Time: time.Now(), Kind: abswap.EventLoad, Phase: abswap.PhaseDraining, Slot: "blue", Load: abswap.Load{Requests: n, Evidence: abswap.EvidenceExact}, Classes: by})
			}
			p.event(abswap.Event{Time: time.Now(), Kind: abswap.EventPhase, Swap: "s1", Phase: abswap.PhaseDraining, From: "blue", To: "green"})
			assert.Equal(t, "s1", asked)
			assert.Equal(t, drainBegin{begun, time.Now()}, p.began)
			for i := range 20 {
				time.Sleep(time.Second)
				tell(4, map[abswap.Class]abswap.ClassOutcome{
					abswap.ClassUpload: {Left: 1, Oldest: time.Minute + time.Duration(i)*time.Second},
					abswap.ClassStream: {Left: 3, Oldest: 2 * time.Hour, Asked: 1}})
			}
			done := map[abswap.Class]abswap.ClassOutcome{abswap.ClassUpload: {Finished: 1}, abswap.ClassStream: {Closed: 2, Cut: 1}}
			tell(0, done)
			p.event(abswap.Event{Time: time.Now(), Kind: abswap.EventDone, Phase: abswap.PhaseDraining, Slot: "blue", Elapsed: 20 * time.Second})
			p.close()
			text := out.String()
			if terminal {
				assert.Contains(t, text, "\r         slot blue: 1 upload 1m5s old, until it ends; 3 streams up to 2h old")
				text = onScreen(text)
			}
			assert.Equal(t, 1, strings.Count(text, " left: "), "nothing but the clock has moved:\n%s", text)
			assert.Contains(t, text, "slot blue: 4 requests left: 1 upload 1m old, until it ends; 3 streams up to 2h old, until "+end+", 1 asked to end, for 1s\n")
			assert.Contains(t, text, "slot blue has finished all it had, after 20s: upload: 1 finished; stream: 2 closed, 1 cut\n")
		}
	})
}
