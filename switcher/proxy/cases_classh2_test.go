package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// Drains by class whose clients speak HTTP/2, to slots that speak HTTP/1.1 and HTTP/2. What is asked to end is one stream: the others of its
// connection, and of the connection to the slot, are not to notice.

const status200 = 0x88 // as net/http writes it: an entry of HPACK's static table

// classApp is an application that does one thing for each class.
type classApp struct {
	sse  *sseApp
	gate chan bool     // lets one request to /slow go on
	gone chan string   // paths whose clients went away
	open atomic.Int64  // requests that it has
	tick time.Duration // between two bytes of /down
}

func newClassApp() *classApp {
	return &classApp{sse: &sseApp{make(chan string, 10), make(chan bool, 10)}, gate: make(chan bool, 10), gone: make(chan string, 100), tick: 100 * time.Millisecond}
}

func (a *classApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.open.Add(1)
	defer a.open.Add(-1)
	rc := http.NewResponseController(w)
	switch r.URL.Path {
	case "/events":
		a.sse.ServeHTTP(w, r)
	case "/up":
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			a.gone <- r.URL.Path
		}
		fmt.Fprint(w, n)
	case "/down", "/still":
		n := 1
		if r.URL.Path == "/down" {
			n = 50
		}
		for range n {
			io.WriteString(w, "x")
			rc.Flush()
			select {
			case <-r.Context().Done():
				a.gone <- r.URL.Path
				return
			case <-time.After(a.tick):
			}
		}
		if n == 1 {
			<-r.Context().Done()
			a.gone <- r.URL.Path
		}
	case "/flood":
		for r.Context().Err() == nil {
			w.Write(make([]byte, 64<<10))
		}
		a.gone <- r.URL.Path
	case "/grpc": // calls in both directions, each message answered
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		rc.EnableFullDuplex()
		rc.Flush()
		p := make([]byte, 100)
		for {
			n, err := r.Body.Read(p)
			w.Write(p[:n])
			rc.Flush()
			if err == io.EOF {
				w.Header().Set("Grpc-Status", "0")
				return
			}
			if err != nil {
				a.gone <- r.URL.Path
				return
			}
		}
	case "/slow":
		select {
		case <-a.gate:
			hello(w, r)
		case <-r.Context().Done():
			a.gone <- r.URL.Path
		}
	default:
		hello(w, r)
	}
}

// h2Ways runs f with a client in HTTP/2 and slots of both protocols. green is like blue.
func h2Ways(t *testing.T, f func(t *testing.T, f *front, app *classApp, b *backend)) {
	for name, start := range map[string]func(testing.TB, string, http.HandlerFunc) *backend{"slot in HTTP/1.1": newBackend, "slot in HTTP/2": newH2Backend} {
		t.Run(name, func(t *testing.T) {
			app := newClassApp()
			b, g := start(t, "blue", app.ServeHTTP), start(t, "green", hello)
			cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue"}
			if name == "slot in HTTP/2" {
				cfg.Protocols = map[string]proxy.Protocol{"blue": proxy.H2C, "green": proxy.H2C}
			}
			f(t, serve(t, cfg), app, b)
		})
	}
}

type drained struct {
	res abswap.DrainResult
	err error
}

// drain drains blue in the background; asked waits until n pieces of that class have been asked to end.
func (f *front) drain(t *testing.T, o abswap.DrainOptions) (end chan drained, asked func(c abswap.Class, n int)) {
	var mu sync.Mutex
	most := map[abswap.Class]int{}
	o.OnClasses = func(m map[abswap.Class]abswap.ClassOutcome) {
		mu.Lock()
		defer mu.Unlock()
		for c, x := range m {
			most[c] = max(most[c], x.Asked)
		}
	}
	if o.Poll == 0 {
		o.Poll = 20 * time.Millisecond
	}
	end = make(chan drained, 1)
	go func() {
		res, err := abswap.Drain(t.Context(), f, plain("blue"), o)
		end <- drained{res, err}
	}()
	return end, func(c abswap.Class, n int) {
		t.Helper()
		soon(t, fmt.Sprintf("%d of class %s are asked", n, c), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return most[c] >= n
		})
	}
}

