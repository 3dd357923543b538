package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	killers "github.com/abswap/abswap/examples/internal/killer"
)

var full = flag.Bool("fleet.full", false, "kill the tool before, within and after every record, which takes minutes")

// TestMain makes the test program the tool and the nodes too: they run as processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"node", "roll", "resume", "status"}, os.Args[1]) {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, killer(openJournal)))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they wait more than they work
		panic(err)
	}
	os.Exit(m.Run())
}

func needHAProxy(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err == nil {
		return
	}
	const how = "haproxy is not installed: apt-get install haproxy"
	if os.Getenv("ABSWAP_ENGINES") == "required" {
		t.Fatal(how)
	}
	t.Skip(how)
}

// lines is a buffer that several processes' outputs are copied into.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestShow(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	var out lines
	require.Equal(t, exitOK, run(t.Context(), nil, &out, openJournal), "%s", &out)
	assert.Contains(t, out.String(), ", 0 lost;")
	assert.Contains(t, out.String(), fmt.Sprintf("at least %d of 4 members in service", floor))
	assert.Contains(t, out.String(), `member "n1": starting: after its start: slot "n1"`)
	assert.Contains(t, out.String(), "report: n1 kept, v2 -> v2\n  report: n2 waiting, v2 -> v2\n")
	assert.Contains(t, out.String(), "report: stopped, 4 members serve")
}

func TestWithoutHAProxyItSaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out lines
	assert.Equal(t, exitUnable, run(t.Context(), nil, &out, openJournal))
	assert.Contains(t, out.String(), "apt-get install haproxy")
}

func TestWrongCommandLine(t *testing.T) {
	for _, args := range [][]string{{"rol"}, {"roll"}, {"node"}} {
		var out lines
		assert.Equal(t, exitUnable, run(t.Context(), args, &out, openJournal), "%q", args)
		assert.Contains(t, out.String(), "usage:")
	}
	var out lines
	assert.Equal(t, exitBroken, run(t.Context(), []string{"roll", t.TempDir(), "v1"}, &out, openJournal))
	assert.Contains(t, out.String(), "site.json")
}

// TestKilledAtRecords kills the tool, as a process, at its records while it rolls a release out, and lets "resume" go on, which is killed in turn,
// until the roll is through: a good release, and then one that is bad in one member. All the while clients work and upload, and the doors are sampled:
// no request is lost, and the floor is held. With -fleet.full every single record is met: before it, in the midst of it, and after it.
func TestKilledAtRecords(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	var out lines
	f, err := startFleet(t.Context(), self, &out)
	require.NoError(t, err, "%s", &out)
	defer func() { assert.NoError(t, f.close()) }()
	require.NoError(t, f.tool(t.Context(), "", "roll", f.dir, "v1"), "%s", &out)

	load := startClients(t.Context(), f.fronts())
	watch := startSampler(t.Context(), f.balancers)
	uploads := startUploads(t, f.fronts())
	kills := f.killedAgainAndAgain(t, load, "roll", f.dir, "v2")
	f.judge(t, "n1 v2, n2 v2, n3 v2, n4 v2", abswap.OutcomeSucceeded, "updated updated updated updated")
	kills += f.killedAgainAndAgain(t, load, "roll", f.dir, "v3", "n3")
	f.judge(t, "n1 v3, n2 v3, n3 v2, n4 v2", abswap.OutcomeStopped, "updated updated kept waiting")
	whole := uploads()
	felt, seen := load.stop(), watch.stop()
	require.NoError(t, seen.err)
	t.Logf("%d kills, %d requests, %d lost, %d uploads, %d looks at the doors: at least %d in service", kills, felt.sent, felt.lost, whole, seen.looks, seen.least)
	assert.Zero(t, felt.lost, "%v", felt.first)
	assert.GreaterOrEqual(t, seen.least, floor, "%s\n%s", seen.where, &out)
	assert.Greater(t, seen.looks, 100)
	assert.Positive(t, whole)

	var told lines
	f.out = &told
	require.NoError(t, f.tool(t.Context(), "", "status", f.dir), "%s", &told)
	assert.Equal(t, "n1 v3 in service\nn2 v3 in service\nn3 v2 in service\nn4 v2 in service\n", told.String())
}

