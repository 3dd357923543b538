package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/proxy"
)

// door is the front door: one proxy, or with -sites one for each host and one for all other hosts.
type door struct {
	main    *proxy.Switcher
	sites   map[string]*proxy.Switcher // by host, in small letters, without a port
	byHost  *http.Server               // serves all of them; nil: main serves by itself
	admin   *http.Server
	plain   net.Listener // nil: not served
	tls     net.Listener
	control net.Listener

	serving sync.WaitGroup
	failed  chan error // of a server that ended by itself
}

// addresses are where it listens; "": not at all.
type addresses struct{ plain, tls, admin string }

// open listens everywhere and begins to serve. If something is in the way nothing is left behind.
func open(o options, log *slog.Logger) (_ *door, err error) {
	d := &door{failed: make(chan error, 3)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.main, err = slots(o.a, o.b, o.state, log); err != nil {
		return nil, err
	}
	if o.sites != "" {
		if d.sites, err = readSites(o.sites, log); err != nil {
			return nil, err
		}
		d.byHost = d.newServer(log)
	}
	var certs *proxy.Certificates
	if o.tlsListen != "" {
		certs, err = proxy.LoadCertificates(proxy.CertificatesConfig{Files: []proxy.CertificateFiles{{Cert: o.cert, Key: o.key}}, Logger: log})
		if err != nil {
			return nil, err
		}
	}
	for _, x := range []struct {
		at string
		l  *net.Listener
	}{{o.listen, &d.plain}, {o.tlsListen, &d.tls}, {o.admin, &d.control}} {
		if x.at == "" {
			continue
		}
		if *x.l, err = net.Listen("tcp", x.at); err != nil {
			return nil, err
		}
	}
	if d.plain != nil {
		d.serve(d.plain)
	}
	if d.tls != nil {
		d.serve(tls.NewListener(d.tls, certs.TLSConfig()))
	}
	if d.control != nil {
		d.admin = &http.Server{Handler: d.controls(), ReadHeaderTimeout: 10 * time.Second}
		d.run(func() error { return d.admin.Serve(d.control) })
	}
	return d, nil
}

// slots makes a proxy in front of two applications, A and B; A has the work, unless the state file knows better.
func slots(a, b, state string, log *slog.Logger) (*proxy.Switcher, error) {
	return proxy.New(proxy.Config{Slots: map[string]string{"A": a, "B": b}, Active: "A", StateFile: state, Logger: log})
}

// serve lets the proxy serve the listener: by its own server, or, where the host decides, by one that asks for it first.
func (d *door) serve(l net.Listener) {
	d.run(func() error {
		if d.byHost != nil {
			return d.byHost.Serve(l)
		}
		return d.main.Serve(l)
	})
}

func (d *door) run(serve func() error) {
	d.serving.Go(func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			d.failed <- err
		}
	})
}

func (d *door) addresses() addresses {
	of := func(l net.Listener) string {
		if l == nil {
			return ""
		}
		return l.Addr().String()
	}
	return addresses{of(d.plain), of(d.tls), of(d.control)}
}

// all returns every proxy.
func (d *door) all() []*proxy.Switcher {
	var out []*proxy.Switcher
	if d.main != nil {
		out = append(out, d.main)
	}
	for _, s := range d.sites {
		out = append(out, s)
	}
	return out
}

// shutdown stops listening and waits until all requests and upgraded connections have ended. The admin address answers all the while.
func (d *door) shutdown(ctx context.Context) error {
	if d.byHost != nil { // it does not wait for websockets, but the proxies do
		if err := d.byHost.Shutdown(ctx); err != nil {
			return err
		}
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, s := range d.all() {
		wait.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// close ends everything at once, and waits for it.
func (d *door) close() error {
	var errs []error
	if d.byHost != nil {
		errs = append(errs, d.byHost.Close())
	}
	for _, s := range d.all() {
		errs = append(errs, s.Close())
	}
	if d.admin != nil {
		errs = append(errs, d.admin.Close())
	}
	for _, l := range []net.Listener{d.plain, d.tls, d.control} {
		if l != nil {
			l.Close() // most are closed already
		}
	}
	d.serving.Wait()
	return errors.Join(errs...)
}
