package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// TestRulesWithSessions runs the conformance suite on a proxy that keeps the application's sessions.
func TestRulesWithSessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	n := 0
	switchertest.Run(t, func(ctx context.Context) (switchertest.Rig, error) {
		mu.Lock()
		n++
		file := filepath.Join(dir, fmt.Sprintf("state-%d", n))
		mu.Unlock()
		return newRigWith(ctx, proxy.Config{StateFile: file, Sessions: &proxy.SessionConfig{AppCookie: "APPSESSION"}}, "APPSESSION")
	})
}

// visitor is a client with cookies.
type visitor struct {
	t      testing.TB
	url    string
	c      *http.Client
	cookie map[string]string
}

func newVisitor(t testing.TB, url string) *visitor {
	return &visitor{t: t, url: url, c: newClient(t), cookie: map[string]string{}}
}

// get asks for path and returns the slot that answered. It keeps the cookies.
func (v *visitor) get(path string) (slot string) {
	v.t.Helper()
	resp := v.ask(path)
	require.Equal(v.t, http.StatusOK, resp.StatusCode)
	return resp.Header.Get("Slot")
}

func (v *visitor) ask(path string, fields ...string) *http.Response {
	v.t.Helper()
	r, err := http.NewRequest(http.MethodGet, v.url+path, nil)
	require.NoError(v.t, err)
	for name, value := range v.cookie {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	resp, err := v.c.Do(r)
	require.NoError(v.t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(v.t, err)
	require.NoError(v.t, resp.Body.Close())
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(v.cookie, c.Name)
		} else {
			v.cookie[c.Name] = c.Value
		}
	}
	return resp
}

// sessionApp sets the cookie APP at /login and clears it at /logout.
func sessionApp(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/login":
		http.SetCookie(w, &http.Cookie{Name: "APP", Value: fmt.Sprintf("%d", time.Now().UnixNano())})
	case "/logout":
		http.SetCookie(w, &http.Cookie{Name: "APP", MaxAge: -1})
	}
	hello(w, r)
}

func sessionsOf(t testing.TB, d abswap.SessionDrainer, slot string) abswap.Load {
	t.Helper()
	l, err := d.Sessions(context.Background(), plain(slot))
	require.NoError(t, err)
	return l
}

// sessionPair is a front that keeps sessions, and the same one behind a server of net/http.
func sessionPair(t testing.TB, change func(*proxy.Config)) (f *front, paths map[string]string) {
	b, g := newBackend(t, "blue", sessionApp), newBackend(t, "green", sessionApp)
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{}}
	if change != nil {
		change(&cfg)
	}
	f = serve(t, cfg)
	behind := httptest.NewServer(f.Switcher)
	t.Cleanup(behind.Close)
	return f, map[string]string{"Serve": f.url, "ServeHTTP": behind.URL}
}

