package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
)

// nodeAddress is where a node is reached.
type nodeAddress struct {
	Name  string `json:"name"`
	Agent string `json:"agent"` // host:port of what installs, starts and stops
	App   string `json:"app"`   // host:port of the application
}

// brokenHeader is by which the application says that waiting for it makes no sense.
const brokenHeader = "X-Broken"

// node is one machine of the fleet, in a process of its own: an agent, and the application that it starts and stops.
type node struct {
	name string
	port *port
	open atomic.Int64 // requests that the application works on

	mu      sync.Mutex
	release abswap.Release // installed
	server  *http.Server   // nil: not running
	started time.Time
	ended   chan struct{}
}

// runNode runs a node until in ends, as it does when the process that started it has gone. It writes its addresses to out, as JSON.
func runNode(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p, err := openPort()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	n := &node{name: name, port: p}
	agent := &http.Server{Handler: n.agent()}
	ended := make(chan error, 1)
	go func() { ended <- agent.Serve(l) }()
	if err := json.NewEncoder(out).Encode(nodeAddress{Name: name, Agent: l.Addr().String(), App: n.address()}); err != nil {
		return err
	}
	ctx, gone := context.WithCancel(ctx)
	go func() { // it ends with the process
		_, _ = io.Copy(io.Discard, in)
		gone()
	}()
	<-ctx.Done()
	err = errors.Join(n.stop(), agent.Close(), p.close())
	if serr := <-ended; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

func (n *node) agent() http.Handler {
	m := http.NewServeMux()
	do := func(pattern string, f func(r *http.Request) error) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	do("POST /install", n.install)
	do("POST /start", func(*http.Request) error { n.start(); return nil })
	do("POST /stop", func(*http.Request) error { return n.stop() })
	m.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(n.state()) })
	m.HandleFunc("GET /in-flight", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"requests": %d}`, n.open.Load())
	})
	return m
}

func (n *node) address() string { return n.port.l.Addr().String() }

func (n *node) state() abswap.SlotState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return abswap.SlotState{Release: n.release.ID, Running: n.server != nil, Address: n.address(), Started: n.started}
}

func (n *node) install(r *http.Request) error {
	var rel abswap.Release
	if err := json.NewDecoder(r.Body).Decode(&rel); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return errors.New("the application runs: stop it first")
	}
	n.release = rel
	return rel.Check()
}

func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return
	}
	l := n.port.lend()
	server, ended := &http.Server{Handler: n.application(n.release)}, make(chan struct{})
	n.server, n.ended, n.started = server, ended, time.Now()
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
}

// stop ends the application at once, with all that it works on: who calls it has seen that this is nothing.
func (n *node) stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return nil
	}
	err := n.server.Close()
	<-n.ended
	n.server, n.started = nil, time.Time{}
	return err
}

// application answers with its node and release, and takes uploads.
func (n *node) application(rel abswap.Release) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if rel.Meta["bad-on"] == n.name {
			w.Header().Set(brokenHeader, "no such table: orders")
		}
	})
	m.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		n.open.Add(1)
		defer n.open.Add(-1)
		got, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s %d", n.name, rel.ID, got)
	})
	return m
}
