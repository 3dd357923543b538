package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// TestFramingOfH2Websockets is TestFramingOfH2 for what opens a websocket. What comes behind its head reaches no application that has not opened it.
func TestFramingOfH2Websockets(t *testing.T) {
	if !extended(t) {
		return
	}
	const crlf = "\r\nX: y"
	upgrade := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade"}
	vectors := []h2vector{
		{name: "CR LF in :protocol", fields: fields{{":protocol", "websocket" + crlf}}},
		{name: "a request in :protocol", fields: fields{{":protocol", "websocket\r\n\r\n" + smuggledText}}},
		{name: "two :protocol", fields: fields{{":protocol", "websocket"}, {":protocol", "websocket"}}},
		{name: "list in :protocol", fields: fields{{":protocol", "websocket, h2c"}}},
		{name: "another :protocol", fields: fields{{":protocol", "h2c"}}},
		{name: ":protocol of a GET", fields: fields{{":method", "GET"}}},
		{name: ":protocol of a POST", fields: fields{{":method", "POST"}}, data: smuggledText},
		{name: "method in small letters", fields: fields{{":method", "connect"}}},
		{name: "blank and version in :path", fields: fields{{":path", "/form HTTP/1.1"}}},
		{name: "a request in :path", fields: fields{{":path", "/form HTTP/1.1\r\nHost: site.test\r\n\r\n" + smuggledText}}},
		{name: "fragment in :path", fields: fields{{":path", "/form#x"}}},
		{name: "absolute :path", fields: fields{{":path", "http://evil.test/form"}}},
		{name: "relative :path", fields: fields{{":path", "form"}}},
		{name: "empty :path", fields: fields{{":path", ""}}},
		{name: "asterisk", fields: fields{{":path", "*"}}},
		{name: "CR LF in :authority", fields: fields{{":authority", "site.test" + crlf}}},
		{name: "blank in :authority", fields: fields{{":authority", "site.test x"}}},
		{name: "path in :authority", fields: fields{{":authority", "site.test/x"}}},
		{name: "user in :authority", fields: fields{{":authority", "me@site.test"}}},
		{name: "empty :authority", fields: fields{{":authority", ""}}},
		{name: "another Host", fields: fields{{"host", "evil.test"}}},
		{name: "CR LF in a value", fields: fields{{"sec-websocket-protocol", "a\r\nTransfer-Encoding: chunked"}}},
		{name: "Transfer-Encoding", fields: fields{{"transfer-encoding", "chunked"}}, data: "0\r\n\r\n" + smuggledText},
		{name: "Connection", fields: fields{{"connection", "sec-websocket-key"}}},
		{name: "Upgrade", fields: fields{{"upgrade", "h2c"}}},
		{name: "a length", fields: fields{{"content-length", "3"}}, data: "abc"},
		{name: "a length of nothing", fields: fields{{"content-length", "0"}}, noData: true},
		{name: "unknown expectation", fields: fields{{"expect", "coffee"}}},

		{name: "what is right", data: smuggledText, forwarded: true, has: upgrade, lacks: []string{"Content-Length", "Transfer-Encoding", ":protocol"}},
		{name: "that ends with its head", noData: true, forwarded: true, has: upgrade, lacks: []string{"Content-Length", "Transfer-Encoding"}},
		{name: "trailers that are announced", fields: fields{{"trailer", "sum"}}, data: "x", forwarded: true, has: upgrade, lacks: []string{"Trailer", "Sum"}},
		{name: "scheme that is not", fields: fields{{":scheme", "https"}}, forwarded: true, has: map[string]string{"X-Forwarded-Proto": "http"}},
		{name: "two slashes", fields: fields{{":path", "//evil.test/form?a=b&c"}}, forwarded: true, target: "//evil.test/form?a=b&c"},
		{name: "expectation", fields: fields{{"expect", "100-continue"}}, data: "abc", forwarded: true, lacks: []string{"Expect"}},
	}
	for i, v := range vectors {
		has := map[string]bool{}
		for _, f := range v.fields {
			has[f[0]] = true
		}
		for _, f := range (fields{{":protocol", "websocket"}, {":method", "CONNECT"}}) {
			if !has[f[0]] {
				vectors[i].fields = append(fields{f}, vectors[i].fields...)
			}
		}
	}
	framingOfH2(t, vectors, "GET")
}

// wentWith is what the application saw, if it is not that.
func wentWith(t *testing.T, app *wsApp, status int) error {
	if went := within(t, app.went, "the application's end"); went != status {
		return fmt.Errorf("application saw %d", went)
	}
	return nil
}

