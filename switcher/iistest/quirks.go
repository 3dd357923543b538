package iistest

import "time"

// Switch is the position of a quirk.
type Switch uint8

// Positions of a Switch.
const (
	Best Switch = iota // what evidence supports best; Quirk.Best tells which of the others that is
	On
	Off
)

// RequestSpelling says how the attributes of a REQUEST are spelled in XML output. No raw sample of it is public; each of these has been read
// by a program that is said to work.
type RequestSpelling uint8

// Spellings of the attributes of a REQUEST.
const (
	SpellingShort   RequestSpelling = iota // Url, Verb, ClientIp, Stage, Module, Time: two collectors in production
	SpellingModule                         // the same, but ModuleName: one later reading of the same author
	SpellingRuntime                        // url, verb, clientIpAddress, pipeLineState, currentModule, timeElapsed: as the runtime schema names them
)

// Quirks are the points in which real machines differ, or in which nobody knows what a real machine does. The zero value is what evidence
// supports best. Table lists the switches with their sources; a tool that must work everywhere is tested with each in both positions.
type Quirks struct {
	// OldWorkerSeesPathChange: one commit gives a root application another pool and another folder, and the worker process of the old pool
	// sees the new folder: it unloads the application, and what runs in it is cut after Config.HostingShutdown (ASP.NET Core: its
	// shutdownTimeLimit). Off: the old worker finishes at leisure. Unverified; Best is Off.
	OldWorkerSeesPathChange Switch
	// OneInProcessAppPerWorker: the second in-process ASP.NET Core application in a worker process answers 500 (500.35), one with the other
	// hosting model 500 (500.34). Documented by Microsoft; Best is On.
	OneInProcessAppPerWorker Switch
	// WarmPerWorker: a worker process that has run a folder once starts any other application of the same folder without a cold start. Off:
	// warmth belongs to (worker process, site id, application path). Inferred from how application domains are keyed; Best is Off.
	WarmPerWorker Switch
	// MovedBindingStopsNewOwner: a commit that moves a binding between two running sites leaves the new owner Stopped; starting it then
	// works. Reported by one user of IIS 7.5; Best is On.
	MovedBindingStopsNewOwner Switch
	// MovedBindingLosesCertificate: an https binding that leaves its site takes its certificate out of HTTP.sys, so that handshakes with the
	// new owner fail until Server.AddCertificate. Unverified; Best is Off.
	MovedBindingLosesCertificate Switch
	// PoolChangeCuts: giving an application another pool cuts what runs in the old one and what waits in its queue. Inferred the other way
	// from the design of HTTP.sys; Best is Off.
	PoolChangeCuts Switch
	// AlreadyInStateFails: start of what is started and stop of what is stopped are errors with AlreadyStartedExit and AlreadyStoppedExit.
	// Reported for pools by one project; Best is On, for sites too.
	AlreadyInStateFails Switch
	// AddAndRemoveRefused: one set command that adds to collections and removes from them is refused with exit 87. Each half is documented,
	// the combination is not; Best is Off.
	AddAndRemoveRefused Switch
	// SeveralPathsRefused: one set command that sets attributes of several elements, each by its path, is refused with exit 87. One such path
	// is documented, several for one section are inferred from that; Best is Off.
	SeveralPathsRefused Switch
	// SuccessLineBeforeCommit: the success line is printed before the commit, so that it stands before the error of a failed one. Seen in two
	// projects' logs; Best is On.
	SuccessLineBeforeCommit Switch
	// EmptyListFails: a list command without anything to list exits with 1. Off: with 0, unless it named an object, which is always 1.
	// Reported by a clone that compares itself with the tool; both were seen for requests; Best is On.
	EmptyListFails Switch
	// SiteStopShutsCoreApps: stopping a site shuts its ASP.NET Core applications down: websockets are dropped, requests have the
	// application's shutdownTimeLimit. Reported by one project, and the module's code reads so; Best is On.
	SiteStopShutsCoreApps Switch
	// CommitRestartsCoreApps: every commit to applicationHost.config restarts all ASP.NET Core applications without
	// disallowRotationOnConfigChange: one in the worker process by recycling that (inferred), one in a process of its own by another such
	// process. Off: only a commit that changes webFarms does. Confirmed in the framework's issues; Best is On.
	CommitRestartsCoreApps Switch
	// OwnSiteCommitRotates: disallowRotationOnConfigChange does not protect an application from commits that change its own site. Off: only
	// location elements and web.config files of the site count as its own. The documentation leaves it open; Best is Off.
	OwnSiteCommitRotates Switch
	// NoRotationEnds503: an application with disallowRotationOnConfigChange answers 503 after a commit until its pool is recycled. Reported
	// for one release of .NET 8; Best is Off.
	NoRotationEnds503 Switch
	// RecycleAnswers503: while an overlapped recycle starts the new worker process, ASP.NET Core applications in the old one answer 503, as
	// older hosting modules did. Best is Off.
	RecycleAnswers503 Switch
	// ConnectionsStick: a kept-alive connection stays with the site and the pool that its first request came to, as long as they run. Off:
	// each request is routed by itself, as HTTP.sys is documented to do; Best is Off.
	ConnectionsStick Switch
	// StopPoolBlocks: stopping a pool returns when its worker processes are gone. Off: only with /wait. Measured by one project; Best is On.
	StopPoolBlocks Switch
	// XMLErrors: with /xml an error is <appcmd><ERROR .../></appcmd>. Off: the plain line. One production driver reads both; Best is On.
	XMLErrors Switch
	// XMLErrorHResult: the ERROR element carries an hresult attribute. Unverified; Best is Off.
	XMLErrorHResult Switch
	// XMLDeclaration: XML output begins with an XML declaration. Both were seen; Best is On.
	XMLDeclaration Switch
	// DoubledQuotes: in an indexer, two single quotes are one inside a value. Off: such an indexer is malformed. Unverified; Best is Off.
	DoubledQuotes Switch
	// RPCErrorAfterPoolChange: the first command after a start, stop or recycle of a pool that asks the runtime fails with exit 1726.
	// Reported by one project, for once in a while; Best is Off.
	RPCErrorAfterPoolChange Switch
	// StoppedSiteRefuses: a port on which no started site has a binding refuses connections. Off: it answers UnmatchedStatus. Inferred from
	// HTTP.sys; Best is On.
	StoppedSiteRefuses Switch

	// PreloadsMovedApps: an application with preloadEnabled that a commit gives to a running AlwaysRunning pool, or another folder in it, is
	// started at once. Off: it starts at its first request, or with the pool's next worker process. Unverified; Best is Off.
	PreloadsMovedApps Switch
	// SetBindingsKeepsFlags: replacing all bindings of a site (set site /bindings:...) keeps the sslFlags of those that stay. Off: they are new
	// ones, with sslFlags 0. Inferred; Best is Off.
	SetBindingsKeepsFlags Switch

	AlreadyStartedExit uint32          // 0: 1056; the exact code is unverified
	AlreadyStoppedExit uint32          // 0: 1062; the exact code is unverified
	NoChangeExit       uint32          // exit of a set command that changes nothing; 0: success. One cookbook accepts 42
	UnmatchedStatus    int             // status of a request that no site's binding matches; 0: 404. Unverified: 400 and 503 are the others
	QueueDwell         time.Duration   // how long each request stays in the queue of HTTP.sys, where no list shows it; emulated time
	WorkerLingers      time.Duration   // how long a worker process is listed after its pool is Stopped; emulated time. 5 s were seen
	PoolRestartPause   time.Duration   // start of a pool fails (exit 1061) so soon after its stop; emulated time. Field scripts wait 2 s
	RequestSpelling    RequestSpelling // in XML output
}

