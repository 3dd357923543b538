package iis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

// opened is the box of s, closed at the end of the test.
func (s setting) opened(t *testing.T) *box {
	t.Helper()
	b, err := s.open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.close()) })
	return b
}

func TestMistakesAllAtOnce(t *testing.T) {
	app := &iis.App{Mode: 7, Probes: -1}
	_, err := iis.NewSlot(iis.SlotConfig{App: app, Pool: "a|b", Site: "x/y", Staging: "ftp/*:21:", Ready: "healthz"})
	require.Error(t, err)
	for _, text := range []string{"App.Host", "App.Mark", "App.Mode", "negative", "no Name", "Pool", "Site", "Staging", "healthz"} {
		assert.ErrorContains(t, err, text)
	}
	_, err = iis.NewSlot(iis.SlotConfig{})
	assert.ErrorContains(t, err, "App is nil")

	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}
	b := s.opened(t)
	for what, f := range map[string]func() error{
		"is slot": func() error {
			_, err := iis.NewRootSwap(iis.RootSwapConfig{App: b.app, Site: "MySite-blue", Slots: []*iis.Slot{b.blue, b.green}})
			return err
		},
		"at least two": func() error {
			_, err := iis.NewRootSwap(iis.RootSwapConfig{App: b.app, Site: "MySite", Slots: []*iis.Slot{b.blue}})
			return err
		},
		"both have": func() error {
			_, err := iis.NewRootSwap(iis.RootSwapConfig{App: b.app, Site: "MySite", Slots: []*iis.Slot{b.blue, b.blue}})
			return err
		},
		"no Live": func() error {
			_, err := iis.NewSiteToggle(iis.SiteToggleConfig{App: b.app, Slots: []*iis.Slot{b.blue, b.green}})
			return err
		},
		"no Bindings": func() error {
			_, err := iis.NewBindingSwap(iis.BindingSwapConfig{App: b.app, Slots: []*iis.Slot{b.blue, b.green}})
			return err
		},
		"staging binding": func() error {
			_, err := iis.NewBindingSwap(iis.BindingSwapConfig{App: b.app, Slots: []*iis.Slot{b.blue, b.green},
				Bindings: []iis.Binding{{Protocol: "http", Information: "127.0.0.1:8001:"}}})
			return err
		},
		"another App": func() error {
			other := &iis.App{Host: host, Mark: iis.Mark{Header: "X-Release"}}
			_, err := iis.NewRootSwap(iis.RootSwapConfig{App: other, Site: "MySite", Slots: []*iis.Slot{b.blue, b.green}})
			return err
		},
	} {
		assert.ErrorContains(t, f(), what)
	}
}

func TestLiveSlotIsNotTouched(t *testing.T) {
	for _, strategy := range allStrategies() {
		s := setting{strategy: strategy, mode: iis.Classic, deploys: true}
		named(t, s.with(iis.Facts{}), func(t *testing.T, s setting) {
			b := s.opened(t)
			ctx := t.Context()
			assert.ErrorIs(t, b.blue.Stop(ctx), abswap.ErrSlotOccupied)
			assert.ErrorIs(t, b.blue.Install(ctx, abswap.Release{ID: "v2"}), abswap.ErrSlotOccupied)
			assert.NoError(t, b.blue.Start(ctx), "a slot that runs is left as it is")
			assert.NoError(t, await(ctx, func() error { return b.blue.Ready(ctx) }))
			st, err := b.blue.Inspect(ctx)
			require.NoError(t, err)
			assert.Equal(t, abswap.SlotState{Release: "blue-1", Running: true, Address: "127.0.0.1:8001"}, st)

			require.NoError(t, b.green.Stop(ctx))
			require.NoError(t, b.green.Stop(ctx), "a stopped slot is left as it is")
			assert.ErrorIs(t, b.green.Ready(ctx), abswap.ErrNotReady)
			assert.Error(t, b.sw.Activate(ctx, b.green), "its pool does not run")
			name, err := b.sw.Active(ctx)
			require.NoError(t, err)
			assert.Equal(t, "blue", name)
			st, err = b.green.Inspect(ctx)
			require.NoError(t, err)
			assert.False(t, st.Running)
		})
	}
}

