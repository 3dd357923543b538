// Command haproxy-bluegreen deploys behind an HAProxy: two slots, one key of a map that says which of them serves, HAProxy's own counters and the
// application's as witnesses for when the old one is idle.
//
//	go run ./examples/haproxy-bluegreen
//
// It needs the program haproxy (apt-get install haproxy). It starts one of its own, deploys three releases under load, with an upload that lasts
// over a deploy and a reload of HAProxy by another hand in the midst of it, and tells what the clients felt. It ends with 0 if no request was
// lost and none came to the wrong release, with 1 if one did, with 2 if it could not begin.
//
// What a tool of your own needs of this is the function swapper; the rest is the application, the balancer and the load.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/haproxydemo"
	"github.com/abswap/abswap/switcher/evidence"
	"github.com/abswap/abswap/switcher/haproxy"
)

const (
	exitOK     = 0
	exitBroken = 1
	exitUnable = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Stdout)
	stop()
	os.Exit(code)
}

// swapper is all of the SDK that a deploy behind HAProxy needs.
func swapper(b *haproxydemo.Balancer, blue, green *site, out io.Writer) (*abswap.Swapper, error) {
	sw, err := haproxy.NewMap(haproxy.MapConfig{
		Runtime:  haproxy.Runtime{Master: b.Path("master.sock")},
		File:     b.Path("slots.map"),
		Key:      "mysite",
		Backends: map[string]string{"blue": "be_blue", "green": "be_green"},
		Closed:   "be_closed",
	})
	if err != nil {
		return nil, err
	}
	return &abswap.Swapper{
		Switcher: sw,
		// HAProxy counts, and so does the application: the old slot is idle when both say so.
		Drainer: abswap.Both(sw, &evidence.HTTPDrainer{URLs: map[string]string{"blue": blue.url("/in-flight"), "green": green.url("/in-flight")}}),
		Slots:   []abswap.Slot{blue, green},
		Soak:    300 * time.Millisecond, // short, since this is a show
		Drain:   abswap.DrainOptions{Timeout: time.Minute, Quiet: 300 * time.Millisecond},
		OnEvent: func(e abswap.Event) {
			if e.Kind == abswap.EventPhase {
				fmt.Fprintf(out, "  %s\n", e.Phase)
			}
		},
	}, nil
}

// lines takes one line at a time: the deploys tell of themselves while the show goes on.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func run(ctx context.Context, w io.Writer) int {
	out := &lines{w: w}
	if _, err := exec.LookPath("haproxy"); err != nil {
		fmt.Fprintln(out, "haproxy is not in PATH; on Debian and Ubuntu: apt-get install haproxy, which puts it into /usr/sbin")
		return exitUnable
	}
	code, err := show(ctx, out)
	if err != nil {
		fmt.Fprintln(out, err)
	}
	return code
}

func show(ctx context.Context, out io.Writer) (code int, err error) {
	blue, green, err := sites()
	if err != nil {
		return exitUnable, err
	}
	defer func() {
		err = errors.Join(err, blue.Stop(context.WithoutCancel(ctx)), green.Stop(context.WithoutCancel(ctx)))
	}()
	b, err := startBalancer(ctx, blue.address, green.address)
	if err != nil {
		return exitUnable, err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	s, err := swapper(b, blue, green, out)
	if err != nil {
		return exitUnable, err
	}
	deploy := func(version string) error {
		fmt.Fprintf(out, "deploy %s\n", version)
		report, err := s.Deploy(ctx, abswap.Release{ID: version})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %s serves %s\n", report.Serving, version)
		return nil
	}
	if err := deploy("v1"); err != nil {
		return exitUnable, err
	}
	clients := startClients(ctx, b.Front)
	upload, err := haproxydemo.StartUpload(ctx, "http://"+b.Front+"/upload")
	if err != nil {
		clients.stop()
		return exitBroken, err
	}
	// v2 goes live while the upload is half way in v1, which therefore is not stopped yet; then another hand reloads HAProxy.
	done := make(chan error, 1)
	live, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := deploy("v2")
		cancel(err) // nobody need wait for v2 any longer
		done <- err
	}()
	err = clients.await(live, "v2")
	if err == nil {
		fmt.Fprintln(out, "  (another hand reloads HAProxy; the upload goes on in its old worker)")
		err = reload(ctx, b)
	}
	released, uploadErr := finish(upload)
	err = errors.Join(err, uploadErr, <-done)
	if err == nil {
		fmt.Fprintf(out, "  the upload was taken whole, by %s\n", released)
		err = deploy("v3")
	}
	if err == nil {
		err = clients.await(ctx, "v3")
	}
	felt := clients.stop()
	fmt.Fprintf(out, "clients: %d requests, %d lost, %d answered by a release older than one seen before\n", felt.sent, felt.lost, felt.back)
	switch {
	case err != nil:
		return exitBroken, err
	case felt.lost > 0 || felt.back > 0 || released != "v1":
		return exitBroken, fmt.Errorf("the promise was broken; first trouble: %w", errors.Join(felt.first, uploadErr))
	}
	return exitOK, nil
}

// finish sends the rest of the upload, and tells which release has taken it.
func finish(u *haproxydemo.Upload) (release string, err error) {
	for range 8 {
		if u.Send() != nil {
			break // the answer says why
		}
	}
	return u.Finish()
}