// Quirk describes one switch of Quirks.
type Quirk struct {
	Name   string                // of the field
	Best   bool                  // the position that Best stands for: true is On
	Source string                // where that is known from, in plain words
	Field  func(*Quirks) *Switch // the switch
}

// Table lists the switches of Quirks in the order of the fields.
func Table() []Quirk {
	return []Quirk{
		{"OldWorkerSeesPathChange", false, "unverified", func(q *Quirks) *Switch { return &q.OldWorkerSeesPathChange }},
		{"OneInProcessAppPerWorker", true, "documented by Microsoft (errors 500.34 and 500.35)", func(q *Quirks) *Switch { return &q.OneInProcessAppPerWorker }},
		{"WarmPerWorker", false, "inferred", func(q *Quirks) *Switch { return &q.WarmPerWorker }},
		{"MovedBindingStopsNewOwner", true, "reported once, IIS 7.5", func(q *Quirks) *Switch { return &q.MovedBindingStopsNewOwner }},
		{"MovedBindingLosesCertificate", false, "unverified", func(q *Quirks) *Switch { return &q.MovedBindingLosesCertificate }},
		{"PoolChangeCuts", false, "inferred the other way", func(q *Quirks) *Switch { return &q.PoolChangeCuts }},
		{"AlreadyInStateFails", true, "reported for pools; the exit codes are unverified", func(q *Quirks) *Switch { return &q.AlreadyInStateFails }},
		{"AddAndRemoveRefused", false, "inferred: each half is documented", func(q *Quirks) *Switch { return &q.AddAndRemoveRefused }},
		{"SeveralPathsRefused", false, "inferred: one path is documented", func(q *Quirks) *Switch { return &q.SeveralPathsRefused }},
		{"SuccessLineBeforeCommit", true, "seen in two projects' logs", func(q *Quirks) *Switch { return &q.SuccessLineBeforeCommit }},
		{"EmptyListFails", true, "reported by a clone; both seen for requests", func(q *Quirks) *Switch { return &q.EmptyListFails }},
		{"SiteStopShutsCoreApps", true, "reported once, and so reads the module's code", func(q *Quirks) *Switch { return &q.SiteStopShutsCoreApps }},
		{"CommitRestartsCoreApps", true, "confirmed in the framework's issues", func(q *Quirks) *Switch { return &q.CommitRestartsCoreApps }},
		{"OwnSiteCommitRotates", false, "left open by the documentation", func(q *Quirks) *Switch { return &q.OwnSiteCommitRotates }},
		{"NoRotationEnds503", false, "reported for one release", func(q *Quirks) *Switch { return &q.NoRotationEnds503 }},
		{"RecycleAnswers503", false, "confirmed for older hosting modules, mended since", func(q *Quirks) *Switch { return &q.RecycleAnswers503 }},
		{"ConnectionsStick", false, "inferred the other way from documented per-request routing", func(q *Quirks) *Switch { return &q.ConnectionsStick }},
		{"StopPoolBlocks", true, "measured by one project", func(q *Quirks) *Switch { return &q.StopPoolBlocks }},
		{"XMLErrors", true, "one production driver reads both", func(q *Quirks) *Switch { return &q.XMLErrors }},
		{"XMLErrorHResult", false, "unverified", func(q *Quirks) *Switch { return &q.XMLErrorHResult }},
		{"XMLDeclaration", true, "both seen", func(q *Quirks) *Switch { return &q.XMLDeclaration }},
		{"DoubledQuotes", false, "unverified", func(q *Quirks) *Switch { return &q.DoubledQuotes }},
		{"RPCErrorAfterPoolChange", false, "reported once, transient", func(q *Quirks) *Switch { return &q.RPCErrorAfterPoolChange }},
		{"StoppedSiteRefuses", true, "inferred", func(q *Quirks) *Switch { return &q.StoppedSiteRefuses }},
		{"PreloadsMovedApps", false, "unverified", func(q *Quirks) *Switch { return &q.PreloadsMovedApps }},
		{"SetBindingsKeepsFlags", false, "inferred the other way", func(q *Quirks) *Switch { return &q.SetBindingsKeepsFlags }},
	}
}

// resolve puts each switch into one of its two positions, and numbers that are 0 on their default.
func (q Quirks) resolve() Quirks {
	for _, k := range Table() {
		if at := k.Field(&q); *at == Best {
			*at = Off
			if k.Best {
				*at = On
			}
		}
	}
	if q.AlreadyStartedExit == 0 {
		q.AlreadyStartedExit = 1056
	}
	if q.AlreadyStoppedExit == 0 {
		q.AlreadyStoppedExit = 1062
	}
	if q.UnmatchedStatus == 0 {
		q.UnmatchedStatus = 404
	}
	return q
}
