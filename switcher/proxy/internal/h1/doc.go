// Package h1 is the data path of the front door for HTTP/1.1: it reads requests from clients, carries them to slots, and brings the answers
// back. Which slot a request goes to is not decided here; see Front.
//
// # Two halves
//
// What the bytes mean is decided without any input or output: Request and Response scan heads, Chunks and Body follow bodies, and both say what
// is to be handed on. They take bytes in pieces of any size. What drives them (link, conn, Exchange, upload, tunnel) reads and writes, on
// goroutines over Go's poller; another driver could take its place.
//
// # How a request flows
//
//   - conn.awaitRequest waits until the client's socket can be read. There is no buffer while it waits, and a connection that is idle for
//     longer waits on a small stack. Then one receive takes in the head, and, as a rule, nothing else is to be read.
//   - Request.Scan looks at each byte once. Fields are noted by their places in the buffer; names are put into canonical writing in place.
//     What could be read in two ways is refused: 400, and the connection ends.
//   - Front.Forward enters the request into the count of a generation and calls Exchange.Attempt.
//   - Attempt takes a kept connection to the slot, of the shard that the client's connection has used before, or makes one: to the loopback,
//     on Linux, without waiting for it (loop_linux.go), else by a dial on a goroutine of its own.
//   - Request.Append writes the head for the slot into a buffer from the pool: runs of lines that stay as they are in one copy each, without
//     those that concern the client's connection only, and with those that tell who forwarded it. A body that has come with the head is
//     appended, and all of it goes out in one send.
//   - link.ask does that send while the poller is armed for reading, and waits. The answer's edge cannot be lost, so nobody reads in vain.
//     The same call looks first whether the slot has closed the connection, or has said something unasked.
//   - Response.Scan, Response.Append and one send do the same the other way round.
//   - The connection goes back to its shard, and the request leaves the count.
//
// So a GET on kept connections costs two receives, two sends, and one receive that only peeks; see syscall_linux.go for how they are done.
// Where a body is longer than one buffer, a second goroutine carries the request's at the same time: an early answer gets through, and nothing
// is ever held back. Large bodies of known length are spliced from socket to socket, where the system can and TLS is off; see splice.go.
//
// # What is never allocated
//
// For an exchange without a large body: nothing. Buffers and scanned heads come from pools, the Exchange is its connection's, a path is kept in
// an array of it, and the functions that the poller calls are made once. An idle connection has no buffer.
//
// # What waits
//
// An upload or a tunnel may stand still for hours, so what lies on the stack below its wait counts. The runtime begins new goroutines with a
// stack of the average that the last collection has found in use, as a power of two from 2 KiB (runtime/stack.go, gcComputeStartingStackSize):
// a few frames more below each wait, and every one of them takes 4. So carry, upload.run, tunnel.join and link.fill have small frames, and what
// needs room is called before the wait or after it. A head is read into 4 KiB; only where that is full at once more is read, into 16.
//
// # Time
//
// An exchange sets no timer. A connection says by one atomic store what it does; one goroutine looks at all of them a few times a second, ends
// those that have been idle, or in the midst of a head, for too long, and has those watched whose request takes its time: only then a goroutine
// reads from the client, to see it go away. Nothing ends a request, an upgraded connection or an upload for being slow or quiet.
//
// # Who may touch what
//
// One goroutine at a time reads from a client: its own, that of an upload, or the watching one; conn.state says which. Only the connection's
// own writes to it. A connection to a slot is written by the upload's goroutine once there is one. From outside an exchange is ended by end,
// which closes the slot's connection under it: whoever takes that out of Exchange.up first closes it or keeps it.
package h1
