package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// TestPreviewRules looks through the front door at the idle slot, by each kind of rule, on both data paths.
func TestPreviewRules(t *testing.T) {
	f, urls := sessionPair(t, func(c *proxy.Config) { c.Sessions = nil })
	green := plain("green")
	for path, url := range urls {
		v := newVisitor(t, url)
		see := func(host string, fields ...string) string {
			r, err := http.NewRequest(http.MethodGet, url+"/", nil)
			require.NoError(t, err)
			r.Host = host
			for i := 0; i+1 < len(fields); i += 2 {
				r.Header.Add(fields[i], fields[i+1])
			}
			resp, err := v.c.Do(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.Header.Get("Slot")
		}
		require.NoError(t, f.Preview(t.Context(), green, abswap.PreviewRule{Header: "x-look", Value: "secret"}))
		assert.Equal(t, "green", see("site", "X-Look", "secret"), path)
		assert.Equal(t, "green", see("site", "X-Look", "other", "x-look", "secret"), "one of several")
		assert.Equal(t, "blue", see("site", "X-Look", "secret "+"x"), path)
		assert.Equal(t, "blue", see("site"), path)

		require.NoError(t, f.Preview(t.Context(), green, abswap.PreviewRule{Cookie: "look", Value: "1"}, abswap.PreviewRule{Host: "Next.Example"}))
		assert.Equal(t, "blue", see("site", "X-Look", "secret"), "replaced")
		assert.Equal(t, "green", see("site", "Cookie", "a=b; look=1"), path)
		assert.Equal(t, "blue", see("site", "Cookie", "a=b; look=2"), path)
		assert.Equal(t, "green", see("next.example:8080"), path)
		assert.Equal(t, "blue", see("next.example.evil"), path)

		both := abswap.PreviewRule{Header: "X-Look", Cookie: "look", Host: "next.example", Value: "1"}
		require.NoError(t, f.Preview(t.Context(), green, both))
		assert.Equal(t, "green", see("NEXT.example", "X-Look", "1", "Cookie", "look=1"), "all fields of a rule")
		assert.Equal(t, "blue", see("next.example", "X-Look", "1"), path)
		assert.Equal(t, "blue", see("site", "X-Look", "1", "Cookie", "look=1"), path)

		f.activate(t, green)
		assert.Equal(t, "green", see("site"))
		require.NoError(t, f.Preview(t.Context(), plain("blue"), abswap.PreviewRule{Host: "old.example"}))
		assert.Equal(t, "blue", see("old.example"), "the old one can be looked at too")
		require.NoError(t, f.Preview(t.Context(), plain("blue")))
		assert.Equal(t, "green", see("old.example"))
		f.activate(t, plain("blue"))
		require.NoError(t, f.Preview(t.Context(), green))
	}
}

// TestPreviewPeers lets only those look who may, whoever else says that it is one of them.
func TestPreviewPeers(t *testing.T) {
	office, inner := netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("127.0.0.0/8")
	for _, tc := range []struct {
		name           string
		peers, trusted []netip.Prefix
		fields         []string
		want           string
	}{
		{"this machine, by default", nil, nil, nil, "green"},
		{"another proxy of this machine, whose clients are not known", nil, nil, []string{"X-Forwarded-For", "127.0.0.1"}, "blue"},
		{"the same", nil, nil, []string{"Forwarded", "for=127.0.0.1"}, "blue"},
		{"a peer that is not named", []netip.Prefix{office}, nil, nil, "blue"},
		{"through a trusted proxy", []netip.Prefix{office}, []netip.Prefix{inner}, []string{"X-Forwarded-For", "203.0.113.7"}, "green"},
		{"through two", []netip.Prefix{office}, []netip.Prefix{inner}, []string{"X-Forwarded-For", "203.0.113.7, 127.0.0.9"}, "green"},
		{"claimed by a stranger", []netip.Prefix{office}, []netip.Prefix{inner}, []string{"X-Forwarded-For", "203.0.113.7, 198.51.100.1"}, "blue"},
		{"nobody's address", []netip.Prefix{office}, []netip.Prefix{inner}, []string{"X-Forwarded-For", "203.0.113.7, unknown"}, "blue"},
		{"a trusted proxy's own request", []netip.Prefix{inner}, []netip.Prefix{inner}, nil, "green"},
		{"by default, through a trusted proxy", nil, []netip.Prefix{inner}, []string{"X-Forwarded-For", "198.51.100.1"}, "blue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, urls := sessionPair(t, func(c *proxy.Config) { c.Sessions, c.PreviewPeers, c.TrustedPeers = nil, tc.peers, tc.trusted })
			require.NoError(t, f.Preview(t.Context(), plain("green"), abswap.PreviewRule{Header: "X-Look", Value: "1"}))
			for path, url := range urls {
				assert.Equal(t, tc.want, newVisitor(t, url).ask("/", append(tc.fields, "X-Look", "1")...).Header.Get("Slot"), path)
			}
		})
	}
}