// TestD4SessionsStay follows sessions through the ways to switch, on both data paths; with HTTP/2 all on one connection.
func TestD4SessionsStay(t *testing.T) {
	for way, change := range map[string]func(*proxy.Config){
		"signed cookie": func(c *proxy.Config) { c.Sessions.Over = "APP" },
		"app's cookie":  func(c *proxy.Config) { c.Sessions.AppCookie = "APP" },
	} {
		for _, path := range []string{"Serve", "ServeHTTP", "HTTP/2"} {
			t.Run(way+"/"+path, func(t *testing.T) {
				t.Parallel()
				f, urls := sessionPair(t, change)
				visit := func() *visitor { return newVisitor(t, urls[path]) }
				if path == "HTTP/2" {
					one := h2Client(t, nil)
					visit = func() *visitor { return &visitor{t: t, url: f.url, c: one, cookie: map[string]string{}} }
				}
				old, older := visit(), visit()
				require.Equal(t, "blue", old.get("/login"))
				require.Equal(t, "blue", older.get("/login"))
				require.NotEmpty(t, old.cookie)
				assert.Equal(t, abswap.Load{Sessions: 2, Evidence: abswap.EvidenceExact, Source: "proxy's table of sessions"}, sessionsOf(t, f, "blue"))

				f.activate(t, plain("green"))
				assert.Equal(t, "blue", old.get("/"))
				fresh := visit()
				assert.Equal(t, "green", fresh.get("/login"), "new sessions begin in the new slot")
				assert.Equal(t, 1, sessionsOf(t, f, "green").Sessions)

				f.activate(t, plain("blue")) // the way back
				assert.Equal(t, "green", fresh.get("/"))
				assert.Equal(t, "blue", old.get("/"))
				require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 5}, abswap.Weight{Slot: plain("green"), Part: 95}))
				for range 20 {
					require.Equal(t, "green", fresh.get("/"))
					require.Equal(t, "blue", old.get("/"))
				}
				f.activate(t, plain("green"))

				f.idle(t, "blue")
				assert.Equal(t, "blue", older.get("/logout"), "the application's sign")
				assert.Equal(t, 1, sessionsOf(t, f, "blue").Sessions)
				assert.Equal(t, "green", older.get("/login"), "it has ended: the next one is new")

				require.NoError(t, f.Seal(t.Context(), plain("blue")))
				assert.Zero(t, sessionsOf(t, f, "blue").Sessions)
				assert.Equal(t, "green", old.get("/"), "sealed: it begins anew in a live slot")
				f.idle(t, "blue")
				assert.Equal(t, 0, f.IdleConns("blue"))
			})
		}
	}
}

// TestD4ByHeader names sessions by a field of the request.
func TestD4ByHeader(t *testing.T) {
	f, urls := sessionPair(t, func(c *proxy.Config) { c.Sessions.AppHeader = "x-client" })
	for _, url := range urls {
		v := newVisitor(t, url)
		f.activate(t, plain("blue"))
		require.Equal(t, "blue", v.ask("/", "X-Client", url).Header.Get("Slot"))
		f.activate(t, plain("green"))
		assert.Equal(t, "blue", v.ask("/", "X-Client", url).Header.Get("Slot"))
		assert.Equal(t, "green", v.ask("/", "X-Client", "another"+url).Header.Get("Slot"))
		assert.Equal(t, "green", v.get("/"))
	}
}

// TestD4TheDrainWaits drains a slot with sessions: it ends when the last one does.
func TestD4TheDrainWaits(t *testing.T) {
	f, _ := sessionPair(t, func(c *proxy.Config) { c.Sessions.AppCookie = "APP" })
	var all []*visitor
	for range 5 {
		v := newVisitor(t, f.url)
		require.Equal(t, "blue", v.get("/login"))
		all = append(all, v)
	}
	f.activate(t, plain("green"))
	_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{})
	require.NoError(t, err, "they are not waited for where that is not asked for")
	drained := make(chan error, 1)
	var last abswap.Load
	go func() {
		_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Sessions: true, Poll: time.Millisecond, OnLoad: func(l abswap.Load) { last = l }})
		drained <- err
	}()
	for i, v := range all {
		require.Empty(t, drained, "with %d left", len(all)-i)
		require.Equal(t, "blue", v.get("/"))
		require.Equal(t, "blue", v.get("/logout"))
	}
	require.NoError(t, within(t, drained, "the drain"))
	assert.Zero(t, last.Total())
}

// TestD4ForceEndsSessions is D3's cut, for sessions: their clients begin anew.
func TestD4ForceEndsSessions(t *testing.T) {
	f, _ := sessionPair(t, nil)
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Equal(t, 1, sessionsOf(t, f, "blue").Sessions, "of a live slot only what is in flight is cut")
	f.activate(t, plain("green"))
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Zero(t, sessionsOf(t, f, "blue").Sessions)
	assert.Equal(t, "green", v.get("/"))
	f.activate(t, plain("blue"))
	f.activate(t, plain("green"))
	assert.Equal(t, "green", v.get("/"))
}

