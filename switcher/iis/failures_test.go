package iis_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// matching is a fault for the command with these words in it.
func matching(kind iistest.FaultKind, times int, words ...string) iistest.Fault {
	return iistest.Fault{Kind: kind, Times: times, Match: func(args []string) bool {
		for _, w := range words {
			if !strings.Contains(strings.Join(args, " "), w) {
				return false
			}
		}
		return true
	}}
}

// assertLive checks that the slot is active and answers at the front door.
func (b *box) assertLive(t *testing.T, slot string) {
	t.Helper()
	name, err := b.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, slot, name)
	client := b.srv.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + host + "/")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, slot, resp.Header.Get("X-Switchertest-Slot"))
}

func TestTogglePutsBack(t *testing.T) {
	s := setting{strategy: iis.StrategySiteToggle, mode: iis.Classic}.with(iis.FactsWith(""))
	b := s.opened(t)
	b.app.Server.RetryFor = -1
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	before := configuration(t, b.srv)
	b.srv.Inject(matching(iistest.ObjectUnknown, -1, "start", "MySite-green-live"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := b.sw.Activate(ctx, b.green)
	require.Error(t, err)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome, "all is as it was")
	assert.ErrorContains(t, err, "is started again")
	b.assertLive(t, "blue")
	assert.Equal(t, before, configuration(t, b.srv), "serverAutoStart is moved back too")
	b.srv.ClearFaults()
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	b.assertLive(t, "green")
}

func TestToggleOfASickSlotIsRefused(t *testing.T) {
	t.Parallel()
	s := setting{strategy: iis.StrategySiteToggle, mode: iis.Classic}.with(iis.FactsWith(""))
	b := s.opened(t)
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	b.app.Patience = 3 * time.Second
	require.NoError(t, b.appcmd(t.Context(), "stop", "site", "MySite-green")) // its staging site: it cannot be proven fit after the commit
	err := b.sw.Activate(t.Context(), b.green)
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	b.assertLive(t, "blue")
	for _, c := range b.srv.Commands() {
		assert.NotContains(t, strings.Join(c.Args, " "), "stop site /site.name:MySite-blue-live", "the live site was not touched")
	}
}

func TestAfterARebootTheRightSiteServes(t *testing.T) {
	for _, strategy := range allStrategies() {
		s := setting{strategy: strategy, mode: iis.Classic}
		named(t, s.with(iis.FactsWith("")), func(t *testing.T, s setting) {
			b := s.opened(t)
			for _, slot := range []*iis.Slot{b.green, b.blue, b.green} {
				require.NoError(t, b.sw.Activate(t.Context(), slot))
				require.NoError(t, b.srv.Reboot())
				b.assertLive(t, slot.Name())
			}
		})
	}
}

func TestDeactivatedOwnerIsStarted(t *testing.T) {
	s := setting{strategy: iis.StrategyBindingSwap, mode: iis.Classic}.with(iis.FactsWith("MovedBindingStopsNewOwner"))
	b := s.opened(t)
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	b.assertLive(t, "green")
	require.Len(t, b.switched, 1)
	assert.Equal(t, 1, b.switched[0].Commits)
	assert.Positive(t, b.switched[0].Gap)
	started := false
	for _, c := range b.commands {
		started = started || c == "appcmd start site /site.name:MySite-green"
	}
	assert.True(t, started)
}

func TestTwoCommitsAreRefusedUnlessAccepted(t *testing.T) {
	s := setting{strategy: iis.StrategyBindingSwap, mode: iis.Classic}.with(iis.FactsWith("AddAndRemoveRefused"))
	b := s.opened(t)
	b.app.Accept.TwoCommits = false
	before := configuration(t, b.srv)
	err := b.sw.Activate(t.Context(), b.green)
	assert.ErrorContains(t, err, "TwoCommits")
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.Equal(t, before, configuration(t, b.srv))
	b.assertLive(t, "blue")
	b.app.Accept.TwoCommits = true
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	b.assertLive(t, "green")
	assert.Equal(t, 2, b.switched[len(b.switched)-1].Commits)
}

func TestRootSwapNeedsOneCommit(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.FactsWith("SeveralPathsRefused"))
	b := s.opened(t)
	stops, _ := b.check(t, abswap.CheckRequest{})
	assert.Contains(t, stops, "in one commit")
	before := configuration(t, b.srv)
	err := b.sw.Activate(t.Context(), b.green)
	assert.ErrorContains(t, err, "in one commit")
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.Equal(t, before, configuration(t, b.srv))
	b.assertLive(t, "blue")
}

// TestOnePathAtATime: what needs no single commit is done in several where one is refused.
func TestOnePathAtATime(t *testing.T) {
	t.Parallel()
	s := setting{strategy: iis.StrategySiteToggle, mode: iis.Classic, deploys: true}.with(iis.FactsWith("SeveralPathsRefused"))
	b, swapper := s.deploying(t)
	report, err := swapper.Deploy(t.Context(), abswap.Release{ID: "v2"})
	require.NoError(t, err)
	assert.Equal(t, abswap.OutcomeSucceeded, report.Outcome)
	active, err := b.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
	var alone []string
	for _, c := range b.commands {
		if strings.Contains(c, "serverAutoStart") && strings.Count(c, "/[name=") == 1 {
			alone = append(alone, c)
		}
	}
	require.Len(t, alone, 2)
	assert.Contains(t, alone[0], "MySite-green-live", "better two sites that start at a reboot than none")
	assert.Contains(t, alone[1], "MySite-blue-live")
}

