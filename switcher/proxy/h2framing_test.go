package proxy_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/internal/framing"
)

// h2vector is a request by HTTP/2 that could mean something else once it is written as HTTP/1.1.
type h2vector struct {
	name     string
	fields   fields // beside or instead of those of a plain POST
	data     string
	noData   bool   // the head ends the request
	trailers fields // behind the data; nil: none

	forwarded bool              // else the application gets no whole request
	part      bool              // but may get a part of one, and sees it break off
	bare      bool              // or gets it without a body: its length was 0, and what came behind is nobody's
	target    string            // "": /form
	has       map[string]string // fields that the application must get so
	lacks     []string          // and such that it must not get
}

const smuggledText = "GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n"

func h2vectors() []h2vector {
	const crlf = "\r\nX: y"
	v := []h2vector{
		// Values that end a line.
		{name: "CR LF in a value", fields: fields{{"x", "a\r\nTransfer-Encoding: chunked"}}},
		{name: "LF in a value", fields: fields{{"x", "a\nTransfer-Encoding: chunked"}}},
		{name: "CR in a value", fields: fields{{"x", "a\rTransfer-Encoding: chunked"}}},
		{name: "NUL in a value", fields: fields{{"x", "a\x00b"}}},
		{name: "a request in a value", fields: fields{{"x", "a\r\n\r\n" + smuggledText}}},
		{name: "DEL in a value", fields: fields{{"x", "a\x7f"}}},

		// Names.
		{name: "capital in a name", fields: fields{{"Transfer-Encoding", "chunked"}}},
		{name: "colon in a name", fields: fields{{"x:y", "z"}}},
		{name: "blank behind a name", fields: fields{{"transfer-encoding ", "chunked"}}},
		{name: "CR LF in a name", fields: fields{{"x: y\r\ntransfer-encoding", "chunked"}}},
		{name: "empty name", fields: fields{{"", "z"}}},

		// Pseudo-headers.
		{name: "blank and version in :path", fields: fields{{":path", "/form HTTP/1.1"}}},
		{name: "a request in :path", fields: fields{{":path", "/form HTTP/1.1\r\nHost: site.test\r\n\r\n" + smuggledText}}},
		{name: "tab in :path", fields: fields{{":path", "/form\tHTTP/1.1"}}},
		{name: "fragment in :path", fields: fields{{":path", "/form#x"}}},
		{name: "half an escape in :path", fields: fields{{":path", "/form%2"}}},
		{name: "absolute :path", fields: fields{{":path", "http://evil.test/form"}}},
		{name: "relative :path", fields: fields{{":path", "form"}}},
		{name: "empty :path", fields: fields{{":path", ""}}},
		{name: "asterisk of a POST", fields: fields{{":path", "*"}}},
		{name: "two :path", fields: fields{{":path", "/form"}, {":path", "/other"}}},
		{name: "a request line in :method", fields: fields{{":method", "GET /smuggled HTTP/1.1\r\nX: "}}},
		{name: "blank in :method", fields: fields{{":method", "GET /smuggled"}}},
		{name: "empty :method", fields: fields{{":method", ""}}},
		{name: "CONNECT", fields: fields{{":method", "CONNECT"}}},
		{name: "CR LF in :authority", fields: fields{{":authority", "site.test" + crlf}}},
		{name: "blank in :authority", fields: fields{{":authority", "site.test x"}}},
		{name: "user in :authority", fields: fields{{":authority", "me@site.test"}}},
		{name: "path in :authority", fields: fields{{":authority", "site.test/x"}}},
		{name: "two in :authority", fields: fields{{":authority", "site.test,evil.test"}}},
		{name: "empty :authority", fields: fields{{":authority", ""}}},
		{name: "another Host", fields: fields{{"host", "evil.test"}}},
		{name: "two Hosts", fields: fields{{"host", "site.test"}, {"host", "site.test"}}},
		{name: "strange :scheme", fields: fields{{":scheme", "http://evil.test/x?"}}},
		{name: ":status in a request", fields: fields{{":status", "200"}}},
		{name: "unknown pseudo-header", fields: fields{{":smuggle", "x"}}},
		{name: "pseudo-header behind a field", fields: fields{{"x", "y"}, {":path", "/form"}}},
		{name: ":protocol that was not offered", fields: fields{{":method", "CONNECT"}, {":protocol", "websocket"}}, noData: true},

		// What concerns a connection of HTTP/1.1.
		{name: "Transfer-Encoding", fields: fields{{"transfer-encoding", "chunked"}}, data: "0\r\n\r\n" + smuggledText},
		{name: "Transfer-Encoding and a length", fields: fields{{"transfer-encoding", "chunked"}, {"content-length", "5"}}, data: "0\r\n\r\n"},
		{name: "Connection", fields: fields{{"connection", "content-length"}}},
		{name: "Keep-Alive", fields: fields{{"keep-alive", "1"}}},
		{name: "Proxy-Connection", fields: fields{{"proxy-connection", "close"}}},
		{name: "Upgrade", fields: fields{{"upgrade", "websocket"}}, noData: true},
		{name: "TE of a coding", fields: fields{{"te", "gzip"}}},
		{name: "unknown expectation", fields: fields{{"expect", "coffee"}}},

		// Lengths against DATA.
		{name: "length too short", fields: fields{{"content-length", "3"}}, data: "abc" + smuggledText, part: true},
		{name: "length too long", fields: fields{{"content-length", "99"}}, data: "abc", part: true},
		{name: "length of nothing, and data", fields: fields{{"content-length", "0"}}, data: smuggledText, bare: true},
		{name: "length without data", fields: fields{{"content-length", "9"}}, noData: true},
		{name: "two lengths", fields: fields{{"content-length", "3"}, {"content-length", "4"}}, data: "abc"},
		{name: "two equal lengths", fields: fields{{"content-length", "3"}, {"content-length", "3"}}, data: "abc"},
		{name: "list of lengths", fields: fields{{"content-length", "3, 3"}}, data: "abc"},
		{name: "length with a sign", fields: fields{{"content-length", "+3"}}, data: "abc"},
		{name: "negative length", fields: fields{{"content-length", "-3"}}, data: "abc"},
		{name: "length in hex", fields: fields{{"content-length", "0x3"}}, data: "abc"},
		{name: "length that overflows", fields: fields{{"content-length", "18446744073709551619"}}, data: "abc"},

		// Trailers.
		{name: "pseudo-header in a trailer", data: "abc", trailers: fields{{":path", "/smuggled"}}, part: true},
		{name: "CR LF in a trailer", data: "abc", fields: fields{{"trailer", "sum"}}, trailers: fields{{"sum", "x\r\n\r\n" + smuggledText}}, part: true},
		{name: "framing in a trailer that was not announced", data: "abc", trailers: fields{{"transfer-encoding", "chunked"}, {"content-length", "99"}}, forwarded: true,
			lacks: []string{"Content-Length"}},
		{name: "framing in a trailer that was announced", data: "abc", fields: fields{{"trailer", "transfer-encoding, content-length, host, sum"}},
			trailers: fields{{"sum", "1"}}, forwarded: true, lacks: []string{"Content-Length"}},

		// What is right.
		{name: "body that looks like chunks", data: "0\r\n\r\n" + smuggledText, forwarded: true, lacks: []string{"Content-Length"}},
		{name: "length that is right", fields: fields{{"content-length", "3"}}, data: "abc", forwarded: true, has: map[string]string{"Content-Length": "3"}},
		{name: "no body", noData: true, forwarded: true, lacks: []string{"Transfer-Encoding"}},
		{name: "cookies in crumbs", fields: fields{{"cookie", "a=1"}, {"cookie", "b=2"}}, forwarded: true, has: map[string]string{"Cookie": "a=1; b=2"}},
		{name: "TE: trailers", fields: fields{{"te", "trailers"}}, forwarded: true, has: map[string]string{"TE": "trailers", "Connection": "TE"}},
		{name: "Host that says the same", fields: fields{{"host", "SITE.test"}}, forwarded: true, has: map[string]string{"Host": "site.test"}},
		{name: "blanks around a value", fields: fields{{"x", "  a b\t"}}, forwarded: true, has: map[string]string{"X": "a b"}},
		{name: "client that says who it is", fields: fields{{"x-forwarded-for", "1.2.3.4"}, {"forwarded", "for=1.2.3.4"}}, forwarded: true,
			has: map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}, lacks: []string{"Forwarded"}},
		{name: "scheme that is not", fields: fields{{":scheme", "https"}}, forwarded: true, has: map[string]string{"X-Forwarded-Proto": "http"}},
		{name: "two slashes", fields: fields{{":path", "//evil.test/form?a=b&c"}}, forwarded: true, target: "//evil.test/form?a=b&c"},
		{name: "expectation", fields: fields{{"expect", "100-continue"}}, data: "abc", forwarded: true},
	}
	return v
}