// TestD4WebsocketIsNoIdleSession lets a session's websocket outlive the idle time, and another session not.
func TestD4WebsocketIsNoIdleSession(t *testing.T) {
	t.Parallel()
	up := newEcho(t)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": up, "green": "127.0.0.1:1"}, Active: "blue",
		StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{Idle: 300 * time.Millisecond, AppHeader: "X-Client"}})
	c := f.raw(t)
	c.send("GET /ws HTTP/1.1\r\nHost: x\r\nX-Client: one\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	require.Contains(t, c.head(), "101 ")
	for i := range 3 { // three idle times pass, as others show
		r := f.raw(t)
		r.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: x\r\nX-Client: other-%d\r\nConnection: close\r\n\r\n", i))
		r.rest()
		require.LessOrEqual(t, 1, sessionsOf(t, f, "blue").Sessions)
		soon(t, "the idle session ends", func() bool { return sessionsOf(t, f, "blue").Sessions == 1 })
	}
	c.send("ping")
	assert.Equal(t, "ping", c.read(4))
	c.Close()
	soon(t, "the websocket's session ends", func() bool { return sessionsOf(t, f, "blue").Sessions == 0 })
}

// newEcho is an application that upgrades what asks for that, echoes, and answers everything else.
func newEcho(t *testing.T) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			hello(w, r)
			return
		}
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c, buf)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return address(s)
}

// TestD4SetCookieOfAnUpgrade begins a session by a websocket, on both data paths.
func TestD4SetCookieOfAnUpgrade(t *testing.T) {
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": newEcho(t)}, Active: "blue", Sessions: &proxy.SessionConfig{Secure: true, CrossSite: true}})
	behind := httptest.NewServer(f.Switcher)
	t.Cleanup(behind.Close)
	for _, addr := range []string{f.addr, address(behind)} {
		c := (&front{f.Switcher, addr, ""}).raw(t)
		c.send("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		head := c.head()
		assert.Contains(t, head, "101 ")
		assert.Regexp(t, `Set-Cookie: abswap-session=[\w-]+; Path=/; HttpOnly; Secure; SameSite=None\r\n`, head)
		c.send("ping")
		assert.Equal(t, "ping", c.read(4))
		c.Close()
	}
	assert.Equal(t, 2, sessionsOf(t, f, "blue").Sessions)
}

// TestD4SessionsWaitInAHold holds requests of an old session and a new one; each goes where it belongs.
func TestD4SessionsWaitInAHold(t *testing.T) {
	f, _ := sessionPair(t, nil)
	old := newVisitor(t, f.url)
	require.Equal(t, "blue", old.get("/"))
	release, err := f.Hold(t.Context(), abswap.HoldOptions{Total: patience, Each: patience})
	require.NoError(t, err)
	got := make(chan [2]string, 2)
	go func() { got <- [2]string{"old", old.get("/")} }()
	go func() { got <- [2]string{"new", newVisitor(t, f.url).get("/")} }()
	soon(t, "both wait", func() bool { return f.Held() == 2 })
	f.activate(t, plain("green"))
	f.idle(t, "blue")
	release()
	all := map[string]string{}
	for range 2 {
		x := within(t, got, "an answer")
		all[x[0]] = x[1]
	}
	assert.Equal(t, map[string]string{"old": "blue", "new": "green"}, all)
}

// TestD4DeadSlotDoesNotKeepItsClients ends an application whose sessions live: they begin anew, and nobody gets an error.
func TestD4DeadSlotDoesNotKeepItsClients(t *testing.T) {
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue", Sessions: &proxy.SessionConfig{}})
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, plain("green"))
	b.CloseClientConnections()
	b.Close()
	assert.Equal(t, "green", v.get("/"))
	assert.Zero(t, sessionsOf(t, f, "blue").Sessions)
	assert.Equal(t, 1, sessionsOf(t, f, "green").Sessions)
}