// empty waits until nothing is left of blue's work: no request, no socket.
func empty(t *testing.T, f *front, app *classApp, b *backend) {
	t.Helper()
	assert.Zero(t, f.load(t, "blue").Total())
	assert.Zero(t, f.IdleConns("blue"))
	soon(t, "the slot has no request", func() bool { return app.open.Load() == 0 })
	soon(t, "no socket is left to the slot", func() bool { return b.conns.Load() == 0 })
}

// TestC3EventStreamsEndBetweenEventsH2: END_STREAM behind a whole event, and nothing else: no reset, no GOAWAY, and what else its connections
// carry goes on.
func TestC3EventStreamsEndBetweenEventsH2(t *testing.T) {
	judge := func(t *testing.T, f *front, app *classApp, half bool, wait time.Duration) error {
		w := f.h2watch(t)
		events, beside := w.begin("/events", true), w.begin("/grpc", false, [2]string{"content-type", "application/grpc"})
		first := "data: 1\n\n"
		if half {
			first += "data:"
		}
		app.sse.say <- first
		w.got(events, first)
		w.send(beside, "one", false)
		w.got(beside, "one")
		f.activate(t, plain("green"))
		end, asked := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassStream: {Policy: abswap.ClosePolitely, Window: -1}}})
		asked(abswap.ClassStream, 1)
		want := first
		if half {
			w.endsWithin(events, wait)
			app.sse.say <- " 2\n\ndata: 3\n"
			want += " 2\n\n"
		}
		got := w.end(events)
		w.send(beside, "two", false) // on the same two connections
		w.got(beside, "onetwo")
		w.send(beside, "", true)
		rest := w.end(beside)
		within(t, app.sse.gone, "the slot sees it")
		e := within(t, end, "drain")
		next := w.begin("/", true)
		after := w.end(next)
		for len(app.sse.say) > 0 {
			<-app.sse.say
		}
		var errs []error
		fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
		if got.reset >= 0 || !got.ended {
			fail("the stream was reset, code %d", got.reset)
		}
		if got.data != want {
			fail("client got %q, not %q", got.data, want)
		}
		if told := w.told(); len(told) > 0 {
			fail("client was told to go: %d", told)
		}
		if !rest.ended || rest.heads != 2 {
			fail("the stream beside it: %+v", rest)
		}
		if after.first != status200 || after.data != "hello\n" {
			fail("the next one on its connection: %+v", after)
		}
		if o := e.res.Classes[abswap.ClassStream]; o != (abswap.ClassOutcome{Closed: 1}) || e.res.Finished != 2 || e.res.Cut != 0 {
			fail("result %+v", e.res)
		}
		return errors.Join(append(errs, e.err)...)
	}
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		for _, half := range []bool{false, true} {
			require.NoError(t, judge(t, f, app, half, moment))
			empty(t, f, app, b)
			f.activate(t, plain("blue"))
		}
	})
	t.Run("planted", func(t *testing.T) {
		for what, plant := range map[string]func(*proxy.Switcher) time.Duration{"the stream was reset": endBare, `client got "data: 1\n\ndata:", not`: endAnywhere} {
			h2Ways(t, func(t *testing.T, f *front, app *classApp, _ *backend) {
				assert.ErrorContains(t, judge(t, f, app, true, plant(f.Switcher)), what)
			})
		}
	})
}

