package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// maxTries bounds the attempts at one request: each may find another reason to go on.
const maxTries = 4

// ServeHTTP forwards r to the slot that takes new work and streams the answer back. If no slot does, the answer is 503 with Retry-After; if
// the slot cannot be reached, or ends the connection without an answer, and the request cannot safely be given to it again, 502.
//
// Where an answer breaks off half way the handler panics with http.ErrAbortHandler, as net/http asks for: it is the only way to let the
// client see that it is not complete. Serve, and every other net/http server, catches that.
func (s *Switcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		w.Header().Set("Connection", "close")
		http.Error(w, "CONNECT is not for this server", http.StatusMethodNotAllowed)
		return
	}
	if r.Body == nil {
		c := *r
		c.Body = http.NoBody
		r = &c
	}
	x := &exchange{s: s, w: w, r: r, rc: http.NewResponseController(w), upgrade: upgradeOf(r), expect: expectsContinue(r)}
	x.entry.Method, x.entry.Path, x.entry.Peer, x.entry.Started, x.entry.Cut = r.Method, r.URL.Path, r.RemoteAddr, time.Now(), x.cutNow
	if r.ContentLength != 0 {
		x.rc.EnableFullDuplex() // an answer may come before the body has ended, and must get through; HTTP/2 needs no asking
	}

	var unreachable *generation
	var last error // why the previous attempt came to nothing
	fresh := false
	for try := 1; ; try++ {
		gen := s.table.Enter(&x.entry, unreachable)
		if gen == nil && x.Held {
			var ok bool
			if gen, ok = s.wait(x, unreachable); !ok {
				return
			}
		}
		if gen == nil {
			s.stats.refused.Add(1)
			x.stopAhead(true)
			w.Header().Set("Retry-After", "1")
			x.fail(http.StatusServiceUnavailable, "no slot takes requests at the moment")
			return
		}
		if gen == unreachable {
			x.Leave() // no other slot takes work
			x.conclude(redial, last)
			return
		}
		how, err := x.counted(gen, fresh)
		if try < maxTries && (how == redial || how == repeat) {
			s.stats.retried.Add(1)
			s.log(slog.LevelDebug, "request goes to another connection", x, err)
			if how == redial {
				unreachable = gen
			} else {
				fresh = true
			}
			last = err
			continue
		}
		x.conclude(how, err)
		return
	}
}

// counted runs attempt and takes x out of the count, whatever happens.
func (x *exchange) counted(gen *generation, fresh bool) (ending, error) {
	defer x.Leave()
	return x.attempt(gen, fresh)
}

// conclude does what is left when the slot has nothing to do with the request any more.
func (x *exchange) conclude(how ending, err error) {
	s := x.s
	x.stopAhead(true)
	switch how {
	case done:
	case early:
		s.endGently(x.w, x.r, x.status, true)
	case finished:
		s.log(slog.LevelDebug, "upgraded connection ended", x, err)
		if x.linger {
			s.loose.linger(x.client)
		} else {
			x.client.Close()
		}
	case redial:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "request failed: slot cannot be reached", x, err)
		x.fail(http.StatusBadGateway, "the application cannot be reached")
	case repeat, failed:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "request failed: no answer from the slot", x, err)
		x.fail(http.StatusBadGateway, "the application did not answer")
	case badBody:
		s.log(slog.LevelDebug, "request's body cannot be read", x, err)
		x.fail(http.StatusBadRequest, "the request's body cannot be read")
	case cut:
		s.stats.cut.Add(1)
		s.log(slog.LevelWarn, "request cut by order", x, err)
		if x.answered {
			panic(http.ErrAbortHandler)
		}
		w := x.w.Header()
		w.Set("Retry-After", "1")
		w.Set("Connection", "close")
		x.fail(http.StatusServiceUnavailable, "the request was ended")
	case broken:
		s.stats.failed.Add(1)
		s.log(slog.LevelWarn, "answer of the slot broke off", x, err)
		// The client sees that by the end that is missing; where there is none to miss (HTTP/1.0), only by a reset.
		if !x.bodyWhole() && x.r.ProtoAtLeast(1, 1) && s.endGently(x.w, x.r, x.status, false) {
			return
		}
		panic(http.ErrAbortHandler)
	case gone:
		s.log(slog.LevelDebug, "client went away", x, err)
		panic(http.ErrAbortHandler)
	}
}

// fail answers with an error of our own.
func (x *exchange) fail(status int, text string) {
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + text + "\n"
	h := x.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	whole := x.bodyWhole() && !x.brokeOff
	if !whole || x.s.leaving.Load() {
		h.Set("Connection", "close")
	}
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		io.WriteString(x.w, body)
	}
	if !whole {
		x.s.endGently(x.w, x.r, status, true)
	}
}

func (s *Switcher) log(level slog.Level, text string, x *exchange, err error) {
	ctx := x.r.Context()
	if !s.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("slot", x.gen.Key.Slot), slog.String("release", x.gen.Key.Release), slog.String("address", x.gen.Key.Address),
		slog.String("method", x.r.Method), slog.String("path", clip(x.r.URL.Path)), slog.Duration("elapsed", time.Since(x.Started))}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	s.cfg.Logger.LogAttrs(ctx, level, text, attrs...)
}