// TestD4AnotherReleaseEndsSessions puts another release into a slot with sessions: none of them is led to it.
func TestD4AnotherReleaseEndsSessions(t *testing.T) {
	f, _ := sessionPair(t, nil)
	at := func(release string) abswap.Slot { return newSlot("blue", abswap.SlotState{Release: release}) }
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, at("v1")) // the release has become known: the same application
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, plain("green"))
	require.Equal(t, "blue", v.get("/"))
	require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: at("v2"), Part: 1}, abswap.Weight{Slot: plain("green"), Part: 99}))
	assert.Zero(t, sessionsOf(t, f, "blue").Sessions)
	assert.Equal(t, "green", v.get("/"), "or else by chance, 1 in 100")
}

// TestARRAffinity moves off ARR: clients with its cookie stay where they were, and have a session of our own from then on.
func TestARRAffinity(t *testing.T) {
	f, _ := sessionPair(t, func(c *proxy.Config) {
		c.Sessions.ARR = map[string]proxy.SessionHome{"node-a": {Slot: "blue", Release: "v7"}, "node-b": {Slot: "green"}}
	})
	for server, slot := range map[string]string{"node-a": "blue", "node-b": "green"} {
		v := newVisitor(t, f.url)
		v.cookie["ARRAffinity"] = proxy.ARRValue(server)
		require.Equal(t, slot, v.get("/"))
		require.NotEmpty(t, v.cookie["abswap-session"])
		delete(v.cookie, "ARRAffinity")
		require.Equal(t, slot, v.get("/"))
		v.cookie = map[string]string{"ARRAffinity": strings.ToLower(proxy.ARRValue(server)) + "0"}
		require.Equal(t, "blue", v.get("/"), "not one of the farm's")
	}
	f.activate(t, newSlot("green", abswap.SlotState{Release: "v8"}))
	v := newVisitor(t, f.url)
	v.cookie["ARRAffinity"] = proxy.ARRValue("node-a")
	assert.Equal(t, "blue", v.get("/"))
}

func TestSessionsCheck(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	ask := abswap.CheckRequest{Slots: []abswap.Slot{plain("blue"), plain("green")}, Drain: abswap.DrainOptions{Sessions: true}}
	assert.ErrorIs(t, f.Check(t.Context(), ask), errors.ErrUnsupported)
	_, err := f.Sessions(t.Context(), plain("blue"))
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, f.RotateSessionKeys(), errors.ErrUnsupported)

	kept, _ := sessionPair(t, nil)
	assert.NoError(t, kept.Check(t.Context(), ask))
	exclusive := ask
	exclusive.Exclusive = true
	assert.ErrorContains(t, kept.Check(t.Context(), exclusive), "Exclusive")
	ask.Drain.Sessions, ask.Stops = false, true
	var warning *abswap.Warning
	require.ErrorAs(t, kept.Check(t.Context(), ask), &warning)
	assert.ErrorContains(t, warning, "Drain.Sessions")

	forgets := serve(t, proxy.Config{Slots: twoSlots, Active: "blue", Sessions: &proxy.SessionConfig{AppCookie: "APP"}})
	require.ErrorAs(t, forgets.Check(t.Context(), abswap.CheckRequest{}), &warning)
	assert.ErrorContains(t, warning, "StateFile")
	assert.Equal(t, abswap.EvidenceUnknown, sessionsOf(t, forgets, "blue").Evidence, "an application's own sessions may be older than the proxy")
}