// TestC1MovingWorkOutlivesTheDeadlineH2: of two uploads and two downloads on one connection those that move come to their end, those that are
// still do not, and the result says so of each class.
func TestC1MovingWorkOutlivesTheDeadlineH2(t *testing.T) {
	t.Parallel()
	judge := func(t *testing.T, f *front, app *classApp) error {
		w := f.h2watch(t)
		up, stillUp := w.begin("/up", false), w.begin("/up", false)
		w.send(up, "x", false)
		w.send(stillUp, "x", false)
		down, stillDown := w.begin("/down", true), w.begin("/still", true)
		soon(t, "two uploads, two downloads", func() bool {
			all, err := f.List(t.Context(), plain("blue"), 10)
			n := map[abswap.Class]int{}
			for _, x := range all {
				n[x.Class]++
			}
			return err == nil && n[abswap.ClassUpload] == 2 && n[abswap.ClassDownload] == 2
		})
		f.activate(t, plain("green"))
		moving := abswap.ClassRule{Policy: abswap.FinishMoving, Still: 3 * time.Second, Grace: 10 * time.Millisecond}
		end, _ := f.drain(t, abswap.DrainOptions{Timeout: 500 * time.Millisecond, AtDeadline: abswap.CutOff, Grace: -1,
			Classes: classRules{abswap.ClassUpload: moving, abswap.ClassDownload: moving}})
		for range 45 {
			time.Sleep(100 * time.Millisecond)
			w.send(up, "x", false)
		}
		w.send(up, "x", true)
		e := within(t, end, "drain")
		var errs []error
		fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
		if s := w.end(up); s.first != status200 || s.data != "47" || !s.ended {
			fail("the upload that moved was cut: %+v", s)
		}
		if s := w.end(down); s.first != status200 || len(s.data) != 50 || !s.ended {
			fail("the download that moved was cut: %+v", s)
		}
		if s := w.end(stillUp); s.first == status200 || s.heads == 0 {
			fail("the still upload got no 503: %+v", s)
		}
		if s := w.end(stillDown); s.reset < 0 || s.ended {
			fail("the still download ended well: %+v", s)
		}
		if told := w.told(); len(told) > 0 {
			fail("client was told to go: %d", told)
		}
		if c := e.res.Classes; e.res.Finished != 2 || e.res.Cut != 2 || c[abswap.ClassUpload].Cut != 1 || c[abswap.ClassDownload] != (abswap.ClassOutcome{Finished: 1, Cut: 1}) {
			fail("result %+v", e.res)
		}
		return errors.Join(append(errs, e.err)...)
	}
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		t.Parallel() // it takes its time
		require.NoError(t, judge(t, f, app))
		empty(t, f, app, b)
	})
	t.Run("planted", func(t *testing.T) {
		h2Ways(t, func(t *testing.T, f *front, app *classApp, _ *backend) {
			t.Parallel()
			proxy.StillByAge(f.Switcher)
			err := judge(t, f, app)
			assert.ErrorContains(t, err, "the upload that moved was cut")
			assert.ErrorContains(t, err, "the download that moved was cut")
		})
	})
}

// TestClosePolitelyH2: a request whose answer has not begun brings a GOAWAY that names no last stream, one for its connection; what is open there,
// and what is opened before the client hears it, is served.
func TestClosePolitelyH2(t *testing.T) {
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		w := f.h2watch(t)
		slow := []uint32{w.begin("/slow", true), w.begin("/slow", true)}
		waitLoads(t, f, 2)
		f.activate(t, plain("green"))
		end, asked := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassRequest: {Policy: abswap.ClosePolitely, Window: -1, Grace: -1}}})
		asked(abswap.ClassRequest, 2)
		late := w.begin("/", true)
		assert.Equal(t, "hello\n", w.end(late).data, "green's")
		assert.Empty(t, w.told(), "nothing is said before an answer is")
		app.gate <- true
		app.gate <- true
		for _, id := range slow {
			s := w.end(id)
			assert.True(t, s.ended)
			assert.Equal(t, "hello\n", s.data)
		}
		e := within(t, end, "drain")
		require.NoError(t, e.err)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassRequest: {Closed: 2}}, e.res.Classes)
		soon(t, "client is told to go", func() bool { return len(w.told()) == 1 })
		assert.EqualValues(t, 0x7fffffff, w.told()[0])
		late = w.begin("/", true)
		assert.Equal(t, "hello\n", w.end(late).data, "it crossed the GOAWAY")
		assert.Len(t, w.told(), 1)
		empty(t, f, app, b)
	})
}

// waitLoads waits until blue has n requests.
func waitLoads(t *testing.T, f *front, n int) {
	t.Helper()
	soon(t, fmt.Sprintf("%d requests in blue", n), func() bool { return f.load(t, "blue").Requests == n })
}

