package h1

import "sync"

// Fields calls f with each field of the head.
func (l *lines) Fields(head []byte, f func(name, value string)) {
	for i := range l.fields {
		f(string(l.fields[i].name(head)), string(l.fields[i].text(head)))
	}
}

// Target returns the request target as it goes on.
func (r *Request) Target(head []byte) string {
	t := string(head[r.target[0]:r.target[1]])
	switch {
	case r.star:
		return "*"
	case r.slash:
		return "/" + t
	}
	return t
}

// Absolute reports whether the target was in absolute form.
func (r *Request) Absolute() bool { return r.absolute }

// ReadBody reads the body that follows a head in p, which comes in pieces of at most step bytes. It returns the data, what goes on, how many
// bytes of p belong to the body, and whether it is complete.
func ReadBody(b Body, p []byte, step int) (data, raw []byte, n int, done bool, fault *Fault) {
	bare := b
	bare.chunks.Bare = true
	if b.framing == noBody {
		return nil, nil, 0, true, nil
	}
	for n < len(p) && !done {
		piece := p[n:min(n+step, len(p))]
		out, k, over, fault := b.take(append([]byte(nil), piece...))
		if fault != nil {
			return data, raw, n, false, fault
		}
		only, k2, _, _ := bare.take(append([]byte(nil), piece...))
		if k != k2 {
			panic("bare and raw differ")
		}
		raw, data = append(raw, out...), append(data, only...)
		n += k
		done = over
	}
	return data, raw, n, done, nil
}

// RequestBody and ResponseBody are for ReadBody.
var (
	RequestBody  = requestBody
	ResponseBody = responseBody
)

// EndMeetsOver ends an exchange while somebody begins to wait for its end, and returns what that one waits for.
func EndMeetsOver() <-chan struct{} {
	x := &Exchange{}
	var both sync.WaitGroup
	both.Go(func() { x.end(0) })
	over := x.over()
	both.Wait()
	return over
}
