// Package session knows which client's session lives in which generation of a slot. It knows nothing of sockets, of routing, or of how requests
// are carried.
//
// A session is known by a cookie of the proxy's own, which is signed and carries slot, release and a random ID, or by a cookie or a header field
// of the application. It lives from the request that begins it until it is idle for too long, has lived for too long, or the application gives
// its sign: a cookie being cleared. While a request of it is under way it is not idle. A session never moves: it ends.
//
// How the data path uses it, for each request:
//
//	p := sessions.Pick(head)               // one look into one shard; for a known session no allocation
//	gen := p.Want()                        // where it belongs; the zero Generation: nowhere, so the routing state picks
//	entry enters gen, if that is in the routing state's list of generations that keep their sessions; else it picks as any new request does
//	s, cookie := sessions.Begin(p, entered) // for a known session that entered its own generation this is p's, and no cookie
//	defer s.Leave()                        // Begin has counted the request; the session is not idle meanwhile
//	...
//	s = sessions.Answered(s, answer)       // the head of the final answer: what the application says of its own cookie
//	cookie, if not "", is one more Set-Cookie field of that answer
//
// That a sealed generation gets no session any more is up to the routing state, whose second look after entering finds it: the session stays in
// the table until Begin for another generation ends it there, or EndAll does when the slot is given up. A drain that waits for sessions reads
// first what is in flight and then Live, after the routing state leads no new session to the slot: a request that entered before may still
// begin one, and is in flight until then; apart from these the number only falls.
//
// On the disk the table is replaced as a whole from time to time, and at Close. After an end without Close, what was begun since the last time
// is missing there; so for one idle period Live says that its number is not known, and signed cookies that the table lacks are taken as live.
// No secret is on the disk: sessions are kept by the hash of what names them.
package session
