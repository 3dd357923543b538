package abswap_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// child is another process, a copy of this test program, that does with a journal what it is told.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const childDir = "ABSWAP_TEST_JOURNAL"

// startChild starts a child on the journal in dir. The test ends it.
func startChild(t *testing.T, dir string) *child {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestChildOfJournalTests$", "-test.count=1")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, in, err := os.Pipe() // not cmd's own pipes, which end with this child: it may start another that lives on
	require.NoError(t, err)
	out, stdout, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdin, cmd.Stdout = stdin, stdout
	err = cmd.Start()
	_, _ = stdin.Close(), stdout.Close()
	require.NoError(t, err)
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, c.out) // until all that have it have ended
		_ = out.Close()
		_ = cmd.Wait()
	})
	return c
}

// answer is what a child says to a command.
type answer struct {
	Err   string
	Busy  *abswap.Owner
	Took  time.Duration
	N     int
	Ended string
}

func (c *child) tell(t *testing.T, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(c.in, format+"\n", args...)
	require.NoError(t, err)
}

func (c *child) hear(t *testing.T) answer {
	t.Helper()
	line, err := c.out.ReadBytes('\n')
	require.NoError(t, err)
	var a answer
	require.NoError(t, json.Unmarshal(line, &a), "%s", line)
	return a
}

func (c *child) ask(t *testing.T, format string, args ...any) answer {
	t.Helper()
	c.tell(t, format, args...)
	return c.hear(t)
}

// kill ends the child as kill -9 or TerminateProcess does, and waits until it is gone.
func (c *child) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
}

// TestChildOfJournalTests is not a test but the other process.
func TestChildOfJournalTests(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("only for the children of other tests")
	}
	j := openJournal(t, dir)
	me := abswap.Owner{User: "child", Host: "here", PID: os.Getpid(), Since: time.Now(), Release: "v2"}
	var hold abswap.JournalHold
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var a answer
		var verb, arg string
		var n int64
		fmt.Sscan(in.Text(), &verb, &arg, &n)
		began := time.Now()
		var err error
		switch verb {
		case "lock": // at the moment n, by the clock
			for time.Now().UnixNano() < n {
			}
			began = time.Now()
			var h abswap.JournalHold
			if h, err = j.Lock(t.Context(), me); err == nil {
				hold = h
			}
		case "unlock":
			err = hold.Unlock()
		case "append": // n records to the swap arg, the first a begin
			for i := range int(n) {
				r := note(arg, strings.Repeat("x", i%300))
				if i == 0 {
					r = begin(arg)
				}
				if err = hold.Append(t.Context(), r); err != nil {
					break
				}
			}
		case "read": // until n records are seen in the swap arg
			for a.N < int(n) && err == nil {
				var records []abswap.Record
				records, err = j.Records(t.Context(), arg)
				if len(records) < a.N {
					err = fmt.Errorf("%d records after %d", len(records), a.N)
				}
				a.N = len(records)
				if _, _, oerr := j.Owner(t.Context()); oerr != nil {
					err = errors.Join(err, oerr)
				}
			}
		case "post":
			err = j.Post(t.Context(), abswap.Request{Kind: abswap.RequestKind(arg), From: me})
		case "busy": // starts a process that outlives this one
			exe, _ := os.Executable()
			cmd := exec.Command(exe, "-test.run=^TestChildOfJournalTests$")
			cmd.Env = append(os.Environ(), childDir+"="+filepath.Join(dir, "unused"))
			cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout // which the test keeps open
			err = cmd.Start()
		}
		a.Took = time.Since(began)
		if err != nil {
			a.Err = err.Error()
		}
		if busy, ok := errors.AsType[*abswap.BusyError](err); ok {
			a.Busy = &busy.Owner
		}
		line, _ := json.Marshal(a)
		fmt.Println(string(line))
	}
	if hold != nil {
		_ = hold.Unlock()
	}
}

func TestFileJournalOneOfTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	children := []*child{startChild(t, dir), startChild(t, dir)}
	for _, c := range children {
		require.Empty(t, c.ask(t, "warm").Err)
	}
	won := map[int]int{}
	var took []time.Duration
	for range 100 {
		at := time.Now().Add(3 * time.Millisecond).UnixNano()
		for _, c := range children {
			c.tell(t, "lock now %d", at)
		}
		winner, loser := -1, -1
		for i, c := range children {
			a := c.hear(t)
			if a.Err == "" {
				require.Equal(t, -1, winner, "both have it")
				winner = i
				continue
			}
			require.NotNil(t, a.Busy, a.Err)
			require.Equal(t, children[1-i].cmd.Process.Pid, a.Busy.PID, "the holder is named: %s", a.Err)
			require.Equal(t, "v2", a.Busy.Release)
			loser = i
			took = append(took, a.Took)
		}
		require.NotEqual(t, -1, winner, "nobody has it")
		require.NotEqual(t, -1, loser)
		won[winner]++
		require.Empty(t, children[winner].ask(t, "unlock").Err)
	}
	slices.Sort(took)
	t.Logf("won %v; busy after: median %s, worst %s", won, took[50], took[99])
	assert.Less(t, took[50], time.Second, "at once, also where something else has the machine")
}

