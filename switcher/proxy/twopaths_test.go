package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"

	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// handled serves p as the handler of net/http's server.
func handled(t testing.TB, p *proxy.Switcher) *front {
	s := httptest.NewUnstartedServer(p)
	s.Config.DisableGeneralOptionsHandler = true // "OPTIONS *" is for the application
	s.Start()
	t.Cleanup(func() {
		p.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return &front{p, s.Listener.Addr().String(), s.URL}
}

// TestBothPathsSendTheSame holds what reaches the slot through Serve against what reaches it through ServeHTTP, byte by byte; the order of
// the fields, which net/http forgets, is left out.
func TestBothPathsSendTheSame(t *testing.T) {
	for name, trusted := range map[string][]netip.Prefix{"strangers": nil, "trusted": {netip.MustParsePrefix("127.0.0.0/8")}} {
		t.Run(name, func(t *testing.T) {
			cfg := proxy.Config{Slots: map[string]string{"blue": wireBackend(t)}, Active: "blue", TrustedPeers: trusted}
			ours := serve(t, cfg)
			p, err := proxy.New(cfg)
			require.NoError(t, err)
			theirs := handled(t, p)
			const base = " HTTP/1.1\r\nHost: app.test:81\r\n"
			for _, head := range []string{
				"GET /" + base + "\r\n",
				"GET /a%2Fb/../c?q=%zz;x" + base + "Connection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nX-Keep: a\r\nX-Keep: b\r\nUpgrade: h2c\r\n\r\n",
				"GET //double//?" + base + "x-lower: 1\r\nX-UPPER-CASE: 2\r\nx_under_score: 3\r\nEmpty:\r\nWide:   a  b \t \r\nCookie: a=b; c=\"d\"\r\nAccept: \xc3\xa9\r\n\r\n",
				"GET /" + base + "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8, 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX_Forwarded_Proto: https\r\nForwarded: for=9.9.9.9\r\nx-forwarded-foo: 1\r\n\r\n",
				"GET /" + base + "Connection: X-Forwarded-Host, X-Forwarded-Proto, Cookie, x-forwarded-for\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nCookie: a\r\n\r\n",
				"GET http://other.test/x?y HTTP/1.1\r\nHost: app.test\r\n\r\n", "GET http://other.test?y HTTP/1.1\r\nHost: app.test\r\n\r\n",
				"OPTIONS *" + base + "\r\n", "HEAD /" + base + "\r\n", "DELETE /x" + base + "Content-Length: 0\r\n\r\n", "PURGE /x" + base + "\r\n",
				"GET /ws" + base + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nTE: trailers\r\n\r\n",
				"GET /" + base + "TE: gzip, trailers;q=0.5\r\nConnection: TE\r\n\r\n", "GET /" + base + "Expect: 100-continue\r\n\r\n",
				"GET / HTTP/1.0\r\n\r\n", "GET /old HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", "GET /" + base + "Authorization: Basic x\r\nProxy-Authorization: y\r\n\r\n",
				"POST /p" + base + "Content-Length: 4\r\nContent-Type: text/plain\r\n\r\nbody", "POST /p" + base + "Transfer-Encoding: Chunked\r\nTrailer: Sum, X-Other\r\n\r\n0\r\n\r\n",
				"GET /" + base + strings.Repeat("X-Many: "+strings.Repeat("y", 300)+"\r\n", 200) + "\r\n",
			} {
				want, got := sentLines(t, theirs, head), sentLines(t, ours, head)
				assert.True(t, slices.Equal(want, got), "%.300q:\nServe gave it as %.3000q,\nServeHTTP as %.3000q", head, got, want)
			}
		})
	}
}

// wireBackend answers each request with its head, as it was on the wire; bodies it reads and drops.
func wireBackend(t *testing.T) string {
	return rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			h, err := readHead(br)
			if err != nil {
				return
			}
			var n int64
			if _, after, ok := strings.Cut(h, "Content-Length: "); ok {
				fmt.Sscan(after, &n)
			}
			io.CopyN(io.Discard, br, n)
			if strings.Contains(h, "Transfer-Encoding: chunked") {
				readHead(br) // the last chunk and an empty trailer look like one
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
		}
	})
}

// sentLines returns the lines of the head that the slot got for what a client sent; all but the first are sorted.
func sentLines(t *testing.T, f *front, text string) []string {
	c := f.raw(t)
	c.send(text)
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(c.br, nil)
	require.NoError(t, err)
	if method == "HEAD" {
		return []string{resp.Status, resp.Header.Get("Content-Length")}
	}
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(b), "\r\n\r\n"), "\r\n")
	slices.Sort(lines[1:])
	for i, l := range lines {
		if names, ok := strings.CutPrefix(l, "Trailer: "); ok { // net/http keeps these in a map
			each := strings.Split(names, ", ")
			slices.Sort(each)
			lines[i] = fmt.Sprint("Trailer: ", each)
		}
	}
	return lines
}

// TestBrokenAnswerToAnOldClientOfAHandler, from the slot or by a cut, ends with a reset: nothing else tells a client of HTTP/1.0 that its answer
// is not whole.
func TestBrokenAnswerToAnOldClientOfAHandler(t *testing.T) {
	for _, cut := range []bool{false, true} {
		p, err := proxy.New(proxy.Config{Active: "blue", Slots: map[string]string{"blue": rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
			readHead(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			if cut {
				io.Copy(io.Discard, br)
			}
		})}})
		require.NoError(t, err)
		f := handled(t, p)
		c := f.raw(t)
		c.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n")
		if cut {
			c.head()
			assert.Equal(t, "half", c.read(4))
			require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
		}
		_, err = io.ReadAll(c.br)
		assert.Error(t, err, "what came is not all")
		assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		f.idle(t, "blue")
	}
}

// TestHandlerForwardsToo uses the Switcher as the handler of another server: that path stays, for what does not speak HTTP/1.1.
func TestHandlerForwardsToo(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgrader("first", echo)(w, r)
			return
		}
		echoBody(w, r)
	})
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue"})
	require.NoError(t, err)
	f := handled(t, p)
	c := f.raw(t)
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nSum: 7\r\n\r\n",
	} {
		c.send(text)
		assert.Contains(t, c.head(), "200 OK")
		assert.Equal(t, "5 hello ", c.read(8))
		if strings.Contains(text, "Sum") {
			assert.Equal(t, "7", c.read(1))
		}
	}
	c.send(upgradeHead)
	assert.Contains(t, c.head(), "101 ")
	assert.Equal(t, "first", c.read(5))
	c.send("more")
	assert.Equal(t, "more", c.read(4))
	assert.Equal(t, 1, f.load(t, "blue").Upgraded)
	c.Close()
	f.idle(t, "blue")

	release := f.hold(t, longHold)
	c = f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	assert.Contains(t, c.head(), "100 ")
	c.send("hello")
	f.held(t, 1)
	release()
	assert.Contains(t, c.head(), "200 OK")
	f.idle(t, "blue")
	assert.Equal(t, 1, f.IdleConns("blue"))
}
