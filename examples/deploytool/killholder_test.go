package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// TestToolKilledWhileItHolds kills the deploy tool, as a process, while requests wait for it at the front door. They go on, to the old
// release, when the hold has lasted as long as it was meant to, or when its owner has not been heard of for too long. None is lost, and none
// has waited longer than that.
func TestToolKilledWhileItHolds(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second // what the control plane grants by default
	for _, tt := range []struct {
		name, when string
		phase      abswap.Phase
		hold       time.Duration
		long       bool // not in the short form
	}{
		{"total", "after", abswap.PhaseHolding, 2 * time.Second, false},
		{"lease", "after", abswap.PhaseHolding, 20 * time.Second, true},
		{"drained", "after", abswap.PhaseDrainingFirst, 3 * time.Second, true},
		{"shifted", "after", abswap.PhaseShifting, 2 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long && testing.Short() {
				t.Skip("short form")
			}
			t.Parallel()
			m := newMachine(t, "exclusive: true", fmt.Sprintf("hold: %s", tt.hold))
			m.mustRun(t, "deploy", m.release(t, ""))
			m.mustRun(t, "deploy", m.release(t, ""))
			load := newClients(m.listen)
			defer load.end()
			for range sizeOf(1, 2, 15) {
				killWhileItHolds(t, m, load, tt.when, tt.phase)
			}
			m.judgeLoad(t, load, min(lease, tt.hold)+late)
		})
	}
}

// killWhileItHolds kills the tool there, and resumes.
func killWhileItHolds(t *testing.T, m *machine, load *clients, when string, phase abswap.Phase) {
	before := m.status(t)
	serving := servingOf(t, before)
	old, next := releaseIn(t, before, serving), m.release(t, "")
	cmd := m.command("deploy", next)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan struct{})
	var most atomic.Int64 // of those that waited
	env := newReferee(t, func(c call) {
		if most.Load() > 0 || c.when != when || c.kind != abswap.RecordOutcome || c.phase != phase {
			return
		}
		<-started
		load.burst(40)
		for end := time.Now().Add(20 * time.Second); most.Load() < 40 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			most.Store(max(most.Load(), int64(m.held(t))))
		}
		cmd.Process.Kill()
	})
	cmd.Env = append(os.Environ(), env)
	require.NoError(t, cmd.Start())
	close(started)
	wait(t, cmd, &out)
	killed := time.Now()
	waiting := most.Load()
	require.GreaterOrEqual(t, waiting, int64(40), "%s", out.String())
	soon(t, "requests go on", func() bool { return m.held(t) == 0 })
	t.Logf("killed after %s: %d requests went on %s later", phase, waiting, time.Since(killed).Round(10*time.Millisecond))

	text, err := m.run(t, "", "resume")
	at := fmt.Sprintf("%s, then resume (%v):\n%s", out.String(), err, text)
	s := scenario{legal: []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeDiscarded, abswap.OutcomeRolledBack}}
	s.judge(t, m, at, before, true, next)
	if phase != abswap.PhaseShifting {
		assert.Zero(t, m.work(t).overlaps(old, next), "%s: both versions worked at the same time", at)
	}
	lost, _ := load.lost()
	require.Empty(t, lost, at)
}

// held is how many requests wait at the front door.
func (m *machine) held(t *testing.T) int {
	var st struct {
		Hold struct{ Waiting int }
	}
	status, text := m.askControl(t, "", func(*http.Request) {})
	if assert.Equal(t, http.StatusOK, status, "%s", text) {
		assert.NoError(t, json.Unmarshal(text, &st))
	}
	return st.Hold.Waiting
}
