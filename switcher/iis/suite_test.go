package iis_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

var full = flag.Bool("iis.full", false, "run the whole matrix of strategies, modes and quirks")

// parallel bounds how many machines run at one time: the suite looks at short times.
var parallel = make(chan struct{}, 10)

// rules are those of the suite whose names begin with one of the prefixes; all, without any.
func rules(prefixes ...string) []switchertest.Rule {
	var all []switchertest.Rule
	for _, r := range switchertest.Rules() {
		if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(r.Name, p) }) {
			all = append(all, r)
		}
	}
	return all
}

// with returns s with the emulator in the positions of the facts, which the switcher is told too. A fact that is NotKnown is No.
func (s setting) with(facts iis.Facts) setting {
	for _, q := range iistest.Table() {
		f, err := iis.FactByName(facts, q.Name)
		if err != nil {
			continue
		}
		*q.Field(&s.quirks) = iistest.Off
		if f == iis.Yes {
			*q.Field(&s.quirks) = iistest.On
		}
	}
	s.facts = facts
	return s
}

// losses are what the table says of s, by the rules of the suite.
func (s setting) losses() map[string]bool {
	broken := map[string]bool{}
	for _, l := range (iis.Case{Strategy: s.strategy, Mode: s.mode, NoRotation: s.noRotation, Facts: s.facts}).Losses() {
		switch l.Rule {
		case "S1 kept-alive":
			broken["S1/in-force-kept-alive"] = true
		case "S2":
			broken["S2/nothing-lost"] = true
		case "S3":
			for _, kind := range []string{"request", "upload", "download", "upgraded"} {
				broken["S3/"+kind+"-survives"] = true
			}
		default:
			panic("the table names a rule that is not one: " + l.Rule)
		}
	}
	return broken
}

// assertTable checks on s that each of the rules is kept, or is broken, as the table says.
func (s setting) assertTable(t *testing.T, some []switchertest.Rule) {
	broken := s.losses()
	for _, r := range some {
		if s.beside(r.Name, broken) != "" {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			parallel <- struct{}{}
			defer func() { <-parallel }()
			res := r.Try(t.Context(), func(ctx context.Context) (switchertest.Rig, error) { return s.rigFor(ctx, r.Name) })
			switch {
			case res.Skipped != "":
				assert.False(t, broken[r.Name], "not checked: %s", res.Skipped)
				t.Skip(res.Skipped)
			case broken[r.Name]:
				assert.Error(t, res.Err, "the table says that it is broken")
			default:
				assert.NoError(t, res.Err, "the table says that it is kept")
			}
		})
	}
}

// beside tells why a rule says nothing under a loss: what it does first is what is lost.
func (s setting) beside(rule string, broken map[string]bool) string {
	long, gap, sticks := broken["S3/request-survives"], broken["S2/nothing-lost"], broken["S1/in-force-kept-alive"]
	switch {
	case long && strings.HasPrefix(rule, "D1/"):
		return "it has work that lives over switches"
	case gap && rule == "D1/zero-at-the-end":
		return "it begins work while it switches"
	case (long || gap) && rule == "S1/in-force-kept-alive", sticks && rule == "S2/nothing-lost":
		return "kept-alive clients are among those who lose"
	}
	return ""
}

// rigFor is the rig for one rule. IIS lists a websocket as a request, so the rules about counts do without websockets;
// TestWebsocketCountsAsRequest looks at those.
func (s setting) rigFor(ctx context.Context, rule string) (switchertest.Rig, error) {
	r, err := s.rig(ctx)
	if err != nil || !strings.HasPrefix(rule, "D1/") {
		return r, err
	}
	begin := r.Begin
	r.Begin = func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
		if kind == switchertest.KindUpgraded {
			return switchertest.Work{}, fmt.Errorf("IIS lists it as a request: %w", errors.ErrUnsupported)
		}
		return begin(ctx, kind)
	}
	return r, nil
}

func allStrategies() []iis.Strategy {
	return []iis.Strategy{iis.StrategyRootSwap, iis.StrategySiteToggle, iis.StrategyBindingSwap}
}

func allModes() []iis.Mode { return []iis.Mode{iis.Classic, iis.CoreInProcess, iis.CoreOutOfProcess} }

