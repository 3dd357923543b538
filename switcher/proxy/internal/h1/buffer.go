package h1

import "sync"

// The sizes of buffers. Most heads of requests fit a tiny one, which is all that a request holds that waits long for its answer.
const (
	tinySize  = 4 << 10
	smallSize = 16 << 10
	largeSize = 256 << 10
)

// buffer holds what has been read and not yet taken: data[r:w].
type buffer struct {
	data []byte
	r, w int
}

var (
	tinyBuffers  = sync.Pool{New: func() any { return &buffer{data: make([]byte, tinySize)} }}
	smallBuffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, smallSize)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, largeSize)} }}
	requests     = sync.Pool{New: func() any { return &Request{lines: lines{fields: make([]field, 0, 32)}} }}
	responses    = sync.Pool{New: func() any { return &Response{lines: lines{fields: make([]field, 0, 32)}} }}
)

// getBuffer returns an empty buffer of at least n bytes.
func getBuffer(n int) *buffer {
	switch {
	case n <= tinySize:
		return tinyBuffers.Get().(*buffer)
	case n <= smallSize:
		return smallBuffers.Get().(*buffer)
	case n <= largeSize:
		return largeBuffers.Get().(*buffer)
	}
	return &buffer{data: make([]byte, n)}
}

// putBuffer gives b back; nobody uses it, or what lies in it, any more. One that had to grow for a long head is left to the collector.
func putBuffer(b *buffer) {
	b.r, b.w = 0, 0
	switch len(b.data) {
	case tinySize:
		tinyBuffers.Put(b)
	case smallSize:
		smallBuffers.Put(b)
	case largeSize:
		largeBuffers.Put(b)
	}
}

// grow gives b back and returns one of at least n bytes in which lies what was in it. Beyond a small one it is no larger than asked for: a head
// that is long, and slow, is not to hold four times its room.
func (b *buffer) grow(n int) *buffer {
	var larger *buffer
	if n <= smallSize {
		larger = getBuffer(n)
	} else {
		larger = &buffer{data: make([]byte, n)}
	}
	larger.w = copy(larger.data, b.data[b.r:b.w])
	putBuffer(b)
	return larger
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
