// Package h2c reaches slots that speak HTTP/2 in plaintext, with prior knowledge, as gRPC servers do.
//
// To the front door a slot is something that answers HTTP/1.1, one request after the other on a connection. So Links gives it connections that
// lead no further than into this process: what is written to one is a request, which goes out as one stream of an HTTP/2 connection that many
// share, and the answer comes back the same way. Everything that the front door promises of a request (counted, cut, held, never buffered, given
// to another slot if it cannot be reached) it promises of these too, by the same code.
//
//   - Dial reserves a stream: it fails only if no connection to the slot can be had, and then nothing has been sent.
//   - One connection carries one request. It ends when the stream does; when the front door closes it first, the stream is reset.
//   - What the slot refuses (REFUSED_STREAM, a GOAWAY with an earlier last stream) it has not seen, so it is sent again, if what had been read
//     of its body is still there. Nothing else ever is: the front door decides that.
//   - Trailers go both ways, interim answers come back, and an answer that has no body and ends with its head, as gRPC's errors do, stays one.
package h2c
