package iis_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/iis"
)

// findings of a preflight: those that stop a run, and those that do not.
func findings(err error) (stops, warns string) {
	var s, w []string
	for _, e := range multi.All(err) {
		if _, ok := errors.AsType[*abswap.Warning](e); ok {
			w = append(w, e.Error())
		} else {
			s = append(s, e.Error())
		}
	}
	return strings.Join(s, "\n"), strings.Join(w, "\n")
}

func (b *box) check(t *testing.T, r abswap.CheckRequest) (stops, warns string) {
	t.Helper()
	r.Slots = []abswap.Slot{b.blue, b.green}
	err := b.sw.(abswap.Checker).Check(t.Context(), r)
	for _, s := range r.Slots {
		err = multi.Join(err, s.(abswap.Checker).Check(t.Context(), r))
	}
	return findings(err)
}

func TestCheckOfGoodSetting(t *testing.T) {
	for _, strategy := range allStrategies() {
		s := setting{strategy: strategy, mode: iis.CoreInProcess, noRotation: true}
		named(t, s.with(iis.FactsWith("")), func(t *testing.T, s setting) {
			stops, warns := s.opened(t).check(t, abswap.CheckRequest{Drain: abswap.DrainOptions{Timeout: time.Hour}})
			assert.Empty(t, stops)
			assert.NotContains(t, warns, "shutdownTimeLimit")
		})
	}
}

// TestCheckRefusesLossOfOldWork takes each setting in which the table says that S3 is not kept.
func TestCheckRefusesLossOfOldWork(t *testing.T) {
	for _, strategy := range allStrategies() {
		for _, mode := range allModes() {
			s := setting{strategy: strategy, mode: mode}.with(iis.Facts{}) // nobody has looked: the worse is assumed
			named(t, s, func(t *testing.T, s setting) {
				b := s.opened(t)
				want := false
				for _, l := range (iis.Case{Strategy: strategy, Mode: mode, Facts: iis.Assume(iis.Facts{})}).Losses() {
					want = want || l.Rule == "S3"
				}
				stops, _ := b.check(t, abswap.CheckRequest{})
				assert.Equal(t, want, strings.Contains(stops, "CutOldWork"), "%s", stops)
				b.app.Accept.CutOldWork = true
				stops, warns := b.check(t, abswap.CheckRequest{})
				assert.NotContains(t, stops, "CutOldWork")
				assert.Equal(t, want, strings.Contains(warns, "S3"))
				b.app.Accept.CutOldWork = false
				stops, _ = b.check(t, abswap.CheckRequest{Drain: abswap.DrainOptions{Timeout: 100 * time.Millisecond}})
				assert.NotContains(t, stops, "CutOldWork", "nobody waits longer than the application has anyway")
			})
		}
	}
}

