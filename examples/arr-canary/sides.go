package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/abswap/abswap"
)

// seen is what clients saw of one release.
type seen struct {
	requests, errors int
	took             []time.Duration
}

// p95 is the time within which 95 % of the requests were answered.
func (s *seen) p95() time.Duration {
	all := slices.Sorted(slices.Values(s.took))
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*95/100]
}

// sides asks the front door all the time, and notes which release answered, how, and how soon.
type sides struct {
	o      options
	client *http.Client
	end    context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	deploy map[string]*seen // by release, since the deploy began
	step   map[string]*seen // since the step began
}

// watch begins.
func watch(o options) *sides {
	ctx, end := context.WithCancel(context.Background())
	s := &sides{o: o, end: end, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: o.dial("127.0.0.1:80"), MaxIdleConnsPerHost: 16}}}
	s.begin()
	const clients = 4
	for range clients {
		s.all.Go(func() {
			t := time.NewTicker(clients * time.Second / time.Duration(o.rate))
			defer t.Stop()
			for ctx.Err() == nil {
				s.one()
				select {
				case <-t.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return s
}

func (s *sides) stop() {
	s.end()
	s.all.Wait()
	s.client.CloseIdleConnections()
}

// begin forgets what was seen.
func (s *sides) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deploy, s.step = map[string]*seen{}, map[string]*seen{}
}

// one asks once.
func (s *sides) one() {
	began := time.Now()
	release, err := askRelease(context.Background(), s.client, "http://"+s.o.host+"/")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range []map[string]*seen{s.deploy, s.step} {
		x := m[release]
		if x == nil {
			x = &seen{}
			m[release] = x
		}
		x.requests++
		x.took = append(x.took, time.Since(began))
		if err != nil {
			x.errors++
		}
	}
}

// askRelease asks once; the release is told with an error too, if something answered.
func askRelease(ctx context.Context, c *http.Client, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "nobody", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "nobody", err
	}
	defer resp.Body.Close()
	release := resp.Header.Get("X-Release")
	if release == "" {
		release = "nobody"
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return release, err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return release, fmt.Errorf("status %s", resp.Status)
	}
	return release, nil
}

// enough is how many answers of the new release a judgement needs.
const enough = 20

// gate holds the new release against the old one: no more than 2 % errors beyond those of the old, and no more than three times its latency.
func (s *sides) gate(ctx context.Context, g abswap.GateRequest, out io.Writer) error {
	defer func() { // what is seen from now on belongs to the next step
		s.mu.Lock()
		s.step = map[string]*seen{}
		s.mu.Unlock()
	}()
	if g.Percent == 0 {
		return nil
	}
	limit, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("too few requests came to judge it"))
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		fresh, old, share := s.compare(g.Release)
		if fresh.requests >= enough {
			fmt.Fprintf(out, "  at %3d %%: %s answered %.1f %% of the requests, %d of %d with errors, 95 %% within %s; the old one %d of %d, %s\n", g.Percent, g.Release, share,
				fresh.errors, fresh.requests, fresh.p95().Round(time.Millisecond), old.errors, old.requests, old.p95().Round(time.Millisecond))
			return judge(g, fresh, old)
		}
		select {
		case <-t.C:
		case <-limit.Done():
			return context.Cause(limit)
		}
	}
}

func judge(g abswap.GateRequest, fresh, old seen) error {
	rate := func(s seen) float64 { return 100 * float64(s.errors) / float64(max(1, s.requests)) }
	if rate(fresh) > rate(old)+2 {
		return fmt.Errorf("release %s answers %.1f %% of its requests with errors, the old one %.1f %%", g.Release, rate(fresh), rate(old))
	}
	if old.requests >= enough && fresh.p95() > 3*old.p95()+100*time.Millisecond {
		return fmt.Errorf("release %s answers 95 %% within %s, the old one within %s", g.Release, fresh.p95(), old.p95())
	}
	return nil
}

// compare splits what was seen in this step into the release's own and all other, and tells its share in per cents.
func (s *sides) compare(release string) (fresh, old seen, share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for name, x := range s.step {
		total += x.requests
		at := &old
		if name == release {
			at = &fresh
		}
		at.requests += x.requests
		at.errors += x.errors
		at.took = append(at.took, x.took...)
	}
	return fresh, old, 100 * float64(fresh.requests) / float64(max(1, total))
}

// report tells the errors of each side since the deploy began.
func (s *sides) report(out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.deploy)) {
		x := s.deploy[name]
		fmt.Fprintf(out, "  %s: %d requests, %d errors, 95 %% within %s\n", name, x.requests, x.errors, x.p95().Round(time.Millisecond))
	}
}

// dial connects to an address of the machine.
func (o options) dial(address string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	if o.machine != nil {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return o.machine.DialContext(ctx, network, address)
		}
	}
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// direct asks a member past the farm, at its port.
func (o options) direct(port string) func(context.Context) (string, error) {
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: o.dial(net.JoinHostPort("127.0.0.1", port)), DisableKeepAlives: true}}
	return func(ctx context.Context) (string, error) { return askRelease(ctx, c, "http://"+o.host+"/release.txt") }
}
