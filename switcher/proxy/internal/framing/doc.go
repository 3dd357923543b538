// Package framing decides what the front door makes of requests and answers whose framing is odd: a table of vectors, each with the raw bytes
// and the one right outcome, and a judge that sends them and looks at what came out on the other side.
//
// Between a client and an application stands a front door that reads the same bytes as the application does. Wherever the two could disagree
// about where a message ends, or whose it is, one client could put words into another's mouth (request smuggling). So there are three outcomes
// only: a request is refused and its connection closed, with nothing of it at the application; or it is forwarded with a meaning that no reader
// can mistake; or, where the fault shows in a body that is on its way already, it is broken off, and the application sees that it is.
//
//	up := framing.NewRecorder(listener)            // the application, which reads strictly and keeps every byte
//	j := &framing.Judge{Address: door, Upstream: up}
//	for _, v := range framing.Vectors() {
//		err := j.Check(ctx, v, framing.Whole)      // and framing.ByteByByte
//	}
//
// The same the other way round: AnswerVectors are what an application can answer, and an AnswerJudge looks at what the client gets of it, and at
// whose answers those get who come next.
//
// The rules are those of RFC 9112 and RFC 9110. Where these let a recipient choose between repairing and refusing, the front door refuses.
package framing
