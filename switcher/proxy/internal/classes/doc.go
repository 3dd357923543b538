// Package classes decides what a drain does with each piece of work that is left in a slot: requests, uploads, downloads, event streams,
// tunnels, sessions. It is a state machine without goroutines, timers or sockets: whoever drives it shows it what is in flight, is told what to
// close and when to come again, and in the end what became of everything, class by class.
//
//	d := classes.New(time.Now(), rules)
//	for {
//		orders, next := d.Step(time.Now(), views) // what is in flight now
//		carry the orders out; wait until next, or until something has ended
//	}
//	d.Cancel(time.Now()) // the slot goes live again: whatever was not ordered yet never will be
//
// Work is known by a number of its own, never by an address, and its class may change on the way: a request becomes a tunnel.
package classes
