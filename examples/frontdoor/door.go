package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/abswap/abswap/switcher/proxy"
)

// door is the front door: a site for each host of -sites, and one for all other hosts.
type door struct {
	sites   *proxy.Sites
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
	if d.sites, err = proxy.NewSites(proxy.SitesConfig{Logger: log, MaxConns: o.maxConns}); err != nil {
		return nil, err
	}
	if err = d.addSite(o, "*", o.a, o.b, o.state); err != nil {
		return nil, err
	}
	if o.sites != "" {
		if err = d.addSites(o, o.sites); err != nil {
			return nil, err
		}
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
		d.run(func() error { return d.sites.Serve(d.plain) })
	}
	if d.tls != nil {
		d.run(func() error { return d.sites.Serve(tls.NewListener(d.tls, certs.TLSConfig())) })
	}
	if d.control != nil {
		d.admin = &http.Server{Handler: d.controls(), ReadHeaderTimeout: 10 * time.Second}
		d.run(func() error { return d.admin.Serve(d.control) })
	}
	return d, nil
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

// close ends everything at once, and waits for it.
func (d *door) close() error {
	var errs []error
	if d.sites != nil {
		errs = append(errs, d.sites.Close())
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