// TestA6SwapBackCancelsClosesH2: an event stream that was asked within an event, a request that was asked, and an upload: where the slot goes live
// again they go on as if they had not been asked.
func TestA6SwapBackCancelsClosesH2(t *testing.T) {
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		w := f.h2watch(t)
		events, slow, up := w.begin("/events", true), w.begin("/slow", true), w.begin("/up", false)
		w.send(up, "x", false)
		app.sse.say <- "data: 1\n\nda"
		w.got(events, "data: 1\n\nda")
		waitLoads(t, f, 3)
		f.activate(t, plain("green"))
		polite := abswap.ClassRule{Policy: abswap.ClosePolitely, Window: -1, Grace: -1}
		end, asked := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassRequest: polite, abswap.ClassStream: polite, abswap.ClassUpload: polite}})
		asked(abswap.ClassStream, 1)
		asked(abswap.ClassRequest, 1)
		asked(abswap.ClassUpload, 1)
		f.activate(t, plain("blue"))
		all, err := f.List(t.Context(), plain("blue"), 10)
		require.NoError(t, err)
		require.Len(t, all, 3)
		assert.ErrorIs(t, f.End(t.Context(), plain("blue"), abswap.ForceHandOver, all[0].ID, all[1].ID, all[2].ID), abswap.ErrSlotLive)
		app.sse.say <- "ta: 2\n\n"
		w.got(events, "data: 1\n\ndata: 2\n\n")
		app.sse.say <- "data: 3\n\n"
		w.got(events, "data: 1\n\ndata: 2\n\ndata: 3\n\n")
		app.gate <- true
		w.send(up, "x", true)
		assert.Equal(t, "hello\n", w.end(slow).data)
		assert.Equal(t, "2", w.end(up).data)
		assert.Empty(t, w.told())
		assert.False(t, w.at(events).ended)

		f.activate(t, plain("green")) // and the drain that still runs, or another one, asks anew
		select {
		case e := <-end:
			require.ErrorIs(t, e.err, abswap.ErrSlotLive)
		default:
		}
		again, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassStream: polite}})
		s := w.end(events)
		assert.True(t, s.ended)
		assert.Equal(t, "data: 1\n\ndata: 2\n\ndata: 3\n\n", s.data)
		require.NoError(t, within(t, again, "drain").err)
		empty(t, f, app, b)
	})
}

// TestCallsInBothDirectionsH2: what gRPC does with a stream, by policy. It ends by itself, with its trailer, as long as it may; at its cap, or at
// the end of its grace, it alone is cut, and the slot sees that.
func TestCallsInBothDirectionsH2(t *testing.T) {
	t.Parallel()
	call := func(t *testing.T, f *front) (*h2watch, uint32) {
		w := f.h2watch(t)
		id := w.begin("/grpc", false, [2]string{"content-type", "application/grpc"}, [2]string{"te", "trailers"})
		w.send(id, "one", false)
		w.got(id, "one")
		f.activate(t, plain("green"))
		return w, id
	}
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		for name, rules := range map[string]classRules{
			"finish":  {abswap.ClassUpload: {}},
			"moving":  {abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: patience}},
			"no rule": {abswap.ClassStream: {}},
		} {
			t.Run(name, func(t *testing.T) {
				w, id := call(t, f)
				end, _ := f.drain(t, abswap.DrainOptions{Classes: rules})
				for _, text := range []string{"onetwo", "onetwothree"} {
					w.send(id, text[len(w.at(id).data):], false)
					w.got(id, text)
				}
				notYet(t, end, "it goes on", 100*time.Millisecond)
				w.send(id, "", true)
				s := w.end(id)
				assert.True(t, s.ended)
				assert.Equal(t, 2, s.heads, "its trailer")
				e := within(t, end, "drain")
				require.NoError(t, e.err)
				assert.Equal(t, 1, e.res.Finished)
				assert.Zero(t, e.res.Cut)
				empty(t, f, app, b)
				f.activate(t, plain("blue"))
			})
		}
		for name, rule := range map[string]abswap.ClassRule{
			"close":           {Policy: abswap.ClosePolitely, Window: -1, Grace: 200 * time.Millisecond},
			"cap":             {Cap: 100 * time.Millisecond, Grace: 100 * time.Millisecond},
			"moves no more":   {Policy: abswap.FinishMoving, Still: 100 * time.Millisecond, Grace: 100 * time.Millisecond},
			"close, no grace": {Policy: abswap.ClosePolitely, Window: -1, Grace: time.Millisecond},
		} {
			t.Run(name, func(t *testing.T) {
				w, id := call(t, f)
				beside := w.begin("/", true) // green's, on the same connection
				end, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassUpload: rule}})
				s := w.end(id)
				assert.False(t, s.ended)
				assert.GreaterOrEqual(t, s.reset, int64(0), "reset")
				assert.Equal(t, "hello\n", w.end(beside).data)
				assert.Equal(t, "/grpc", within(t, app.gone, "the slot sees it"))
				e := within(t, end, "drain")
				require.NoError(t, e.err)
				assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassUpload: {Cut: 1}}, e.res.Classes)
				empty(t, f, app, b)
				f.activate(t, plain("blue"))
			})
		}
	})
}

