// Package haproxy steers an HAProxy that already carries the traffic: new requests are moved from the servers of one slot to those of the
// other by its runtime API, and what is left in the old slot is counted by HAProxy itself. There are two forms:
//
//   - MapSwitcher: each slot has a backend, and one key of a map picks it. One change moves everything at once; it is the one to prefer.
//   - ServerSwitcher: the slots are servers of one backend, which are turned on and off, and weighed for shifts in steps. It is the one for
//     steps, and for sessions that shall stay where they began.
//
// Both are a Switcher and a Drainer in one:
//
//	sw, err := haproxy.NewMap(haproxy.MapConfig{
//		Runtime:  haproxy.Runtime{Master: "/run/haproxy-master.sock"},
//		File:     "/etc/haproxy/slots.map",
//		Key:      "mysite",
//		Backends: map[string]string{"blue": "be_blue", "green": "be_green"},
//		Closed:   "be_closed",
//	})
//	swapper := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{blue, green}, Journal: journal}
//	report, err := swapper.Deploy(ctx, abswap.Release{ID: "v1085", Path: "/srv/out"})
//
// Tried with HAProxy 2.6 and 3.0, on Linux. The tool runs on HAProxy's machine, and mostly as root, who owns the socket of the master process.
//
// # What an existing haproxy.cfg needs for MapSwitcher
//
// Make the file /etc/haproxy/slots.map with the line
//
//	mysite be_blue
//
// in which be_blue is the backend that has the traffic now. Then, in haproxy.cfg, a second backend for the other slot, one for the time in which
// none serves, and in the frontend the line use_backend in place of the one that led to the backend so far:
//
//	defaults
//	    mode http
//	    option abortonclose
//	    option idle-close-on-response
//
//	frontend fe_mysite
//	    bind :80
//	    use_backend %[str(mysite),map(/etc/haproxy/slots.map)]
//
//	backend be_blue
//	    server blue 127.0.0.1:5001 check
//
//	backend be_green
//	    server green 127.0.0.1:5002 check
//
//	backend be_closed
//	    http-request return status 503
//
// # What an existing haproxy.cfg needs for ServerSwitcher
//
// A server for each slot in the backend, and a file in which a reload finds their states again:
//
//	backend be_mysite
//	    load-server-state-from-file local
//	    server-state-file-name /var/lib/haproxy/be_mysite.state
//	    server blue  127.0.0.1:5001 check
//	    server green 127.0.0.1:5002 check disabled
//
// with Backend: "be_mysite", Slots: {"blue": {"blue"}, "green": {"green"}} and StateFile: "/var/lib/haproxy/be_mysite.state" in the ServersConfig. The
// server that has the traffic now is not disabled: HAProxy takes each server for fit until a check says otherwise. From the first switch on the file
// says which is on. Where sessions are kept by a cookie, that is as ever, and ServersConfig.KeepSessions says what becomes of them:
//
//	backend be_mysite
//	    load-server-state-from-file local
//	    server-state-file-name /var/lib/haproxy/be_mysite.state
//	    cookie SERVER insert indirect nocache
//	    server blue  127.0.0.1:5001 check cookie blue
//	    server green 127.0.0.1:5002 check cookie green disabled
//
// # The socket
//
// The services of Debian and Ubuntu start HAProxy with -Ws -S /run/haproxy-master.sock: that is Runtime.Master, and nothing is to be done. Elsewhere
// add -W -S /run/haproxy-master.sock,mode,600 to its command line. An HAProxy without -W is reached by a line of its section global,
//
//	stats socket /run/haproxy/admin.sock mode 600 level admin
//
// which is Runtime.Stats; see there for what that costs. After haproxy -c -f /etc/haproxy/haproxy.cfg and a reload, Swapper.Check tells what is
// still missing, all at once.
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
// it, when the application answers. In mode tcp each connection counts as a request.
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
// reach the old slot. MapSwitcher need not wait, unless the slot's backend came with that reload.
//
// # Which promises are kept
//
// All of S1 to S6 of abswap.Switcher, in both forms, in mode http. In mode tcp they hold for connections in place of requests, and Traits say so.
// Seal is kept by ServerSwitcher, and by MapSwitcher for the active slot if MapConfig.Closed is set. Without ServersConfig.StateFile a reload
// turns on what the configuration has on, and Traits say so. MapSwitcher has no weights: Swapper.Steps with it are refused with
// errors.ErrUnsupported by Check.
//
// Sessions are kept by ServerSwitcher where that is asked for (ServersConfig.KeepSessions): each stays in the slot where it began until its cookie
// is gone, or the slot is sealed. They are not counted, so that a drain does not wait for them.
package haproxy
