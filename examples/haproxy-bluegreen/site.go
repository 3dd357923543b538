package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/abswap/abswap"
)

// site is a slot with the application in it. Here that is a server in this very process; in earnest it is a folder and a service.
type site struct {
	abswap.HTTPSlot // probes /healthz
	address         string

	mu      sync.Mutex
	release string       // installed
	server  *http.Server // nil: not running
	ended   chan struct{}
}

var (
	_ abswap.InstallingSlot = (*site)(nil)
	_ abswap.StartingSlot   = (*site)(nil)
	_ abswap.StoppingSlot   = (*site)(nil)
)

// sites makes both slots, on ports that are free now.
func sites() (blue, green *site, err error) {
	var both [2]*site
	var listeners [2]net.Listener
	for i, name := range []string{"blue", "green"} {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		defer listeners[i].Close() // both are open until both are made, so that they differ
		address := listeners[i].Addr().String()
		both[i] = &site{address: address, HTTPSlot: abswap.HTTPSlot{ID: name, URL: "http://" + address + "/healthz"}}
	}
	return both[0], both[1], nil
}

func (s *site) url(path string) string { return "http://" + s.address + path }

// Install puts the release into the slot.
func (s *site) Install(_ context.Context, r abswap.Release) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = r.ID
	return nil
}

// Inspect tells what is in the slot.
func (s *site) Inspect(context.Context) (abswap.SlotState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return abswap.SlotState{Release: s.release, Running: s.server != nil, Address: s.address}, nil
}

// Start starts the release.
func (s *site) Start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	server, ended := &http.Server{Handler: application(s.release)}, make(chan struct{})
	s.server, s.ended = server, ended
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	return nil
}

// Stop ends it. It is called when nothing is left in it.
func (s *site) Stop(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	<-s.ended
	s.server = nil
	return err
}

// application answers with its release, takes uploads, and tells how many requests it is working on.
func application(release string) http.Handler {
	var open atomic.Int64
	work := http.NewServeMux()
	work.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %d", release, n)
	})
	work.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, release) })

	all := http.NewServeMux()
	all.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	all.HandleFunc("GET /in-flight", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"requests": %d}`, open.Load())
	})
	all.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		work.ServeHTTP(w, r)
	})
	return all
}

// errNotOurs is an answer that no release has given.
var errNotOurs = errors.New("the answer is of no release")