func TestCheckFindings(t *testing.T) {
	for what, c := range map[string]struct {
		strategy iis.Strategy
		mode     iis.Mode
		command  []string
		warns    bool
	}{
		"autoStart=false":           {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/autoStart:false"}, false},
		"serverAutoStart=false":     {iis.StrategyRootSwap, iis.Classic, []string{"set", "site", "MySite", "/serverAutoStart:false"}, false},
		"also runs Intranet/":       {iis.StrategySiteToggle, iis.Classic, []string{"set", "app", "Intranet/", "/applicationPool:MySite-green"}, false},
		"no other one in its":       {iis.StrategyRootSwap, iis.CoreInProcess, []string{"set", "app", "MySite-green/", "/applicationPool:MySite-green"}, false},
		"have different bindings":   {iis.StrategySiteToggle, iis.Classic, []string{"set", "site", "MySite-green-live", "/bindings:http/*:81:"}, false},
		"have serverAutoStart":      {iis.StrategySiteToggle, iis.Classic, []string{"set", "site", "MySite-green-live", "/serverAutoStart:true"}, true},
		"is in pool":                {iis.StrategySiteToggle, iis.Classic, []string{"set", "app", "MySite-green-live/", "/applicationPool:DefaultAppPool"}, false},
		"not in slot":               {iis.StrategyBindingSwap, iis.Classic, []string{"set", "app", "MySite-green/", "/applicationPool:DefaultAppPool"}, false},
		"has no binding":            {iis.StrategyRootSwap, iis.Classic, []string{"set", "site", "MySite-green", "/bindings:http/*:81:"}, false},
		"disallowOverlapping":       {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/recycling.disallowOverlappingRotation:true"}, true},
		"idleTimeout":               {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/processModel.idleTimeout:00:10:00"}, true},
		"periodicRestart":           {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/recycling.periodicRestart.time:01:00:00"}, true},
		"worker processes":          {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/processModel.maxProcesses:4"}, true},
		"shutdownTimeLimit 10s":     {iis.StrategyRootSwap, iis.Classic, []string{"set", "apppool", "MySite-green", "/processModel.shutdownTimeLimit:00:00:10"}, true},
		"which is no slot's":        {iis.StrategyBindingSwap, iis.Classic, []string{"set", "site", "Intranet", "/bindings:http/*:8080:,http/*:80:" + host}, false},
		`IIS has no site "MySite"`:  {iis.StrategyRootSwap, iis.Classic, []string{"delete", "site", "MySite"}, false},
		"no switch could be recogn": {iis.StrategyRootSwap, iis.Classic, []string{"set", "vdir", "MySite/", "/physicalPath:" + folderOf("green")}, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := setting{strategy: c.strategy, mode: c.mode}.with(iis.FactsWith(""))
			b := s.opened(t)
			r := abswap.CheckRequest{Drain: abswap.DrainOptions{Timeout: time.Hour}}
			stops, warns := b.check(t, r)
			require.NotContains(t, stops+warns, what, "before anything is wrong")
			require.NoError(t, b.appcmd(t.Context(), c.command...))
			require.NoError(t, b.srv.Settle(t.Context()))
			stops, warns = b.check(t, r)
			if c.warns {
				assert.Contains(t, warns, what)
				return
			}
			assert.Contains(t, stops, what)
		})
	}
}

func TestCheckWarnsOfAMarkThatMayBeCached(t *testing.T) {
	b := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.FactsWith("")).opened(t)
	for _, c := range []struct {
		mark iis.Mark
		warn bool
	}{
		{iis.Mark{Path: "/release.txt"}, true},
		{iis.Mark{Path: "/release.txt?now"}, false},
		{iis.Mark{Path: "/release.txt", Header: "X-Release"}, false},
	} {
		b.app.Mark = c.mark
		_, warns := b.check(t, abswap.CheckRequest{})
		assert.Equal(t, c.warn, strings.Contains(warns, "cache of HTTP.sys"), "%+v: %s", c.mark, warns)
	}
}

func TestCheckOfCertificates(t *testing.T) {
	s := setting{strategy: iis.StrategyBindingSwap, mode: iis.Classic}.with(iis.Facts{})
	b := s.opened(t)
	check := func() string {
		sw, err := iis.NewBindingSwap(iis.BindingSwapConfig{App: b.app, Slots: []*iis.Slot{b.blue, b.green},
			Bindings: []iis.Binding{{Protocol: "http", Information: "*:80:" + host}, {Protocol: "https", Information: "*:443:" + host}}})
		require.NoError(t, err)
		stops, _ := findings(sw.Check(t.Context(), abswap.CheckRequest{}))
		return stops
	}
	assert.Contains(t, check(), "could lose its certificate")
	b.app.Accept.Certificates = true
	assert.NotContains(t, check(), "could lose its certificate")
	b.app.Accept.Certificates, b.app.Facts.MovedBindingLosesCertificate = false, iis.No
	assert.NotContains(t, check(), "could lose its certificate")
}
