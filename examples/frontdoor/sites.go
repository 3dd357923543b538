package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/proxy"
)

// readSites reads lines of a host and the addresses of its two slots. Empty lines and such that begin with # are nothing. The error lists all
// mistakes.
func readSites(file string, log *slog.Logger) (_ map[string]*proxy.Switcher, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sites := map[string]*proxy.Switcher{}
	defer func() {
		if err != nil {
			for _, s := range sites {
				s.Close()
			}
		}
	}()
	var errs []error
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		w := strings.Fields(text)
		if len(w) != 3 {
			errs = append(errs, fmt.Errorf("%s:%d: %q is not a host and two addresses", file, n, text))
			continue
		}
		host := hostOf(w[0])
		if sites[host] != nil {
			errs = append(errs, fmt.Errorf("%s:%d: host %q is there twice", file, n, host))
			continue
		}
		s, err := slots(w[1], w[2], "", log)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: host %q: %w", file, n, host, err))
			continue
		}
		sites[host] = s
	}
	if err := errors.Join(append(errs, lines.Err())...); err != nil {
		return sites, err
	}
	return sites, nil
}

// hostOf is the host without its port and in small letters, as sites are named.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// of returns the proxy for a host.
func (d *door) of(host string) *proxy.Switcher {
	if s := d.sites[hostOf(host)]; s != nil {
		return s
	}
	return d.main
}

// newServer serves all sites: the host of each request decides which proxy forwards it.
func (d *door) newServer(log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.of(r.Host).ServeHTTP(w, r) }),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the applications
		ReadHeaderTimeout:            time.Minute,
		IdleTimeout:                  5 * time.Minute,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