// named is a setting with its name.
func named(t *testing.T, s setting, f func(t *testing.T, s setting)) {
	var on []string
	for _, name := range iis.FactNames() {
		if v, _ := iis.FactByName(s.facts, name); v == iis.Yes {
			on = append(on, name)
		}
	}
	rotation := ""
	if s.noRotation {
		rotation = "/no rotation"
	}
	t.Run(fmt.Sprintf("%s/%s%s/%s", s.strategy, s.mode, rotation, strings.Join(on, "+")), func(t *testing.T) {
		t.Parallel()
		f(t, s)
	})
}

// briefly is the short form under Wine, where what is short elsewhere takes minutes: a sample of what the other systems run.
func briefly() bool { return testing.Short() && !*full && underWine() }

// TestRules is the whole suite where the table speaks of no loss that depends on anything.
func TestRules(t *testing.T) {
	for i, strategy := range allStrategies() {
		s := setting{strategy: strategy, mode: allModes()[i], noRotation: true}.with(iis.Facts{})
		some := []string{"S", "D"}
		if testing.Short() || !*full && strategy != iis.StrategyRootSwap {
			some = []string{"S1/in-force-at", "S3", "S4", "S5", "S6", "D1/upload", "D1/zero"}
		}
		if briefly() {
			some = []string{"S1/in-force-at", "S3/upload", "S4/idempotent", "S4/concurrent", "S5/active", "S5/disturbed-act", "S6", "D1/upload"}
		}
		named(t, s, func(t *testing.T, s setting) { s.assertTable(t, rules(some...)) })
	}
}

// TestTable takes each line of the table alone, and looks at the rules that the table is about.
func TestTable(t *testing.T) {
	for n, name := range append([]string{""}, iis.FactNames()...) {
		for i, strategy := range allStrategies() {
			for j, mode := range allModes() {
				for _, noRotation := range []bool{false, true} {
					s := setting{strategy: strategy, mode: mode, noRotation: noRotation, patience: 3 * time.Second, settle: time.Second}.with(iis.FactsWith(name))
					if mode == iis.Classic && noRotation {
						continue
					}
					if name == "SeveralPathsRefused" && strategy == iis.StrategyRootSwap {
						continue // it does not switch at all: TestRootSwapNeedsOneCommit
					}
					if !*full && !s.sample((i+j+n)%3 == 0, name) || testing.Short() && n%3 != 0 || briefly() && n != 0 {
						continue
					}
					named(t, s, func(t *testing.T, s setting) {
						s.assertTable(t, rules("S1/in-force-kept", "S2/nothing", "S3/request", "S3/upload"))
					})
				}
			}
		}
	}
}

// sample picks a few settings of those in which the fact, or no fact, matters. others are not in turn.
func (s setting) sample(turn bool, name string) bool {
	if name == "" {
		return turn && s.noRotation
	}
	without := s.with(iis.FactsWith("")).losses()
	if name == "NoRotationEnds503" || maps.Equal(without, s.losses()) { // the one is slow, in the others it does not matter
		return false
	}
	return turn && (s.mode == iis.Classic || s.noRotation == (name != "CommitRestartsCoreApps")) ||
		name == "SiteStopShutsCoreApps" && s.mode == iis.CoreInProcess && s.noRotation
}

func TestTableIsInTheComment(t *testing.T) {
	doc := readDoc(t)
	for line := range strings.Lines(iis.TableText()) {
		assert.Contains(t, doc, strings.TrimSpace(line))
	}
}

func TestWebsocketCountsAsRequest(t *testing.T) {
	s := setting{strategy: iis.StrategyRootSwap, mode: iis.Classic}.with(iis.Facts{})
	r, err := s.rig(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	require.NoError(t, r.Switcher.Activate(t.Context(), r.Blue))
	work, err := r.Begin(t.Context(), switchertest.KindUpgraded)
	require.NoError(t, err)
	defer work.Abort()
	assert.Eventually(t, func() bool {
		l, err := r.Drainer.InFlight(t.Context(), r.Blue)
		return err == nil && l.Requests == 1 && l.Upgraded == 0
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, r.Switcher.Activate(t.Context(), r.Green))
	require.NoError(t, work.Step(t.Context()))
	require.NoError(t, work.End(t.Context()))
	assert.Eventually(t, func() bool {
		l, err := r.Drainer.InFlight(t.Context(), r.Blue)
		return err == nil && l.Total() == 0
	}, 10*time.Second, 10*time.Millisecond)
}
