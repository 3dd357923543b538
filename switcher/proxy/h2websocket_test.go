package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// extended reports whether this process offers websockets over HTTP/2. net/http looks at the environment once, as it starts: one that does not runs
// the test in another process of this very program.
func extended(t *testing.T) bool {
	const setting = "http2xconnect=1"
	was := os.Getenv("GODEBUG")
	if strings.Contains(was, setting) {
		return true
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), "GODEBUG="+strings.Trim(was+","+setting, ","))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "it was run there")
	return false
}

// openingOf are the fields by which a client opens a websocket at path.
func openingOf(path string, more ...[2]string) fields {
	return append(fields{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "site.test"}, {":path", path},
		{"sec-websocket-version", "13"}}, more...)
}

// connect opens a websocket; what comes of it says at.
func (w *h2watch) connect(path string, more ...[2]string) (id uint32) {
	w.mu.Lock()
	id = w.next
	w.next += 2
	w.mu.Unlock()
	w.frame(frameHeaders, endHeaders, id, openingOf(path, more...).block())
	return id
}

// opened does, and waits until it is open.
func (w *h2watch) opened(path string, more ...[2]string) (id uint32) {
	w.t.Helper()
	id = w.connect(path, more...)
	soon(w.t, "it is open", func() bool { return w.at(id).heads > 0 })
	require.EqualValues(w.t, status200, w.at(id).first)
	return id
}

// rewriting is the connection of net/http's client, whose requests get other fields than it thinks: it does not let :protocol through.
type rewriting struct {
	net.Conn
	fields fields
	got    []byte
	begun  bool
}

func (c *rewriting) Write(p []byte) (int, error) {
	c.got = append(c.got, p...)
	var out []byte
	if const24 := 24; !c.begun && len(c.got) >= const24 {
		out, c.got, c.begun = append(out, c.got[:const24]...), c.got[const24:], true
	}
	for c.begun && len(c.got) >= 9 {
		n := 9 + int(binary.BigEndian.Uint32(c.got)>>8)
		if len(c.got) < n {
			break
		}
		frame := c.got[:n]
		c.got = c.got[n:]
		if frame[3] == frameHeaders {
			block := c.fields.block()
			head := binary.BigEndian.AppendUint32(nil, uint32(len(block))<<8|frameHeaders)
			frame = append(append(append(head, frame[4]&(endStream|endHeaders)), frame[5:9]...), block...)
		}
		out = append(out, frame...)
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// h2socket is a websocket by HTTP/2, or the refusal of one.
type h2socket struct {
	*http.Response
	br   *bufio.Reader
	send *io.PipeWriter
	gone func() // resets the stream
}

// h2socket sends the request with these fields, on a connection of its own.
func (f *front) h2socket(t testing.TB, all fields) *h2socket {
	t.Helper()
	c := h2Client(t, nil)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &rewriting{Conn: nc, fields: all}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, "POST", f.url, r)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		w.Close()
		resp.Body.Close()
	})
	return &h2socket{resp, bufio.NewReader(resp.Body), w, func() {
		w.CloseWithError(io.ErrUnexpectedEOF)
		resp.Body.Close()
	}}
}

func (s *h2socket) read(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(s.br, b)
	require.NoError(t, err)
	return string(b)
}

// accept answers the opening of a websocket.
func accept(w io.Writer, r *http.Request, more string) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), more)
}

// accepting opens each websocket that is one by RFC 6455, with first behind the head, and hands the connection to talk.
func accepting(first string, talk func(c *net.TCPConn, br *bufio.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
		if err != nil || len(key) != 16 || r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" ||
			r.Header.Get("Sec-WebSocket-Version") != "13" || r.ContentLength != 0 {
			http.Error(w, fmt.Sprint("no websocket: ", r.Method, r.Header), http.StatusBadRequest)
			return
		}
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		accept(c, r, "X-App: 1\r\nKeep-Alive: 5\r\nSec-WebSocket-Protocol: chat\r\n")
		io.WriteString(c, first)
		talk(c.(*net.TCPConn), buf.Reader)
	}
}

