package h1_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
)

var requestSeeds = []string{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /a%2Fb/../c?q=%zz;x HTTP/1.1\r\nhost:app.test:81\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nX-Keep: a\r\nX-Keep:  b \r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
	"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3;a=\"b\\\"\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nSum: 7\r\nHost: y\r\n\r\nrest",
	"GET http://other.test:80/x?y HTTP/1.1\r\nHost: app.test\r\n\r\n", "GET http://other.test?y HTTP/1.0\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX_Forwarded_For: 1\r\n\r\n", "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, TE\r\nUpgrade: websocket\r\nTE: gzip, trailers;q=0.5\r\nExpect: 100-continue\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
	"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET //x HTTP/1.2\r\nHost: x\r\n\r\n",
}

// FuzzRequest holds our reading of requests against net/http's: what both accept must mean the same. Also what we hand on is read by net/http
// as that one request, and reading it in pieces makes no difference.
func FuzzRequest(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, step uint8) {
		ours := bytes.Clone(text)
		var r h1.Request
		r.Reset()
		done, fault := r.Scan(ours)
		inPieces(t, text, int(step)+1, done, fault, &r)
		if !done || fault != nil {
			return
		}
		data, raw, n, whole, fault := h1.ReadBody(h1.RequestBody(r.Length), ours[r.Len():], int(step)+1)
		if fault != nil || !whole {
			return
		}
		want := reading{method: string(r.Method(ours)), target: r.Target(ours), host: string(r.Authority(ours)), fields: http.Header{}, body: string(data), rest: len(text) - r.Len() - n}
		r.Fields(ours, func(name, value string) { want.fields[name] = append(want.fields[name], value) })

		if theirs, ok := readStd(text); ok {
			if r.Absolute() {
				theirs.target = want.target // net/http keeps what was written
			}
			same(t, "net/http's reading", want, theirs, "Host", "Transfer-Encoding", "Trailer")
		}

		sent := r.Append(nil, ours, h1.Sender{IP: "192.0.2.1"})
		sent = append(append(sent, raw...), "end"...)
		there, ok := readStd(sent)
		if !ok {
			t.Fatalf("what we hand on is not read: %q", sent)
		}
		want.rest = len("end")
		said := http.Header{"Connection": want.fields["Connection"]}
		for name := range want.fields {
			switch dash := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-")); {
			case slices.Contains(hopByHop, name), name == "Expect", dash == "Forwarded", strings.HasPrefix(dash, "X-Forwarded-"), named(said, name):
				delete(want.fields, name)
				delete(there.fields, name)
			}
		}
		same(t, "what goes on", want, there, append(hopByHop, "Host", "Expect", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Content-Length")...)
	})
}

var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func named(h http.Header, name string) bool {
	for _, v := range h["Connection"] {
		for e := range strings.SplitSeq(v, ",") {
			if textproto.CanonicalMIMEHeaderKey(strings.Trim(e, " \t")) == name {
				return true
			}
		}
	}
	return false
}

// inPieces reads the head again, step bytes at a time, and expects the same.
func inPieces(t *testing.T, text []byte, step int, done bool, fault *h1.Fault, r *h1.Request) {
	again := bytes.Clone(text)
	var p h1.Request
	p.Reset()
	for n := 0; ; n += step {
		n = min(n, len(again))
		d, f := p.Scan(again[:n])
		if d || f != nil || n == len(again) {
			if d != done || f != fault || d && f == nil && (p.Facts != r.Facts || p.Len() != r.Len()) {
				t.Fatalf("in pieces of %d: %v, %v; at once: %v, %v", step, d, f, done, fault)
			}
			return
		}
	}
}

// reading is what a request means.
type reading struct {
	method, target, host string
	fields               http.Header
	body                 string
	rest                 int // bytes behind it
}

func readStd(text []byte) (reading, bool) {
	src := bytes.NewReader(text)
	br := bufio.NewReader(src)
	q, err := http.ReadRequest(br)
	if err != nil {
		return reading{}, false
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return reading{}, false
	}
	fields := q.Header
	if q.ContentLength < 0 {
		fields["Transfer-Encoding"] = []string{"chunked"}
	}
	return reading{q.Method, q.RequestURI, q.Host, fields, string(body), src.Len() + br.Buffered()}, true
}

func same(t *testing.T, what string, a, b reading, but ...string) {
	t.Helper()
	for _, name := range but {
		delete(a.fields, name)
		delete(b.fields, name)
	}
	if len(a.fields["Pragma"]) > 0 && len(a.fields["Cache-Control"]) == 0 {
		delete(b.fields, "Cache-Control") // net/http adds it
	}
	if a.method != b.method || a.target != b.target || a.host != b.host || a.body != b.body || a.rest != b.rest {
		t.Fatalf("%s: %+v, ours: %+v", what, b, a)
	}
	if len(a.fields) != len(b.fields) {
		t.Fatalf("%s: %q, ours: %q", what, b.fields, a.fields)
	}
	for name, values := range a.fields {
		if !slices.Equal(values, b.fields[name]) {
			t.Fatalf("%s: %s: %q, ours: %q", what, name, b.fields[name], values)
		}
	}
}

var responseSeeds = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest", "HTTP/1.0 200\r\n\r\nto the end", "HTTP/1.1 204 No Content\r\nEtag: \"x\"\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\nrest",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nConnection: keep-alive, X-Own\r\nX-Own: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
}

// FuzzResponse does for answers what FuzzRequest does for requests.
func FuzzResponse(f *testing.F) {
	for _, s := range responseSeeds {
		f.Add([]byte(s), uint8(3), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, step uint8, head bool) {
		ours := bytes.Clone(text)
		var r h1.Response
		r.Reset()
		if done, fault := r.Scan(ours); !done || fault != nil || r.Status < 200 {
			return
		}
		body := h1.ResponseBody(&r, head)
		data, raw, n, whole, fault := h1.ReadBody(body, ours[r.Len():], int(step)+1)
		untilEnd := !r.Bodiless(head) && !r.Chunked && r.Length < 0
		if fault != nil || !whole && !untilEnd {
			return
		}
		want := reading{target: string(rune(r.Status)), fields: http.Header{}, body: string(data), rest: len(text) - r.Len() - n}
		r.Fields(ours, func(name, value string) { want.fields[name] = append(want.fields[name], value) })
		if theirs, ok := readStdResponse(text, head); ok {
			same(t, "net/http's reading", want, theirs, "Transfer-Encoding", "Trailer", "Content-Length")
		}

		chunked := r.Chunked && !r.Bodiless(head)
		sent := append(r.Append(nil, ours, h1.Style{Minor: 1, Chunked: chunked}), raw...)
		there, ok := readStdResponse(sent, head)
		if !ok {
			t.Fatalf("what we hand on is not read: %q", sent)
		}
		want.rest = 0
		said := http.Header{"Connection": want.fields["Connection"]}
		for name := range want.fields {
			if slices.Contains(hopByHop, name) || named(said, name) {
				delete(want.fields, name)
				delete(there.fields, name)
			}
		}
		same(t, "what goes on", want, there, append(hopByHop, "Content-Length")...)
	})
}

func readStdResponse(text []byte, head bool) (reading, bool) {
	src := bytes.NewReader(text)
	br := bufio.NewReader(src)
	q := &http.Request{Method: "GET"}
	if head {
		q.Method = "HEAD"
	}
	resp, err := http.ReadResponse(br, q)
	if err != nil {
		return reading{}, false
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reading{}, false
	}
	return reading{target: string(rune(resp.StatusCode)), fields: resp.Header, body: string(body), rest: src.Len() + br.Buffered()}, true
}
