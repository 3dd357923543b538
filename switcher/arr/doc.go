// Package arr steers a server farm of Application Request Routing, IIS's load balancer, on this machine: an application lives in two slots, each one
// member of the farm or a set of members, and new requests go to one of them. No request is without an owner for a moment, nothing is
// restarted, and a drain may last as long as it has to.
//
//	sw, err := arr.New(arr.Config{
//		Farm: "MySite-Farm", Pool: "ArrFront",
//		Slots:  map[string][]string{"blue": {"mysite-blue"}, "green": {"mysite-green"}},
//		Memory: `C:\ProgramData\MySite\farm.json`,
//	})
//	...
//	defer sw.Close()
//	swapper := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{blue, green}}
//	report, err := swapper.Deploy(ctx, abswap.Release{ID: "v1085", Path: `C:\build\out`})
//
// The slots are the caller's: an abswap.HTTPSlot, a slot of package iis, or a Set of one for each member. The Switcher is the Drainer too.
//
// # How it works
//
// Activate makes the new members available and, once ARR has them healthy, takes the old ones out by the runtime method SetState: GracefulStop, after
// which nobody comes to them any more, or with Config.KeepSessions Drain, after which only clients with their affinity cookie do. That changes no
// configuration, and so restarts nothing. The states are read back. SetWeights shares new clients out between slots; weights are
// configuration, so that it commits.
//
// The runtime methods and counters cannot be reached by appcmd. They are called by one fixed script in one PowerShell that lives as long as
// the Switcher; data goes in and out as lines of JSON. HealthFile is another way to switch, which needs no call and no privilege: two files, of
// which the farm's health test reads one in each member.
//
// # What ARR forgets
//
// States live in the worker process of ARR's application pool, and are lost with it: all members are available then. Make that pool immortal
// (idleTimeout 0, periodicRestart.time 0, startMode AlwaysRunning), give the farm a health test of at most 5 s that a stopped slot cannot
// answer, and let a Keeper run, which sets the states again. Check refuses to stop old members otherwise.
//
// A Keeper belongs into a service, since deploy tools come and go. The service has the same Config, with the same Memory:
//
//	sw, err := arr.New(cfg)
//	...
//	defer sw.Close()
//	return (&arr.Keeper{Switcher: sw, OnKept: func(k arr.Kept) { log.Print(k.Members, k.Err) }}).Run(ctx)
//
// Its first look after a recycle, within Interval, closes what has to be closed. Until then requests come to a closed slot too, so that a
// recycle is felt unless the old slot was kept. A swap that is under way waits for the Keeper and goes on.
//
// Counters are reset when a member's health changes (documented in IIS Manager), and begin anew in a fresh worker process. InFlight says how it
// lives with that.
//
// # Traps
//
//   - An address is in a farm once: two slots on one machine need two names, of the hosts file, or 127.0.0.1 and 127.0.0.2.
//   - The rule that feeds the farm must leave out the ports of members on the same machine, or ARR feeds itself.
//   - Weight 0 is not valid. A slot with part 0 is closed by state.
//   - The farm's time-out (30 s) ends every request that is not answered by then, long uploads too, with 502.3.
//   - The numbers of states differ between sources: names are passed, and both ways of numbering are understood.
//   - enabled=false on a member is a commit. This package never writes it.
//
// # What is not known
//
// Neither IIS nor ARR was at hand when this package was written, nor a PowerShell: the script was parsed by another grammar of that language, and never
// run. What ARR does was gathered from documentation, from its schema, and from what others report. Where that leaves something open, see Facts.
//
// # Which promises are kept
//
// The promises are those of abswap.Switcher. All that the table does not name are kept. A line holds where its circumstances do, which are those of
// Case; Case.Losses is the same table for a program.
//
//	way             | circumstances               | not kept
//	----------------|-----------------------------|---------
//	states, weights | Recycled                    | S1
//	states, weights | Recycled, Stopped           | S2
//	states, weights | Sessions                    | S1
//	weights         | Hash                        | refused
//	weights         | Facts.CommitRestartsMembers | S3
//	weights         | Facts.CommitForgetsStates   | S1
//	health file     | Meddled                     | S1
//	each way        | TooLong                     | S3
//
// Recycled lasts until a Keeper has looked, CommitForgetsStates for a moment. Work that fits into the time which an application has to shut down
// survives CommitRestartsMembers.
package arr
