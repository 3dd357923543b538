package h1_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

// scan reads a request's head.
func scan(text string) (r h1.Request, head []byte, done bool, fault *h1.Fault) {
	head = []byte(text)
	r.Reset()
	done, fault = r.Scan(head)
	return r, head, done, fault
}

// TestHeadsThatAreRefused gives Scan what could be read in two ways, or is none.
func TestHeadsThatAreRefused(t *testing.T) {
	const host = "Host: x\r\n"
	for _, tc := range []struct {
		text   string
		status int
	}{
		{"GET / HTTP/1.1\n" + host + "\r\n", 400}, {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400}, {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET / HTTP/1.1 \r\n" + host + "\r\n", 400}, {" GET / HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET /\r\n\r\n", 400}, {"G(T / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /a b HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /\x00 HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET x HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET ftp://x/ HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET http:///x HTTP/1.1\r\n" + host + "\r\n", 400}, {"GET http://a@b/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET / HTTP/2.0\r\n" + host + "\r\n", 505}, {"GET / HTTP/0.9\r\n" + host + "\r\n", 505}, {"GET / http/1.1\r\n" + host + "\r\n", 400}, {"GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		{"CONNECT x:1 HTTP/1.1\r\n" + host + "\r\n", 405},
		{"GET / HTTP/1.1\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + " folded\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + ": x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("y", 20) + "\x7f\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" + host + "X\x80: a\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400}, {"POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: \r\n\r\n", 400}, {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 9999999999999999999\r\n\r\n", 400}, {"POST / HTTP/1.1\r\n" + host + "Content-Length: 0x1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400}, {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400}, {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501}, {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" + host + "Expect: wonders\r\n\r\n", 417},
		{"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", h1.MaxFields) + "\r\n", 431}, {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("y", h1.MaxHead) + "\r\n\r\n", 431},
	} {
		_, _, _, fault := scan(tc.text)
		if assert.NotNil(t, fault, "%.100q", tc.text) {
			assert.Equal(t, tc.status, fault.Status, "%.100q: %v", tc.text, fault)
		}
	}
}

// TestAHeadIsNotReadBeforeItsEnd cuts one at every place.
func TestAHeadIsNotReadBeforeItsEnd(t *testing.T) {
	const text = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
	for n := range len(text) {
		_, _, done, fault := scan(text[:n])
		assert.False(t, done, n)
		assert.Nil(t, fault, n)
	}
	r, head, done, fault := scan(text + "hello")
	require.True(t, done)
	require.Nil(t, fault)
	assert.Equal(t, len(text), r.Len())
	assert.EqualValues(t, 5, r.Length)
	assert.Equal(t, "/a", string(r.Path(head)))
	assert.Equal(t, "x", string(r.Authority(head)))
}

// TestChunksHandOnWhatIsMeant cuts a chunked body into pieces of every size: extensions, leading zeros and forbidden trailer fields go.
func TestChunksHandOnWhatIsMeant(t *testing.T) {
	const body = "003;a=\"q;\\\"\"\r\nabc\r\nB\r\nhello world\r\n00;x\r\nSum: 7\r\nHost: evil\r\ncontent-length: 3\r\nX-Two:  8 \r\n\r\n"
	const want = "3\r\nabc\r\nB\r\nhello world\r\n0\r\nSum: 7\r\nX-Two: 8\r\n\r\n"
	for step := 1; step <= len(body); step++ {
		var c, bare h1.Chunks
		bare.Bare = true
		var raw, data []byte
		done := false
		for n := 0; n < len(body) && !done; {
			piece := body[n:min(n+step, len(body))]
			out, k, over, fault := c.Next([]byte(piece))
			require.Nil(t, fault, step)
			raw = append(raw, out...)
			only, _, _, _ := bare.Next([]byte(piece))
			data = append(data, only...)
			n, done = n+k, over
		}
		require.True(t, done, step)
		require.Equal(t, want, string(raw), step)
		require.Equal(t, "abchello world", string(data), step)
		require.EqualValues(t, 14, c.Data)
	}
}

func TestChunksThatAreRefused(t *testing.T) {
	for _, text := range []string{
		"\r\n", "g\r\n", "-1\r\n", "+1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "0x1\r\na\r\n", "1\na\r\n", "1\r\nab\r\n", "1\r\na\n", "1\r\na\rb", "1\rX",
		"ffffffffffffffff\r\n", "00000000000000001\r\na\r\n", "1;" + strings.Repeat("x", 2000) + "\r\na\r\n", "1;a\x00\r\na\r\n", "1;a=\"\r\n\"\r\na\r\n", "1;a\nb\r\na\r\n",
		"0\r\nA: b\n\r\n", "0\r\n folded\r\n\r\n", "0\r\nA : b\r\n\r\n", "0\r\nA: \x00\r\n\r\n", "0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 100) + "\r\n",
	} {
		var c h1.Chunks
		_, _, _, fault := c.Next([]byte(text))
		assert.NotNil(t, fault, "%.60q", text)
	}
}

// TestEndReachesWhoBeginsToWait at the same moment.
func TestEndReachesWhoBeginsToWait(t *testing.T) {
	for range 20_000 {
		<-h1.EndMeetsOver()
	}
}

// BenchmarkHead reads the head of a usual request and writes it for the slot.
func BenchmarkHead(b *testing.B) {
	text := []byte("GET /products/17?color=blue HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nSec-Fetch-Mode: navigate\r\n\r\n")
	var r h1.Request
	out := make([]byte, 0, 4096)
	head := bytes.Clone(text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, fault := r.Scan(head); !done || fault != nil {
			b.Fatal(fault)
		}
		out = r.Append(out[:0], head, h1.Sender{IP: "192.0.2.1"})
	}
}
