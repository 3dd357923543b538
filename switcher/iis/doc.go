// Package iis steers IIS on this machine: an application lives in two slots, each with an application pool and a folder of its own, and new
// requests are moved from one to the other while old ones finish where they began. There are three ways to move them:
//
//   - RootSwap: one public site, whose root application is pointed at the other pool and folder in one commit.
//   - SiteToggle: two sites with the same bindings, of which one is started; the other is started in its place. It has a gap.
//   - BindingSwap: the bindings move between two running sites in one commit.
//
// A fourth needs nothing of this but Slot and Drainer, and is the one to prefer where it can be had: the embedded proxy (package proxy) in
// front of two sites that both run all the time. Then a switch changes no configuration, and nothing below is a trap.
//
// A Slot installs a release into a folder of its own, is started, warmed and probed at a staging binding, and is stopped when it is idle. A
// Drainer counts what the worker processes of a slot's pool are executing. Setup brings an existing site into the shape that a strategy needs,
// and back.
//
//	app := &iis.App{Host: "www.example.test", Mark: iis.Mark{Header: "X-Release"}}
//	blue, err := iis.NewSlot(iis.SlotConfig{App: app, Name: "blue", Pool: "MySite-blue", Site: "MySite-blue", Staging: "http/127.0.0.1:8001:",
//		Install: installer.Install})
//	green, err := ...
//	sw, err := iis.NewRootSwap(iis.RootSwapConfig{App: app, Site: "MySite", Slots: []*iis.Slot{blue, green}})
//	swapper := &abswap.Swapper{Switcher: sw, Drainer: &iis.Drainer{Slots: []*iis.Slot{blue, green}}, Slots: []abswap.Slot{blue, green}}
//	report, err := swapper.Deploy(ctx, abswap.Release{ID: "v1085", Path: `C:\build\out`})
//
// # What a commit does
//
// IIS is steered by appcmd.exe. Its exit code 0 says that a change is saved, not that it is in force: the service WAS follows a moment later.
// So Activate returns only when probes through every public binding, each on a connection of its own and with the real host name, were
// answered by the new release many times running. The release is recognised by App.Mark. If that does not come about in App.Patience, the
// error wraps abswap.ErrUnknownOutcome.
//
// A commit, whatever it changes, restarts ASP.NET Core applications all over the server unless they have disallowRotationOnConfigChange among
// the handlerSettings of their web.config. So all that can be committed early is, by Install, and after the last commit the slot is probed
// again. Other programs may write the configuration at any time: each change is made after a fresh look, tried again when the
// file was in use, and judged by exit codes, never by texts, which are localised.
//
// # What is not known
//
// IIS was not at hand when this package was written. What it does was gathered from documentation and from what others report, and where
// that leaves something open both answers are provided for: see Facts. Check takes the worse one until somebody has looked.
//
// # Which promises are kept
//
// The promises are those of abswap.Switcher. All that the table does not name are kept by each strategy in each mode. A line holds where its
// circumstances do; names are those of Facts.
//
//	strategy                  | mode         | circumstances                                                     | not kept
//	--------------------------|--------------|-------------------------------------------------------------------|---------
//	site toggle               | each mode    | always                                                            | S2
//	site toggle               | ASP.NET Core | SiteStopShutsCoreApps                                             | S3
//	root swap                 | each mode    | OldWorkerSeesPathChange                                           | S3
//	root swap                 | each mode    | PoolChangeCuts                                                    | S2, S3
//	binding swap              | each mode    | MovedBindingStopsNewOwner                                         | S2
//	binding swap              | each mode    | AddAndRemoveRefused                                               | S2
//	each strategy             | ASP.NET Core | CommitRestartsCoreApps, without disallowRotationOnConfigChange    | S3
//	each strategy             | ASP.NET Core | OwnSiteCommitRotates                                              | S3
//	each strategy             | ASP.NET Core | NoRotationEnds503, with disallowRotationOnConfigChange            | S2, S3
//	root swap, binding swap   | each mode    | ConnectionsStick                                                  | S1 kept-alive
//
// S3 fails only for work that outlives the time which the application has to shut down: shutdownTimeLimit of ASP.NET Core, shutdownTimeout
// of ASP.NET. A websocket counts as a request, since IIS lists it as one.
package iis
