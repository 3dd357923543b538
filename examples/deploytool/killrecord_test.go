package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

var full = flag.Bool("full", false, "kill the tool before, within and after every single record, instead of a part of them")

// TestKilledAtEveryRecord kills the deploy tool, as a process, right before, within and right after the n-th record that it writes, while
// clients work on the site, and lets "resume" finish. Every time: the end is a legal one, the journal tells the truth, no request is lost, and
// no upload is cut. Without -full each n is killed in one of the three ways only, and most n are passed over.
func TestKilledAtEveryRecord(t *testing.T) {
	for _, s := range []scenario{
		{name: "deploy", verb: []string{"deploy", "NEXT"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
		{name: "weighted", more: "steps: [30]", verb: []string{"deploy", "NEXT"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
		{name: "exclusive", more: "exclusive: true", verb: []string{"deploy", "NEXT"}, short: true, legal: []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeDiscarded}},
		{name: "rolled-back", more: "soak: 5s", behaviour: "sick-after 50ms", verb: []string{"deploy", "NEXT"},
			legal: []abswap.Outcome{abswap.OutcomeRolledBack, abswap.OutcomeDiscarded}},
		{name: "swap-back", verb: []string{"swap-back"}, legal: []abswap.Outcome{abswap.OutcomeSucceeded}},
	} {
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
}

func (s scenario) run(t *testing.T) {
	m := newMachine(t, s.more)
	m.mustRun(t, "deploy", m.release(t, ""))
	m.mustRun(t, "deploy", m.release(t, ""))
	load := newClients(m.listen)
	defer load.end()
	step := 7
	if *full {
		step = 1
	}
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
		if !killed {
			require.Greater(t, kills, 2, "the tool was hardly ever killed")
			break
		}
		kills++
	}
	asked, _, lost := load.end()
	t.Logf("%d requests, %d lost", asked, len(lost))
	assert.Empty(t, lost)
}

// kill runs the command once, kills it there, resumes, and judges. It returns false if the command was through before.
func (s scenario) kill(t *testing.T, m *machine, where string, load *clients) bool {
	before := m.status(t)
	serving := servingOf(t, before)
	old := releaseIn(t, before, serving)
	args, next := append([]string(nil), s.verb...), ""
	for i, a := range args {
		if a == "NEXT" {
			next = m.release(t, s.behaviour)
			args[i] = next
		}
	}
	out, err := m.run(t, where, args...)
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

	st := m.status(t)
	at := fmt.Sprintf("%s, then resume (%v):\n%s", where, err, out)
	require.Empty(t, st.Proxy, at)
	assert.Empty(t, st.Problems, at)
	require.NotNil(t, st.Newest, at)
	now := servingOf(t, st)
	if begun {
		assert.Contains(t, s.legal, st.Newest.Outcome, at)
	}
	if begun && st.Newest.Outcome == abswap.OutcomeSucceeded {
		assert.Equal(t, st.Newest.To, now, at)
		assert.NotEqual(t, serving, now, at)
		if next != "" {
			assert.Equal(t, next, releaseIn(t, st, now), at)
		}
		assert.Equal(t, []string{serving}, st.Newest.Retained, at)
		assert.Equal(t, old, releaseIn(t, st, serving), "%s: the old release is not kept warm", at)
	} else {
		assert.Equal(t, serving, now, at)
		assert.Equal(t, old, releaseIn(t, st, now), at)
	}
	if begun && s.legal[0] != abswap.OutcomeSucceeded {
		for _, slot := range st.Slots {
			assert.Equal(t, slot.Name == now, slot.State.Running, "%s: slot %s", at, slot.Name)
		}
	}
	load.mu.Lock()
	defer load.mu.Unlock()
	require.Empty(t, load.lost, at)
	return killed
}

// machine is one installation of the tool: a folder with its config, and a serve process.
type machine struct {
	dir, listen string
	releases    int
}

func newMachine(t *testing.T, more string) *machine {
	listen, err := freeAddress()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "dt") // a socket's path must be short
	require.NoError(t, err)
	m := &machine{dir: dir, listen: listen}
	deploy := "deploy:\n  soak: 200ms\n"
	if strings.HasPrefix(more, "soak") {
		deploy = "deploy:\n"
	}
	text := strings.Replace(base, "LISTEN", listen, 1) + deploy + "  " + more + "\n"
	config := filepath.Join(dir, "deploytool.yaml")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	serve := m.command("", "serve")
	log, err := os.Create(filepath.Join(dir, "serve.log"))
	require.NoError(t, err)
	serve.Stderr = log
	require.NoError(t, serve.Start())
	t.Cleanup(func() {
		serve.Process.Kill()
		serve.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("serve:\n%s", text)
		}
		assert.NoError(t, stopApps(config))
		assert.NoError(t, os.RemoveAll(dir))
	})
	return m
}

// release makes the next release.
func (m *machine) release(t *testing.T, behaviour string) string {
	m.releases++
	id := fmt.Sprintf("r%d", m.releases)
	dir := filepath.Join(m.dir, "releases", id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "behaviour"), []byte(behaviour), 0o600))
	return id
}

func (m *machine) command(kill string, args ...string) *exec.Cmd {
	cmd := exec.Command("deploytool", args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), killEnv+"="+kill)
	return cmd
}

func (m *machine) run(t *testing.T, kill string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := m.command(kill, args...)
	done := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer done()
	out, err := cmd.CombinedOutput()
	require.NoError(t, ctx.Err(), "%q hangs:\n%s", args, out)
	return string(out), err
}

func (m *machine) mustRun(t *testing.T, args ...string) {
	t.Helper()
	out, err := m.run(t, "", args...)
	require.NoError(t, err, "%s", out)
}

func (m *machine) status(t *testing.T) *state {
	t.Helper()
	cmd := m.command("", "status", "-json")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	st := new(state)
	require.NoError(t, json.Unmarshal(out, st))
	return st
}

// servingOf is the one slot that gets all new work.
func servingOf(t *testing.T, st *state) string {
	t.Helper()
	require.Len(t, st.Weights, 1)
	for name, part := range st.Weights {
		require.Equal(t, 100, part)
		return name
	}
	return ""
}

// releaseIn is the release that runs in a slot and is fit there.
func releaseIn(t *testing.T, st *state, slot string) string {
	t.Helper()
	for _, s := range st.Slots {
		if s.Name == slot {
			assert.True(t, s.State.Running, "slot %s", slot)
			assert.Empty(t, s.Ready, "slot %s", slot)
			return s.State.Release
		}
	}
	return ""
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