// TestNotInForce has a commit that is saved and never comes into force: nobody knows, and nobody says that it is done.
func TestNotInForce(t *testing.T) {
	t.Parallel()
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.FactsWith(""))
	b := s.opened(t)
	b.app.Patience = 3 * time.Second
	b.apps["green"].Slot = "somebody else" // the front door is answered by what is not the slot
	err := b.sw.Activate(t.Context(), b.green)
	assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.ErrorContains(t, err, "somebody else")
	name, err := b.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", name, "it tells what the configuration says")
}

// TestKilledCommit has the commit hang before, and after, it has done its work; ctx ends meanwhile.
func TestKilledCommit(t *testing.T) {
	for _, strategy := range allStrategies() {
		for name, kind := range map[string]iistest.FaultKind{"before": iistest.HangBefore, "after": iistest.HangAfter} {
			t.Run(string(strategy)+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := setting{strategy: strategy, mode: iis.Classic}.with(iis.FactsWith(""))
				b := s.opened(t)
				b.app.Server.Timeout = time.Second
				require.NoError(t, b.sw.Activate(t.Context(), b.blue))
				b.srv.Inject(matching(kind, 1, "set", "config"))
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				b.mu.Lock()
				b.commands = nil
				b.mu.Unlock()
				err := b.sw.Activate(ctx, b.green)
				b.srv.ClearFaults()
				if err != nil && b.ran("set config") && !strings.Contains(err.Error(), "not run: ") { // on a busy machine ctx may end before the commit
					assert.ErrorIs(t, err, abswap.ErrUnknownOutcome)
				}
				require.NoError(t, b.srv.Settle(t.Context()))
				now, err := b.sw.Active(t.Context())
				require.NoError(t, err)
				b.assertLive(t, now)
				require.NoError(t, b.sw.Activate(t.Context(), b.green))
				b.assertLive(t, "green")
			})
		}
	}
}

// TestCertificates moves an https binding, with SNI, on a server that keeps its certificate and on one that loses it.
func TestCertificates(t *testing.T) {
	t.Parallel()
	for _, loses := range []bool{false, true} {
		q := iistest.Quirks{MovedBindingStopsNewOwner: iistest.Off, MovedBindingLosesCertificate: iistest.Off}
		if loses {
			q.MovedBindingLosesCertificate = iistest.On
		}
		b := setting{strategy: iis.StrategyBindingSwap, mode: iis.Classic, quirks: q}.opened(t)
		client := b.srv.Client()
		b.app.Server.TLS = &tls.Config{RootCAs: b.srv.RootCAs(), MinVersion: tls.VersionTLS12}
		if loses {
			b.app.Patience = 3 * time.Second
		}
		require.NoError(t, b.srv.EditConfig(func(data []byte) ([]byte, error) {
			const http = `<binding protocol="http" bindingInformation="*:80:` + host + `" />`
			return []byte(strings.Replace(string(data), http, http+`<binding protocol="https" bindingInformation="*:443:`+host+`" sslFlags="1" />`, 1)), nil
		}))
		require.NoError(t, b.srv.Settle(t.Context()))
		require.NoError(t, b.srv.AddCertificate("*:443:"+host, 1))
		sw, err := iis.NewBindingSwap(iis.BindingSwapConfig{App: b.app, Slots: []*iis.Slot{b.blue, b.green},
			Bindings: []iis.Binding{{Protocol: "http", Information: "*:80:" + host}, {Protocol: "https", Information: "*:443:" + host}}})
		require.NoError(t, err)
		err = sw.Activate(t.Context(), b.green)
		if loses {
			assert.ErrorIs(t, err, abswap.ErrUnknownOutcome, "the probe by https finds out")
			client.CloseIdleConnections()
			continue
		}
		require.NoError(t, err)
		resp, err := client.Get("https://" + host + "/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, "green", resp.Header.Get("X-Switchertest-Slot"))
		data, err := os.ReadFile(b.srv.ConfigPath())
		require.NoError(t, err)
		assert.Regexp(t, `bindingInformation="\*:443:`+host+`" sslFlags="1"`, string(data))
		client.CloseIdleConnections()
	}
}

// TestColdStartIsTold makes the application slow to start: the report of a root swap tells how long the first requests waited.
func TestColdStartIsTold(t *testing.T) {
	t.Parallel()
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic, appStart: 700 * time.Second}.with(iis.FactsWith(""))
	b := s.opened(t)
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	require.Len(t, b.switched, 1)
	assert.GreaterOrEqual(t, b.switched[0].Longest, 600*time.Millisecond)
	assert.Equal(t, "blue", b.switched[0].From)
	assert.Equal(t, "green", b.switched[0].To)
	assert.Zero(t, b.switched[0].Failed)
}

// TestRealProcess runs the commands as processes, the way it is on Windows.
func TestRealProcess(t *testing.T) {
	name, value, _ := strings.Cut(noRaceSleep, "=")
	t.Setenv(name, value)
	s := setting{strategy: iis.StrategySiteToggle, mode: iis.Classic}.with(iis.FactsWith(""))
	b := s.opened(t)
	b.app.Server.Runner = b.srv.Process()
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	b.assertLive(t, "green")
	require.NoError(t, b.blue.Stop(t.Context()))
	_, err := b.drainer.InFlight(t.Context(), b.blue)
	require.NoError(t, err)
	t.Logf("gap with a process for each command: %s", b.switched[0].Gap)
}
