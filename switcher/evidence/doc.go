// Package evidence counts what a slot still carries from the slot's own side, whatever load balancer is in front of it:
//
//   - SocketDrainer looks at the operating system's table: who is connected to the address at which the slot listens?
//   - HTTPDrainer asks the application, which knows best what it is working on.
//
// Either is a Drainer for a Switcher that cannot count, and a second witness for one that can, since counters of load balancers in the field
// have been seen to say 0 while a request lived:
//
//	swapper.Drainer = abswap.Both(balancer, &evidence.HTTPDrainer{URLs: map[string]string{
//		"blue": "http://127.0.0.1:5001/in-flight", "green": "http://127.0.0.1:5002/in-flight"}})
//
// The endpoint needs a count in the application that goes up when a request begins and down when it has ended, an upgraded connection's when that
// is closed; in Go, in a handler around all others:
//
//	open.Add(1)
//	defer open.Add(-1)
//	next.ServeHTTP(w, r)
//
// Both is drained when both say so. The evidence of these two is approximate: a request may be on its way between the load balancer and the
// slot. Where there is any doubt what a reading means, its evidence is unknown, and the slot does not count as drained.
package evidence
