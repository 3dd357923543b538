package h2c

import (
	"net/http"
	"net/textproto"
	"sync"
)

// maxInterims is how many interim answers to a request may wait for its client. What comes beyond is left out: none of them is the answer.
const maxInterims = 16

// interims passes on the interim answers to one request. The transport tells of them on the goroutine that reads for all streams of a connection,
// which must not wait for one client; and it may still tell of one when the request has ended, and w is not to be used any more.
type interims struct {
	w http.ResponseWriter

	mu      sync.Mutex
	over    bool
	waiting []interim
	written chan struct{} // closed when all that waited are written; nil: none are
}

type interim struct {
	code   int
	fields textproto.MIMEHeader
}

// add passes one on. It waits for nothing.
func (i *interims) add(code int, fields textproto.MIMEHeader) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over || len(i.waiting) == maxInterims {
		return
	}
	i.waiting = append(i.waiting, interim{code, fields})
	if i.written == nil {
		i.written = make(chan struct{})
		go i.write()
	}
}

func (i *interims) write() {
	for {
		i.mu.Lock()
		if len(i.waiting) == 0 {
			close(i.written)
			i.written = nil
			i.mu.Unlock()
			return
		}
		x := i.waiting[0]
		i.waiting = i.waiting[1:]
		i.mu.Unlock()
		to := i.w.Header()
		for name, values := range x.fields {
			to[name] = values
		}
		i.w.WriteHeader(x.code)
		clear(to)
	}
}

// end waits until those that came are written, or nobody is there to read them. No other will be.
func (i *interims) end() {
	i.mu.Lock()
	i.over = true
	written := i.written
	i.mu.Unlock()
	if written != nil {
		<-written
	}
}
