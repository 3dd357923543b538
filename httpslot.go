package abswap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// HTTPSlot is a Slot that is probed over HTTP: fit is what answers the probe exactly as a client would want it. Each probe uses a
// connection of its own, no proxy of the environment, and follows no redirect: a redirect to a login page is not fitness.
type HTTPSlot struct {
	ID  string // the slot's name; required
	URL string // what is asked, on the slot itself: "http://127.0.0.1:5001/healthz"; required

	Host   string      // Host header, and the server name of https: the site's real name; "": the URL's host
	Header http.Header // further request fields, such as X-Forwarded-Proto: https
	Status int         // the only status that is fit; 0: 200

	// Expect looks at the answer's head after its status was found right; an error makes the slot unfit. nil: nothing more.
	Expect func(*http.Response) error

	// WarmPaths are asked by Warm, each once and in order, and must answer with a status below 400: "/", "/search?q=x".
	WarmPaths []string

	Timeout time.Duration // of one probe; 0: 5s
	TLS     *tls.Config   // of https; nil: the system's roots
}

var (
	_ WarmingSlot    = (*HTTPSlot)(nil)
	_ InspectingSlot = (*HTTPSlot)(nil)
	_ Checker        = (*HTTPSlot)(nil)
)

// Name returns ID.
func (s *HTTPSlot) Name() string { return s.ID }

// Ready sends one probe. Its error wraps ErrNotReady and says what was asked and what came back.
func (s *HTTPSlot) Ready(ctx context.Context) error {
	resp, err := s.get(ctx, s.URL)
	if err != nil {
		return fmt.Errorf("slot %q: %w: %w", s.ID, ErrNotReady, err)
	}
	want := s.Status
	if want == 0 {
		want = http.StatusOK
	}
	if resp.StatusCode != want {
		return fmt.Errorf("slot %q: %w: GET %s answered %s, want %d", s.ID, ErrNotReady, s.URL, resp.Status, want)
	}
	if s.Expect != nil {
		if err := s.Expect(resp); err != nil {
			return fmt.Errorf("slot %q: %w: GET %s: %w", s.ID, ErrNotReady, s.URL, err)
		}
	}
	return nil
}

// Warm asks each of WarmPaths once.
func (s *HTTPSlot) Warm(ctx context.Context) error {
	base, err := url.Parse(s.URL)
	if err != nil {
		return fmt.Errorf("slot %q: %w", s.ID, err)
	}
	for _, p := range s.WarmPaths {
		ref, err := url.Parse(p)
		if err != nil {
			return fmt.Errorf("slot %q: warm path: %w", s.ID, err)
		}
		to := base.ResolveReference(ref).String()
		resp, err := s.get(ctx, to)
		if err != nil {
			return fmt.Errorf("slot %q: warm-up: %w", s.ID, err)
		}
		if resp.StatusCode >= 400 {
			return fmt.Errorf("slot %q: warm-up: GET %s answered %s", s.ID, to, resp.Status)
		}
	}
	return nil
}

// Inspect tells the address out of URL; whether something runs there, Ready tells.
func (s *HTTPSlot) Inspect(context.Context) (SlotState, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return SlotState{}, fmt.Errorf("slot %q: %w", s.ID, err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return SlotState{Running: true, Address: net.JoinHostPort(u.Hostname(), port)}, nil
}

// Check refuses a slot without ID or with a URL that cannot be asked.
func (s *HTTPSlot) Check(context.Context, CheckRequest) error {
	var errs []error
	if s.ID == "" {
		errs = append(errs, errors.New("an HTTPSlot has no ID"))
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("slot %q: URL: %w", s.ID, err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		errs = append(errs, fmt.Errorf("slot %q: URL %q is not of the form http://host:port/path", s.ID, s.URL))
	}
	if s.Status != 0 && (s.Status < 200 || s.Status > 599) {
		errs = append(errs, fmt.Errorf("slot %q: Status %d is not within 200 to 599", s.ID, s.Status))
	}
	for _, p := range s.WarmPaths {
		if _, err := url.Parse(p); err != nil {
			errs = append(errs, fmt.Errorf("slot %q: warm path: %w", s.ID, err))
		}
	}
	return joinErrors(errs...)
}

// get asks once, reads at most 1 MiB of the body so that the application has done the work, and returns the head.
func (s *HTTPSlot) get(ctx context.Context, to string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(s.Timeout, 5*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, err
	}
	if s.Header != nil {
		req.Header = s.Header.Clone()
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.TLS != nil {
		conf = s.TLS.Clone()
	}
	if s.Host != "" {
		req.Host = s.Host
		if conf.ServerName == "" {
			conf.ServerName = hostOnly(s.Host)
		}
	}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req) // not a Client: that would follow redirects
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", to, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return nil, fmt.Errorf("GET %s: body: %w", to, err)
	}
	return resp, nil
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
