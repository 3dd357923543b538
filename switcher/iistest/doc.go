// Package iistest emulates a machine with IIS on it, well enough to prove deploy tools: what they do to the configuration with appcmd has the
// effects on real HTTP requests that it would have there, with the traps.
//
//	srv, err := iistest.New(iistest.Config{
//		Scale: 0.01, // a shutdownTimeLimit of 90 s lasts 0.9 s
//		Host: func(folder string) (http.Handler, error) { return newApplication(folder) },
//	})
//	...
//	defer srv.Close()
//	out, exit := srv.Appcmd(ctx, []string{"list", "site"}, nil)
//	answer, err := srv.Client().Get("http://www.example.test/") // to the emulated port 80
//
// # The world
//
// Configuration is a real file, applicationHost.config in Config.Dir. Commands edit it so that every byte they do not mean stays; other
// programs may write it too. The runtime (WAS, HTTP.sys, worker processes) follows the file after Config.WASDelay. Before that a start of a
// new site or pool fails as on the real thing.
//
// Requests are real: they come to real ports on 127.0.0.1 (Server.DialContext and Server.Client find them by their emulated address), and
// each is routed by itself, whatever connection it comes on. It enters the queue of its application's pool, a worker process (an object
// with a process id) pulls it, and the application that Config.Host opens for the release's folder serves it. There is one application for
// each worker process, site id and application path; each starts cold. Recycling overlaps, pools stop with their shutdownTimeLimit, after
// which connections are cut, really. web.config of a release decides how it is hosted (see Mode) and whether commits restart it.
//
// Server farms (Application Request Routing) are real proxies in the worker process of the site whose rewrite rule feeds them: weighted round
// robin or request hash, affinity by cookie, health tests, states and counters, which go with the process. Server.SetState and its like are the
// runtime methods; they hold no answers back as ARR's buffers do.
//
// What differs between machines, and what nobody knows, is a field of Quirks or ARRQuirks. Faults of commands come by Server.Inject.
//
// # As a program
//
// Server.Executable makes a real appcmd program out of the running one, which calls Main first:
//
//	func TestMain(m *testing.M) { iistest.Main(); os.Exit(m.Run()) }
//
// # Limits
//
// It speaks HTTP/1.1, also over TLS, no HTTP/2. It serves an application's root folder, not its other virtual directories. Of modules, traces and binding objects it has none to list. Periodic recycling and health pings do not happen. A request's path
// reaches the application as it came, with the application's path in it.
package iistest
