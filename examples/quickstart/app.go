package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// This file is the web application that is deployed. It knows nothing of abswap: it listens where PORT says, tells at /healthz whether
// it is fit, and on SIGTERM (on Windows: CTRL_BREAK) it finishes what it has and ends.

// appArg as the first argument makes this program the application. The second one is the name of the slot, which it puts into its
// answers so that the clients can tell who answered.
const appArg = "serve-the-application"

const (
	slotHeader    = "X-Slot"
	releaseHeader = "X-Release"
	sumHeader     = "X-Sha256"
)

// abandoned is how long an application process lives without any request: long enough for every run, and none is left behind for ever
// where the quickstart was killed.
const abandoned = 3 * time.Minute

// appMain runs the application from the release in the working directory.
func appMain(args []string) int {
	if err := serveApp(args); err != nil {
		fmt.Fprintln(os.Stderr, "application:", err)
		return 1
	}
	return 0
}

func serveApp(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the name of the slot as the only argument, got %q", args)
	}
	rel, err := readRelease(".")
	if err != nil {
		return err
	}
	book, err := openLedger(rel.Ledger, rel.Version, args[0])
	if err != nil {
		return err
	}
	defer book.file.Close()
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	a := &app{slot: args[0], release: rel, ledger: book, idle: time.AfterFunc(abandoned, stop)}
	srv := &http.Server{Handler: a.handler()}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	fmt.Printf("version %s in slot %s listens at %s\n", rel.Version, a.slot, ln.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = srv.Shutdown(end)
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// app is one version of the application in one slot.
type app struct {
	slot    string
	release release
	ledger  *ledger
	idle    *time.Timer // ends the process; nil: none

	once  sync.Once
	mu    sync.Mutex
	first time.Time // of the requests that are not probes
}

func (a *app) handler() http.Handler {
	site := http.NewServeMux()
	site.HandleFunc("GET /{$}", a.home)
	site.HandleFunc("GET /items/{n}", a.item)
	site.HandleFunc("GET /think", a.think)
	site.HandleFunc("POST /orders/{id}", a.receive)
	site.HandleFunc("PUT /files/{id}", a.receive)
	site.HandleFunc("GET /files/{id}", a.send)
	site.HandleFunc("GET /events", a.events)
	site.HandleFunc("GET /echo", a.echo)

	all := http.NewServeMux()
	all.HandleFunc("GET /healthz", a.health)
	all.Handle("/", a.traffic(site))
	return a.marked(all)
}

// marked puts into every answer who gives it.
func (a *app) marked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.idle != nil {
			a.idle.Reset(abandoned)
		}
		w.Header().Set(slotHeader, a.slot)
		w.Header().Set(releaseHeader, a.release.Version)
		next.ServeHTTP(w, r)
	})
}

// traffic notes the first request that is not a probe.
func (a *app) traffic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.once.Do(func() {
			a.mu.Lock()
			a.first = time.Now()
			a.mu.Unlock()
			if err := a.ledger.write(firstTraffic); err != nil {
				fmt.Fprintln(os.Stderr, "application:", err)
			}
		})
		next.ServeHTTP(w, r)
	})
}

func (a *app) health(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	first := a.first
	a.mu.Unlock()
	switch {
	case a.release.Behaviour == neverHealthy:
		http.Error(w, "this release never gets fit", http.StatusServiceUnavailable)
	case a.release.Behaviour == getsSick && !first.IsZero() && time.Since(first) > a.release.SickAfter:
		http.Error(w, "this release got sick", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "fit")
	}
}

func (a *app) home(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html><title>quickstart</title><h1>%s</h1><p>You are served from slot %s.</p>\n", a.release.Version, a.slot)
}

func (a *app) item(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, itemText(n))
}

// think answers after some milliseconds, as a page with a slow query does.
func (a *app) think(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil {
		http.Error(w, "ms is not a number", http.StatusBadRequest)
		return
	}
	if pause(r.Context(), time.Duration(ms)*time.Millisecond) == nil {
		fmt.Fprintln(w, "thought")
	}
}

// receive takes an order or an upload: it writes the delivery into the ledger and answers with what it got.
func (a *app) receive(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, fmt.Sprintf("body broken after %d bytes: %v", n, err), http.StatusBadRequest)
		return
	}
	if err := a.ledger.write(r.PathValue("id")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	io.WriteString(w, receipt(r.PathValue("id"), n, hash.Sum(nil)))
}

// receipt is the answer to an order or an upload.
func receipt(id string, size int64, sum []byte) string {
	return fmt.Sprintf("%s %d %x\n", id, size, sum)
}

// send is a download on a thin line; its checksum follows as a trailer.
func (a *app) send(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size, err1 := strconv.ParseInt(q.Get("bytes"), 10, 64)
	seed, err2 := strconv.ParseUint(q.Get("seed"), 10, 64)
	over, err3 := time.ParseDuration(q.Get("over"))
	if err := errors.Join(err1, err2, err3); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", sumHeader)
	hash := sha256.New()
	body := &slowly{ctx: r.Context(), src: content(seed), size: size, over: over}
	// The reader is wrapped so that Copy cannot take a short cut past the flushing.
	if _, err := io.CopyBuffer(flushing{w}, io.TeeReader(body, hash), make([]byte, slowChunk)); err != nil {
		panic(http.ErrAbortHandler) // the client shall see that it is not whole
	}
	w.Header().Set(sumHeader, fmt.Sprintf("%x", hash.Sum(nil)))
}

// flushing sends every Write on its way at once.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, http.NewResponseController(f.w).Flush()
}

// events is a stream of numbered server-sent events with an end.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	count, err1 := strconv.Atoi(q.Get("count"))
	every, err2 := time.ParseDuration(q.Get("every"))
	if err := errors.Join(err1, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for i := range count {
		if i > 0 && pause(r.Context(), every) != nil {
			return
		}
		if _, err := fmt.Fprintf(flushing{w}, "id: %d\ndata: %s\n\n", i+1, a.release.Version); err != nil {
			return
		}
	}
	fmt.Fprintf(flushing{w}, "event: end\ndata: %d\n\n", count)
}

// echo is a websocket that greets and then sends back what it gets.
func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	ws, conn, err := acceptWebsocket(w, r, "hello from "+a.slot)
	if err != nil {
		return
	}
	defer conn.Close()
	echo(ws)
}

// echo sends every message back until the client closes or breaks the rules.
func echo(ws *websocket) {
	for {
		op, payload, err := ws.receive()
		switch {
		case errors.Is(err, errProtocol):
			ws.sendClose(closeProtocol, "")
			return
		case err != nil:
			return
		case op == opClose:
			ws.send(opClose, payload)
			return
		case op == opPong:
			continue
		}
		if ws.send(op, payload) != nil {
			return
		}
	}
}
