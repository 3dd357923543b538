package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/abswap/abswap/switcher/proxy"
)

// addSites adds the sites of a file of lines of a host and the addresses of its two slots. Empty lines and such that begin with # are nothing.
// The error lists all mistakes.
func (d *door) addSites(o options, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
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
		if err := d.addSite(o, w[0], w[1], w[2], ""); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
		}
	}
	return errors.Join(append(errs, lines.Err())...)
}

// addSite adds a site in front of two applications, A and B; A has the work, unless the state file knows better.
func (d *door) addSite(o options, host, a, b, state string) error {
	cfg := proxy.Config{Slots: map[string]string{"A": a, "B": b}, Active: "A", StateFile: state, MaxInFlight: o.maxInFlight}
	if o.sessions {
		cfg.Sessions = &proxy.SessionConfig{}
	}
	s, err := d.sites.New(cfg)
	if err != nil {
		return err
	}
	return d.sites.Add(s, host)
}
