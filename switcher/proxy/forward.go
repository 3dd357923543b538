package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// maxTries bounds the attempts at one request: each may find another reason to go on.
const maxTries = 4

// guest is a request at the front door: an exchange of package h1, by which Serve carries HTTP/1.1, or one of ServeHTTP. What is decided about
// requests is decided here, for both.
type guest interface {
	Work() *entry
	Context() context.Context // ends when the client goes away
	Length() int64            // of the body; 0: none, -1: unknown

	// Attempt carries the request through one generation, in which it has been counted; fresh says that no kept connection will do.
	Attempt(gen *generation, fresh bool) (h1.Ending, error)

	Answered() bool                                          // an answer has begun
	End(how h1.Ending)                                       // there is an answer, or nobody for one
	Fail(status int, text string, retryAfter int, last bool) // answers with an error of our own
	Abort()                                                  // nobody is there to be answered

	Watch()           // the request waits, and must see its client go
	Continue()        // asks a client that waits for it for its body
	PutAhead()        // from here on the body can be read before anybody wants it
	Ahead() *h1.Ahead // what PutAhead made; nil: nothing
	StopAhead(unwanted bool)

	// What follows is asked for only where there is a guide.
	Values(name string) []string // of the request's fields of that canonical name, valid for now
	Host() string                // which the request is meant for, port included
	Visit() *session.Visit       // its part in a session
	SetCookie(value string)      // adds a Set-Cookie field to the answer; "": none
}

// ServeHTTP forwards r to the slot that takes new work and streams the answer back. If no slot does, the answer is 503 with Retry-After; if
// the slot cannot be reached, or ends the connection without an answer, and the request cannot safely be given to it again, 502.
//
// Where an answer breaks off half way the handler panics with http.ErrAbortHandler, as net/http asks for: it is the only way to let the
// client see that it is not complete. Every net/http server catches that. Serve does not come here: it has a data path of its own.
func (s *Switcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.door.newExchange(w, r)
	if x == nil {
		return
	}
	if x.s = s; !s.forward(x) {
		x.Fail(http.StatusMisdirectedRequest, noSite, 0, false)
	}
}

// newExchange begins the exchange that ServeHTTP is to carry; nil: it has been answered.
func (d *door) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	extended := r.ProtoMajor == 2 && len(r.Header[protocolField]) > 0
	if r.ProtoMajor == 2 && (r.Method != http.MethodConnect || extended) {
		if status, text := judgeH2(r); status != 0 {
			http.Error(w, strconv.Itoa(status)+" "+http.StatusText(status)+": "+text, status)
			return nil
		}
	}
	if r.Method == http.MethodConnect && !extended {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		http.Error(w, "CONNECT is not for this server", http.StatusMethodNotAllowed)
		return nil
	}
	if d.tooManyFields(r.Header) {
		w.Header().Set("Connection", "close")
		http.Error(w, "the head has too many fields", http.StatusRequestHeaderFieldsTooLarge)
		return nil
	}
	if r.Body == nil {
		c := *r
		c.Body = http.NoBody
		r = &c
	}
	x := &exchange{w: w, r: r, rc: http.NewResponseController(w), upgrade: upgradeOf(r), expect: expectsContinue(r)}
	if extended {
		x.ws, x.r = newH2Websocket(w, r)
		x.upgrade, x.expect = websocketName, false
	}
	x.entry.Method, x.entry.Path, x.entry.Peer, x.entry.Started, x.entry.Cut = r.Method, r.URL.Path, r.RemoteAddr, time.Now(), x.cutNow
	x.entry.Ask = x.askNow
	if x.r.ContentLength != 0 {
		x.rc.EnableFullDuplex() // an answer may come before the body has ended, and must get through; HTTP/2 needs no asking
	}
	return x
}

