package proxy_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// Cases C1 to C3, A6, B6 and B8 by class of work. Each has its proof: the same judge finds the fault of another front door, planted into ours.

type classRules = map[abswap.Class]abswap.ClassRule

// wsFrame is a short frame, masked by zeros if a client sends it.
func wsFrame(op byte, masked bool, text string) string {
	if !masked {
		return string([]byte{0x80 | op, byte(len(text))}) + text
	}
	return string([]byte{0x80 | op, 0x80 | byte(len(text)), 0, 0, 0, 0}) + text
}

const wsHead = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// wsApp is a websocket server that says each message of say, and tells how its client went: by the status of its close frame, 1006 without one.
type wsApp struct {
	say  chan string
	went chan int
}

func newWSApp() *wsApp { return &wsApp{make(chan string, 10), make(chan int, 100)} }

func (a *wsApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	accept(c, r, "")
	over := make(chan bool)
	defer close(over)
	go func() {
		for {
			select {
			case text := <-a.say:
				io.WriteString(c, text)
			case <-over:
				return
			}
		}
	}()
	for {
		op, payload, err := readFrame(buf.Reader)
		if err != nil {
			a.went <- 1006
			return
		}
		if op == 8 {
			a.went <- int(binary.BigEndian.Uint16(payload))
			io.WriteString(c, wsFrame(8, false, string(payload)))
			return
		}
	}
}

func readFrame(br *bufio.Reader) (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(br, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(h[1] & 127)
	if h[1]&128 != 0 {
		if _, err := br.Discard(4); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(br, payload)
	return h[0] & 15, payload, err
}

// ways are the two data paths.
func ways(t *testing.T, h http.Handler, f func(t *testing.T, f *front, b *backend)) {
	t.Run("Serve", func(t *testing.T) {
		fr, b, _ := pair(t, h.ServeHTTP, hello)
		f(t, fr, b)
	})
	t.Run("ServeHTTP", func(t *testing.T) {
		fr, b, _ := pair(t, h.ServeHTTP, hello)
		srv := httptest.NewServer(fr.Switcher)
		t.Cleanup(srv.Close)
		addr := srv.Listener.Addr().String()
		f(t, &front{fr.Switcher, addr, "http://" + addr}, b)
	})
}

// wsEnd reads what a websocket's client gets up to its end; it answers a close frame as RFC 6455 asks for, and says its status, 1006 without one.
func wsEnd(c *rawClient) (messages []string, status int, err error) {
	for {
		op, payload, err := readFrame(c.br)
		switch {
		case errors.Is(err, io.EOF):
			return messages, 1006, nil
		case err != nil:
			return messages, 0, err
		case op == 8:
			io.WriteString(c, wsFrame(8, true, string(payload)))
			_, err := c.br.ReadByte()
			if !errors.Is(err, io.EOF) {
				return messages, 0, fmt.Errorf("after the close frame: %w", err)
			}
			return messages, int(binary.BigEndian.Uint16(payload)), nil
		}
		messages = append(messages, string(payload))
	}
}

// TestC2WebsocketsGetACloseFrame: the client of each websocket sees 1001, never a bare end; so does the application. The closes are spread.
func TestC2WebsocketsGetACloseFrame(t *testing.T) {
	t.Parallel()
	const sockets = 5
	judge := func(t *testing.T, f *front, app *wsApp) error {
		var all []*rawClient
		for range sockets {
			c := f.raw(t)
			c.send(wsHead)
			c.head()
			all = append(all, c)
		}
		soon(t, "upgraded", func() bool { return f.load(t, "blue").Upgraded == sockets })
		f.activate(t, plain("green"))
		begin := time.Now()
		ends, errs := make([]time.Duration, sockets), make([]error, sockets)
		var clients sync.WaitGroup
		for i, c := range all {
			clients.Go(func() {
				_, status, err := wsEnd(c)
				ends[i] = time.Since(begin)
				if errs[i] = err; err == nil && status != 1001 {
					errs[i] = fmt.Errorf("client saw %d", status)
				}
			})
		}
		const window = 500 * time.Millisecond
		res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: window}}})
		clients.Wait()
		for range sockets {
			if went := within(t, app.went, "the application's end"); went != 1001 {
				errs = append(errs, fmt.Errorf("application saw %d", went))
			}
		}
		if res.Classes[abswap.ClassTunnel] != (abswap.ClassOutcome{Closed: sockets}) {
			errs = append(errs, fmt.Errorf("result %+v", res.Classes))
		}
		slices.Sort(ends)
		if last := ends[sockets-1]; last < window*(sockets-1)/sockets {
			errs = append(errs, fmt.Errorf("all were closed within %s", last))
		}
		return errors.Join(append(errs, err)...)
	}
	app := newWSApp()
	ways(t, app, func(t *testing.T, f *front, b *backend) {
		require.NoError(t, judge(t, f, app))
		assert.Zero(t, f.IdleConns("blue"))
		soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
	})
	t.Run("planted", func(t *testing.T) {
		ways(t, app, func(t *testing.T, f *front, _ *backend) {
			proxy.EndBare(f.Switcher)
			err := judge(t, f, app)
			assert.ErrorContains(t, err, "client saw 1006")
			assert.ErrorContains(t, err, "application saw 1006")
		})
	})
}