// TestReloadsWhileItRolls has another hand reload both HAProxys again and again while a release is rolled out: members that are out stay out, what
// old workers carry is waited for, and no request is lost.
func TestReloadsWhileItRolls(t *testing.T) {
	needHAProxy(t)
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	var out lines
	f, err := startFleet(t.Context(), self, &out)
	require.NoError(t, err, "%s", &out)
	defer func() { assert.NoError(t, f.close()) }()
	require.NoError(t, f.tool(t.Context(), "", "roll", f.dir, "v1"), "%s", &out)
	load := startClients(t.Context(), f.fronts())
	rolled := make(chan error, 1)
	go func() { rolled <- f.tool(t.Context(), "", "roll", f.dir, "v2") }()
	reloads, tick := 0, time.NewTicker(700*time.Millisecond)
	defer tick.Stop()
	for err = nil; ; {
		select {
		case <-tick.C:
			_, err := f.balancers[reloads%2].Say("master.sock", "reload")
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue // it is still starting itself anew for the last one
			}
			assert.NoError(t, err)
			reloads++
			continue
		case err = <-rolled:
		}
		break
	}
	felt := load.stop()
	t.Logf("%d reloads, %d requests, %d lost", reloads, felt.sent, felt.lost)
	require.NoError(t, err, "%s", &out)
	assert.Positive(t, reloads)
	assert.Zero(t, felt.lost, "%v", felt.first)
	f.judge(t, "n1 v2, n2 v2, n3 v2, n4 v2", abswap.OutcomeSucceeded, "updated updated updated updated")
}

// killedAgainAndAgain runs the tool, killed, and then resume, killed, until that comes to its end. It returns how often that was.
func (f *fleet) killedAgainAndAgain(t *testing.T, load *clients, args ...string) (kills int) {
	t.Helper()
	when := []string{"after 9", "before 12", "within 11"}
	if *full { // the first record of a resume is the intent of what it goes on with, the second is the outcome
		when = []string{"after 1", "before 2", "within 2", "after 2"}
	}
	for ; ; kills++ {
		require.Less(t, kills, 1000, "it makes no headway:\n%s", f.out)
		err := f.tool(t.Context(), killEnv+"="+when[kills%len(when)], args...)
		felt := load.so()
		require.Zero(t, felt.lost, "%v after kill %d (%s)\n%s", felt.first, kills+1, when[kills%len(when)], f.out)
		require.NoError(t, killers.FinishTear(filepath.Join(f.dir, "journal")))
		exit, ended := errors.AsType[*exec.ExitError](err)
		if !ended || exit.ExitCode() != -1 {
			require.Greater(t, kills, 2, "the tool was hardly ever killed: %v\n%s", err, f.out)
			return kills
		}
		args = []string{"resume", f.dir}
	}
}

// judge says whether the newest roll has come to the end that it should.
func (f *fleet) judge(t *testing.T, states string, outcome abswap.Outcome, members string) {
	t.Helper()
	got, err := f.states(t.Context())
	require.NoError(t, err)
	require.Equal(t, states, got, "%s", f.out)
	j, err := openJournal(filepath.Join(f.dir, "journal"))
	require.NoError(t, err)
	rep, err := abswap.ReadRoll(t.Context(), j, "")
	require.NoError(t, err)
	assert.Equal(t, outcome, rep.Outcome)
	var all []string
	for _, m := range rep.Members {
		all = append(all, string(m.State))
		assert.Equal(t, strings.Contains(states, m.Name+" "+m.After), true, "%s: the report says %s, and it runs %s", m.Name, m.After, states)
		for _, d := range m.Drains {
			if m.State == abswap.MemberUpdated {
				assert.Zero(t, d.Cut)
			}
		}
	}
	assert.Equal(t, members, strings.Join(all, " "))
}

// startUploads has two clients upload, one upload after the other, each of which lasts a moment. The function that it returns ends that, and tells how
// many were taken, all of them whole.
func startUploads(t *testing.T, fronts []string) func() int {
	var wg sync.WaitGroup
	over := make(chan struct{})
	counts := make([]int, len(fronts))
	for i, front := range fronts {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				u, err := startUpload(t.Context(), front)
				for range 4 {
					if err == nil {
						err = u.send(t.Context())
					}
				}
				if u != nil {
					err = errors.Join(err, u.finish())
				}
				if !assert.NoError(t, err) {
					return
				}
				counts[i]++
			}
		})
	}
	return func() (sum int) {
		close(over)
		wg.Wait()
		for _, n := range counts {
			sum += n
		}
		return sum
	}
}
