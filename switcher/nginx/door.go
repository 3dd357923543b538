package nginx

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// ask asks the front door, on a connection of its own, which configuration answers.
func (s *Switcher) ask(ctx context.Context) (Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Probe)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.Door, nil)
	if err != nil {
		return Mark{}, err
	}
	req.Header.Set("User-Agent", "abswap-probe")
	req.Header.Set("Cache-Control", "no-cache")
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.cfg.TLS != nil {
		conf = s.cfg.TLS.Clone()
	}
	if s.cfg.Host != "" {
		req.Host = s.cfg.Host
		if conf.ServerName == "" {
			if conf.ServerName, _, err = net.SplitHostPort(s.cfg.Host); err != nil {
				conf.ServerName = s.cfg.Host
			}
		}
	}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return Mark{}, fmt.Errorf("%w: GET %s: %w", ErrNoMark, s.cfg.Door, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return Mark{}, fmt.Errorf("%w: GET %s: body: %w", ErrNoMark, s.cfg.Door, err)
	}
	if resp.StatusCode != http.StatusOK {
		return Mark{}, fmt.Errorf("%w: GET %s answered %s", ErrNoMark, s.cfg.Door, resp.Status)
	}
	m, err := ParseMark(strings.TrimSpace(string(body)))
	switch {
	case err != nil:
		return Mark{}, fmt.Errorf("%w: GET %s: %w", ErrNoMark, s.cfg.Door, err)
	case m.Name != s.cfg.Name:
		return Mark{}, fmt.Errorf("%w: GET %s answered with the mark of site %q, not of %q", ErrNoMark, s.cfg.Door, m.Name, s.cfg.Name)
	case m.Route == "":
		return Mark{}, fmt.Errorf("%w: GET %s: the mark has no route", ErrNoMark, s.cfg.Door)
	}
	return m, nil
}
