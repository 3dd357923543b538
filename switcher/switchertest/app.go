package switchertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// Paths of an App. Those below control are asked past the front door.
const (
	probePath   = "/switchertest/probe"
	workPath    = "/switchertest/work"
	controlPath = "/switchertest/control/"
	slotHeader  = "X-Switchertest-Slot"
)

// App is the application that a Site works with: one runs in each slot. It answers each request with the slot's name, and carries every
// Kind of work. It is made for tests: whoever can reach it can end what is in it.
type App struct {
	Slot string // its slot's name; required

	probes atomic.Int64
	mu     sync.Mutex
	runs   map[string]*run // by ID; made when somebody asks for one or when it begins
}

// run is one piece of long work in an App.
type run struct {
	kind  string
	began chan struct{} // closed when the work has begun here
	steps chan struct{} // one for each part that is to be written
	end   chan struct{} // closed when it is to end
	gone  chan struct{} // closed when it has ended
	endIt func()

	mu   sync.Mutex
	in   int64
	more chan struct{} // closed when in grows
}

// NewApp returns the application of a slot.
func NewApp(slot string) *App { return &App{Slot: slot} }

// ServeHTTP answers probes, work and control. Any other path is answered with the slot's name.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(slotHeader, a.Slot)
	switch {
	case r.URL.Path == workPath:
		a.work(w, r)
	case len(r.URL.Path) > len(controlPath) && r.URL.Path[:len(controlPath)] == controlPath:
		a.control(w, r, r.URL.Path[len(controlPath):])
	default:
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if r.URL.Path == probePath {
			a.probes.Add(1)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %d %x\n", a.Slot, n, sum.Sum(nil))
	}
}

// run returns the work of that ID, or a place for it.
func (a *App) run(id string) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs == nil {
		a.runs = map[string]*run{}
	}
	x := a.runs[id]
	if x == nil {
		end := make(chan struct{})
		x = &run{began: make(chan struct{}), steps: make(chan struct{}, 16), end: end, gone: make(chan struct{}), more: make(chan struct{}),
			endIt: sync.OnceFunc(func() { close(end) })}
		a.runs[id] = x
	}
	return x
}

// drop forgets the work of that ID if it is x.
func (a *App) drop(id string, x *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs[id] == x {
		delete(a.runs, id)
	}
}

// work is long work, or one request of a session.
func (a *App) work(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	id := q.Get("id")
	if q.Get("kind") == KindSession.String() {
		a.session(w, r)
		return
	}
	x := a.run(id)
	x.kind = q.Get("kind")
	defer a.drop(id, x)
	defer close(x.gone)
	switch x.kind {
	case KindUpload.String():
		a.upload(w, r, x)
	case KindDownload.String():
		a.download(w, r, x)
	case KindUpgraded.String():
		a.upgraded(w, r, x)
	default:
		close(x.began)
		select {
		case <-x.end:
			fmt.Fprintln(w, id)
		case <-r.Context().Done():
		}
	}
}

func (a *App) upload(w http.ResponseWriter, r *http.Request, x *run) {
	sum, buf, begun := sha256.New(), make([]byte, 4096), false
	for {
		n, err := r.Body.Read(buf)
		sum.Write(buf[:n])
		x.got(n)
		if n > 0 && !begun {
			begun = true
			close(x.began)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
	}
	fmt.Fprintln(w, hex.EncodeToString(sum.Sum(nil)))
}

func (a *App) download(w http.ResponseWriter, r *http.Request, x *run) {
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "part %d\n", i); err != nil {
			return
		}
		if err := c.Flush(); err != nil {
			return
		}
		if i == 0 {
			close(x.began)
		}
		select {
		case <-x.steps:
		case <-x.end:
			fmt.Fprintln(w, "end")
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (a *App) upgraded(w http.ResponseWriter, r *http.Request, x *run) {
	key := r.Header.Get("Sec-Websocket-Key")
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		slotHeader, a.Slot, acceptKey(key)); err != nil {
		return
	}
	close(x.began)
	for {
		op, payload, err := readFrame(buf)
		if err != nil {
			return
		}
		x.got(len(payload))
		if err := writeFrame(conn, op, payload, false); err != nil || op == opClose {
			return
		}
	}
}

func (a *App) session(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c := &http.Cookie{Name: q.Get("cookie"), Value: q.Get("id"), Path: "/"}
	if q.Get("end") != "" {
		c.Value, c.MaxAge = "", -1
	}
	if _, err := r.Cookie(c.Name); err != nil || c.MaxAge < 0 {
		http.SetCookie(w, c)
	}
	fmt.Fprintln(w, a.Slot)
}

// control is asked by a Site past the front door.
func (a *App) control(w http.ResponseWriter, r *http.Request, what string) {
	if what == "count" {
		fmt.Fprintln(w, a.probes.Load())
		return
	}
	id := r.URL.Query().Get("id")
	x := a.run(id)
	var err error
	switch what {
	case "began":
		err = x.wait(r.Context(), x.began, nil)
		if err != nil {
			select {
			case <-x.began:
			default:
				a.drop(id, x)
			}
		}
	case "step":
		select {
		case x.steps <- struct{}{}:
		case <-r.Context().Done():
		}
	case "end":
		x.endIt()
	case "read":
		n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		for err == nil {
			x.mu.Lock()
			in, more := x.in, x.more
			x.mu.Unlock()
			if in >= n {
				break
			}
			err = x.wait(r.Context(), more, x.gone)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusGone)
	}
}

// wait waits for c; gone may be nil.
func (x *run) wait(ctx context.Context, c, gone <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-gone:
		return fmt.Errorf("the %s has ended", x.kind)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// got counts n bytes more.
func (x *run) got(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.in += int64(n)
	close(x.more)
	x.more = make(chan struct{})
}
