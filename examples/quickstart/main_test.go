package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var swaps = flag.Int("swaps", 20, "how many swaps TestSwapsUnderLoad makes")

// TestMain lets the slots start this test binary as the application. What the race detector finds there, it writes into a folder that is
// looked into at the end. The tests wait more than they work: more of them run at one time than there are processors.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == appArg {
		os.Exit(appMain(os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "quickstart-races-")
	if err != nil {
		panic(err)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=10 log_path="+filepath.Join(dir, "race"))
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line goes before this
		panic(err)
	}
	code := m.Run()
	if races, err := filepath.Glob(filepath.Join(dir, "race*")); err != nil || len(races) > 0 {
		for _, name := range races {
			text, _ := os.ReadFile(name)
			fmt.Printf("in an application: %s\n", text)
		}
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// The program as a user runs it, but shorter.
func TestRun(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	code := run(t.Context(), []string{"-json", "-seconds", "5", "-rate", "50", "-seed", "3"}, &stdout, t.Output())
	assert.Zero(t, code)
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	require.Len(t, lines, 1, "the progress goes to stderr")
	var got verdict
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &got))
	assert.True(t, got.OK)
	var outcomes []string
	var steady int64
	for _, r := range got.Deploys {
		outcomes = append(outcomes, r.Outcome)
		assert.Equal(t, [3]int{}, [3]int{r.Lost, r.Late, r.Cut}, r.Name)
		if r.Name != "v1, the first" {
			assert.Positive(t, r.Requests, r.Name)
			assert.Positive(t, max(r.P99NearUS, r.P99SteadyUS), r.Name)
		}
		steady = max(steady, r.P99SteadyUS) // a short act may lie near a move from its begin to its end
	}
	assert.Positive(t, steady)
	assert.Equal(t, []string{"succeeded", "succeeded", "succeeded", "discarded", "rolled-back", "succeeded", "succeeded"}, outcomes)
}

func TestBadCommandLines(t *testing.T) {
	for _, args := range [][]string{{"-rate", "0"}, {"-rate", "x"}, {"-seconds", "1"}, {"-seconds", "NaN"}, {"-seconds", "1e9"}, {"more"},
		{"-spoil"}} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), args, &stdout, &stderr), args)
		assert.Empty(t, stdout.String(), args)
		assert.NotEmpty(t, stderr.String(), args)
	}
	assert.Zero(t, run(t.Context(), []string{"-h"}, &bytes.Buffer{}, &bytes.Buffer{}))
}

// Interrupted in the middle, the program ends soon and cleanly, and says that it proved nothing.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // Windows
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &watchedOutput{when: "v3, in steps", then: interrupt}
	began := time.Now()
	code := run(ctx, []string{"-seconds", "10", "-rate", "50"}, out, t.Output())
	assert.Equal(t, 130, code, out.String())
	assert.Contains(t, out.String(), "interrupted; all that was started has been stopped")
	assert.NotContains(t, out.String(), "Nothing was lost")
	assert.Less(t, time.Since(began), 60*time.Second)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "the temporary folder is removed")
}

// watchedOutput does something when a text has been written.
type watchedOutput struct {
	mu sync.Mutex
	bytes.Buffer
	when string
	then func()
}

func (w *watchedOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.when) {
		w.then()
	}
	return w.Buffer.Write(p)
}

// leaky says that it has switched, and goes on sending one request of twenty to the old slot.
type leaky struct {
	*proxy.Switcher
	mu     sync.Mutex
	active abswap.Slot
}

func (l *leaky) Activate(ctx context.Context, s abswap.Slot) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.active
	l.active = s
	if old == nil || old.Name() == s.Name() {
		return l.Switcher.Activate(ctx, s)
	}
	return l.Switcher.SetWeights(ctx, abswap.Weight{Slot: s, Part: 95}, abswap.Weight{Slot: old, Part: 5})
}

func (l *leaky) Active(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == nil {
		return "", abswap.ErrNoActive
	}
	return l.active.Name(), nil
}

func (l *leaky) Weights(ctx context.Context) (map[string]int, error) {
	name, err := l.Active(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]int{name: 100}, nil
}

// tardy answers before it has switched, as a reload does.
type tardy struct {
	*proxy.Switcher
	after time.Duration
	wg    sync.WaitGroup
}

func (l *tardy) Activate(ctx context.Context, s abswap.Slot) error {
	if _, err := l.Switcher.Active(ctx); err != nil {
		return l.Switcher.Activate(ctx, s)
	}
	l.wg.Go(func() {
		<-time.After(l.after)
		l.Switcher.Activate(context.WithoutCancel(ctx), s)
	})
	return nil
}