// TestC2BetweenTwoFrames: a close frame never lands within a frame of the slot; and (A6) where the slot goes live before that frame has ended, the
// websocket goes on.
func TestC2BetweenTwoFrames(t *testing.T) {
	app := newWSApp()
	judge := func(t *testing.T, f *front, back bool, wait time.Duration) error {
		c := f.raw(t)
		c.send(wsHead)
		c.head()
		msg := wsFrame(1, false, "hello world")
		app.say <- msg[:5]
		assert.Equal(t, msg[:5], c.read(5))
		f.activate(t, plain("green"))
		all, err := f.List(t.Context(), plain("blue"), 10)
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Equal(t, abswap.ClassTunnel, all[0].Class)
		require.NoError(t, f.End(t.Context(), plain("blue"), abswap.ForceHandOver, all[0].ID))
		if back {
			f.activate(t, plain("blue"))
			assert.ErrorIs(t, f.End(t.Context(), plain("blue"), abswap.ForceHandOver, all[0].ID), abswap.ErrSlotLive)
		}
		c.SetReadDeadline(time.Now().Add(wait))
		if _, err := c.br.Peek(1); err == nil {
			return fmt.Errorf("within a frame came %q", c.read(4))
		}
		c.SetReadDeadline(time.Now().Add(patience))
		app.say <- msg[5:]
		assert.Equal(t, msg[5:9], c.read(4))
		assert.Equal(t, msg[9:], c.read(len(msg)-9))
		if back {
			app.say <- msg
			assert.Equal(t, msg, c.read(len(msg)), "it was never asked")
			c.send(wsFrame(8, true, "\x03\xe8"))
			assert.Equal(t, wsFrame(8, false, "\x03\xe8"), c.rest())
			assert.Equal(t, 1000, within(t, app.went, "the end"))
		} else {
			_, status, err := wsEnd(c)
			require.NoError(t, err)
			assert.Equal(t, 1001, status)
			assert.Equal(t, 1001, within(t, app.went, "the end"))
		}
		c.Close()
		f.idle(t, "blue")
		f.activate(t, plain("blue"))
		return nil
	}
	ways(t, app, func(t *testing.T, f *front, _ *backend) {
		for _, back := range []bool{false, true} {
			require.NoError(t, judge(t, f, back, moment))
		}
	})
	t.Run("planted", func(t *testing.T) {
		ways(t, app, func(t *testing.T, f *front, _ *backend) {
			proxy.EndAnywhere(f.Switcher)
			assert.ErrorContains(t, judge(t, f, false, patience), "within a frame came")
			f.Force(t.Context(), plain("blue"), abswap.ForceCut)
			within(t, app.went, "the end")
		})
	})
}

