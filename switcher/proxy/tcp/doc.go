// Package tcp is the front door for any protocol: it carries TCP connections to one of several slots without looking into them. It is an
// abswap.Switcher and an abswap.Drainer, as package proxy is for HTTP.
//
//	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"}, Active: "blue"})
//	...
//	go s.Serve(listener)
//	swapper := &abswap.Swapper{Switcher: s, Slots: []abswap.Slot{blue, green}}
//
// What it promises:
//
//   - The decision falls once per connection. When Activate returns, no connection that is accepted afterwards goes to the old slot (S1). One that
//     was carried already stays where it is until it ends by itself (S3); so a client that keeps a connection stays on the old version.
//   - Counts are exact (D1, D2): a connection is counted from before it is dialled to the slot until both directions have ended. All of them count
//     as upgraded in a Load: what they carry, and whether it is at rest, cannot be seen.
//   - Each direction ends by itself: an end of what one side sends is passed on as that, and the other side may go on. A connection that
//     breaks is broken on the other side too, so that nobody takes half a stream for a whole one.
//   - A slot that cannot be reached is not tried for ever: if another slot takes new work by then, it gets the connection, else the client's is closed.
//
// TLS is passed through. Where several sites share an address, Names chooses between their Switchers by the name that the client asks for
// in its first message, without ending the encryption.
//
// A connection that carries nothing holds no buffer and no pipe. Where much flows, on Linux and between TCP sockets, it goes from socket to
// socket inside the kernel (splice); elsewhere through one buffer.
//
// The slot's application sees the front door's address as that of its client.
package tcp
