package iis

import (
	"fmt"
	"slices"
	"strings"
)

// Case is a strategy under given circumstances.
type Case struct {
	Strategy   Strategy
	Mode       Mode
	NoRotation bool // ASP.NET Core: disallowRotationOnConfigChange is set in the application's web.config
	Facts      Facts
}

// Loss is a promise of abswap.Switcher that is not kept in a Case.
type Loss struct {
	Rule string // "S1", "S2" or "S3", with the part of it that fails: "S1 kept-alive"
	Why  string
	Cure string // what helps; "": nothing but another strategy
}

// trap is a line of the table: where all of its conditions hold, the rules are broken.
type trap struct {
	strategies []Strategy
	modes      []Mode // nil: each
	rotation   rotation
	fact       string // that must be Yes; "": none need be
	broken     []string
	why, cure  string
}

// rotation says for which applications a trap is one.
type rotation int

const (
	anyRotation  rotation = iota
	mayRotate             // those without disallowRotationOnConfigChange
	mayNotRotate          // those with it
)

var (
	everyStrategy = func() []Strategy { return []Strategy{StrategyRootSwap, StrategySiteToggle, StrategyBindingSwap} }
	coreModes     = func() []Mode { return []Mode{CoreInProcess, CoreOutOfProcess} }
)

// traps is the table of the package's comment, as the checks and the tests use it.
func traps() []trap {
	const noRotation = "set disallowRotationOnConfigChange in the handlerSettings of the release's web.config (.NET 7 and later)"
	return []trap{
		{strategies: []Strategy{StrategySiteToggle}, broken: []string{"S2"},
			why: "between the stop of one site and the start of the other nobody has the bindings"},
		{strategies: []Strategy{StrategySiteToggle}, modes: coreModes(), fact: "SiteStopShutsCoreApps", broken: []string{"S3"},
			why: "stopping a site shuts its ASP.NET Core applications down: old requests have the application's shutdown time"},
		{strategies: []Strategy{StrategyRootSwap}, fact: "OldWorkerSeesPathChange", broken: []string{"S3"},
			why: "the old worker process may unload the application when its folder changes: old requests have the application's shutdown time"},
		{strategies: []Strategy{StrategyRootSwap}, fact: "PoolChangeCuts", broken: []string{"S2", "S3"},
			why: "giving the root another pool cuts what the old one was doing"},
		{strategies: []Strategy{StrategyBindingSwap}, fact: "MovedBindingStopsNewOwner", broken: []string{"S2"},
			why: "IIS stops the new owner of a binding that was moved, until Activate has started it"},
		{strategies: []Strategy{StrategyBindingSwap}, fact: "AddAndRemoveRefused", broken: []string{"S2"},
			why: "the bindings are taken and given in two commits, with a gap between them"},
		{strategies: everyStrategy(), modes: coreModes(), rotation: mayRotate, fact: "CommitRestartsCoreApps", broken: []string{"S3"},
			why: "the commit restarts ASP.NET Core applications: old requests have the application's shutdown time, and what was warm is cold", cure: noRotation},
		{strategies: everyStrategy(), modes: coreModes(), fact: "OwnSiteCommitRotates", broken: []string{"S3"},
			why: "the commit changes the application's own site, from which disallowRotationOnConfigChange may not protect it"},
		{strategies: everyStrategy(), modes: coreModes(), rotation: mayNotRotate, fact: "NoRotationEnds503", broken: []string{"S2", "S3"},
			why: "after the commit the application answers 503 until Activate has recycled its pool, which cuts what an earlier turn has left in it", cure: "a later release of the hosting bundle"},
		{strategies: []Strategy{StrategyRootSwap, StrategyBindingSwap}, fact: "ConnectionsStick", broken: []string{"S1 kept-alive"},
			why: "kept-alive connections stay with the slot that their first request came to"},
	}
}

// applies reports whether t is a trap in c.
func (t trap) applies(c Case) bool {
	if !slices.Contains(t.strategies, c.Strategy) || t.modes != nil && !slices.Contains(t.modes, c.Mode) {
		return false
	}
	if t.rotation == mayRotate && c.NoRotation || t.rotation == mayNotRotate && !c.NoRotation {
		return false
	}
	if t.fact == "" {
		return true
	}
	f, err := c.Facts.value(t.fact)
	return err == nil && f == Yes
}

// Losses tells which promises are not kept in c. Facts that are NotKnown are taken as No: see Facts for what Check makes of them.
func (c Case) Losses() []Loss {
	var all []Loss
	for _, t := range traps() {
		if t.applies(c) {
			for _, rule := range t.broken {
				all = append(all, Loss{rule, t.why, t.cure})
			}
		}
	}
	return all
}

// tableText is the table as it stands in the package's comment: a line for each trap.
func tableText() string {
	var b strings.Builder
	for _, t := range traps() {
		var when []string
		if t.fact != "" {
			when = append(when, t.fact)
		}
		switch t.rotation {
		case mayRotate:
			when = append(when, "without disallowRotationOnConfigChange")
		case mayNotRotate:
			when = append(when, "with disallowRotationOnConfigChange")
		}
		if when == nil {
			when = []string{"always"}
		}
		strategies := "each strategy"
		if len(t.strategies) < len(everyStrategy()) {
			names := make([]string, len(t.strategies))
			for i, s := range t.strategies {
				names[i] = string(s)
			}
			strategies = strings.Join(names, ", ")
		}
		modes := "each mode"
		if t.modes != nil {
			modes = "ASP.NET Core"
		}
		fmt.Fprintf(&b, "%-25s | %-12s | %-65s | %s\n", strategies, modes, strings.Join(when, ", "), strings.Join(t.broken, ", "))
	}
	return b.String()
}
