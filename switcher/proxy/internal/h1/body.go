package h1

// framing is how the end of a body is found.
type framing uint8

const (
	noBody framing = iota
	sized
	chunked
	toTheEnd // of the connection
)

// Body follows a body as its bytes come, and says what of them goes on. It neither reads nor writes.
type Body struct {
	framing framing
	left    int64 // of a sized one
	data    int64
	chunks  Chunks
}

// requestBody returns the body of a request.
func requestBody(length int64) Body {
	switch {
	case length == 0:
		return Body{}
	case length < 0:
		return Body{framing: chunked}
	}
	return Body{framing: sized, left: length}
}

// responseBody returns the body of an answer (RFC 9112, 6.3).
func responseBody(r *Response, head bool) Body {
	switch {
	case r.Bodiless(head), r.Length == 0:
		return Body{}
	case r.Chunked:
		return Body{framing: chunked}
	case r.Length > 0:
		return Body{framing: sized, left: r.Length}
	}
	return Body{framing: toTheEnd}
}

// take reads p. out is what goes on; it lies in p, but for the end of a chunked body. n is how much of p belongs to the body. done says that
// the body is complete.
func (b *Body) take(p []byte) (out []byte, n int, done bool, fault *Fault) {
	switch b.framing {
	case sized:
		n = int(min(b.left, int64(len(p))))
		b.left -= int64(n)
		b.data += int64(n)
		return p[:n], n, b.left == 0, nil
	case chunked:
		out, n, done, fault = b.chunks.Next(p)
		b.data = b.chunks.Data
		return out, n, done, fault
	case toTheEnd:
		b.data += int64(len(p))
		return p, len(p), false, nil
	}
	return nil, 0, true, nil
}

// wrap makes p one chunk.
func wrap(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst // a chunk of no bytes would be the last one
	}
	const digits = "0123456789abcdef"
	shift := 60
	for shift > 0 && uint64(len(p))>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[uint64(len(p))>>shift&15])
	}
	dst = append(dst, "\r\n"...)
	dst = append(dst, p...)
	return append(dst, "\r\n"...)
}

// chunkRoom is more than what stands around a chunk's data.
const chunkRoom = 32

const lastChunk = "0\r\n\r\n"