// TestH2WebsocketIsAnUpgradeAtTheSlot looks at what the slot gets and the client, field by field.
func TestH2WebsocketIsAnUpgradeAtTheSlot(t *testing.T) {
	if !extended(t) {
		return
	}
	heads := make(chan string, 10)
	up := rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		head, err := readHead(br)
		if err != nil {
			return
		}
		heads <- head
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			return
		}
		accept(c, r, "Keep-Alive: 5\r\nX-App: 1\r\nX-Hop: 1\r\nConnection: X-Hop\r\nContent-Length: 7\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")
		io.Copy(c, br)
	})
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": up}, Active: "blue", ReleaseHeader: "X-Release"})
	assert.EqualValues(t, 1, f.h2raw(t).settings[0x8], "it is offered")
	keys := map[string]bool{}
	for range 2 {
		s := f.h2socket(t, openingOf("/ws?x=y", [2]string{"sec-websocket-protocol", "chat, mail"}, [2]string{"sec-websocket-extensions", "permessage-deflate"},
			[2]string{"sec-websocket-key", "the client's"}, [2]string{"origin", "http://site.test"}, [2]string{"cookie", "a=1"}, [2]string{"cookie", "b=2"},
			[2]string{"expect", "100-continue"}))
		head := within(t, heads, "the slot's request")
		lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
		assert.Equal(t, "GET /ws?x=y HTTP/1.1", lines[0])
		key := ""
		for i, line := range lines {
			if value, ok := strings.CutPrefix(line, "Sec-Websocket-Key: "); ok {
				keys[value] = true
				key, lines[i] = value, "key"
			}
		}
		raw, err := base64.StdEncoding.DecodeString(key)
		require.NoError(t, err)
		assert.Len(t, raw, 16)
		assert.ElementsMatch(t, []string{"Host: site.test", "key", "Sec-Websocket-Version: 13", "Sec-Websocket-Protocol: chat, mail",
			"Sec-Websocket-Extensions: permessage-deflate", "Origin: http://site.test", "Cookie: a=1; b=2", "Upgrade: websocket", "Connection: Upgrade",
			"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: site.test", "X-Forwarded-Proto: http"}, lines[1:])
		assert.Equal(t, 200, s.StatusCode)
		assert.Equal(t, http.Header{"X-App": {"1"}, "Sec-Websocket-Protocol": {"chat"}, "Sec-Websocket-Extensions": {"permessage-deflate"},
			"X-Release": {"blue/"}}, s.Header)
		s.send.Close()
	}
	assert.Len(t, keys, 2, "each has a key of its own")
	f.idle(t, "blue")
}

// TestH2WebsocketCarriesBothWays: small and large pieces, those that come with the heads too; it is a tunnel in the books all the time, its bytes are
// counted, and the streams beside it do not notice.
func TestH2WebsocketCarriesBothWays(t *testing.T) {
	if !extended(t) {
		return
	}
	f, b, _ := pair(t, accepting("first", echo), hello)
	w := f.h2watch(t)
	id := w.connect("/ws")
	w.send(id, "early", false)
	w.got(id, "firstearly")
	assert.Equal(t, abswap.Load{Upgraded: 1, Evidence: abswap.EvidenceExact, Source: "proxy counters"}, f.load(t, "blue"))
	list, err := f.List(t.Context(), plain("blue"), 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, abswap.ClassTunnel, list[0].Class)
	assert.Equal(t, []any{"upgraded", "/ws", int64(5), int64(10)}, []any{list[0].Kind, list[0].Path, list[0].In, list[0].Out})
	assert.False(t, w.at(id).ended)
	beside := w.begin("/", true)
	assert.True(t, w.end(beside).ended, "a request on the same connection")
	w.send(id, "", true)
	assert.Equal(t, "firstearly", w.end(id).data)
	assert.True(t, w.at(id).ended)
	f.idle(t, "blue")

	s := f.h2socket(t, openingOf("/big"))
	assert.Equal(t, "first", s.read(t, 5))
	big := strings.Repeat("0123456789", 500_000)
	go func() {
		io.WriteString(s.send, big)
		s.send.Close()
	}()
	got, err := io.ReadAll(s.br)
	require.NoError(t, err)
	assert.True(t, big == string(got), "all came back")
	f.idle(t, "blue")
	f.activate(t, plain("green"))
	soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
}