// TestC2WebsocketsGetACloseFrameH2: each stream ends behind a close frame, with END_STREAM and no reset but that of what the client has left open; the
// application sees the client's close frame; what else the connection carries goes on.
func TestC2WebsocketsGetACloseFrameH2(t *testing.T) {
	if !extended(t) {
		return
	}
	const sockets = 5
	bye := wsFrame(8, false, "\x03\xe9")
	judge := func(t *testing.T, f *front, app *wsApp) error {
		w := f.h2watch(t)
		var ids []uint32
		for range sockets {
			ids = append(ids, w.opened("/ws"))
		}
		f.activate(t, plain("green"))
		end, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: 200 * time.Millisecond}}})
		var errs []error
		for i, id := range ids {
			soon(t, "something comes", func() bool { return w.at(id).data == bye || w.isOver(id) })
			w.send(id, wsFrame(8, true, "\x03\xe9"), i%2 == 0)
			if s := w.end(id); s.data != bye || !s.ended || s.reset > 0 {
				errs = append(errs, fmt.Errorf("client saw %+v", s))
			}
			errs = append(errs, wentWith(t, app, 1001))
		}
		e := within(t, end, "drain")
		if e.res.Classes[abswap.ClassTunnel] != (abswap.ClassOutcome{Closed: sockets}) {
			errs = append(errs, fmt.Errorf("result %+v", e.res.Classes))
		}
		if told := w.told(); len(told) > 0 {
			errs = append(errs, fmt.Errorf("client was told to go: %d", told))
		}
		if s := w.end(w.begin("/", true)); s.data != "hello\n" {
			errs = append(errs, fmt.Errorf("the next one on its connection: %+v", s))
		}
		return errors.Join(append(errs, e.err)...)
	}
	app := newWSApp()
	f, b, _ := pair(t, app.ServeHTTP, hello)
	require.NoError(t, judge(t, f, app))
	assert.Zero(t, f.load(t, "blue").Total())
	assert.Zero(t, f.IdleConns("blue"))
	soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })

	f, _, _ = pair(t, app.ServeHTTP, hello)
	proxy.EndBare(f.Switcher)
	err := judge(t, f, app)
	assert.ErrorContains(t, err, "client saw")
	assert.ErrorContains(t, err, "application saw 1006")
}

// TestC2BetweenTwoFramesH2: a close frame never lands within a frame of the slot; and (A6) where the slot goes live before that frame has ended, the
// websocket goes on.
func TestC2BetweenTwoFramesH2(t *testing.T) {
	if !extended(t) {
		return
	}
	app := newWSApp()
	bye := wsFrame(8, false, "\x03\xe9")
	judge := func(t *testing.T, f *front, back bool, wait time.Duration) error {
		w := f.h2watch(t)
		id := w.opened("/ws")
		msg := wsFrame(1, false, "hello world")
		app.say <- msg[:5]
		w.got(id, msg[:5])
		f.activate(t, plain("green"))
		all, err := f.List(t.Context(), plain("blue"), 10)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.NoError(t, f.End(t.Context(), plain("blue"), abswap.ForceHandOver, all[0].ID))
		if back {
			f.activate(t, plain("blue"))
		}
		for until := time.Now().Add(wait); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if got := w.at(id).data; got != msg[:5] {
				return fmt.Errorf("within a frame came %q", got[5:])
			}
		}
		app.say <- msg[5:]
		want, status := msg+bye, "\x03\xe9"
		if back {
			w.got(id, msg)
			app.say <- msg // it was never asked
			want, status = msg+msg, "\x03\xe8"
		}
		w.got(id, want)
		w.send(id, wsFrame(8, true, status), false)
		assert.True(t, w.end(id).ended)
		went := 1001
		if back {
			went = 1000
		}
		require.NoError(t, wentWith(t, app, went))
		f.idle(t, "blue")
		f.activate(t, plain("blue"))
		return nil
	}
	f, _, _ := pair(t, app.ServeHTTP, hello)
	for _, back := range []bool{false, true} {
		require.NoError(t, judge(t, f, back, moment))
	}
	proxy.EndAnywhere(f.Switcher)
	assert.ErrorContains(t, judge(t, f, false, patience), "within a frame came")
	f.Force(t.Context(), plain("blue"), abswap.ForceCut)
	within(t, app.went, "the end")
}

// TestH2WebsocketClientWithoutManners: one that ends, or resets, its stream without a close frame after it got ours: the application sees 1001.
func TestH2WebsocketClientWithoutManners(t *testing.T) {
	if !extended(t) {
		return
	}
	app := newWSApp()
	f, _, _ := pair(t, app.ServeHTTP, hello)
	w := f.h2watch(t)
	id := w.opened("/ws")
	f.activate(t, plain("green"))
	end, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}}})
	w.got(id, wsFrame(8, false, "\x03\xe9"))
	w.send(id, "", true)
	require.NoError(t, wentWith(t, app, 1001))
	require.NoError(t, within(t, end, "drain").err)
	assert.True(t, w.end(id).ended)
}

