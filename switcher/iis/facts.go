package iis

import "fmt"

// Strategy is a way to switch.
type Strategy string

// The strategies.
const (
	StrategyRootSwap    Strategy = "root swap"
	StrategySiteToggle  Strategy = "site toggle"
	StrategyBindingSwap Strategy = "binding swap"
)

// Fact is what was found out about a server. The zero value says that nobody has looked.
type Fact int

// The values of a Fact.
const (
	NotKnown Fact = iota
	Yes
	No
)

// Facts are what documentation leaves open about IIS, or what differs from release to release. Check takes the worse case for each that is
// NotKnown. Whoever has tried one out on the server in question says so here.
type Facts struct {
	// OldWorkerSeesPathChange: the worker process of the old pool unloads the application when the root is pointed at another pool and
	// folder, so that old requests are cut after the application's shutdown time.
	OldWorkerSeesPathChange Fact
	// PoolChangeCuts: giving an application another pool cuts what the old pool is executing, and what waits in its queue.
	PoolChangeCuts Fact
	// MovedBindingStopsNewOwner: a site that gets a binding from a running one is stopped by IIS.
	MovedBindingStopsNewOwner Fact
	// MovedBindingLosesCertificate: an https binding that leaves its site loses its certificate.
	MovedBindingLosesCertificate Fact
	// AddAndRemoveRefused: one command cannot take bindings away and give them.
	AddAndRemoveRefused Fact
	// SeveralPathsRefused: one command cannot set attributes of several elements, such as the pool of an application and its folder.
	SeveralPathsRefused Fact
	// SiteStopShutsCoreApps: stopping a site shuts the ASP.NET Core applications in it down.
	SiteStopShutsCoreApps Fact
	// CommitRestartsCoreApps: each commit restarts the ASP.NET Core applications that have no disallowRotationOnConfigChange.
	CommitRestartsCoreApps Fact
	// OwnSiteCommitRotates: disallowRotationOnConfigChange does not protect an application from commits that change its own site.
	OwnSiteCommitRotates Fact
	// NoRotationEnds503: an application with disallowRotationOnConfigChange answers 503 after a commit until its pool is recycled.
	NoRotationEnds503 Fact
	// ConnectionsStick: a kept-alive connection stays with the site that its first request came to.
	ConnectionsStick Fact
}

// fact is one of Facts by name.
type fact struct {
	name  string
	at    func(*Facts) *Fact
	worse bool // the position that is assumed while nobody has looked
}

// allFacts lists the fields of Facts.
func allFacts() []fact {
	return []fact{
		{"OldWorkerSeesPathChange", func(f *Facts) *Fact { return &f.OldWorkerSeesPathChange }, true},
		{"PoolChangeCuts", func(f *Facts) *Fact { return &f.PoolChangeCuts }, false},
		{"MovedBindingStopsNewOwner", func(f *Facts) *Fact { return &f.MovedBindingStopsNewOwner }, true},
		{"MovedBindingLosesCertificate", func(f *Facts) *Fact { return &f.MovedBindingLosesCertificate }, true},
		{"AddAndRemoveRefused", func(f *Facts) *Fact { return &f.AddAndRemoveRefused }, false},
		{"SeveralPathsRefused", func(f *Facts) *Fact { return &f.SeveralPathsRefused }, false},
		{"SiteStopShutsCoreApps", func(f *Facts) *Fact { return &f.SiteStopShutsCoreApps }, true},
		{"CommitRestartsCoreApps", func(f *Facts) *Fact { return &f.CommitRestartsCoreApps }, true},
		{"OwnSiteCommitRotates", func(f *Facts) *Fact { return &f.OwnSiteCommitRotates }, true},
		{"NoRotationEnds503", func(f *Facts) *Fact { return &f.NoRotationEnds503 }, false},
		{"ConnectionsStick", func(f *Facts) *Fact { return &f.ConnectionsStick }, false},
	}
}

// assume returns f with each fact that is not known put into the worse position, where that is the one to fear: those that documentation
// speaks against are taken as No.
func (f Facts) assume() Facts {
	for _, x := range allFacts() {
		if p := x.at(&f); *p == NotKnown {
			*p = No
			if x.worse {
				*p = Yes
			}
		}
	}
	return f
}

// value returns the fact of that name.
func (f Facts) value(name string) (Fact, error) {
	for _, x := range allFacts() {
		if x.name == name {
			return *x.at(&f), nil
		}
	}
	return NotKnown, fmt.Errorf("there is no fact %q", name)
}
