package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// late is how long a short request may take at the most, on a busy machine, beside what a hold keeps it.
const late = 10 * time.Second

// sizeOf returns how much of a test is run: with -short, as it is, and with -full.
func sizeOf[T any](short, normal, whole T) T {
	switch {
	case *full:
		return whole
	case testing.Short():
		return short
	}
	return normal
}

// briefly is the short form where it takes a second to start a process: a sample of each test.
func briefly() bool { return testing.Short() && !*full && underWine() }

// enough ends a test that is run briefly.
func enough(kills int) bool { return briefly() && kills >= 2 }

// TestFrontDoorKilledAtRest kills the serve process again and again while clients work on the site and no deploy runs. Its service manager
// starts it again: the same release answers, the applications have noticed nothing, what was in flight at that instant is cut and no more, and
// the counts of what came afterwards are exact.
func TestFrontDoorKilledAtRest(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newPatientClients(m.listen)
	defer load.end()
	before := m.status(t)
	serving := servingOf(t, before)
	release := releaseIn(t, before, serving)
	began := time.Now()
	kills := sizeOf(3, 5, 50)
	for i := range kills {
		load.upload(400 * time.Millisecond)
		time.Sleep(time.Duration(i*37%200) * time.Millisecond) // the moments differ
		require.True(t, m.killServe())
		m.up(t)
		now := m.status(t)
		require.Empty(t, now.Problems)
		assert.Equal(t, before.Weights, now.Weights)
		for j, s := range now.Slots {
			assert.Equal(t, before.Slots[j].State, s.State, "the application of slot %s", s.Name)
			assert.Empty(t, s.Ready)
			assert.Equal(t, abswap.EvidenceExact, s.Load.Evidence, "the lock of the state file proves that the earlier one is dead")
			if s.Name != serving {
				assert.Zero(t, s.Load.Total(), "slot %s: %+v", s.Name, s.Load)
			}
		}
	}
	assert.Len(t, load.releasesBetween(began, time.Now()), 1)
	assert.Contains(t, load.releasesBetween(began, time.Now()), release)

	// What has come to the new one is not forgotten: a deploy waits for it.
	load.hold()
	soon(t, "the held upload is counted", func() bool {
		for _, s := range m.status(t).Slots {
			if s.Name == serving && s.Load.Requests > 0 {
				return true
			}
		}
		return false
	})
	require.True(t, m.killServe())
	m.up(t)
	close(load.held) // the first one is cut, and sees it when it goes on
	load.held = make(chan struct{})
	load.hold()
	ended := make(chan error, 1)
	next := m.release(t, "")
	go func() {
		_, err := m.run(t, "", "deploy", next)
		ended <- err
	}()
	soon(t, "the deploy drains", func() bool {
		st := m.status(t)
		return st.Newest.Release == next && st.Newest.Phase == abswap.PhaseDraining
	})
	select {
	case err := <-ended:
		require.Fail(t, "the deploy has ended, and an upload is in the old slot", "%v", err)
	case <-time.After(time.Second):
	}
	close(load.held)
	require.NoError(t, <-ended)
	m.judgeLoad(t, load, late)
	assert.Len(t, m.allOutages(), kills+1)
}

// TestFrontDoorKilledDuringADeploy kills the serve process before, right after and shortly after the n-th record of a deploy, while clients
// work on the site. The deploy goes on when it is back, or goes back; "resume" finishes what it leaves. Nobody ever gets an answer of a
// release that must not answer, and where the versions must not work at the same time they never do.
func TestFrontDoorKilledDuringADeploy(t *testing.T) { testKills(t, false) }

// TestToolAndFrontDoorKilled kills both at the same moment. "resume" finishes the deploy when the service manager has started serve again.
func TestToolAndFrontDoorKilled(t *testing.T) { testKills(t, true) }

func testKills(t *testing.T, both bool) {
	t.Parallel()
	for _, s := range []doorScenario{
		{scenario: scenario{name: "deploy", stops: true}, more: []string{"retain: 0s"}},
		{scenario: scenario{name: "weighted"}, more: []string{"steps: [30]"}},
		{scenario: scenario{name: "exclusive", short: true}, more: []string{"exclusive: true", "hold: 4s", "soak: 100ms"}, hold: 4 * time.Second},
	} {
		if briefly() && (s.name == "weighted" || (s.name == "exclusive") != both) {
			continue
		}
		// An order that was on its way to it may be lost with it: then the deploy goes back.
		s.legal = []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeRolledBack, abswap.OutcomeDiscarded}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, both)
		})
	}
}

// doorScenario is a deploy during which serve is killed.
type doorScenario struct {
	scenario
	more []string
	hold time.Duration // how long requests may wait
}

func (s doorScenario) run(t *testing.T, both bool) {
	m := newMachine(t, s.more...)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newPatientClients(m.listen)
	defer load.end()
	whens := []string{"before", "after", "soon after"}
	if both {
		whens = whens[:2]
	}
	step := sizeOf(13, 5, 1)
	rested := time.Now()
	tally := map[abswap.Outcome]int{}
	for n, kills := 1, 0; ; n += step {
		through := true
		for i, when := range whens {
			if !*full && i != n/step%len(whens) {
				continue
			}
			outcome, killed := s.round(t, m, load, n, when, both, rested)
			rested = time.Now()
			if killed {
				through = false
				kills++
				tally[outcome]++
			}
		}
		if through || enough(kills) {
			require.Greater(t, kills, 1, "it was hardly ever killed")
			t.Logf("%d kills: %v", kills, tally)
			break
		}
	}
	m.judgeLoad(t, load, late+s.hold)
}

