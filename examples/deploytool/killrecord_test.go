package main

import (
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

var full = flag.Bool("full", false, "kill the tool before, within and after every single record, instead of a part of them")

// TestKilledAtEveryRecord kills the deploy tool, as a process, right before, within and right after the n-th record that it writes, while
// clients work on the site, and lets "resume" finish. Every time: the end is a legal one, the journal tells the truth, no request is lost, and
// no upload is cut. Without -full each n is killed in one of the three ways only, and most n are passed over, with -short more of them.
func TestKilledAtEveryRecord(t *testing.T) {
	t.Parallel()
	for _, s := range []scenario{
		{name: "deploy", verb: []string{"deploy", "NEXT"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
		{name: "weighted", more: "steps: [30]", verb: []string{"deploy", "NEXT"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
		{name: "exclusive", more: "exclusive: true", verb: []string{"deploy", "NEXT"}, short: true, legal: []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeDiscarded}},
		{name: "rolled-back", more: "soak: 5s", behaviour: "sick-after 50ms", verb: []string{"deploy", "NEXT"},
			legal: []abswap.Outcome{abswap.OutcomeRolledBack, abswap.OutcomeDiscarded}},
		{name: "swap-back", verb: []string{"swap-back"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
	} {
		if briefly() && s.name != "deploy" && s.name != "rolled-back" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			s.run(t)
		})
	}
}

// scenario is a command that is killed again and again.
type scenario struct {
	name, more string
	behaviour  string           // of the releases
	verb       []string         // NEXT is the next release
	legal      []abswap.Outcome // of what was begun and then resumed
	short      bool             // uploads end within a hold
	stops      bool             // the old release is not kept warm
}

func (s scenario) run(t *testing.T) {
	m := newMachine(t, s.more)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newClients(m.listen)
	defer load.end()
	step := sizeOf(13, 7, 1)
	for n, kills := 1, 0; ; n += step {
		killed := false
		for i, when := range []string{"before", "within", "after"} {
			if !*full && i != n/step%3 {
				continue
			}
			lasts := 1200 * time.Millisecond
			if s.short {
				lasts = 300 * time.Millisecond
			}
			load.upload(lasts)
			killed = s.kill(t, m, fmt.Sprintf("%s %d", when, n), load)
		}
		if killed {
			kills++
		}
		if !killed || enough(kills) {
			require.Greater(t, kills, 1, "the tool was hardly ever killed")
			break
		}
	}
	asked, _, lost := load.end()
	t.Logf("%d requests, %d lost", asked, len(lost))
	assert.Empty(t, lost)
}

// kill runs the command once, kills it there, resumes, and judges. It returns false if the command was through before.
func (s scenario) kill(t *testing.T, m *machine, where string, load *clients) bool {
	before := m.status(t)
	args, next := append([]string(nil), s.verb...), ""
	for i, a := range args {
		if a == "NEXT" {
			next = m.release(t, s.behaviour)
			args[i] = next
		}
	}
	out, err := m.run(t, killEnv+"="+where, args...)
	m.finishTear(t)
	exit, ended := errors.AsType[*exec.ExitError](err)
	killed := ended && exit.ExitCode() == killedCode
	if !killed && next == "" || !killed && s.behaviour == "" {
		require.NoError(t, err, "%s: %s", where, out)
	}

	mid := m.status(t)
	assert.Nil(t, mid.Owner, "%s: a dead process holds the journal", where)
	begun := mid.Newest != nil && (before.Newest == nil || mid.Newest.ID != before.Newest.ID)
	if killed && !begun {
		assert.Equal(t, before.Weights, mid.Weights, "%s: something was done before it was in the journal", where)
	}
	out, err = m.run(t, "", "resume")
	t.Logf("%s: %v: %s", where, err, lastLine(out))

	s.judge(t, m, fmt.Sprintf("%s, then resume (%v):\n%s", where, err, out), before, begun, next)
	lost, _ := load.lost()
	require.Empty(t, lost, where)
	return killed
}

// judge says whether the swap that followed on before has come to a legal end, if it begun at all. next is the release that it was to deploy.
func (s scenario) judge(t *testing.T, m *machine, at string, before *state, begun bool, next string) {
	t.Helper()
	serving := servingOf(t, before)
	old := releaseIn(t, before, serving)
	st := m.status(t)
	require.Empty(t, st.Proxy, at)
	assert.Empty(t, st.Problems, at)
	require.NotNil(t, st.Newest, at)
	now := servingOf(t, st)
	if begun {
		assert.Contains(t, s.legal, st.Newest.Outcome, at)
	}
	switch {
	case begun && st.Newest.Outcome == abswap.OutcomeSucceeded:
		assert.Equal(t, st.Newest.To, now, at)
		assert.NotEqual(t, serving, now, at)
		if next != "" {
			assert.Equal(t, next, releaseIn(t, st, now), at)
		}
		if !s.stops {
			assert.Equal(t, []string{serving}, st.Newest.Retained, at)
			assert.Equal(t, old, releaseIn(t, st, serving), "%s: the old release is not kept warm", at)
		}
	default:
		assert.Equal(t, serving, now, at)
		assert.Equal(t, old, releaseIn(t, st, now), at)
	}
	if begun && (s.stops || s.legal[0] != abswap.OutcomeSucceeded) {
		for _, slot := range st.Slots {
			assert.Equal(t, slot.Name == now, slot.State.Running, "%s: slot %s", at, slot.Name)
		}
	}
}