func TestFileJournalOfAKilledHolderIsFreeAtOnce(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	require.Empty(t, c.ask(t, "lock now 0").Err)
	require.Empty(t, c.ask(t, "append s 3").Err)
	require.Empty(t, c.ask(t, "busy").Err)
	j := openJournal(t, dir)
	o, held, err := j.Owner(t.Context())
	require.NoError(t, err)
	require.True(t, held)
	assert.Equal(t, c.cmd.Process.Pid, o.PID)
	_, err = j.Lock(t.Context(), abswap.Owner{})
	require.ErrorIs(t, err, abswap.ErrBusy)

	c.kill(t) // what it started lives on, and has no part in the lock
	left, err := os.ReadFile(filepath.Join(dir, "owner.json"))
	require.NoError(t, err)
	require.Contains(t, string(left), "child", "its name still stands there")
	_, held, err = j.Owner(t.Context())
	require.NoError(t, err)
	assert.False(t, held, "and misleads nobody")
	began := time.Now()
	h := lockJournal(t, j)
	t.Logf("free after %s", time.Since(began))
	assert.Less(t, time.Since(began), time.Second)
	require.NoError(t, h.Append(t.Context(), note("s", "it goes on")))
	assert.Len(t, notes(t, j, "s"), 4)
}

func TestFileJournalIsReadWhileAnotherProcessWrites(t *testing.T) {
	dir := t.TempDir()
	reader, writer := startChild(t, dir), startChild(t, dir)
	require.Empty(t, writer.ask(t, "lock now 0").Err)
	reader.tell(t, "read s 300")
	require.Empty(t, writer.ask(t, "append s 300").Err)
	a := reader.hear(t)
	assert.Empty(t, a.Err)
	assert.Equal(t, 300, a.N)
}

func TestFileJournalExcludesWithinOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, second := openJournal(t, dir), openJournal(t, dir)
	h := lockJournal(t, first)
	for _, j := range []*abswap.FileJournal{first, second} {
		began := time.Now()
		_, err := j.Lock(t.Context(), abswap.Owner{User: "bob"})
		busy, ok := errors.AsType[*abswap.BusyError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, "ann", busy.Owner.User)
		assert.Less(t, time.Since(began), time.Second)
		o, held, err := j.Owner(t.Context())
		require.NoError(t, err)
		assert.True(t, held)
		assert.Equal(t, "ann", o.User)
		assert.Equal(t, os.Getpid(), o.PID)
	}
	require.NoError(t, h.Append(t.Context(), begin("s")))
	require.NoError(t, h.Unlock())
	require.NoError(t, h.Unlock())
	assert.ErrorContains(t, h.Append(t.Context(), note("s", "")), "not held any more")
	_, err := h.NextRequest(t.Context())
	assert.ErrorContains(t, err, "not held any more")
	_, held, err := second.Owner(t.Context())
	require.NoError(t, err)
	assert.False(t, held)
	lockJournal(t, second)
}

// TestFileJournalIsNeverHeldTwice takes and frees one journal from many goroutines, while others ask who has it.
func TestFileJournalIsNeverHeldTwice(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex // only tried: it is the proof
	got := make([]int, 4)
	ctx, stop := context.WithCancel(t.Context())
	for range 2 {
		wg.Go(func() {
			for j := openJournal(t, dir); ctx.Err() == nil; {
				if _, _, err := j.Owner(t.Context()); !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	var takers sync.WaitGroup
	for i := range got {
		takers.Go(func() {
			j := openJournal(t, dir)
			for got[i] < 25 && ctx.Err() == nil {
				h, err := j.Lock(t.Context(), abswap.Owner{PID: i, User: "taker"})
				if busy, ok := errors.AsType[*abswap.BusyError](err); ok {
					assert.Equal(t, "taker", busy.Owner.User)
					continue
				}
				if !assert.NoError(t, err) || !assert.True(t, mu.TryLock(), "held twice") {
					return
				}
				got[i]++
				mu.Unlock()
				assert.NoError(t, h.Unlock())
			}
		})
	}
	takers.Wait()
	stop()
	wg.Wait()
	assert.Equal(t, []int{25, 25, 25, 25}, got)
}

func TestFileJournalRemovesWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, ".x.jsonl.1.tmp"), filepath.Join(dir, ".x.jsonl.2.tmp")
	for _, path := range []string{old, fresh} {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	long := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(old, long, long))
	lockJournal(t, openJournal(t, dir))
	assert.NoFileExists(t, old)
	assert.FileExists(t, fresh, "somebody may be at it")
}