// all returns the fields of a plain POST with those of v: a pseudo-header of v takes the place of the plain one, where it stands first.
func (v h2vector) all() (out fields) {
	replaced := map[string]bool{}
	var rest fields
	regular := false
	for _, f := range v.fields {
		plainName := f[0] == ":method" || f[0] == ":scheme" || f[0] == ":path" || f[0] == ":authority"
		if plainName && !regular && !replaced[f[0]] {
			replaced[f[0]] = true
			out = append(out, f)
			continue
		}
		regular = regular || !strings.HasPrefix(f[0], ":")
		rest = append(rest, f)
	}
	var base fields
	for _, f := range (fields{{":method", "POST"}, {":scheme", "http"}, {":path", "/form"}, {":authority", "site.test"}}) {
		if !replaced[f[0]] {
			base = append(base, f)
		}
	}
	return append(append(base, out...), rest...)
}

// TestFramingOfH2 sends requests by HTTP/2 that could be read in two ways as HTTP/1.1, and looks at what comes out at the application: nothing, or
// what they mean, and nothing else. Behind each one a plain request must be answered as itself.
func TestFramingOfH2(t *testing.T) {
	vectors := h2vectors()
	assert.GreaterOrEqual(t, len(vectors), 25)
	framingOfH2(t, vectors, "POST")
}