// TestH2WebsocketObeysWhatRequestsObey: sessions, which one may begin, holds, limits, and the end of the proxy.
func TestH2WebsocketObeysWhatRequestsObey(t *testing.T) {
	if !extended(t) {
		return
	}
	goOn := make(chan bool)
	app := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-goOn
			}
			if r.URL.Path != "/ws" {
				io.WriteString(w, name)
				return
			}
			c, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			cookie := ""
			if r.URL.RawQuery == "login" {
				cookie = "Set-Cookie: APP=123\r\n"
			}
			accept(c, r, cookie)
			io.WriteString(c, name)
			echo(c.(*net.TCPConn), buf.Reader)
		}
	}
	two := func(t *testing.T, cfg proxy.Config) *front {
		cfg.Slots = map[string]string{"blue": address(newBackend(t, "blue", app("blue")).Server), "green": address(newBackend(t, "green", app("green")).Server)}
		cfg.Active = "blue"
		return serve(t, cfg)
	}
	t.Run("session", func(t *testing.T) {
		dir := t.TempDir()
		f := two(t, proxy.Config{StateFile: filepath.Join(dir, "state"), Sessions: &proxy.SessionConfig{AppCookie: "APP"}})
		s := f.h2socket(t, openingOf("/ws?login"))
		assert.Equal(t, "blue", s.read(t, 4))
		require.Len(t, s.Cookies(), 1)
		f.activate(t, plain("green"))
		w := f.h2watch(t)
		old, new := w.opened("/ws", [2]string{"cookie", "APP=123"}), w.opened("/ws")
		w.got(old, "blue")
		w.got(new, "green")
		assert.Equal(t, 2, f.load(t, "blue").Upgraded)
		assert.Equal(t, 1, sessionsOf(t, f, "blue").Sessions)
	})
	t.Run("hold", func(t *testing.T) {
		f := two(t, proxy.Config{})
		release, err := f.Hold(t.Context(), abswap.HoldOptions{Each: time.Minute, Total: time.Minute})
		require.NoError(t, err)
		w := f.h2watch(t)
		id, gone := w.connect("/ws"), w.connect("/ws")
		w.send(id, "early", false)
		soon(t, "both wait", func() bool { return f.Held() == 2 })
		w.frame(frameReset, 0, gone, []byte{0, 0, 0, 8})
		soon(t, "one has gone", func() bool { return f.Held() == 1 })
		f.activate(t, plain("green"))
		release()
		w.got(id, "greenearly")
		assert.Zero(t, f.load(t, "blue").Total())
	})
	t.Run("limit", func(t *testing.T) {
		f := two(t, proxy.Config{MaxInFlight: 1, MaxQueue: 2, QueueWait: time.Minute})
		w := f.h2watch(t)
		slow := w.begin("/slow", true)
		waitLoads(t, f, 1)
		gone := w.connect("/ws")
		f.queued(t, 1)
		next := w.connect("/ws")
		f.queued(t, 2)
		assert.NotEqualValues(t, status200, w.end(w.connect("/ws")).first, "no room to wait")
		w.frame(frameReset, 0, gone, []byte{0, 0, 0, 8})
		f.queued(t, 1)
		goOn <- true
		assert.True(t, w.end(slow).ended)
		w.got(next, "blue")
		assert.Equal(t, "blue", w.end(w.begin("/", true)).data, "one that is open takes no place")
		assert.Equal(t, 1, f.load(t, "blue").Upgraded)
	})
	t.Run("Shutdown", func(t *testing.T) {
		f := two(t, proxy.Config{Farewell: -1})
		w := f.h2watch(t)
		id := w.opened("/ws")
		w.got(id, "blue")
		ended := make(chan error, 1)
		go func() { ended <- f.Shutdown(t.Context()) }()
		soon(t, "client is told to go", func() bool { return len(w.told()) > 0 })
		w.send(id, "on", false)
		w.got(id, "blueon")
		notYet(t, ended, "a websocket is open", moment)
		w.send(id, "", true)
		assert.True(t, w.end(id).ended)
		require.NoError(t, within(t, ended, "Shutdown"))
	})
	t.Run("Close", func(t *testing.T) {
		f := two(t, proxy.Config{})
		w := f.h2watch(t)
		id := w.opened("/ws")
		require.NoError(t, f.Close())
		assert.False(t, w.end(id).ended)
	})
}

// TestH2WebsocketBehindAnotherServer: ServeHTTP carries them too.
func TestH2WebsocketBehindAnotherServer(t *testing.T) {
	if !extended(t) {
		return
	}
	b := newBackend(t, "blue", accepting("first", func(c *net.TCPConn, br *bufio.Reader) { echo(c, br) }))
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: p, Protocols: h2Protocols()}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	defer func() { <-ended }()
	defer srv.Close()
	defer p.Close()
	f := &front{p, l.Addr().String(), "http://" + l.Addr().String()}
	w := f.h2watch(t)
	id := w.opened("/ws")
	w.send(id, "more", true)
	s := w.end(id)
	assert.Equal(t, "firstmore", s.data)
	assert.True(t, s.ended)
	f.idle(t, "blue")
}
