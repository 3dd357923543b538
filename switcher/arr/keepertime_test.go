package arr_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
)

// slack is what a noisy machine may add to a time that is measured.
const slack = 10 * time.Second

// round is a runtime call of a Keeper.
type round struct {
	call  string
	began time.Time
}

// rounds are the runtime calls of a Keeper, in order.
type rounds struct {
	mu  sync.Mutex
	all []round
}

func (r *rounds) note(call string, took time.Duration, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	call, _, _ = strings.Cut(call, " ")
	r.all = append(r.all, round{call, time.Now().Add(-took)})
}

// looks counts how often the Keeper began to look after a moment until it set a state; set is false if it has set none since then.
func (r *rounds) looks(issued, after time.Time) (n int, set bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		switch {
		case x.began.Before(issued):
		case x.call == "setState":
			return n, true
		case x.began.After(after):
			n++
		}
	}
	return n, false
}

// closed tells whether the first member of a slot is, and how many requests came to it in ARR's process of now, both at one moment.
func (b *box) closed(t *testing.T, slot string) (bool, int64) {
	m := b.state(t, slot)
	return m.State == "Inactive", m.Total
}

// TestKeeperIsInTime recycles ARR's pool again and again under load, and measures for how long the closed slot gets requests: the first look of the
// Keeper after the new process took over ends it, and not one request comes after that.
func TestKeeperIsInTime(t *testing.T) {
	t.Parallel()
	n, every := 12, 50*time.Millisecond
	if *full {
		n, every = 100, time.Second // the default
	}
	b := opened(t, setting{mode: iistest.CoreInProcess})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	var calls rounds
	cfg := b.cfg
	cfg.OnCall = calls.note
	kept := b.keeper(t, cfg, every)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var sent, lost atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := b.ask(context.WithoutCancel(ctx)); err != nil {
					lost.Add(1)
				}
				sent.Add(1)
				pause(ctx, 2*time.Millisecond)
			}
		})
	}
	var worst time.Duration
	var strayed, most int64
	for i := range n {
		issued := time.Now()
		require.NoError(t, b.recycle())
		tookOver := time.Now()
		var late int64
		require.Eventually(t, func() (closed bool) {
			closed, late = b.closed(t, "green")
			return closed
		}, patience, time.Millisecond)
		took := time.Since(tookOver)
		looks := 0
		require.Eventually(t, func() (set bool) {
			looks, set = calls.looks(issued, tookOver)
			return set
		}, patience, time.Millisecond, "the call that has closed it is told of when it has returned")
		require.LessOrEqual(t, looks, 1, "recycle %d: the first look restores", i)
		require.LessOrEqual(t, took, every+slack, "recycle %d", i)
		for range 10 {
			got, err := b.ask(t.Context())
			require.NoError(t, err)
			require.Equal(t, "blue", got)
		}
		closed, total := b.closed(t, "green")
		require.True(t, closed)
		require.Equal(t, late, total, "recycle %d: requests came to the closed slot after its state was restored", i)
		worst, most, strayed = max(worst, took), max(most, late), strayed+late
	}
	stop()
	wg.Wait()
	t.Logf("%d recycles with a Keeper that looks every %s: restored after %s at worst; the closed slot got %d of %d requests, at most %d after one recycle, none later; %d lost",
		n, every, worst.Round(time.Millisecond), strayed, sent.Load(), most, lost.Load())
	assert.Zero(t, lost.Load())
	assert.Eventually(t, func() bool { return kept.Load() >= int64(n) }, patience, time.Millisecond, "each restoration is told of")
}

// reading is an answer to "read", as far as it is looked at.
type reading map[string]json.RawMessage