// TestH2WebsocketHalvesClose ends each direction by itself, as far as net/http lets.
func TestH2WebsocketHalvesClose(t *testing.T) {
	if !extended(t) {
		return
	}
	t.Run("client first", func(t *testing.T) {
		f, _, _ := pair(t, accepting("", func(c *net.TCPConn, br *bufio.Reader) {
			b, _ := io.ReadAll(br) // to the client's end
			fmt.Fprintf(c, "got %s", b)
		}), hello)
		w := f.h2watch(t)
		id := w.opened("/ws")
		w.send(id, "all", true)
		s := w.end(id)
		assert.Equal(t, "got all", s.data)
		assert.True(t, s.ended)
		assert.EqualValues(t, -1, s.reset)
		f.idle(t, "blue")
	})
	t.Run("client in its head", func(t *testing.T) {
		f, _, _ := pair(t, accepting("first", echo), hello)
		w := f.h2watch(t)
		w.frame(frameHeaders, endHeaders|endStream, 1, openingOf("/ws").block())
		s := w.end(1)
		assert.Equal(t, "first", s.data)
		assert.True(t, s.ended)
		f.idle(t, "blue")
	})
	t.Run("slot first, with a close frame", func(t *testing.T) {
		got := make(chan string, 1)
		f, _, _ := pair(t, accepting("", func(c *net.TCPConn, br *bufio.Reader) {
			io.WriteString(c, wsFrame(8, false, "\x03\xe8"))
			c.CloseWrite()
			b, _ := io.ReadAll(br)
			got <- string(b)
		}), hello)
		w := f.h2watch(t)
		id := w.opened("/ws")
		w.got(id, wsFrame(8, false, "\x03\xe8"))
		soon(t, "the slot's half has ended", func() bool { return f.load(t, "blue").Upgraded == 1 })
		assert.False(t, w.isOver(id), "the client's close frame is the slot's still")
		w.send(id, wsFrame(1, true, "last words")+wsFrame(8, true, "\x03\xe8"), false)
		assert.Equal(t, wsFrame(1, true, "last words")+wsFrame(8, true, "\x03\xe8"), within(t, got, "slot"))
		assert.True(t, w.end(id).ended)
		f.idle(t, "blue")
	})
	t.Run("slot first, without", func(t *testing.T) {
		f, _, _ := pair(t, accepting("bye", func(c *net.TCPConn, br *bufio.Reader) {
			c.CloseWrite()
			io.Copy(io.Discard, br)
		}), hello)
		w := f.h2watch(t)
		id := w.opened("/ws")
		s := w.end(id)
		assert.Equal(t, "bye", s.data)
		assert.True(t, s.ended, "an end, and no reset")
		f.idle(t, "blue")
	})
}

// TestH2WebsocketBreaks: a client that resets its stream, or goes away with its connection, and a slot that dies.
func TestH2WebsocketBreaks(t *testing.T) {
	if !extended(t) {
		return
	}
	ended := make(chan error, 10)
	dies := make(chan bool)
	f, _, _ := pair(t, accepting("hello", func(c *net.TCPConn, br *bufio.Reader) {
		if r, ok := <-dies; ok && r {
			c.SetLinger(0)
			return
		}
		_, err := io.Copy(io.Discard, br)
		ended <- err
	}), hello)
	w := f.h2watch(t)
	first, second := w.opened("/ws"), w.opened("/ws")
	w.frame(frameReset, 0, first, []byte{0, 0, 0, 8})
	dies <- false
	dies <- false
	within(t, ended, "the slot is told")
	soon(t, "it leaves the count", func() bool { return f.load(t, "blue").Upgraded == 1 })
	assert.False(t, w.isOver(second), "the other one lives")
	w.Close()
	within(t, ended, "the slot is told")
	f.idle(t, "blue")

	w = f.h2watch(t)
	id := w.opened("/ws")
	w.got(id, "hello")
	dies <- true
	s := w.end(id)
	assert.False(t, s.ended)
	assert.GreaterOrEqual(t, s.reset, int64(0), "the client sees a reset")
	assert.True(t, w.end(w.begin("/", true)).ended, "its connection goes on")
	f.idle(t, "blue")
}

