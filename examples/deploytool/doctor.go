package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// doctor checks what the tool stands on: first the config and this machine, as a deploy would, then each promise of the proxy and its control
// plane on a scratch front door in a temporary folder. It touches nothing of the site.
func (t *tool) doctor(ctx context.Context) int {
	code := t.examineConfig(ctx)
	broken, checked := 0, 0
	for _, rule := range switchertest.Rules() {
		if !strings.Contains(rule.Name, t.o.rules) {
			continue
		}
		res := rule.Try(ctx, t.scratchRig)
		if ctx.Err() != nil {
			return t.fail(exitCanceled, context.Cause(ctx))
		}
		fmt.Fprintln(t.out, res)
		switch {
		case res.Err != nil:
			broken++
		case res.Skipped == "":
			checked++
		}
	}
	switch {
	case broken > 0:
		return t.fail(exitFailed, fmt.Errorf("%s broken: do not deploy on this machine with this version", count(broken, "promise")))
	case checked == 0:
		return t.fail(exitUsage, fmt.Errorf("no rule was checked: -rules %q", t.o.rules))
	}
	fmt.Fprintf(t.out, "%s kept\n", count(checked, "promise"))
	return code
}

// examineConfig runs the checks that come before each deploy.
func (t *tool) examineConfig(ctx context.Context) int {
	fmt.Fprintf(t.out, "ok   config %s\n", t.cfg.file)
	s, err := t.session(ctx)
	defer s.close()
	if err != nil {
		fmt.Fprintf(t.out, "FAIL proxy: %v\n", err)
		return exitCode(abswap.Report{}, err)
	}
	fmt.Fprintf(t.out, "ok   proxy answers at %s\n", t.cfg.Control)
	code := exitOK
	for _, finding := range findings(s.Check(ctx)) {
		if w, ok := errors.AsType[*abswap.Warning](finding); ok {
			fmt.Fprintf(t.out, "warn check: %v\n", w.Err)
			continue
		}
		code = exitRefused
		fmt.Fprintf(t.out, "FAIL check: %v\n", finding)
	}
	if code == exitOK {
		fmt.Fprintln(t.out, "ok   nothing is in the way of a deploy")
	}
	return code
}

// findings takes a joined error apart.
func findings(err error) []error {
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var all []error
		for _, x := range e.Unwrap() {
			all = append(all, findings(x)...)
		}
		return all
	}
	return []error{err}
}

// scratchRig is a front door of its own with its control plane, in front of two small applications in this process. It is steered as a deploy
// steers the real one: at a Unix socket, or over loopback with a token.
func (t *tool) scratchRig(context.Context) (rig switchertest.Rig, err error) {
	dir, err := os.MkdirTemp("", "deploytool-doctor-")
	if err != nil {
		return rig, err
	}
	undo := []func() error{func() error { return os.RemoveAll(dir) }}
	rig.Close = func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, rig.Close())
		}
	}()
	blue, green := httptest.NewServer(switchertest.NewApp("blue")), httptest.NewServer(switchertest.NewApp("green"))
	undo = append(undo, func() error {
		for _, s := range []*httptest.Server{blue, green} {
			s.CloseClientConnections()
			s.Close()
		}
		return nil
	})
	place := "unix:" + filepath.Join(dir, "control.sock")
	loopback := !strings.HasPrefix(t.cfg.Control, "unix:")
	if loopback {
		place = "127.0.0.1:0"
	}
	c := &config{State: dir, Control: place, Slots: []slotConfig{
		{Name: "blue", Address: blue.Listener.Addr().String()}, {Name: "green", Address: green.Listener.Addr().String()}}}
	door, err := proxy.New(c.door(c.proxyFile()))
	if err != nil {
		return rig, err
	}
	undo = append(undo, door.Close)
	for _, slot := range []named{"blue", "green"} { // so that both are known
		if err := door.Activate(context.Background(), slot); err != nil {
			return rig, err
		}
	}
	control, err := c.control(door, new(sync.RWMutex))
	if err != nil {
		return rig, err
	}
	undo = append(undo, control.Close)
	if loopback {
		c.Control = control.at.String()
	}
	site, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return rig, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { door.Serve(site) })
	client, err := c.client()
	if err != nil {
		return rig, errors.Join(err, site.Close())
	}
	clients := &switchertest.Site{Front: "http://" + site.Addr().String(), Slots: map[string]string{"blue": blue.URL, "green": green.URL}}
	undo = append(undo, client.Close, func() error { err := errors.Join(door.Close(), site.Close()); wg.Wait(); return ignoreClosed(err) }, clients.Close)
	closing := rig.Close
	rig = clients.Rig()
	rig.Close = closing
	rig.Settle = 300 * time.Millisecond // what the proxy writes to a busy disk may take effect so late
	rig.Switcher, rig.Blue, rig.Green = client, named("blue"), named("green")
	rig.Disturb = func(ctx context.Context, slot string) error { // past the control plane
		if slot == "" {
			return errors.ErrUnsupported
		}
		return door.Activate(ctx, named(slot))
	}
	return rig, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// named is a slot of which only the name counts.
type named string

func (n named) Name() string                { return string(n) }
func (n named) Ready(context.Context) error { return nil }