// forward carries a request to its end. An upload or a tunnel may wait below it for hours: what takes room on the stack is done in functions
// of their own. It is false if nothing has happened since the Switcher is no longer the one for that: see Sites.
func (s *Switcher) forward(g guest) bool {
	var unreachable *generation
	var last error // why the previous attempt came to nothing
	work := g.Work()
	work.Wish = route.Wish{}
	d := s.guide.Load()
	if d != nil {
		d.aim(g)
	}
	fresh, asked := false, false
	for try := 1; ; try++ {
		gen := s.table.Enter(work, unreachable)
		for gen == nil && (work.Held || work.Full != nil) {
			var ok bool
			if gen, ok = s.waitIn(g, unreachable); !ok {
				return true
			}
		}
		if gen == nil && work.Away {
			if d != nil && d.sessions != nil {
				g.Visit().Close() // it is nothing to whoever carries the request now
			}
			return false
		}
		if gen == nil {
			s.refuse(g)
			return true
		}
		if gen == unreachable {
			work.Leave() // no other slot takes work
			s.conclude(g, gen, h1.Redial, last)
			return true
		}
		how, err := h1.Done, error(nil)
		if d == nil {
			how, err = counted(g, work, gen, fresh)
		} else {
			how, err = d.counted(g, work, gen, fresh)
		}
		if try < maxTries && (how == h1.Redial || how == h1.Repeat) {
			s.retrying(g, gen, err)
			switch {
			case how != h1.Redial:
				fresh = true
			case work.Wish.Kind == route.Session && !asked:
				asked = true // its session would end: once more
			default:
				unreachable = gen
			}
			last = err
			continue
		}
		s.conclude(g, gen, how, err)
		return true
	}
}

// counted runs Attempt and takes work out of the count, whatever happens.
func counted(g guest, work *entry, gen *generation, fresh bool) (h1.Ending, error) {
	defer work.Leave()
	return g.Attempt(gen, fresh)
}

// refuse answers a request for which there is no slot.
func (s *Switcher) refuse(g guest) {
	s.stats.refused.Add(1)
	g.StopAhead(true)
	g.Fail(http.StatusServiceUnavailable, "no slot takes requests at the moment", 1, false)
}

// retrying says that there will be another attempt, since err ended the last one.
func (s *Switcher) retrying(g guest, gen *generation, err error) {
	s.stats.retried.Add(1)
	s.log(slog.LevelDebug, "request goes to another connection", g, gen, err)
}

// conclude does what is left when the slot has nothing to do with the request any more.
func (s *Switcher) conclude(g guest, gen *generation, how h1.Ending, err error) {
	g.StopAhead(true)
	switch how {
	case h1.Done, h1.Early:
		g.End(how)
	case h1.Finished:
		if g.Work().Order() == route.Cut {
			s.stats.cut.Add(1)
			s.log(slog.LevelWarn, "upgraded connection cut by order", g, gen, err)
		} else {
			s.log(slog.LevelDebug, "upgraded connection ended", g, gen, err)
		}
		g.End(how)
	case h1.Redial:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "request failed: slot cannot be reached", g, gen, err)
		g.Fail(http.StatusBadGateway, "the application cannot be reached", 0, false)
	case h1.Repeat, h1.Failed:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "request failed: no answer from the slot", g, gen, err)
		g.Fail(http.StatusBadGateway, "the application did not answer", 0, false)
	case h1.BadBody:
		s.log(slog.LevelDebug, "request's body cannot be read", g, gen, err)
		g.Fail(http.StatusBadRequest, "the request's body cannot be read", 0, true)
	case h1.Cut:
		s.stats.cut.Add(1)
		s.log(slog.LevelWarn, "request cut by order", g, gen, err)
		if g.Answered() {
			g.End(how)
			return
		}
		g.Fail(http.StatusServiceUnavailable, "the request was ended", 1, true)
	case h1.Broken:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "answer of the slot broke off", g, gen, err)
		g.End(how)
	case h1.Gone:
		s.log(slog.LevelDebug, "client went away", g, gen, err)
		g.End(how)
	}
}

func (s *Switcher) log(level slog.Level, text string, g guest, gen *generation, err error) {
	ctx := g.Context()
	if !s.cfg.Logger.Enabled(ctx, level) {
		return
	}
	w := g.Work()
	attrs := []slog.Attr{slog.String("slot", gen.Key.Slot), slog.String("release", gen.Key.Release), slog.String("address", gen.Key.Address),
		slog.String("method", w.Method), slog.String("path", clip(strings.Clone(w.Path))), slog.Duration("elapsed", time.Since(w.Started))}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	s.cfg.Logger.LogAttrs(ctx, level, text, attrs...)
}
