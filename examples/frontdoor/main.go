// Command frontdoor is a plain front door: the embedded proxy as a program of its own, with two slots, A and B, of which A has the work at
// the start.
//
//	go run ./examples/frontdoor -listen 127.0.0.1:8080 -admin 127.0.0.1:8081 -a 127.0.0.1:9001 -b 127.0.0.1:9002
//	curl -X POST 'http://127.0.0.1:8081/swap?to=B'
//
// The answer to the swap comes once no request that begins later can reach the other slot. What the other slot had begun goes on; how much of it
// is left tells
//
//	curl http://127.0.0.1:8081/inflight
//
// With -tls-listen, -cert and -key it serves TLS too; a new certificate is put in place by replacing the files. With -sites FILE, of lines
// "host a-address b-address", it serves many sites, each with its own two slots: add host=www.example.com to the two requests above to mean that
// one. Hosts that the file does not name go to -a and -b. With -state FILE it remembers over a restart which slot has the work. With -sessions a
// client stays in its slot over a swap, until its session ends; -max-conns and -max-in-flight bound what is carried at a time.
//
// SIGTERM or an interrupt ends it without breaking anything: it waits until the last request and the last websocket have ended, at most as long
// as -grace says. A second one ends it at once. It ends with 0, with 1 if something went wrong, with 2 if the command line is wrong.
//
// The admin address has no protection of its own: let it be a loopback address. The control plane that a deploy tool wants, with a token and
// everything that a swap needs, is proxy.ControlHandler; see examples/deploytool.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stderr, stop, nil)
	os.Exit(code)
}

// options are the command line.
type options struct {
	listen, admin, a, b  string
	tlsListen, cert, key string
	sites, state         string
	grace                time.Duration
	sessions, quiet      bool
	maxConns             int
	maxInFlight          int
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("frontdoor", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` for HTTP/1.1; empty: none")
	fs.StringVar(&o.admin, "admin", "127.0.0.1:8081", "`address` for POST /swap?to=A and GET /inflight; empty: none")
	fs.StringVar(&o.a, "a", "127.0.0.1:9001", "`address` of the application in slot A")
	fs.StringVar(&o.b, "b", "127.0.0.1:9002", "`address` of the application in slot B")
	fs.StringVar(&o.tlsListen, "tls-listen", "", "`address` for HTTP/1.1 over TLS; empty: none")
	fs.StringVar(&o.cert, "cert", "", "PEM `file` of the certificate chain")
	fs.StringVar(&o.key, "key", "", "PEM `file` of its private key")
	fs.StringVar(&o.sites, "sites", "", "`file` of lines \"host a-address b-address\"")
	fs.StringVar(&o.state, "state", "", "`file` that remembers which slot has the work; empty: it forgets")
	fs.BoolVar(&o.sessions, "sessions", false, "a client stays in the slot in which its session began, by a signed cookie")
	fs.IntVar(&o.maxConns, "max-conns", 0, "client connections at a time; 0: no limit")
	fs.IntVar(&o.maxInFlight, "max-in-flight", 0, "requests that a slot of a site carries at a time, others wait; 0: no limit")
	fs.DurationVar(&o.grace, "grace", time.Hour, "how long the end waits for work in flight")
	fs.BoolVar(&o.quiet, "q", false, "log nothing but errors")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	if fs.NArg() > 0 {
		errs = append(errs, fmt.Errorf("what does %q mean?", fs.Arg(0)))
	}
	if o.listen == "" && o.tlsListen == "" {
		errs = append(errs, errors.New("neither -listen nor -tls-listen: there is nothing to serve"))
	}
	if o.tlsListen != "" && (o.cert == "" || o.key == "") {
		errs = append(errs, errors.New("-tls-listen needs -cert and -key"))
	}
	return o, errors.Join(errs...)
}

// run serves until ctx ends, and then until all work has. again is called when the end has begun: a second signal then ends the process.
// ready, which may be nil, is told where it listens.
func run(ctx context.Context, args []string, out io.Writer, again func(), ready func(addresses)) int {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(out, "frontdoor:", err)
		return 2
	}
	level := slog.LevelInfo
	if o.quiet {
		level = slog.LevelError
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))

	d, err := open(o, log)
	if err != nil {
		fmt.Fprintln(out, "frontdoor:", err)
		return 1
	}
	at := d.addresses()
	log.Info("serving", "listen", at.plain, "tls", at.tls, "admin", at.admin)
	if ready != nil {
		ready(at)
	}
	select {
	case <-ctx.Done():
		log.Info("ending: no new connections; waiting for the work in flight", "at most", o.grace)
		again()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.grace)
		defer cancel()
		err = d.sites.Shutdown(end)
	case err = <-d.failed:
	}
	if err = errors.Join(err, d.close()); err != nil && !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(out, "frontdoor:", err)
		return 1
	}
	return 0
}