// TestPreviewAndSessions looks at a release with a session's cookie: that begins no session there and ends none.
func TestPreviewAndSessions(t *testing.T) {
	f, urls := sessionPair(t, nil)
	require.NoError(t, f.Preview(t.Context(), plain("green"), abswap.PreviewRule{Header: "X-Look", Value: "1"}))
	for _, url := range urls {
		v := newVisitor(t, url)
		resp := v.ask("/", "X-Look", "1")
		require.Equal(t, "green", resp.Header.Get("Slot"))
		assert.Empty(t, resp.Cookies())
		require.Equal(t, "blue", v.get("/"))
		mine := v.cookie["abswap-session"]
		require.Equal(t, "green", v.ask("/", "X-Look", "1").Header.Get("Slot"))
		assert.Equal(t, mine, v.cookie["abswap-session"])
		assert.Equal(t, "blue", v.get("/"))
	}
	assert.Equal(t, 2, sessionsOf(t, f, "blue").Sessions)
	assert.Zero(t, sessionsOf(t, f, "green").Sessions)
}

// TestPreviewIsCountedAndSealed looks at a slot that a deploy has sealed: the preview is the younger order, and the next seal ends it; what it had
// begun is counted.
func TestPreviewIsCountedAndSealed(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	blue := newBackend(t, "blue", hello)
	green := newBackend(t, "green", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(reached)
			<-goOn
		}
		hello(w, r)
	})
	path := filepath.Join(t.TempDir(), "state")
	cfg := proxy.Config{Slots: map[string]string{"blue": address(blue.Server), "green": address(green.Server)}, Active: "blue", StateFile: path}
	f := serve(t, cfg)
	require.NoError(t, f.Seal(t.Context(), plain("green")))
	rule := abswap.PreviewRule{Header: "X-Look", Value: "1"}
	require.NoError(t, f.Preview(t.Context(), plain("green"), rule))
	v := newVisitor(t, f.url)
	got := make(chan string, 1)
	go func() { got <- v.ask("/long", "X-Look", "1").Header.Get("Slot") }()
	within(t, reached, "the preview")
	assert.Equal(t, 1, f.load(t, "green").Requests)
	require.NoError(t, f.Seal(t.Context(), plain("green")))
	other := newVisitor(t, f.url)
	assert.Equal(t, "blue", other.ask("/", "X-Look", "1").Header.Get("Slot"))
	close(goOn)
	assert.Equal(t, "green", within(t, got, "its answer"))
	f.idle(t, "green")
	assert.Zero(t, f.IdleConns("green"))

	require.NoError(t, f.Preview(t.Context(), plain("green"), rule))
	assert.Equal(t, "green", other.ask("/", "X-Look", "1").Header.Get("Slot"))
	require.NoError(t, f.Close())
	again := serve(t, cfg)
	other.url = again.url
	assert.Equal(t, "blue", other.ask("/", "X-Look", "1").Header.Get("Slot"), "rules end with the proxy")
	assert.True(t, again.Sealed("green"))
}

// TestPreviewOfADeadSlotIsAnError shows nobody another release.
func TestPreviewOfADeadSlotIsAnError(t *testing.T) {
	f, _ := sessionPair(t, func(c *proxy.Config) { c.Slots["green"] = "127.0.0.1:1" })
	require.NoError(t, f.Preview(t.Context(), plain("green"), abswap.PreviewRule{Header: "X-Look", Value: "1"}))
	v := newVisitor(t, f.url)
	assert.Equal(t, http.StatusBadGateway, v.ask("/", "X-Look", "1").StatusCode)
	assert.Equal(t, "blue", v.get("/"))
}

