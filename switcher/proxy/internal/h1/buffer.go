package h1

import "sync"

const (
	smallSize = 16 << 10
	largeSize = 256 << 10
)

// buffer holds what has been read and not yet taken: data[r:w].
type buffer struct {
	data []byte
	r, w int
}

var (
	smallBuffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, smallSize)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, largeSize)} }}
	requests     = sync.Pool{New: func() any { return &Request{lines: lines{fields: make([]field, 0, 32)}} }}
	responses    = sync.Pool{New: func() any { return &Response{lines: lines{fields: make([]field, 0, 32)}} }}
)

func getBuffer(large bool) *buffer {
	if large {
		return largeBuffers.Get().(*buffer)
	}
	return smallBuffers.Get().(*buffer)
}

// putBuffer gives b back; nobody uses it, or what lies in it, any more. One that had to grow for a long head is left to the collector.
func putBuffer(b *buffer) {
	b.r, b.w = 0, 0
	switch len(b.data) {
	case smallSize:
		smallBuffers.Put(b)
	case largeSize:
		largeBuffers.Put(b)
	}
}

func getRequest() *Request {
	r := requests.Get().(*Request)
	r.Reset()
	return r
}

func putRequest(r *Request) {
	if cap(r.fields) <= 128 {
		requests.Put(r)
	}
}

func getResponse() *Response {
	r := responses.Get().(*Response)
	r.Reset()
	return r
}

func putResponse(r *Response) {
	if cap(r.fields) <= 128 {
		responses.Put(r)
	}
}
