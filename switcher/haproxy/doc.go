// Package haproxy steers an HAProxy that already carries the traffic: new requests are moved from the servers of one slot to those of the
// other by its runtime API, and what is left in the old slot is counted by HAProxy itself. There are two forms:
//
//   - MapSwitcher: each slot has a backend, and one key of a map picks it. One change moves everything at once; it is the one to prefer.
//   - ServerSwitcher: the slots are servers of one backend, which are turned on and off, and weighed for shifts in steps.
//
// Both are a Switcher and a Drainer in one:
//
//	sw, err := haproxy.NewMap(haproxy.MapConfig{
//		Runtime:  haproxy.Runtime{Master: "/run/haproxy-master.sock"},
//		File:     "/etc/haproxy/slots.map",
//		Key:      "mysite",
//		Backends: map[string]string{"blue": "be_blue", "green": "be_green"},
//	})
//	swapper := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{blue, green}}
//
// # A reload of HAProxy
//
// A reload starts a new worker process with the configuration from the files, and leaves the old one to finish what it has. So what is
// changed at run time alone is gone after it, and what the old worker does is not seen by who asks the new one. Therefore each change is first
// written to a file that HAProxy reads at a reload (MapConfig.File, ServersConfig.StateFile), then made in every worker, old ones included,
// since kept-alive clients stay with those for a while, and then read back. Counts are the sums over all workers. Both need the socket of
// the master process: Runtime.Master. A reload by another hand, at any moment, does not move the traffic.
//
// # What it counts
//
// The evidence is exact. A request counts from the moment in which HAProxy picks its slot; each reading begins by waiting until no thread of
// HAProxy is within such a moment. Websockets are told from requests. HAProxy does not tell paths, so a list of what is left has none.
// A client that goes away while its request waits for an answer leaves the count at once if the configuration has option abortonclose; without
// it, when the application answers.
//
// # What to mind in the configuration
//
//   - Nothing but the key leads to the slots' backends (MapSwitcher); each server of the backend belongs to a slot (ServerSwitcher).
//   - option idle-close-on-response: without it a reload closes connections on which a client may be sending its next request.
//   - option abortonclose: without it a request counts on after its client has gone away.
//   - on-marked-down shutdown-sessions cuts what is in a server that is put into maintenance.
//   - hard-stop-after ends an old worker with all it has: let it be longer than the longest upload, or absent.
//   - In mode tcp HAProxy decides once per connection: clients that keep theirs stay with the old slot until they close it.
//
// An old worker takes changes of a map, but not of servers' states. So after a reload ServerSwitcher's Activate waits until no client keeps an idle
// connection to an old worker, at most Runtime.Patience, and then returns abswap.ErrUnknownOutcome: by that connection one more request could
// reach the old slot. MapSwitcher need not wait.
//
// Which promises of abswap.Switcher are kept: all of S1 to S6, in both forms, in mode http. Seal is kept by ServerSwitcher, and by MapSwitcher
// for the active slot if MapConfig.Closed is set. Without ServersConfig.StateFile a reload turns on what the configuration has on, and Traits
// say so.
//
// Sessions are kept by ServerSwitcher where that is asked for (ServersConfig.KeepSessions), and are not counted.
package haproxy