func read(ctx context.Context, b *box, line []byte) (reading, error) {
	text, err := caller{b.srv}.Call(ctx, line)
	var a reading
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// TestKeeperSeesWhoTakesOverWhileItReads: a process takes over between the list of processes and the counters. It must not be taken for one in
// which the states are already as wanted.
func TestKeeperSeesWhoTakesOverWhileItReads(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	var between atomic.Bool
	cfg := b.cfg
	cfg.Caller = callerFunc(func(ctx context.Context, line []byte) ([]byte, error) {
		if !strings.Contains(string(line), `"call":"read"`) || !between.CompareAndSwap(true, false) {
			return caller{b.srv}.Call(ctx, line)
		}
		first, err := read(ctx, b, line)
		if err != nil {
			return nil, err
		}
		if err := b.recycle(); err != nil {
			return nil, err
		}
		second, err := read(ctx, b, line)
		if err != nil {
			return nil, err
		}
		second["workers"] = first["workers"] // the order in which the script reads
		return json.Marshal(second)
	})
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	k := &arr.Keeper{Switcher: sw}
	between.Store(true)
	_, err = k.Keep(t.Context())
	require.NoError(t, err)
	require.False(t, between.Load())
	members, err := k.Keep(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{address("green", 0)}, members, "the next look sees it")
	assert.Equal(t, "Inactive", b.state(t, "green").State)
	_, err = k.Keep(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.disturb("green"))
	members, err = k.Keep(t.Context())
	require.NoError(t, err)
	assert.Empty(t, members, "and now the process is known: what an operator does stays")
}

// TestRecycledWhileItWaits recycles ARR's pool while a switch waits with the right to change states, so that no Keeper can work.
func TestRecycledWhileItWaits(t *testing.T) {
	t.Run("for health", func(t *testing.T) {
		t.Parallel()
		b := opened(t, setting{health: `<healthCheck url="http://` + host + `/up.html" interval="00:03:20" timeout="16:40:00" responseMatch="up" />`, // 0.2 s
			quirks: iistest.ARRQuirks{FirstTestLater: true}, with: func(c *arr.Config) { c.Patience, c.Settle = 2*time.Minute, 2*time.Second }})
		require.NoError(t, b.sw.Activate(t.Context(), b.blue))
		out, exit := b.srv.Appcmd(t.Context(), []string{"stop", "site", "MySite-green-0"}, nil)
		require.Zero(t, exit, "%s", out)
		require.Eventually(t, func() bool { return !b.state(t, "green").Healthy }, patience, 5*time.Millisecond)
		cfg := b.cfg
		var reads atomic.Int64
		cfg.OnCall = func(string, time.Duration, error) { reads.Add(1) }
		sw, err := arr.New(cfg)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- sw.Activate(t.Context(), b.green) }()
		require.Eventually(t, func() bool { return reads.Load() > 3 }, patience, time.Millisecond, "it waits")
		require.NoError(t, b.recycle())
		require.Eventually(t, func() bool { return b.state(t, "green").State == "Inactive" }, patience, time.Millisecond, "who waits keeps")
		require.Eventually(t, func() bool { return !b.state(t, "green").Healthy }, patience, time.Millisecond, "a new process has it healthy before its first test")
		require.Empty(t, done, "it still waits")
		out, exit = b.srv.Appcmd(t.Context(), []string{"start", "site", "MySite-green-0"}, nil)
		require.Zero(t, exit, "%s", out)
		require.NoError(t, <-done)
		assert.Equal(t, map[string]int{"green": 10}, b.shares(t, 10))
	})
	t.Run("for the front door", func(t *testing.T) {
		t.Parallel()
		b := opened(t, setting{})
		require.NoError(t, b.sw.Activate(t.Context(), b.blue))
		cfg := b.cfg
		var asked atomic.Int64
		cfg.Ask = func(ctx context.Context) (string, error) {
			if asked.Add(1) == 3 {
				if err := b.recycle(); err != nil {
					return "", fmt.Errorf("recycle: %w", err)
				}
			}
			return b.ask(ctx)
		}
		sw, err := arr.New(cfg)
		require.NoError(t, err)
		require.NoError(t, sw.Activate(t.Context(), b.green))
		assert.Greater(t, asked.Load(), int64(10))
		assert.Equal(t, map[string]int{"green": 20}, b.shares(t, 20))
	})
}

// TestWithoutAKeeper: what nobody restores is told as it is, after a while.
func TestWithoutAKeeper(t *testing.T) {
	t.Parallel()
	for grace, least := range map[time.Duration]time.Duration{-1: 0, 300 * time.Millisecond: 300 * time.Millisecond} {
		b := opened(t, setting{with: func(c *arr.Config) { c.Grace = grace }})
		require.NoError(t, b.sw.Activate(t.Context(), b.blue))
		require.NoError(t, b.recycle())
		began := time.Now()
		_, err := b.sw.Active(t.Context())
		assert.ErrorIs(t, err, abswap.ErrMixed, "both are open")
		assert.GreaterOrEqual(t, time.Since(began), least)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = b.sw.Active(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		require.NoError(t, os.WriteFile(b.cfg.Memory, []byte("{"), 0o600))
		_, err = b.sw.Active(t.Context())
		assert.ErrorIs(t, err, abswap.ErrMixed, "also when the memory cannot be read")
		assert.ErrorContains(t, b.sw.Activate(t.Context(), b.blue), "memory")
	}
}
