package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
)

// newClient returns a client that dials anew for each request, follows no redirect and knows no proxy.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 1 << 20,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Ready returns nil if the slot's own process runs, has the address, and answers 200 on Config.Health, asked once over a new connection,
// within Config.ReadyTimeout. It changes nothing. Every other error than ctx's is an abswap.ErrNotReady; if the process does not run, so
// that asking again cannot help, it is an abswap.ErrPermanent too and tells the exit code, if this Slot started it, and the log's last
// lines.
func (s *Slot) Ready(ctx context.Context) error {
	probe, cancel := context.WithTimeoutCause(ctx, s.cfg.ReadyTimeout, s.errorf("no answer within %s", s.cfg.ReadyTimeout))
	defer cancel()
	r, err := s.fit(probe)
	if err == nil {
		err = s.get(probe, r, s.cfg.Health, func(status int) bool { return status == http.StatusOK })
	}
	if err == nil {
		err = s.same(probe, r) // it is still the one that was asked
	}
	return s.notReady(ctx, err)
}

// Warm asks for each path of Config.Warm, Config.WarmRounds times, over new connections. Each must answer below 400 within
// Config.WarmTimeout; the first that does not ends it. Without paths it only sees that the process runs. Errors are those of Ready.
func (s *Slot) Warm(ctx context.Context) error {
	r, err := s.fit(ctx)
	for range s.cfg.WarmRounds {
		for _, path := range s.cfg.Warm {
			if err == nil {
				one, cancel := context.WithTimeoutCause(ctx, s.cfg.WarmTimeout, s.errorf("no answer within %s", s.cfg.WarmTimeout))
				err = s.get(one, r, path, func(status int) bool { return status < 400 })
				cancel()
			}
		}
	}
	if err == nil {
		err = s.same(ctx, r)
	}
	return s.notReady(ctx, err)
}

// notReady makes err an ErrNotReady, unless it is that of the caller's context.
func (s *Slot) notReady(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, abswap.ErrNotReady) {
		return err
	}
	return multi.Join(err, abswap.ErrNotReady)
}

// fit returns the run whose process runs now, is not being stopped, and has the address.
func (s *Slot) fit(ctx context.Context) (*run, error) {
	rec, main, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if rec.Run == nil {
		return nil, s.errorf("it is not started: %w: %w", abswap.ErrNotReady, abswap.ErrPermanent)
	}
	r := rec.Run
	if main == (proc.ID{}) && r.Process == (proc.ID{}) {
		return nil, s.errorf("it is just being started, or who meant to start it died before that: %w", abswap.ErrNotReady)
	}
	if main == (proc.ID{}) {
		return nil, s.ended(r)
	}
	if !r.Asked.IsZero() {
		return nil, s.errorf("%s was asked to stop at %s: %w: %w", main, r.Asked.Format(time.RFC3339), abswap.ErrNotReady, abswap.ErrPermanent)
	}
	r.Process = main
	return r, s.has(ctx, r)
}

// ended says that the process of r does not run, and all that is known of why.
func (s *Slot) ended(r *run) error {
	how := "has ended"
	if e, ok := s.exit(r); ok {
		how = "has ended: " + e.String()
	}
	who := "its process"
	if r.Process != (proc.ID{}) {
		who = r.Process.String()
	}
	return s.errorf("%s %s%s: %w: %w", who, how, s.tail(r), abswap.ErrNotReady, abswap.ErrPermanent)
}

// has returns nil if the process of r, or one of its tree, listens at the slot's address, and nobody else.
func (s *Slot) has(ctx context.Context, r *run) error {
	addr, err := netip.ParseAddrPort(r.Address)
	if err != nil {
		return s.errorf("its record: %w", err)
	}
	if s.cfg.ForeignListener {
		return nil
	}
	err = proc.ListensOnly(addr, []proc.ID{r.Process})
	if _, ok := errors.AsType[*proc.ForeignError](err); ok { // a child of the main process may have it: that takes longer to see
		m, ferr := s.find(ctx, r)
		if ferr != nil {
			return ferr
		}
		err = proc.ListensOnly(addr, m.All)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return s.errorf("%s runs, but %w", r.Process, err)
	}
	return nil
}

// same returns nil if the process of r still runs.
func (s *Slot) same(ctx context.Context, r *run) error {
	rec, main, err := s.current(ctx)
	switch {
	case err != nil:
		return err
	case rec.Run == nil || rec.Run.Token != r.Token || main != r.Process:
		return s.ended(r)
	}
	return nil
}

// get asks for path and reads the answer.
func (s *Slot) get(ctx context.Context, r *run, path string, good func(status int) bool) error {
	return s.request(ctx, http.MethodGet, r, path, good)
}

// postStop asks the application to end. members are its processes: nobody else is asked.
func (s *Slot) postStop(ctx context.Context, r *run, members []proc.ID) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadyTimeout)
	defer cancel()
	addr, err := netip.ParseAddrPort(r.Address)
	if err != nil {
		return err
	}
	if !s.cfg.ForeignListener {
		if err := proc.ListensOnly(addr, members); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return s.request(ctx, http.MethodPost, r, s.cfg.StopPath, func(status int) bool { return status/100 == 2 })
}

func (s *Slot) request(ctx context.Context, method string, r *run, path string, good func(status int) bool) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Address+path, nil)
	if err != nil {
		return s.errorf("%w", err)
	}
	req.Host = s.cfg.Host
	if method == http.MethodPost {
		req.Header.Set(TokenHeader, r.Token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		return s.errorf("%w", err)
	}
	defer resp.Body.Close()
	if !good(resp.StatusCode) {
		return s.errorf("%s %s answered %s", method, req.URL, resp.Status)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return s.errorf("%s %s answered %s and broke off: %w", method, req.URL, resp.Status, err)
	}
	return nil
}