// TestC2ClientWithoutManners: one that goes without a close frame after it got ours: the application sees 1001 all the same.
func TestC2ClientWithoutManners(t *testing.T) {
	app := newWSApp()
	ways(t, app, func(t *testing.T, f *front, _ *backend) {
		c := f.raw(t)
		c.send(wsHead)
		c.head()
		f.activate(t, plain("green"))
		drained := make(chan error, 1)
		go func() {
			_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}}})
			drained <- err
		}()
		assert.Equal(t, wsFrame(8, false, "\x03\xe9"), c.read(4))
		c.Close()
		assert.Equal(t, 1001, within(t, app.went, "the end"))
		require.NoError(t, within(t, drained, "drain"))
	})
}

// moment is how long a judge waits for what must not come. A build with the fault that brings it gets all the patience.
const moment = 20 * time.Millisecond

func endBare(s *proxy.Switcher) time.Duration     { proxy.EndBare(s); return moment }
func endAnywhere(s *proxy.Switcher) time.Duration { proxy.EndAnywhere(s); return patience }

// rest is what is read of a body while the test goes on.
type rest struct {
	text []byte
	err  error
	done chan struct{}
}

func readOn(r io.Reader) *rest {
	o := &rest{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.text, o.err = io.ReadAll(r)
	}()
	return o
}

// wait waits for its end for that long.
func (r *rest) wait(d time.Duration) {
	select {
	case <-r.done:
	case <-time.After(d):
	}
}

// all waits for its end.
func (r *rest) all() ([]byte, error) {
	<-r.done
	return r.text, r.err
}

// sseApp streams what it is given, and tells when its client has gone.
type sseApp struct {
	say  chan string
	gone chan bool
}

func (a *sseApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(200)
	http.NewResponseController(w).Flush()
	for {
		select {
		case text := <-a.say:
			io.WriteString(w, text)
			http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			a.gone <- true
			return
		}
	}
}