func TestPreviewRefusals(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	for want, rule := range map[string]abswap.PreviewRule{
		"rule 0: it matches nothing":  {Value: "x"},
		"Header and Cookie need a":    {Header: "X"},
		`"Connection" is not a field`: {Header: "Connection", Value: "x"},
		`"a b" cannot be the name`:    {Cookie: "a b", Value: "x"},
		`"x/y" is not a host`:         {Host: "x/y"},
	} {
		assert.ErrorContains(t, f.Preview(t.Context(), plain("green"), rule), want)
	}
	assert.ErrorIs(t, f.Preview(t.Context(), plain("red"), abswap.PreviewRule{Host: "x"}), abswap.ErrUnknownSlot)
	none := serve(t, proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1", "green": ""}, Active: "blue"})
	assert.ErrorContains(t, none.Preview(t.Context(), plain("green"), abswap.PreviewRule{Host: "x"}), `slot "green" has no address`)
}

// TestControlOfSessionsAndPreviews asks and orders through the control plane.
func TestControlOfSessionsAndPreviews(t *testing.T) {
	f, _ := sessionPair(t, nil)
	token, err := proxy.CreateToken(filepath.Join(t.TempDir(), "token"))
	require.NoError(t, err)
	h, err := proxy.ControlHandler(f.Switcher, proxy.ControlOptions{Token: token})
	require.NoError(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := proxy.NewClient(proxy.ClientConfig{Address: address(s), Token: token})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	require.NoError(t, c.Preview(t.Context(), plain("green"), abswap.PreviewRule{Header: "X-Look", Value: "1"}))
	v := newVisitor(t, f.url)
	assert.Equal(t, "green", v.ask("/", "X-Look", "1").Header.Get("Slot"))
	require.Equal(t, "blue", v.get("/"))
	l, err := c.Sessions(t.Context(), plain("blue"))
	require.NoError(t, err)
	assert.Equal(t, sessionsOf(t, f, "blue"), l)
	r, err := http.NewRequest(http.MethodGet, s.URL+"/v1/status", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	text := string(b)
	assert.Contains(t, text, `"sessions":{"requests":0,"upgraded":0,"sessions":1,"evidence":"exact"`)
	assert.Contains(t, text, `"previews":1`)
	require.NoError(t, c.Preview(t.Context(), plain("green")))
	assert.Equal(t, "blue", v.ask("/", "X-Look", "1").Header.Get("Slot"))
	assert.ErrorIs(t, c.Preview(t.Context(), plain("red")), abswap.ErrUnknownSlot)
	assert.NoError(t, c.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("blue")}, Drain: abswap.DrainOptions{Sessions: true}}))

	bare, _, _ := pair(t, hello, hello)
	h, err = proxy.ControlHandler(bare.Switcher, proxy.ControlOptions{Token: token})
	require.NoError(t, err)
	s = httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err = proxy.NewClient(proxy.ClientConfig{Address: address(s), Token: token})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	_, err = c.Sessions(t.Context(), plain("blue"))
	assert.ErrorContains(t, err, "Config.Sessions is nil")
}

// TestStickyWeights shares out between clients: each stays where it was put, as long as that has a part.
func TestStickyWeights(t *testing.T) {
	f, urls := sessionPair(t, func(c *proxy.Config) { c.Sessions, c.StickyWeights = nil, "site-part" })
	give := func(blue, green int) {
		require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: blue}, abswap.Weight{Slot: plain("green"), Part: green}))
	}
	assert.Empty(t, newVisitor(t, f.url).ask("/").Cookies(), "nothing is shared out")
	for path, url := range urls {
		give(95, 5)
		of := map[string][]*visitor{}
		tr := newClient(t)
		for range 100 {
			v := newVisitor(t, url)
			v.c = tr
			slot := v.get("/")
			of[slot] = append(of[slot], v)
		}
		assert.Len(t, of["green"], 5, "%s: the parts are those of new clients, exactly", path)
		for range 3 {
			for slot, all := range of {
				for _, v := range all {
					resp := v.ask("/")
					require.Equal(t, slot, resp.Header.Get("Slot"))
					require.Empty(t, resp.Cookies(), "it has the cookie")
				}
			}
			give(40, 60)
		}
		f.activate(t, plain("blue"))
		for _, v := range of["green"] {
			require.Equal(t, "blue", v.get("/"), "a part of 0 gets nobody")
		}
		give(1, 99)
		for _, v := range of["green"] {
			require.Equal(t, "green", v.get("/"), "it has a part again, and the client still knows")
		}
		v := newVisitor(t, url)
		v.cookie["site-part"] = "made-up"
		v.get("/")
		assert.NotEqual(t, "made-up", v.cookie["site-part"])
		f.activate(t, plain("blue"))
	}
}
