package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// serve is the service: the front door, its control plane, and the supervisor of the live slot.
func (t *tool) serve(ctx context.Context) int {
	log := slog.New(slog.NewTextHandler(t.errOut, nil))
	if err := t.cfg.serve(ctx, log, t.open, t.o.stopApps); err != nil {
		return t.fail(exitFailed, err)
	}
	return exitOK
}

// serve returns when ctx has ended and nothing is left to be finished, or when it cannot go on.
func (c *config) serve(ctx context.Context, log *slog.Logger, open func(string, abswap.JournalOptions) (abswap.Journal, error), stopApps bool) (err error) {
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.MkdirAll(c.State+"/slots", 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	slots, err := c.slots()
	if err != nil {
		return err
	}
	journal, err := open(c.journalDir(), abswap.JournalOptions{Keep: c.KeepSwaps, Logger: log})
	if err != nil {
		return err
	}
	cfg := c.door(c.proxyFile())
	cfg.Logger = log
	door, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, door.Close()) }()

	var orders sync.RWMutex
	control, err := c.control(door, &orders)
	if err != nil {
		return err
	}
	defer control.Close()
	site, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	over := make(chan error, 1)
	go func() { over <- fmt.Errorf("front door: %w", door.Serve(site)) }()

	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	guard := newGuard(c, log, door, &orders, slots, journal)
	wg.Go(func() { guard.run(sctx) })
	defer func() {
		stop()
		wg.Wait()
		if stopApps {
			err = errors.Join(err, guard.stopAll())
		}
	}()
	log.Info("serving", "listen", site.Addr().String(), "control", c.Control, "state", c.State)

	select {
	case err := <-over:
		return err
	case err := <-control.over:
		return fmt.Errorf("control: %w", err)
	case <-ctx.Done():
	}
	log.Info("ending: what is in flight is finished", "at_most", time.Duration(c.Shutdown))
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.Shutdown))
	defer cancel()
	if err := door.Shutdown(end); err != nil {
		log.Warn("not all was finished in time: it is cut", "err", err)
	}
	return nil
}

// controlPlane is what the other commands talk to.
type controlPlane struct {
	io.Closer
	at   net.Addr
	over chan error
}

// control serves the control plane. While an order is carried out, orders is held for reading: the supervisor, which gives orders of its own,
// holds it for writing, so that neither acts on what the other has just changed.
func (c *config) control(door *proxy.Switcher, orders *sync.RWMutex) (*controlPlane, error) {
	o := proxy.ControlOptions{}
	if !strings.HasPrefix(c.Control, "unix:") {
		var err error
		if o.Token, err = proxy.CreateToken(c.tokenFile()); err != nil {
			return nil, err
		}
	}
	h, err := proxy.ControlHandler(door, o)
	if err != nil {
		return nil, err
	}
	l, err := proxy.ListenControl(c.Control)
	if err != nil {
		return nil, err
	}
	srv := proxy.ControlServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			orders.RLock()
			defer orders.RUnlock()
		}
		h.ServeHTTP(w, r)
	}))
	p := &controlPlane{Closer: srv, at: l.Addr(), over: make(chan error, 1)}
	go func() { p.over <- srv.Serve(l) }()
	return p, nil
}
