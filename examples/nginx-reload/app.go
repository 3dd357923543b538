package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// sickSuffix marks a release that gets sick when it works.
const sickSuffix = "-sick"

// slot is a place for the application, at an address of its own. HTTPSlot is its name and its probe; the rest is here.
type slot struct {
	abswap.HTTPSlot
	address string

	mu      sync.Mutex
	release string
	server  *http.Server // nil: it does not run
	ended   chan error
}

var (
	_ abswap.InstallingSlot = (*slot)(nil)
	_ abswap.StartingSlot   = (*slot)(nil)
	_ abswap.StoppingSlot   = (*slot)(nil)
	_ abswap.InspectingSlot = (*slot)(nil)
)

func newSlot(name, address string) *slot {
	return &slot{HTTPSlot: abswap.HTTPSlot{ID: name, URL: "http://" + address + "/healthz"}, address: address}
}

// Install puts a release into the slot. There are no files: a release of this application is its ID.
func (s *slot) Install(_ context.Context, r abswap.Release) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = r.ID
	return nil
}

// Start lets the application listen.
func (s *slot) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	server, ended := &http.Server{Handler: &app{release: s.release}}, make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	s.server, s.ended = server, ended
	return nil
}

// Stop ends the application.
func (s *slot) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	if serr := <-s.ended; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	s.server = nil
	return err
}

// Inspect tells what is there.
func (s *slot) Inspect(context.Context) (abswap.SlotState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return abswap.SlotState{Release: s.release, Running: s.server != nil, Address: s.address}, nil
}

// app is the application. It answers each request with its release and, if there was a body, with a digest of that.
type app struct {
	release string

	mu     sync.Mutex
	worked int
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Release", a.release)
	if r.URL.Path == "/healthz" {
		a.mu.Lock()
		defer a.mu.Unlock()
		if strings.HasSuffix(a.release, sickSuffix) && a.worked > 3 {
			http.Error(w, "out of memory, soon", http.StatusInternalServerError)
		}
		return
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		return // the client is gone
	}
	a.mu.Lock()
	a.worked++
	a.mu.Unlock()
	fmt.Fprintf(w, "%s %x", a.release, sum.Sum(nil))
}

// ask asks the front door which release answers.
func ask(ctx context.Context, door string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, door+"/", nil)
	if err != nil {
		return "", err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return resp.Header.Get("X-Release"), nil
}