// TestH2WebsocketRefusals: what is no websocket is not one for the client either.
func TestH2WebsocketRefusals(t *testing.T) {
	if !extended(t) {
		return
	}
	hijacked := func(answer func(c net.Conn, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				answer(c, r)
				c.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		slot   http.HandlerFunc
		status int
		body   string
		fields http.Header
	}{
		"no": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}, 401, "who are you?\n", http.Header{"Www-Authenticate": {"Basic"}, "Upgrade": nil, "Connection": nil}},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) }, 302, "",
			http.Header{"Location": {"/there"}}},
		"an answer":      {hello, 502, "502 Bad Gateway: the application did not answer\n", nil},
		"no content":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, 502, "502 Bad Gateway: the application did not answer\n", nil},
		"without Accept": {upgrader("", echo), 502, "502 Bad Gateway: the application did not answer\n", nil},
		"of another key": {hijacked(func(c net.Conn, r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "x"); accept(c, r, "") }), 502, "", nil},
		"of another protocol": {hijacked(func(c net.Conn, r *http.Request) {
			io.WriteString(c, "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		}), 502, "", nil},
		"the slot is gone": {hijacked(func(net.Conn, *http.Request) {}), 502, "502 Bad Gateway: the application did not answer\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _ := pair(t, c.slot, hello)
			s := f.h2socket(t, openingOf("/ws"))
			body, err := io.ReadAll(s.br)
			require.NoError(t, err)
			assert.Equal(t, c.status, s.StatusCode)
			if c.body != "" {
				assert.Equal(t, c.body, string(body))
			}
			for name, want := range c.fields {
				assert.Equal(t, want, http.Header{name: s.Header[name]}[name], name)
			}
			f.idle(t, "blue")
			assert.EqualValues(t, c.status/500, f.Stats().Failed)
		})
	}
	t.Run("a slot of HTTP/2", func(t *testing.T) {
		b := newH2Backend(t, "blue", hello)
		f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Protocols: map[string]proxy.Protocol{"blue": proxy.H2C}, Active: "blue"})
		s := f.h2socket(t, openingOf("/ws"))
		body, err := io.ReadAll(s.br)
		require.NoError(t, err)
		assert.Equal(t, 501, s.StatusCode)
		assert.Equal(t, "501 Not Implemented: the application speaks HTTP/2, to which websockets cannot be passed on\n", string(body))
		assert.Zero(t, b.conns.Load())
		f.idle(t, "blue")
	})
	t.Run("by the request", func(t *testing.T) {
		f, _, _ := pair(t, accepting("", echo), hello)
		opening := openingOf("/ws")
		with := func(name, value string) (all fields) {
			for _, x := range opening {
				if x[0] == name {
					x[1] = value
				}
				all = append(all, x)
			}
			return all
		}
		for name, x := range map[string]struct {
			fields fields
			status int
		}{
			"another protocol":         {with(":protocol", "connect-udp"), 501},
			"two protocols in one":     {with(":protocol", "websocket, h2c"), 501},
			"a protocol of a GET":      {with(":method", "GET"), 400},
			"a protocol of a POST":     {with(":method", "POST"), 400},
			"CONNECT without":          {fields{{":method", "CONNECT"}, {":authority", "site.test"}}, 405},
			"a protocol in capitals":   {with(":protocol", "WebSocket"), 200},
			"an unknown expectation":   {openingOf("/ws", [2]string{"expect", "coffee"}), 417},
			"a length":                 {openingOf("/ws", [2]string{"content-length", "5"}), 400},
			"more fields than allowed": {openingOf("/ws", slices.Repeat([][2]string{{"x", "y"}}, 1000)...), 431},
		} {
			s := f.h2socket(t, x.fields)
			assert.Equal(t, x.status, s.StatusCode, name)
			s.gone()
		}
		f.idle(t, "blue")
	})
}

// TestH2WebsocketOutlivesASwitch stays in the old slot, and is alone there, until it ends.
func TestH2WebsocketOutlivesASwitch(t *testing.T) {
	if !extended(t) {
		return
	}
	f, b, _ := pair(t, accepting("", echo), hello)
	w := f.h2watch(t)
	id := w.opened("/ws")
	w.send(id, "one", false)
	w.got(id, "one")
	f.activate(t, plain("green"))
	assert.Equal(t, "hello\n", w.end(w.begin("/", true)).data, "what is new is green's")
	w.send(id, "two", false)
	w.got(id, "onetwo")
	assert.Equal(t, 1, f.load(t, "blue").Upgraded)
	drained := make(chan error, 1)
	go func() {
		_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Poll: time.Millisecond})
		drained <- err
	}()
	notYet(t, drained, "it lives", moment)
	w.send(id, "", true)
	assert.True(t, w.end(id).ended)
	require.NoError(t, within(t, drained, "drain"))
	assert.Zero(t, f.load(t, "blue").Total())
	assert.Zero(t, f.IdleConns("blue"))
	soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
	assert.Empty(t, w.told(), "its connection was never told to go")
}

// TestH2WebsocketIsCut by order, also while its client reads nothing.
func TestH2WebsocketIsCut(t *testing.T) {
	if !extended(t) {
		return
	}
	ended := make(chan bool, 10)
	f, _, _ := pair(t, accepting("", func(c *net.TCPConn, br *bufio.Reader) {
		go func() {
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		io.Copy(io.Discard, br)
		ended <- true
	}), hello)
	w := f.h2watch(t)
	id := w.opened("/ws")
	soon(t, "the stream's window is full", func() bool { return len(w.at(id).data) == 65535 })
	list, err := f.List(t.Context(), plain("blue"), 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	f.activate(t, plain("green"))
	require.NoError(t, f.End(t.Context(), plain("blue"), abswap.ForceCut, list[0].ID))
	s := w.end(id)
	assert.False(t, s.ended)
	assert.GreaterOrEqual(t, s.reset, int64(0))
	within(t, ended, "the slot is told")
	f.idle(t, "blue")
	w.frame(frameWindow, 0, 0, []byte{0, 1, 0, 0}) // the connection's was full too
	assert.Equal(t, "hello\n", w.end(w.begin("/", true)).data, "its connection goes on")
}
