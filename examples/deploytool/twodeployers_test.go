package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// soonTold is how soon the second of two deployers is to know of the first.
const soonTold = 100 * time.Millisecond

// TestTwoDeployersAtOnce starts two deploys, as processes, at the same moment, round after round: one runs, the other is told at once who is
// first. In every second round the first is then killed, and the next deploy has the lock at once.
//
// What is measured is one attempt to lock the journal, in the tool's process, and one whole Deploy in this process, with its checks, until it
// says who is busy: not how long the system takes to start a process.
func TestTwoDeployersAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newClients(m.listen)
	defer load.end()
	behind := lag(t)
	var told, verbs, freed []time.Duration
	rounds := sizeOf(4, 10, 100)
	if briefly() {
		rounds = 2
	}
	for n := range rounds {
		r := m.twoDeployers(t, n%2 == 1)
		told, verbs = append(told, r.told), append(verbs, r.verb)
		if r.freed > 0 {
			freed = append(freed, r.freed)
		}
	}
	for what, all := range map[string][]time.Duration{
		"refused by the lock": told, "refused by Deploy, with its checks": verbs, "lock of a killed one taken": freed} {
		slices.Sort(all)
		t.Logf("%s: %d times, median %s, 90 %% within %s, slowest %s", what, len(all), all[len(all)/2], all[len(all)*9/10], all[len(all)-1])
		most := soonTold
		if underWine() { // where each look at a file takes messages to another process
			most *= 50
		}
		slow := behind()
		assert.LessOrEqual(t, all[0], most, what)
		assert.LessOrEqual(t, all[len(all)/2], min(most+5*slow, 20*most), "%s, on a machine that is up to %s behind", what, slow)
	}
	m.judgeLoad(t, load, late)
}

// lag tells how far behind its time this machine has been at the worst: a process of several steps may lose as much at each of them.
func lag(t *testing.T) (worst func() time.Duration) {
	const each = 5 * time.Millisecond
	var most atomic.Int64
	done := make(chan struct{})
	var measuring sync.WaitGroup
	measuring.Go(func() {
		for {
			began := time.Now()
			select {
			case <-done:
				return
			case <-time.After(each):
				most.Store(max(most.Load(), int64(time.Since(began)-each)))
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		measuring.Wait()
	})
	return func() time.Duration { return time.Duration(most.Load()) }
}

// race is what one round showed.
type race struct {
	told  time.Duration // the second one's attempt to lock
	verb  time.Duration // a third one's Deploy
	freed time.Duration // the next one's attempt to lock, when the first was killed
}

// deployer is a deploy that runs as a process.
type deployer struct {
	*exec.Cmd
	release string
	out     bytes.Buffer
	locks   chan call
	ended   chan error
}

func (m *machine) deployer(t *testing.T, release string) *deployer {
	d := &deployer{Cmd: m.command("deploy", release), release: release, locks: make(chan call, 10), ended: make(chan error, 1)}
	d.Stdout, d.Stderr = &d.out, &d.out
	d.Env = append(os.Environ(), newReferee(t, func(c call) {
		if c.when == "locked" {
			d.locks <- c
		}
	}))
	require.NoError(t, d.Start())
	go func() { d.ended <- d.Wait() }()
	return d
}

// twoDeployers lets two run into each other. Their releases do not get fit until they may, so the first one is still there when the second
// one comes, however late that is.
func (m *machine) twoDeployers(t *testing.T, kill bool) (r race) {
	before := m.status(t)
	a := m.deployer(t, m.release(t, "waits"))
	b := m.deployer(t, m.release(t, "waits"))
	first, second := a, b
	var err error
	select {
	case err = <-a.ended:
		first, second = b, a
	case err = <-b.ended:
	case <-time.After(time.Minute):
		a.Process.Kill()
		b.Process.Kill()
		require.Fail(t, "none of two deploys ends", "%s\n%s", a.out.String(), b.out.String())
	}
	require.Equal(t, exitBusy, exitOf(err), "%s", second.out.String())
	lock := <-second.locks
	require.True(t, lock.busy)
	r.told = lock.took
	require.False(t, (<-first.locks).busy)
	text := second.out.String()
	host, _ := os.Hostname()
	me, err := user.Current()
	require.NoError(t, err)
	for _, want := range []string{me.Username, host, fmt.Sprint(first.Process.Pid), fmt.Sprintf("%q", first.release), "since " + time.Now().Format("2006-")} {
		assert.Contains(t, text, want)
	}
	soon(t, "the first one is under way", func() bool { return m.status(t).Newest.Release == first.release })
	mid := m.status(t)
	if assert.NotNil(t, mid.Owner) {
		assert.Equal(t, first.Process.Pid, mid.Owner.PID)
		assert.Equal(t, first.release, mid.Owner.Release)
	}
	assert.Equal(t, first.release, mid.Newest.Release, "only one runs")
	assert.Equal(t, abswap.OutcomeNone, mid.Newest.Outcome)
	assert.Equal(t, before.Weights, mid.Weights)
	r.verb = m.refusal(t, first)

	if kill {
		require.NoError(t, first.Process.Kill())
		<-first.ended
	}
	for _, d := range []*deployer{first, second} {
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, "releases", d.release, "go"), nil, 0o600))
	}
	if !kill {
		require.NoError(t, <-first.ended, "%s", first.out.String())
		assert.Equal(t, first.release, releaseIn(t, m.status(t), servingOf(t, m.status(t))))
		return r
	}
	third := m.deployer(t, m.release(t, ""))
	require.NoError(t, <-third.ended, "%s", third.out.String())
	lock = <-third.locks
	assert.False(t, lock.busy, "the lock of a killed one is free")
	r.freed = lock.took
	st := m.status(t)
	assert.Equal(t, third.release, releaseIn(t, st, servingOf(t, st)))
	assert.NotContains(t, strings.ToLower(third.out.String()), "busy")
	return r
}

// refusal is how long a Deploy of this process takes to be refused, as first is under way.
func (m *machine) refusal(t *testing.T, first *deployer) time.Duration {
	c, err := loadConfig(m.config)
	require.NoError(t, err)
	tool := &tool{cfg: c, out: new(bytes.Buffer), errOut: new(bytes.Buffer), open: openJournal}
	s, err := tool.session(t.Context())
	defer s.close()
	require.NoError(t, err)
	began := time.Now()
	_, err = s.Deploy(context.WithoutCancel(t.Context()), abswap.Release{ID: "x", Path: m.dir})
	took := time.Since(began)
	busy, ok := errors.AsType[*abswap.BusyError](err)
	require.True(t, ok, "%v", err)
	assert.ErrorIs(t, err, abswap.ErrBusy)
	assert.Equal(t, first.Process.Pid, busy.Owner.PID)
	assert.Equal(t, first.release, busy.Owner.Release)
	return took
}