func TestSessionConfigIsChecked(t *testing.T) {
	for want, change := range map[string]func(*proxy.Config){
		"Sessions.File needs Config.StateFile": func(c *proxy.Config) { c.Sessions.File = "x" },
		"2 are set":                            func(c *proxy.Config) { c.Sessions.AppCookie, c.Sessions.Cookie = "a", "b" },
		`Sessions.AppHeader: "Connection" does not name a client`: func(c *proxy.Config) { c.Sessions.AppHeader = "Connection" },
		"CrossSite needs Secure":                                  func(c *proxy.Config) { c.Sessions.CrossSite = true },
		"are about the proxy's own cookie":                        func(c *proxy.Config) { c.Sessions.AppCookie, c.Sessions.Secure = "a", true },
		`server "n": slot "red" has no address`:                   func(c *proxy.Config) { c.Sessions.ARR = map[string]proxy.SessionHome{"n": {Slot: "red"}} },
		"a session stays by itself":                               func(c *proxy.Config) { c.StickyWeights = "x" },
		`Config.StickyWeights: "a b" cannot be the name`:          func(c *proxy.Config) { c.StickyWeights, c.Sessions = "a b", nil },
		"Idle -1s": func(c *proxy.Config) { c.Sessions.Idle = -time.Second },
		"Config.PreviewPeers: number 0 is not a valid network": func(c *proxy.Config) { c.PreviewPeers = make([]netip.Prefix, 1) },
	} {
		cfg := proxy.Config{Slots: maps.Clone(twoSlots), Active: "blue", Sessions: &proxy.SessionConfig{}}
		change(&cfg)
		_, err := proxy.New(cfg)
		assert.ErrorContains(t, err, want)
	}
	dir := t.TempDir()
	cfg := proxy.Config{Slots: twoSlots, Active: "blue", StateFile: filepath.Join(dir, "state"), Sessions: &proxy.SessionConfig{Idle: -1}}
	_, err := proxy.New(cfg)
	require.Error(t, err)
	cfg.Sessions = nil
	p, err := proxy.New(cfg)
	require.NoError(t, err, "the state file was let go")
	require.NoError(t, p.Close())
}

// TestRotationNeedsTheKeyFile: while the key file is not there, as when one replaces it in two steps, a rotation changes nothing and makes no file.
func TestRotationNeedsTheKeyFile(t *testing.T) {
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	state := filepath.Join(t.TempDir(), "state")
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		StateFile: state, Sessions: &proxy.SessionConfig{}})
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, plain("green"))
	require.NoError(t, os.Remove(state+".keys"))
	assert.ErrorIs(t, f.RotateSessionKeys(), fs.ErrNotExist)
	assert.NoFileExists(t, state+".keys")
	assert.Equal(t, "blue", v.get("/"), "its session is known as before")
}

// TestSessionsSurviveARestart closes a proxy and starts it anew, with rotated keys.
func TestSessionsSurviveARestart(t *testing.T) {
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	dir := t.TempDir()
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		StateFile: filepath.Join(dir, "state"), Sessions: &proxy.SessionConfig{}}
	f := serve(t, cfg)
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, plain("green"))
	keys, err := os.ReadFile(filepath.Join(dir, "state.keys"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "state.keys"), append([]byte(strings.Repeat("0a", 32)+"\n"), keys...), 0o600))
	require.NoError(t, f.RotateSessionKeys())
	assert.Equal(t, "blue", v.get("/"))
	require.NoError(t, f.Close())

	again := serve(t, cfg)
	assert.Equal(t, abswap.Load{Sessions: 1, Evidence: abswap.EvidenceExact, Source: "proxy's table of sessions"}, sessionsOf(t, again, "blue"))
	v.url = again.url
	assert.Equal(t, "blue", v.get("/"))
	require.NoError(t, again.Seal(t.Context(), plain("blue")))
	require.NoError(t, again.Close())
	last := serve(t, cfg)
	v.url = last.url
	assert.Equal(t, "green", v.get("/"), "sealed stays sealed")
}

// TestRestoredSessionsKeepConnections: after a restart, too, requests of sessions in a slot that takes no new work go over connections that are kept.
func TestRestoredSessionsKeepConnections(t *testing.T) {
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	var dials atomic.Int64
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		StateFile: filepath.Join(t.TempDir(), "state"), Sessions: &proxy.SessionConfig{},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
	f := serve(t, cfg)
	v := newVisitor(t, f.url)
	require.Equal(t, "blue", v.get("/"))
	f.activate(t, plain("green"))
	require.NoError(t, f.Close())

	f = serve(t, cfg)
	v.url = f.url
	dials.Store(0)
	for range 10 {
		require.Equal(t, "blue", v.get("/"))
	}
	assert.EqualValues(t, 1, dials.Load())
	require.NoError(t, f.Seal(t.Context(), plain("blue")))
	assert.Zero(t, f.IdleConns("blue"))
}