// cutter ends what the old slot still has at once.
type cutter struct {
	*proxy.Switcher
	mu  sync.Mutex
	old abswap.Slot
}

func (c *cutter) Activate(ctx context.Context, s abswap.Slot) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Switcher.Activate(ctx, s); err != nil {
		return err
	}
	old := c.old
	c.old = s
	if old == nil || old.Name() == s.Name() {
		return nil
	}
	return c.Switcher.Force(ctx, old, abswap.ForceCut)
}

// A proxy that breaks a promise must be found out: by the judge that is used for the sound one, on the same story.
func TestBrokenSwitchersAreFoundOut(t *testing.T) {
	t.Parallel()
	late := func(r row) int { return r.Late }
	cut := func(r row) int { return r.Cut }
	for name, c := range map[string]struct {
		spoil func(*testing.T, *proxy.Switcher) abswap.WeightedSwitcher
		count func(row) int
	}{
		"leaky": {func(_ *testing.T, s *proxy.Switcher) abswap.WeightedSwitcher { return &leaky{Switcher: s} }, late},
		"tardy": {func(t *testing.T, s *proxy.Switcher) abswap.WeightedSwitcher {
			d := &tardy{Switcher: s, after: 300 * time.Millisecond}
			t.Cleanup(d.wg.Wait)
			return d
		}, late},
		"cutter": {func(_ *testing.T, s *proxy.Switcher) abswap.WeightedSwitcher { return &cutter{Switcher: s} }, cut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options{rate: 50, seconds: 5, seed: 5, script: script()[:2]}
			o.spoil = func(s *proxy.Switcher) abswap.WeightedSwitcher { return c.spoil(t, s) }
			v, err := quickstart(t.Context(), o, newProgress(t.Output(), time.Now()))
			require.NoError(t, err)
			assert.False(t, v.OK)
			require.Len(t, v.Deploys, 2)
			assert.Positive(t, c.count(v.Deploys[1]), v.Deploys)
			if name != "cutter" { // that one cuts short requests too
				assert.Zero(t, v.Deploys[1].Lost)
			}
		})
	}
}

// Swaps in a row, with all that a client can do under way at each of them. The long form is
//
//	go test -race -run TestSwapsUnderLoad -timeout 30m ./examples/quickstart -swaps 200
func TestSwapsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	o := options{rate: 100, seconds: 5, seed: 11, script: loop(*swaps)}
	v, err := quickstart(t.Context(), o, newProgress(t.Output(), time.Now()))
	require.NoError(t, err)
	var sum row
	for _, r := range v.Deploys {
		sum.Requests, sum.Lost, sum.Late, sum.Cut = sum.Requests+r.Requests, sum.Lost+r.Lost, sum.Late+r.Late, sum.Cut+r.Cut
		sum.SwitchUS = max(sum.SwitchUS, r.SwitchUS)
	}
	printVerdict(t.Output(), v)
	t.Logf("%d swaps, %s requests: %d lost, %d late, %d cut; longest switch %s", len(v.Deploys)-1, thousands(sum.Requests), sum.Lost, sum.Late,
		sum.Cut, short(sum.SwitchUS))
	assert.True(t, v.OK)
	assert.Len(t, v.Deploys, *swaps+1, "all swaps were made")
	assert.Equal(t, [3]int{}, [3]int{sum.Lost, sum.Late, sum.Cut})
}

// loop is a script of a first deploy and n swaps: new releases, some in steps, and between them the way back to the slot that was kept.
func loop(n int) []act {
	acts := []act{{name: "first", release: release{Version: "v0", Behaviour: healthy}, want: abswap.OutcomeSucceeded, serving: "v0"}}
	transfers := []transfer{{kindUpload, 10}, {kindDownload, 10}}
	live, kept := "v0", ""
	for i := 1; i <= n; i++ {
		a := act{name: fmt.Sprintf("swap %d", i), want: abswap.OutcomeSucceeded, transfers: transfers}
		a.adjust = func(s *abswap.Swapper) {
			s.Soak = -1
			if i%3 == 0 {
				s.Steps = []int{10, 50}
			}
		}
		if i%4 == 1 {
			a.release = release{Version: fmt.Sprintf("v%d", i), Behaviour: healthy}
			live, kept = a.release.Version, live
		} else {
			live, kept = kept, live
		}
		a.serving = live
		acts = append(acts, a)
	}
	return acts
}