// TestCutReachesAClientThatDoesNotReadH2: a download whose client takes no more is cut at its cap.
func TestCutReachesAClientThatDoesNotReadH2(t *testing.T) {
	h2Ways(t, func(t *testing.T, f *front, app *classApp, b *backend) {
		w := f.h2watch(t) // it gives no window
		id := w.begin("/flood", true)
		soon(t, "its window is full", func() bool { return len(w.at(id).data) == 65535 })
		f.activate(t, plain("green"))
		end, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassDownload: {Cap: 50 * time.Millisecond, Grace: 50 * time.Millisecond}}})
		assert.GreaterOrEqual(t, w.end(id).reset, int64(0))
		assert.Equal(t, "/flood", within(t, app.gone, "the slot sees it"))
		e := within(t, end, "drain")
		require.NoError(t, e.err)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassDownload: {Cut: 1}}, e.res.Classes)
		empty(t, f, app, b)
	})
}

// TestC3OneStreamOfTheSlotsConnection: clients of each kind have event streams and calls at a slot that speaks HTTP/2; the streams end between two
// events, and the calls beside them, on the one connection to the slot, go on.
func TestC3OneStreamOfTheSlotsConnection(t *testing.T) {
	app := newClassApp()
	b, g := newH2Backend(t, "blue", app.ServeHTTP), newH2Backend(t, "green", hello)
	cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue",
		Protocols: map[string]proxy.Protocol{"blue": proxy.H2C, "green": proxy.H2C}}
	judge := func(t *testing.T, f *front, c *http.Client) {
		pr, pw := io.Pipe()
		defer pw.Close()
		req, err := http.NewRequestWithContext(t.Context(), "POST", f.url+"/grpc", pr)
		require.NoError(t, err)
		call, err := c.Do(req)
		require.NoError(t, err)
		talk := func(text string) {
			io.WriteString(pw, text)
			got := make([]byte, len(text))
			_, err := io.ReadFull(call.Body, got)
			require.NoError(t, err)
			assert.Equal(t, text, string(got))
		}
		talk("one")
		events, err := c.Get(f.url + "/events")
		require.NoError(t, err)
		app.sse.say <- "data: 1\n\n"
		got := make([]byte, 9)
		_, err = io.ReadFull(events.Body, got)
		require.NoError(t, err)
		assert.EqualValues(t, 1, b.conns.Load())
		f.activate(t, plain("green"))
		end, _ := f.drain(t, abswap.DrainOptions{Classes: classRules{abswap.ClassStream: {Policy: abswap.ClosePolitely, Window: -1}}})
		rest, err := io.ReadAll(events.Body)
		require.NoError(t, err)
		assert.Empty(t, rest)
		within(t, app.sse.gone, "the slot sees it")
		talk("two")
		assert.EqualValues(t, 1, b.conns.Load())
		pw.Close()
		rest, err = io.ReadAll(call.Body)
		require.NoError(t, err)
		assert.Empty(t, rest)
		assert.Equal(t, "0", call.Trailer.Get("Grpc-Status"))
		e := within(t, end, "drain")
		require.NoError(t, e.err)
		assert.Equal(t, abswap.ClassOutcome{Closed: 1}, e.res.Classes[abswap.ClassStream])
		assert.Zero(t, e.res.Cut)
		empty(t, f, app, b)
	}
	t.Run("HTTP/1.1", func(t *testing.T) { judge(t, serve(t, cfg), newClient(t)) })
	t.Run("HTTP/2", func(t *testing.T) { judge(t, serve(t, cfg), h2Client(t, nil)) })
	t.Run("HTTP/2 over TLS", func(t *testing.T) {
		f, tlsCfg := serveH2(t, cfg)
		judge(t, f, h2Client(t, tlsCfg))
	})
	t.Run("HTTP/2 by ServeHTTP", func(t *testing.T) {
		p, err := proxy.New(cfg)
		require.NoError(t, err)
		srv := httptest.NewUnstartedServer(p)
		srv.Config.Protocols = h2Protocols()
		srv.Start()
		t.Cleanup(func() {
			p.Close()
			srv.Close()
		})
		judge(t, &front{p, address(srv), srv.URL}, h2Client(t, nil))
	})
}