func TestSameMarkIsRefused(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic, deploys: true}.with(iis.Facts{})
	b := s.opened(t)
	ctx := t.Context()
	for _, slot := range []string{"blue", "green"} { // both slots hold one release
		require.NoError(t, b.appcmd(ctx, "set", "vdir", "MySite-"+slot+"/", `/physicalPath:`+folderOf("blue")))
	}
	require.NoError(t, b.srv.Settle(ctx))
	err := b.sw.Activate(ctx, b.green)
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorContains(t, err, "same mark")
}

func TestWithoutRequestMonitor(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.Facts{})
	b := s.opened(t)
	ctx := t.Context()
	b.srv.SetRequestMonitor(false)
	require.NoError(t, await(ctx, func() error { return b.blue.Ready(ctx) })) // so that there is a worker process
	l, err := b.drainer.InFlight(ctx, b.blue)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, "Request Monitor")
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
	_, err = b.drainer.List(ctx, b.blue, 10)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, b.drainer.Check(ctx, abswap.CheckRequest{}), errors.ErrUnsupported)

	require.NoError(t, b.green.Stop(ctx))
	l, err = b.drainer.InFlight(ctx, b.green)
	require.NoError(t, err, "without a worker process nothing is executing")
	assert.Equal(t, abswap.EvidenceApproximate, l.Evidence)
	assert.Zero(t, l.Total())
}

func TestQueueIsCounted(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.Facts{})
	b := s.opened(t)
	b.drainer.Queue = func(_ context.Context, pool string) (int, error) {
		if pool != "MySite-blue" {
			return 0, errors.New("no such counter")
		}
		return 3, nil
	}
	l, err := b.drainer.InFlight(t.Context(), b.blue)
	require.NoError(t, err)
	assert.Equal(t, 3, l.Requests)
	_, err = b.drainer.InFlight(t.Context(), b.green)
	assert.ErrorContains(t, err, "no such counter")
}

// TestOldWorkerStillCounts recycles the pool of a slot while it has work: the old worker process finishes it, and it counts.
func TestOldWorkerStillCounts(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.Facts{})
	r, err := s.rig(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	ctx := t.Context()
	require.NoError(t, r.Switcher.Activate(ctx, r.Blue))
	old, err := r.Begin(ctx, switchertest.KindUpload)
	require.NoError(t, err)
	defer old.Abort()
	srv := r.Blue.(*iis.Slot).Server()
	out, exit, err := srv.Runner.Run(ctx, []string{"recycle", "apppool", "MySite-blue"}, nil)
	require.NoError(t, err)
	require.Zero(t, exit, "%s", out)
	young, err := r.Begin(ctx, switchertest.KindUpload)
	require.NoError(t, err)
	defer young.Abort()
	count := func() int {
		l, err := r.Drainer.InFlight(ctx, r.Blue)
		require.NoError(t, err)
		return l.Requests
	}
	assert.Eventually(t, func() bool { return count() == 2 }, 10*time.Second, 20*time.Millisecond)
	require.NoError(t, old.End(ctx))
	require.NoError(t, young.End(ctx))
	assert.Eventually(t, func() bool { return count() == 0 }, 10*time.Second, 20*time.Millisecond)
}

func TestNotElevated(t *testing.T) {
	for _, e := range []iistest.Elevation{iistest.NotElevatedUnknown, iistest.NotElevatedWAS, iistest.NotElevatedRedirect} {
		s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.Facts{})
		b := s.opened(t)
		b.srv.SetElevation(e)
		_, err := b.sw.Active(t.Context())
		assert.ErrorContains(t, err, "elevated", "elevation %d", e)
		assert.NotErrorIs(t, err, abswap.ErrNoActive, "not known is not stopped")
		assert.ErrorContains(t, b.sw.(abswap.Checker).Check(t.Context(), abswap.CheckRequest{}), "elevated")
		assert.ErrorContains(t, b.sw.Activate(t.Context(), b.green), "elevated")
	}
}