// framingOfH2 does that; the application is to get those that are forwarded with that method. It refuses what asks for an upgrade, by a 200.
func framingOfH2(t *testing.T, vectors []h2vector, method string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	counted := &countingListener{Listener: l}
	up := framing.NewRecorder(counted)
	t.Cleanup(up.Close)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": up.Addr()}, Active: "blue",
		Dial: counted.dial})
	client := newClient(t)
	seen := 0
	var broken []string // the vectors of which the application may get a part
	for _, v := range vectors {
		ok := t.Run(v.name, func(t *testing.T) {
			c := f.h2raw(t)
			flags := byte(endHeaders)
			if v.noData {
				flags |= endStream
			}
			if v.part {
				broken = append(broken, strings.ReplaceAll(v.name, " ", "-"))
			}
			c.frame(frameHeaders, flags, 1, append(v.all(), [2]string{"x-vector", strings.ReplaceAll(v.name, " ", "-")}).block())
			if !v.noData {
				last := byte(endStream)
				if v.trailers != nil {
					last = 0
				}
				c.frame(frameData, last, 1, []byte(v.data))
				if v.trailers != nil {
					c.frame(frameHeaders, endHeaders|endStream, 1, v.trailers.block())
				}
			}
			got := c.verdict(1)
			c.Close()
			f.idle(t, "blue")
			soon(t, "the application has seen what was broken off", func() bool { return counted.open() == int64(f.IdleConns("blue")) })
			resp, err := client.Get(f.url + "/fence")
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, 200, resp.StatusCode, "a plain request behind it")
			require.NoError(t, up.Settle(t.Context()))

			var whole []framing.Record
			for _, r := range up.Records(seen) {
				var fault *framing.Fault
				switch {
				case errors.As(r.Err, &fault):
					t.Errorf("the application got what is no request: %v: %q", fault, r.Raw)
				case r.Err != nil && slices.ContainsFunc(broken, func(name string) bool { return strings.Contains(r.Raw, "X-Vector: "+name+"\r\n") }):
					// Its stream was reset before it had begun here: it may be seen as late as this.
				case r.Err != nil:
					t.Errorf("a part of a request reached the application: %q", r.Raw)
				case r.Err == nil && r.Target != "/fence":
					whole = append(whole, r)
				}
			}
			seen = up.Count()
			if v.bare && len(whole) == 1 {
				assert.Equal(t, []string{"POST", "/form", ""}, []string{whole[0].Method, whole[0].Target, whole[0].Body})
				return
			}
			if !v.forwarded {
				assert.NotEqual(t, 200, got)
				assert.Empty(t, whole, "requests at the application")
				return
			}
			body := v.data
			if method == "POST" {
				assert.Equal(t, 200, got)
			} else {
				assert.Equal(t, 1, got, "502")
				body = "" // it was never to be sent
			}
			require.Len(t, whole, 1, "requests at the application")
			m, target := whole[0], v.target
			if target == "" {
				target = "/form"
			}
			assert.Equal(t, []string{method, target, "site.test", body}, []string{m.Method, m.Target, m.Host(), m.Body})
			for name, value := range v.has {
				assert.Equal(t, []string{value}, m.Values(name), name)
			}
			for _, name := range v.lacks {
				assert.Empty(t, m.Values(name), name)
			}
		})
		if !ok && up.Count() > seen {
			seen = up.Count()
		}
	}
}

// TestPrefaceThatIsNone begins like HTTP/2 and goes on otherwise: nothing reaches the application.
func TestPrefaceThatIsNone(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	for _, first := range []string{"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggledText,
		"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		c := f.raw(t)
		c.send(first)
		if strings.HasPrefix(first, "GET") {
			assert.Contains(t, c.head(), "200 OK")
			assert.Equal(t, "hello\n", c.read(6))
			assert.Contains(t, c.head(), "505 ", "no other request may have come before it")
		}
		var all [4096]byte
		for {
			n, err := c.br.Read(all[:])
			assert.NotContains(t, string(all[:n]), "hello")
			if err != nil {
				break
			}
		}
	}
	off := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, DisableHTTP2: true})
	c := off.raw(t)
	c.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	assert.Contains(t, c.head(), "505 ")
}

// TestExtendedConnectIsNotOffered looks at the settings: websockets over HTTP/2 are offered only where the process was told to.
func TestExtendedConnectIsNotOffered(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	c := f.h2raw(t)
	assert.NotContains(t, c.settings, uint16(0x8))
	assert.EqualValues(t, 250, c.settings[0x3], "streams at once")
}