// TestC3EventStreamsEndBetweenEvents: an idle stream ends at once, one in the midst of an event when that has ended, both with a last chunk.
func TestC3EventStreamsEndBetweenEvents(t *testing.T) {
	judge := func(t *testing.T, f *front, app *sseApp, half bool, wait time.Duration) error {
		resp, err := newClient(t).Get(f.url)
		require.NoError(t, err)
		defer resp.Body.Close()
		first := "data: 1\n\n"
		if half {
			first = "data: 1\n\ndata:"
		}
		app.say <- first
		got := make([]byte, len(first))
		_, err = io.ReadFull(resp.Body, got)
		require.NoError(t, err)
		require.Equal(t, first, string(got))
		over := readOn(resp.Body)
		f.activate(t, plain("green"))
		type end struct {
			res abswap.DrainResult
			err error
		}
		ended := make(chan end, 1)
		var asked atomic.Bool
		told := func(m map[abswap.Class]abswap.ClassOutcome) {
			asked.Store(asked.Load() || m[abswap.ClassStream].Asked > 0)
		}
		go func() {
			res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{OnClasses: told,
				Classes: classRules{abswap.ClassStream: {Policy: abswap.ClosePolitely, Window: -1}}})
			ended <- end{res, err}
		}()
		want := ""
		if half {
			soon(t, "asked", asked.Load)
			over.wait(wait)
			app.say <- " 2\n\ndata: 3\n"
			want = " 2\n\n"
		}
		rest, err := over.all()
		if err != nil {
			return fmt.Errorf("client saw %w", err)
		}
		if string(rest) != want {
			return fmt.Errorf("client got %q, not %q", rest, want)
		}
		e := within(t, ended, "drain")
		if e.res.Classes[abswap.ClassStream] != (abswap.ClassOutcome{Closed: 1}) {
			return fmt.Errorf("result %+v: %w", e.res.Classes, e.err)
		}
		within(t, app.gone, "the slot sees it")
		return e.err
	}
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprint("half ", half), func(t *testing.T) {
			app := &sseApp{make(chan string, 10), make(chan bool, 10)}
			ways(t, app, func(t *testing.T, f *front, b *backend) {
				require.NoError(t, judge(t, f, app, half, moment))
				soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
			})
		})
	}
	t.Run("planted", func(t *testing.T) {
		for what, plant := range map[string]func(*proxy.Switcher) time.Duration{"unexpected EOF": endBare, `client got "", not " 2\n\n"`: endAnywhere} {
			app := &sseApp{make(chan string, 10), make(chan bool, 10)}
			ways(t, app, func(t *testing.T, f *front, _ *backend) {
				assert.ErrorContains(t, judge(t, f, app, true, plant(f.Switcher)), what)
				within(t, app.gone, "the slot sees it")
				for len(app.say) > 0 { // what it was too late for
					<-app.say
				}
			})
		}
	})
	t.Run("left alone", func(t *testing.T) {
		app := &sseApp{make(chan string, 10), make(chan bool, 10)}
		f, _, _ := pair(t, app.ServeHTTP, hello)
		resp, err := newClient(t).Get(f.url)
		require.NoError(t, err)
		f.activate(t, plain("green"))
		res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Timeout: 100 * time.Millisecond, Classes: classRules{abswap.ClassStream: {}}})
		require.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.Equal(t, 1, res.Classes[abswap.ClassStream].Left)
		app.say <- "data: 1\n\n"
		got := make([]byte, 9)
		_, err = io.ReadFull(resp.Body, got)
		require.NoError(t, err)
		resp.Body.Close()
	})
}

// TestC1MovingUploadOutlivesTheDeadline: at the deadline all without a rule is cut; the upload that moves comes to its end, one that is still
// does not. The peer's fault: the deadline is one of age.
func TestC1MovingUploadOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	judge := func(t *testing.T, f *front) error {
		up, still := f.raw(t), f.raw(t)
		for _, c := range []*rawClient{up, still} {
			c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\nx")
		}
		soon(t, "two uploads", func() bool {
			all, err := f.List(t.Context(), plain("blue"), 10)
			return err == nil && len(all) == 2 && all[0].Class == abswap.ClassUpload && all[1].Class == abswap.ClassUpload
		})
		f.activate(t, plain("green"))
		sent := make(chan error, 1)
		go func() {
			for range 30 {
				time.Sleep(100 * time.Millisecond)
				if _, err := io.WriteString(up, "x"); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Timeout: 500 * time.Millisecond, AtDeadline: abswap.CutOff, Grace: -1, Poll: 20 * time.Millisecond,
			Classes: classRules{abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: 1500 * time.Millisecond, Grace: 10 * time.Millisecond}}})
		if err != nil {
			return err
		}
		serr := within(t, sent, "the upload")
		if head, _ := readHead(up.br); serr != nil || !strings.Contains(head, "200 OK") {
			return fmt.Errorf("the upload that moved was cut: %v, answered %.20q", serr, head)
		}
		if res.Finished != 1 || res.Cut != 1 || res.Classes[abswap.ClassUpload].Cut != 1 {
			return fmt.Errorf("finished %d, cut %d: %+v", res.Finished, res.Cut, res.Classes)
		}
		if h := still.head(); !strings.Contains(h, "503 ") {
			return fmt.Errorf("the still one was answered %.20q", h)
		}
		return nil
	}
	ways(t, app, func(t *testing.T, f *front, _ *backend) {
		t.Parallel() // it takes its time
		require.NoError(t, judge(t, f))
	})
	t.Run("planted", func(t *testing.T) {
		ways(t, app, func(t *testing.T, f *front, _ *backend) {
			t.Parallel()
			proxy.StillByAge(f.Switcher)
			assert.ErrorContains(t, judge(t, f), "the upload that moved was cut")
		})
	})
}

