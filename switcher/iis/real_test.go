//go:build iisreal && windows

package iis_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// TestRealDeploy sets a site up for each strategy, deploys into it and back under load with an upload over each deploy, and takes all away
// again. What must hold on any box: every deploy ends well, no answer is late, and the site is as it was in the end. What a strategy may lose is
// printed.
func TestRealDeploy(t *testing.T) {
	for _, strategy := range []iis.Strategy{iis.StrategyRootSwap, iis.StrategySiteToggle, iis.StrategyBindingSwap} {
		t.Run(string(strategy), func(t *testing.T) { deployReal(t, openReal(t), strategy) })
	}
}

func deployReal(t *testing.T, b *realBox, strategy iis.Strategy) {
	port := freePort(t)
	site := b.site("shop", b.release("v1"), port)
	before := b.must("list", "site", site, "/config:*", "/xml")
	app := &iis.App{
		Host: "www.example.test", Mark: iis.Mark{Path: "/who.aspx", Header: "X-Release"}, Mode: iis.Classic,
		Accept: iis.Accept{CutOldWork: true, Certificates: true, TwoCommits: true},
		Server: &iis.Server{OnCommand: func(command string, took time.Duration, err error) {
			t.Logf("%s: %s %v", command, took.Round(time.Millisecond), err)
		}},
		OnSwitch: func(s iis.Switched) { b.answer("switch: %+v", s) },
	}
	setup, err := iis.NewSetup(iis.SetupConfig{App: app, Strategy: strategy, Site: site,
		Staging: []string{fmt.Sprintf("http/127.0.0.1:%d:", freePort(t)), fmt.Sprintf("http/127.0.0.1:%d:", freePort(t))}})
	require.NoError(t, err)
	require.NoError(t, setup.Apply(t.Context()))
	again, err := setup.Plan(t.Context())
	require.NoError(t, err)
	assert.Empty(t, again, "a setup that is done has nothing to do")

	configs, err := setup.SlotConfigs(t.Context())
	require.NoError(t, err)
	in, err := folder.New(folder.Config{Parent: b.dir, Name: "shop"})
	require.NoError(t, err)
	var slots []*iis.Slot
	for _, c := range configs {
		c.Install, c.Ready, c.Warm = in.Install, "/who.aspx", []string{"/who.aspx"}
		c.Release = releaseIn
		slot, err := iis.NewSlot(c)
		require.NoError(t, err)
		slots = append(slots, slot)
	}
	var sw abswap.Switcher
	switch strategy {
	case iis.StrategyRootSwap:
		sw, err = iis.NewRootSwap(iis.RootSwapConfig{App: app, Site: site, Slots: slots})
	case iis.StrategySiteToggle:
		sw, err = iis.NewSiteToggle(iis.SiteToggleConfig{App: app, Slots: slots})
	default:
		sw, err = iis.NewBindingSwap(iis.BindingSwapConfig{App: app, Slots: slots, Bindings: []iis.Binding{{Protocol: "http", Information: fmt.Sprintf("*:%d:", port)}}})
	}
	require.NoError(t, err)
	swapper := &abswap.Swapper{Switcher: sw, Drainer: &iis.Drainer{Slots: slots}, Slots: []abswap.Slot{slots[0], slots[1]}, Retain: -1,
		Soak: time.Second, Drain: abswap.DrainOptions{Timeout: 5 * time.Minute}, Timeouts: abswap.Timeouts{Shift: 2 * time.Minute}}

	old := "v1"
	for _, id := range []string{"v2", "v3"} {
		l := startReal(port)
		begun, finish := make(chan struct{}), make(chan struct{})
		var up seen
		var long sync.WaitGroup
		long.Go(func() { up = upload(port, begun, finish) })
		<-begun
		var once sync.Once
		swapper.OnEvent = func(e abswap.Event) {
			switch {
			case e.Kind == abswap.EventDone && e.Phase == abswap.PhaseShifting && e.Err == nil:
				l.expect(id)
			case e.Kind == abswap.EventPhase && e.Phase == abswap.PhaseDraining:
				once.Do(func() { time.AfterFunc(10*time.Second, func() { close(finish) }) })
			}
		}
		rep, err := swapper.Deploy(t.Context(), abswap.Release{ID: id, Path: b.release(id)})
		once.Do(func() { close(finish) })
		long.Wait()
		sent, lost, late := l.end()
		b.answer("%s from %s to %s: %s; %d requests, %d lost, %d late; the upload: %s", strategy, old, id, rep.Outcome, sent, lost, late, up)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Zero(t, late, "in force at return")
		assert.Equal(t, id, get(port, "").release)
		old = id
	}
	rep, err := swapper.Swap(t.Context(), slots[1].Name())
	require.NoError(t, err)
	assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
	assert.Equal(t, "v2", get(port, "").release)
	_, err = swapper.Swap(t.Context(), slots[0].Name())
	require.NoError(t, err)

	require.NoError(t, setup.Undo(t.Context()))
	after := b.must("list", "site", site, "/config:*", "/xml")
	t.Logf("the site before:\n%s\nand after:\n%s", before, after)
	assert.Equal(t, "v3", get(port, "").release)
}

// realLoad asks who answers all the time, on fresh connections and on kept ones.
type realLoad struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu               sync.Mutex
	want             string
	sent, lost, late int
}

func startReal(port int) *realLoad {
	l := &realLoad{stop: make(chan struct{})}
	for i := range 4 {
		l.wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(20 * time.Millisecond):
					l.ask(tr, port)
				}
			}
		})
	}
	return l
}

// expect says who must answer all that is sent from now on.
func (l *realLoad) expect(release string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = release
}

func (l *realLoad) ask(tr *http.Transport, port int) {
	l.mu.Lock()
	want := l.want
	l.mu.Unlock()
	began := time.Now()
	var got seen
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/who.aspx", port), nil)
	if err == nil {
		var resp *http.Response
		if resp, err = tr.RoundTrip(req); err == nil {
			got = asSeen(resp, began)
			err = got.err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	switch {
	case err != nil || got.status != http.StatusOK:
		l.lost++
	case want != "" && got.release != want:
		l.late++
	}
}

func (l *realLoad) end() (sent, lost, late int) {
	close(l.stop)
	l.wg.Wait()
	return l.sent, l.lost, l.late
}
