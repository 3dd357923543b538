package proxy_test

import (
	"bufio"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// sessionGetter is a getter whose requests belong to a session, or, with a front that keeps none, carry a cookie of the same length.
func sessionGetter(t testing.TB, f *front) *getter {
	c, err := net.Dial("tcp", f.addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	g := &getter{c: c}
	cookie := "abswap-session=" + strings.Repeat("A", 92)
	for range 2 { // the first answer sets the cookie, the second one has the length of all that follow
		g.ask = []byte("GET /page?a=b HTTP/1.1\r\nHost: site.test\r\nUser-Agent: getter/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: session=0123456789abcdef; " + cookie + "\r\n\r\n")
		_, err = c.Write(g.ask)
		require.NoError(t, err)
		br := bufio.NewReader(c)
		head, err := readHead(br)
		require.NoError(t, err)
		require.Contains(t, head, "200 OK")
		_, err = io.ReadFull(br, make([]byte, 2))
		require.NoError(t, err)
		g.answer = make([]byte, len(head)+2)
		if _, rest, ok := strings.Cut(head, "Set-Cookie: "); ok {
			cookie, _, _ = strings.Cut(rest, ";")
		}
	}
	return g
}

func sessionFronts(t testing.TB) map[string]*front {
	addr := plainBackend(t)
	with := func(c proxy.Config) *front {
		c.Slots, c.Active = map[string]string{"blue": addr}, "blue"
		return serve(t, c)
	}
	previewed := with(proxy.Config{})
	require.NoError(t, previewed.Preview(t.Context(), plain("blue"), abswap.PreviewRule{Header: "X-Look", Value: "1"}))
	return map[string]*front{
		"off":          with(proxy.Config{}),
		"signed":       with(proxy.Config{StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{}}),
		"app's cookie": with(proxy.Config{StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{AppCookie: "session"}}),
		"sticky":       with(proxy.Config{StickyWeights: "site-part"}),
		"preview":      previewed,
	}
}

// TestNothingIsAllocatedForAGETOfASession is TestNothingIsAllocatedForAGET with sessions, weights that stick, and previews.
func TestNothingIsAllocatedForAGETOfASession(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	if runtime.GOOS != "linux" {
		t.Skip("connections are read by their own methods here")
	}
	for name, f := range sessionFronts(t) {
		t.Run(name, func(t *testing.T) {
			g := sessionGetter(t, f)
			least := 1e9
			for range 5 {
				least = min(least, testing.AllocsPerRun(2000, func() { g.get(t) }))
			}
			require.Zero(t, least)
		})
	}
}

// BenchmarkSessionExchange is BenchmarkExchange of a session, and without sessions for comparison.
func BenchmarkSessionExchange(b *testing.B) {
	fronts := sessionFronts(b)
	for _, name := range []string{"off", "signed", "app's cookie", "sticky", "preview"} {
		b.Run(name, func(b *testing.B) {
			g := sessionGetter(b, fronts[name])
			b.ReportAllocs()
			for b.Loop() {
				g.get(b)
			}
		})
	}
}