// TestB8ByClassThroughTheControlPlane: another process drains by class, and is told what became of each. The peer's fault: the drain knows how
// much there is, and not what: it can say nothing.
func TestB8ByClassThroughTheControlPlane(t *testing.T) {
	judge := func(t *testing.T, plant func(*proxy.Switcher), rules classRules) error {
		ws := newWSApp()
		sse := &sseApp{make(chan string, 10), make(chan bool, 10)}
		hold := make(chan bool)
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/ws":
				ws.ServeHTTP(w, r)
			case "/events":
				sse.ServeHTTP(w, r)
			default:
				<-hold
			}
		}, hello)
		plant(f.Switcher)
		c := f.raw(t)
		c.send(wsHead)
		c.head()
		events, slow := f.raw(t), f.raw(t)
		events.send("GET /events HTTP/1.0\r\n\r\n")
		events.head()
		slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		soon(t, "three", func() bool { return f.load(t, "blue").Total() == 3 })
		f.activate(t, plain("green"))

		var ends sync.WaitGroup
		defer ends.Wait()
		read, once := make(chan bool), sync.Once{}
		ends.Go(func() {
			if <-read; rules == nil { // nobody asks it
				c.send(wsFrame(8, true, "\x03\xe8"))
				events.Close()
			}
			wsEnd(c)
			c.Close()
			close(hold)
		})
		client := controlled(t, f.Switcher, proxy.ControlOptions{}).client(t)
		res, err := abswap.Drain(t.Context(), client, plain("blue"), abswap.DrainOptions{Classes: rules, OnLoad: func(abswap.Load) { once.Do(func() { close(read) }) }})
		once.Do(func() { close(read) })
		if err != nil {
			f.Force(t.Context(), plain("blue"), abswap.ForceCut)
			return err
		}
		want := map[abswap.Class]abswap.ClassOutcome{abswap.ClassTunnel: {Closed: 1}, abswap.ClassStream: {Closed: 1}, abswap.ClassRequest: {Finished: 1}}
		if rules == nil {
			want[abswap.ClassTunnel], want[abswap.ClassStream] = abswap.ClassOutcome{Finished: 1}, abswap.ClassOutcome{Finished: 1}
		}
		if !maps.Equal(res.Classes, want) {
			return fmt.Errorf("the result says %+v, not %+v", res.Classes, want)
		}
		if rules != nil {
			assert.Empty(t, events.rest(), "an old client's stream ends with its connection")
		}
		return nil
	}
	rules := classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}, abswap.ClassStream: {Policy: abswap.ClosePolitely, Window: -1}}
	right := func(*proxy.Switcher) {}
	require.NoError(t, judge(t, right, rules))
	require.NoError(t, judge(t, right, nil))
	assert.ErrorIs(t, judge(t, proxy.Nameless, rules), errors.ErrUnsupported)
	assert.ErrorContains(t, judge(t, proxy.Nameless, nil), "the result says map[], not")
}

// TestOtherProtocolsAreHalfClosed: what is no websocket gets the end of what it is sent, and can say its last word.
func TestOtherProtocolsAreHalfClosed(t *testing.T) {
	word := make(chan string, 2)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		b, _ := io.ReadAll(brw)
		word <- string(b)
	})
	ways(t, app, func(t *testing.T, f *front, b *backend) {
		c := f.raw(t)
		c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		c.head()
		f.activate(t, plain("green"))
		drained := make(chan error, 1)
		go func() {
			_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}}})
			drained <- err
		}()
		assert.Empty(t, c.rest())
		c.send("bye")
		c.CloseWrite()
		assert.Equal(t, "bye", within(t, word, "the last word"))
		require.NoError(t, within(t, drained, "drain"))
		soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
	})
}
