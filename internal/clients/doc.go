// Package clients holds the front door against clients that others have written: gRPC's own, two of websockets, curl, nghttp, h2load and a
// browser. It is a module of its own, so that nobody who uses abswap gets what they need.
package clients
