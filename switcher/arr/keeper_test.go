package arr_test

import (
	"context"
	"errors"
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

// kept runs a Keeper in what would be another process, until the test ends.
func (b *box) kept(t *testing.T, every time.Duration) *atomic.Int64 {
	t.Helper()
	return b.keeper(t, b.cfg, every)
}

// keeper runs one with that configuration.
func (b *box) keeper(t *testing.T, cfg arr.Config, every time.Duration) *atomic.Int64 {
	t.Helper()
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	var n atomic.Int64
	k := &arr.Keeper{Switcher: sw, Interval: every, OnKept: func(x arr.Kept) {
		if x.Err == nil {
			n.Add(1)
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { assert.ErrorIs(t, k.Run(ctx), context.Canceled) })
	t.Cleanup(func() { cancel(); wg.Wait(); assert.NoError(t, sw.Close()) })
	return &n
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{members: 2})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	n := b.kept(t, 20*time.Millisecond)
	for range 3 {
		require.NoError(t, b.recycle())
		require.Eventually(t, func() bool {
			name, err := b.sw.Active(t.Context())
			return err == nil && name == "blue"
		}, patience, 5*time.Millisecond)
	}
	assert.Positive(t, n.Load())
	require.Eventually(t, func() bool { // the Keeper knows the worker process that serves
		data, err := os.ReadFile(b.cfg.Memory)
		known := err == nil
		for pid, state := range b.pids() {
			known = known && state == "Running" == strings.Contains(string(data), fmt.Sprint(pid))
		}
		return known
	}, patience, 5*time.Millisecond)
	require.NoError(t, b.disturb("green"), "an operator changes it by hand")
	assert.Never(t, func() bool {
		name, err := b.sw.Active(t.Context())
		return err != nil || name != "green"
	}, 300*time.Millisecond, 10*time.Millisecond, "which stays")
}

func TestKeeperLeavesWhatServes(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{health: `<healthCheck url="http://` + host + `/up.html" interval="00:00:20" timeout="16:40:00" responseMatch="up" />`})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	out, exit := b.srv.Appcmd(t.Context(), []string{"stop", "site", "MySite-blue-0"}, nil)
	require.Zero(t, exit, "%s", out)
	require.NoError(t, b.recycle())
	require.Eventually(t, func() bool { return !b.state(t, "blue").Healthy && b.state(t, "green").Healthy }, patience, 5*time.Millisecond)
	k := &arr.Keeper{Switcher: b.sw}
	_, err := k.Keep(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.Equal(t, "Active", b.state(t, "green").State, "the only one that can serve")
	require.ErrorContains(t, (&arr.Keeper{}).Run(t.Context()), "no Switcher")
	require.NoError(t, os.WriteFile(b.cfg.Memory, []byte("{"), 0o600))
	_, err = k.Keep(t.Context())
	assert.Error(t, err)
}

// TestRecycledInEveryState recycles ARR's pool at each runtime call of a swap, in turn: the swap ends right, and traffic does not stay with a
// closed slot.
func TestRecycledInEveryState(t *testing.T) {
	t.Parallel()
	const every = 20 * time.Millisecond
	var calls atomic.Int64
	var at atomic.Int64                   // the call before which it is recycled
	single := make(chan time.Duration, 1) // how long after a recycle both slots were open
	var worst time.Duration
	b := opened(t, setting{mode: iistest.CoreInProcess})
	cfg := b.cfg
	cfg.Grace = patience
	cfg.Caller = callerFunc(func(ctx context.Context, line []byte) ([]byte, error) {
		if calls.Add(1) == at.Load() {
			if err := b.recycle(); err != nil {
				return nil, err
			}
			go func() { single <- b.bothOpen() }()
		}
		return caller{b.srv}.Call(ctx, line)
	})
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	require.NoError(t, sw.Activate(t.Context(), b.blue))
	b.kept(t, every)
	active := "blue"
	for i := int64(1); i <= 40; i++ {
		if !*full && i > 12 && i%3 != 0 || briefly() && i%4 != 0 {
			continue
		}
		to := b.green
		if active == "green" {
			to = b.blue
		}
		s := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{b.blue, b.green}, Soak: -1, FrontDoor: b.ask, Retain: -1,
			Timeouts: abswap.Timeouts{Settle: patience}, Drain: abswap.DrainOptions{Quiet: 50 * time.Millisecond, Poll: 10 * time.Millisecond}}
		calls.Store(0)
		at.Store(i)
		report, err := s.Swap(t.Context(), to.ID)
		recycled := calls.Load() >= i
		at.Store(0)
		require.NoError(t, err, "recycled at call %d: Active waits for the Keeper, so that the swap ends as if nothing had been", i)
		require.Equal(t, abswap.OutcomeSucceeded, report.Outcome)
		require.Eventually(t, func() bool {
			active, err = sw.Active(t.Context())
			return err == nil && active == to.ID
		}, patience, 5*time.Millisecond, "after a recycle at call %d", i)
		for range 5 {
			got, err := b.ask(t.Context())
			require.NoError(t, err)
			require.Equal(t, active, got)
		}
		if !recycled {
			t.Logf("a swap has %d calls; after a recycle both slots were open for %s at most", calls.Load(), worst.Round(time.Millisecond))
			break
		}
		worst = max(worst, <-single)
		require.LessOrEqual(t, worst, every+slack, "after a recycle at call %d", i)
	}
}

// bothOpen is how long it takes until not more than one slot is open.
func (b *box) bothOpen() time.Duration {
	began := time.Now()
	for time.Since(began) < patience {
		all, err := b.srv.Members(farm)
		open := 0
		for _, m := range all {
			if m.State == "Active" {
				open++
			}
		}
		if err == nil && open < 2 {
			break
		}
		time.Sleep(time.Millisecond) // a poll with a deadline
	}
	return time.Since(began)
}

type callerFunc func(ctx context.Context, line []byte) ([]byte, error)

func (f callerFunc) Call(ctx context.Context, line []byte) ([]byte, error) { return f(ctx, line) }

// TestCallsThatFail lets each runtime call of a switch fail in turn, before or after its effect: the world is the old one or the new one.
func TestCallsThatFail(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, lasting := range []bool{false, true} {
			t.Run(fmt.Sprintf("after %t lasting %t", after, lasting), func(t *testing.T) {
				t.Parallel()
				b := opened(t, setting{})
				require.NoError(t, b.sw.Activate(t.Context(), b.blue))
				for n := int64(1); n < 12; n++ {
					var calls atomic.Int64
					var healed atomic.Bool
					cfg := b.cfg
					cfg.Patience = 300 * time.Millisecond
					cfg.Caller = callerFunc(func(ctx context.Context, line []byte) ([]byte, error) {
						k := calls.Add(1)
						fails := k == n || lasting && k > n && k < n+40
						if !fails || healed.Load() {
							return caller{b.srv}.Call(ctx, line)
						}
						if after {
							_, _ = caller{b.srv}.Call(ctx, line)
						}
						return nil, errors.New("the line is dead")
					})
					sw, err := arr.New(cfg)
					require.NoError(t, err)
					err = sw.Activate(t.Context(), b.green)
					healed.Store(true)
					name, aerr := sw.Active(t.Context())
					switch {
					case err == nil:
						require.NoError(t, aerr)
						require.Equal(t, "green", name)
					case errors.Is(err, abswap.ErrUnknownOutcome): // it says so
					default:
						require.NoError(t, aerr, "call %d: %v", n, err)
						require.Equal(t, "blue", name, "call %d: %v", n, err)
					}
					require.NoError(t, b.sw.Activate(t.Context(), b.blue), "and the next one can work from there")
				}
			})
		}
	}
}