// round runs one deploy and kills there. rested is since when nothing has moved.
func (s doorScenario) round(t *testing.T, m *machine, load *clients, n int, when string, both bool, rested time.Time) (abswap.Outcome, bool) {
	before := m.status(t)
	serving := servingOf(t, before)
	old, next := releaseIn(t, before, serving), m.release(t, s.behaviour)
	cmd := m.command("deploy", next)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	lasts := 1200 * time.Millisecond
	if s.short {
		lasts = 300 * time.Millisecond
	}
	started := make(chan struct{})
	var met atomic.Value // the call at which it was killed, as text
	var killing sync.WaitGroup
	env := newReferee(t, func(c call) {
		if c.n != n || c.when == "locked" || c.when != "before" != (when != "before") {
			return
		}
		<-started
		met.Store(fmt.Sprintf("%s: %s", when, c))
		switch {
		case both:
			killing.Go(func() { m.killServe() })
			cmd.Process.Kill()
		case when == "soon after":
			killing.Go(func() {
				time.Sleep(time.Duration(n*13%9) * time.Millisecond)
				m.killServe()
			})
		default:
			m.killServe()
		}
		load.upload(lasts) // what comes now is not cut any more
	})
	cmd.Env = append(os.Environ(), env)
	load.upload(lasts)
	began := time.Now()
	require.NoError(t, cmd.Start())
	close(started)
	for name := range load.releasesBetween(rested, began) {
		assert.Equal(t, old, name, "nothing has moved")
	}
	err := wait(t, cmd, &out)
	killing.Wait()
	m.up(t)
	at, killed := met.Load().(string)
	if !killed { // it was through before
		require.NoError(t, err, "%s", out.String())
		return abswap.OutcomeSucceeded, false
	}
	if !both {
		require.Contains(t, []int{exitOK, exitDiscarded, exitRolledBack, exitDraining}, exitOf(err), "%s: %v\n%s", at, err, out.String())
	}
	mid := m.status(t)
	assert.Nil(t, mid.Owner, at)
	begun := mid.Newest != nil && (before.Newest == nil || mid.Newest.ID != before.Newest.ID)
	text, rerr := m.run(t, "", "resume")
	t.Logf("%s: exit %d; resume: exit %d: %s", at, exitOf(err), exitOf(rerr), lastLine(text))
	where := fmt.Sprintf("%s: %v\n%s\nresume: %v\n%s", at, err, out.String(), rerr, text)
	s.judge(t, m, where, before, begun, next)

	st := m.status(t)
	succeeded := begun && st.Newest.Outcome == abswap.OutcomeSucceeded
	for name := range load.releasesBetween(rested, time.Now()) {
		assert.Contains(t, []string{old, next}, name, where)
	}
	if succeeded && !slices.ContainsFunc(s.more, func(line string) bool { return line == "steps: [30]" }) {
		assert.Zero(t, load.stepsBack(began, time.Now(), old, next), "%s: the old release answered again", where)
	}
	if s.hold > 0 {
		assert.Zero(t, m.work(t).overlaps(old, next), "%s: both versions worked at the same time", where)
	}
	lost, _ := load.lost(m.allOutages()...)
	require.Empty(t, lost, where)
	if !begun {
		return abswap.OutcomeRefused, true
	}
	return st.Newest.Outcome, true
}

// wait waits for the end of a command that was started.
func wait(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(2 * time.Minute):
		cmd.Process.Kill()
		<-ended
		require.Fail(t, "it hangs", "%q:\n%s", cmd.Args, out.String())
		return nil
	}
}

// judgeLoad ends the load: nothing is lost that no kill explains, nothing is late, no POST was delivered twice, and the uploads are whole.
func (m *machine) judgeLoad(t *testing.T, load *clients, late time.Duration) {
	t.Helper()
	asked, _, _ := load.end()
	outages := m.allOutages()
	lost, cut := load.lost(outages...)
	wrong := m.work(t).misdelivered(load)
	t.Logf("%d requests, %d lost, %d cut by %d kills of serve, %d attempts to connect refused meanwhile, %d of %d POSTs wrongly delivered, slowest %s",
		asked, len(lost), cut, len(outages), load.refused, len(wrong), len(load.posts), load.slowest.Round(time.Millisecond))
	for _, o := range outages {
		if len(lost) > 0 {
			t.Logf("serve was killed at %s and dead at %s", o.from.Format("15:04:05.000"), o.to.Format("15:04:05.000"))
		}
	}
	assert.Greater(t, asked, 50)
	assert.Empty(t, lost)
	assert.Empty(t, wrong)
	assert.Less(t, load.slowest, late)
}

// soon waits until f says yes.
func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "it does not come: %s", what)
	}
}
