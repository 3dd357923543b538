// Package proxy is the front door on one machine: a reverse proxy, embedded in the caller's own service, that is an abswap.Switcher and an
// abswap.Drainer at once. It forwards HTTP/1.1, websockets and other upgrades, server-sent events, uploads and downloads of any length.
//
//	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:8081", "green": "127.0.0.1:8082"}, Active: "blue"})
//	...
//	go p.Serve(listener) // or use p as an http.Handler
//	swapper := &abswap.Swapper{Switcher: p, Slots: []abswap.Slot{blue, green}}
//
// What it promises:
//
//   - A switch is exact (S1): when Activate returns, no request that begins afterwards reaches the old slot. No connection is closed for it,
//     none remembers a slot.
//   - Counts are exact (D1, D2): a request is counted from before its first byte can go to the slot until both directions are finished, an
//     upgraded connection too.
//   - Nothing is delivered twice: a request goes to a slot a second time only if nothing was sent the first time, or if repeating it is
//     harmless by its method, none of its body was read and no byte of an answer came.
//   - Nothing is buffered: every piece of a body is sent on before the next is read, in both directions at once, so that an early answer to
//     an upload gets through.
//   - A hold is exact too: when Hold returns, nothing enters a slot until the release, and then all go on in the order in which they came.
//   - With a Config.StateFile a change is on the disk before it is in force, and a proxy that was killed goes on where it was.
//   - No timer ends work: quiet uploads, slow reports and silent websockets live as long as their two ends want.
//
// What it bounds: the head of a request, and the time for it; the client connections (Config.MaxConns); what a slot carries at a time, with a
// queue before it (Config.MaxInFlight), in which a request is counted nowhere and picks its slot when it is let go. Config.Health asks the slots
// how they are, and tells; it moves nothing unless Health.Eject is set, and never gives work to a slot that has none.
//
// Config.Sessions keeps a client's session in the slot where it began, by a signed cookie or one of the application's, until it ends; a drain with
// abswap.DrainOptions.Sessions waits for that. Switcher.Preview leads requests with a header, a cookie or a host to a slot before it takes work.
// Both are rules of the one routing state, so Seal ends them like all else. Config.StickyWeights shares out clients instead of requests.
//
// Drains by class (abswap.DrainOptions.Classes) find requests, uploads, downloads, event streams and tunnels here. A websocket that is asked to end
// gets a close frame between two frames (Config.CloseStatus), an event stream ends between two events, and a swap back cancels what was asked. In
// HTTP/2 that is one stream's end; the others of its connection go on. The events of a stream with a Content-Encoding, such as gzip, cannot be
// told apart: it is not asked, and goes on until it ends, or until its class's Cap. Applications that want their streams ended politely do not
// compress them.
//
// A Sites serves many sites at one door, each with a Switcher of its own.
//
// Serve carries HTTP/1.1 over a data path of its own (internal/h1), which reads strictly: what could be understood in two ways is refused with
// 400 and the connection ends. ServeHTTP does the same work behind another net/http server. Both decide, count and hold alike.
//
// Serve speaks HTTP/2 with clients that choose it by ALPN, or begin with it in plaintext (prior knowledge; not by Upgrade), unless Config.DisableHTTP2 is
// set: by net/http's implementation, each stream a request of ServeHTTP. A slot that Config.Protocols names H2C is spoken to in HTTP/2, so that
// gRPC works end to end. What there is to know of it:
//
//   - ForceHandOver and Shutdown say GOAWAY without a last stream first, so that what is on its way is served; other streams of the
//     connection go on. Shutdown says which stream was the last when Config.Farewell has passed.
//   - ForceCut, and an answer that breaks off, reset the one stream, with INTERNAL_ERROR: the slot's own code is not passed on. A client's reset
//     resets the slot's stream.
//   - What could mean something else as HTTP/1.1 is refused: 400, or a reset. At most 250 streams a connection, 128 KiB of a header block, and
//     Config.HeadTimeout for it to come.
//   - A stream that a slot of HTTP/2 refuses, or did not see before it left (REFUSED_STREAM, GOAWAY), is sent again if its body had come whole and
//     has no more than 64 KiB.
//   - A client that waits for a 100 (Expect) gets it from the proxy as soon as the slot is there. Trailers of a request that were not announced
//     are dropped.
//   - Websockets over HTTP/2 (extended CONNECT, RFC 8441) are offered by a process that was started with GODEBUG=http2xconnect=1 in its environment,
//     and by no other: net/http looks at that once, and a //go:debug line does not reach it. Elsewhere clients open them by HTTP/1.1. The slot gets
//     an upgrade of HTTP/1.1, with a Sec-WebSocket-Key of the proxy's; its refusal is passed on, but what is no refusal and no right 101 is 502. Its
//     stream is a tunnel like any other: counted, drained by class, cut, held, kept in its session. Each takes one of its connection's 250 streams.
//     Another :protocol gets 501, and so does a websocket for a slot that speaks HTTP/2: it could not be asked.
//   - A client's END_STREAM ends its half of such a websocket alone. The slot's end ends both: net/http cannot end a stream's other half by itself.
//     A client that owes the slot a close frame then has 30 s for it. What breaks, or is cut, resets the stream, with INTERNAL_ERROR.
//
// A deploy tool in another process steers the proxy through its control plane, by a Client, which is the same Switcher:
//
//	h, err := proxy.ControlHandler(p, proxy.ControlOptions{})
//	l, err := proxy.ListenControl("unix:/run/site/control.sock")
//	go proxy.ControlServer(h).Serve(l)
//
//	front, err := proxy.NewClient(proxy.ClientConfig{Address: "unix:/run/site/control.sock"}) // there
//	swapper := &abswap.Swapper{Switcher: front, Slots: []abswap.Slot{blue, green}}
//
// A client that closes its sending side behind a request is taken as one that has gone away, as every net/http server does.
package proxy
