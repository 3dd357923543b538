package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// headBackend answers each request with its head, as it was on the wire.
func headBackend(t *testing.T, fields string) string {
	return rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			h, err := readHead(br)
			if err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(h), h)
		}
	})
}

// seen sends the head and returns what the slot got of it, sorted, and the answer's fields.
func seen(t *testing.T, f *front, head string) ([]string, http.Header) {
	c := f.raw(t)
	c.send(head)
	resp, err := http.ReadResponse(c.br, nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(b), "\r\n\r\n"), "\r\n")
	slices.Sort(lines[1:])
	return lines, resp.Header
}

func TestHopByHopFieldsStayBehind(t *testing.T) {
	f := single(t, headBackend(t, "Connection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nX-Stays: 1\r\n"))
	got, answer := seen(t, f, "GET /a%2Fb/../c?q=%zz;x HTTP/1.1\r\nHost: app.test:81\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n"+
		"Proxy-Connection: 1\r\nProxy-Authorization: x\r\nTE: gzip, trailers;q=0.5\r\nX-Keep: a\r\nX-Keep: b\r\nUpgrade: h2c\r\n\r\n")
	assert.Equal(t, []string{
		"GET /a%2Fb/../c?q=%zz;x HTTP/1.1", "Connection: TE", "Host: app.test:81", "TE: trailers",
		"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: app.test:81", "X-Forwarded-Proto: http", "X-Keep: a", "X-Keep: b",
	}, got)
	assert.Equal(t, "1", answer.Get("X-Stays"))
	for _, name := range []string{"X-Own", "Keep-Alive", "Proxy-Connection", "Date", "Content-Type"} {
		assert.NotContains(t, answer, name, "neither passed on nor made up")
	}

	got, _ = seen(t, f, "GET http://other.test/x?y HTTP/1.1\r\nHost: app.test\r\n\r\n")
	assert.Equal(t, "GET /x?y HTTP/1.1", got[0], "absolute form")
	assert.Contains(t, got, "Host: other.test")

	got, _ = seen(t, f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	assert.Contains(t, got, "Content-Length: 0")
	got, _ = seen(t, f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Len(t, got, 5, "nothing added but Host and three about forwarding: %q", got)
}

func TestForwardedFieldsOfStrangersAreDropped(t *testing.T) {
	addr := headBackend(t, "")
	const head = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Port: 1\r\nX_Forwarded_Proto: https\r\nForwarded: for=9.9.9.9\r\n\r\n"
	got, _ := seen(t, single(t, addr), head)
	assert.Equal(t, []string{"GET / HTTP/1.1", "Host: x", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: x", "X-Forwarded-Proto: http"}, got)

	f := serve(t, proxy.Config{Slots: map[string]string{"blue": addr}, Active: "blue", TrustedPeers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	got, _ = seen(t, f, head)
	assert.Equal(t, []string{"GET / HTTP/1.1", "Forwarded: for=9.9.9.9", "Host: x", "X-Forwarded-For: 9.9.9.9, 8.8.8.8, 127.0.0.1",
		"X-Forwarded-Host: x", "X-Forwarded-Port: 1", "X-Forwarded-Proto: https", "X_forwarded_proto: https"}, got)
}

func TestReleaseHeaderTellsWhoAnswered(t *testing.T) {
	b := newBackend(t, "blue", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Release", "a lie")
		if r.Header.Get("Upgrade") != "" {
			upgrader("", echo)(w, r)
		}
	})
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1"}, Active: "blue", ReleaseHeader: "x-release"})
	get := func() string {
		resp, err := newClient(t).Get(f.url)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.Header.Get("X-Release")
	}
	assert.Empty(t, get(), "an error of ours is nobody's release")
	f.activate(t, newSlot("blue", abswap.SlotState{Release: "v1085", Address: address(b.Server)}))
	assert.Equal(t, "blue/v1085", get())
	f.activate(t, newSlot("blue", abswap.SlotState{Release: "v\r\nX: é", Address: address(b.Server)}))
	assert.Equal(t, "blue/v__X: _", get(), "fit for a header")
	c := f.raw(t)
	c.send(upgradeHead)
	assert.Contains(t, c.head(), "x-release: blue/v__X: _\r\n")
}

func TestRequestsThatAreNotForwarded(t *testing.T) {
	f := single(t, headBackend(t, ""))
	for _, tc := range []struct{ head, want string }{
		{"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405 "},
		{"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", "417 "},
		{"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501 "},
		{"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 "},
		{"GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n", "400 "},
		{"GET / HTTP/1.1\r\n\r\n", "400 "},
	} {
		c := f.raw(t)
		c.send(tc.head)
		assert.Contains(t, c.head(), tc.want, tc.head)
	}
}
