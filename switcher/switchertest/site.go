package switchertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"

	"github.com/abswap/abswap"
)

// Site is the clients' side of a Rig whose front door speaks HTTP, and whose slots each run an App. It is used by pointer, and its fields
// are not changed after the first call.
type Site struct {
	// Front is the URL of the front door: "http://127.0.0.1:8080". Required.
	Front string

	// Slots are the URLs at which the App of each slot is reached past the front door, by the slot's name. Required.
	Slots map[string]string

	// Host is the host that requests are sent to; "": that of Front.
	Host string

	// SessionCookie is the name of the cookie by which the backend keeps sessions; "": it keeps none, and KindSession is refused. The
	// application sets it at the begin of a session and clears it at its end.
	SessionCookie string

	// TLS is for a Front that is https; nil: the system's.
	TLS *tls.Config

	// Protocols are those that requests through the front door are made by, but upgrades, which are HTTP/1.1 always; nil: net/http's default.
	Protocols *http.Protocols

	once   sync.Once
	fresh  *http.Transport // a connection for each request
	direct *http.Transport // past the front door
}

// Rig returns a Rig with Probe, KeepAlive, ProbeMatching, Begin, Delivered and Close set. Switcher, Blue, Green and what else the backend
// has are the caller's to add; a Close of the caller's own calls this one too.
func (s *Site) Rig() Rig {
	return Rig{
		Probe: func(ctx context.Context) (string, error) {
			s.setUp()
			return s.probe(ctx, s.alone(), abswap.PreviewRule{})
		},
		KeepAlive: func() (func(context.Context) (string, error), func()) {
			t := s.transport()
			t.Protocols = s.Protocols
			return func(ctx context.Context) (string, error) { return s.probe(ctx, t, abswap.PreviewRule{}) }, t.CloseIdleConnections
		},
		ProbeMatching: func(ctx context.Context, rule abswap.PreviewRule) (string, error) {
			s.setUp()
			return s.probe(ctx, s.alone(), rule)
		},
		Begin: s.Begin,
		Delivered: func(ctx context.Context) (int64, error) {
			var sum int64
			for slot := range s.Slots {
				var n int64
				text, err := s.control(ctx, slot, "count", "")
				if err == nil {
					_, err = fmt.Sscan(text, &n)
				}
				if err != nil {
					return 0, err
				}
				sum += n
			}
			return sum, nil
		},
		Close: s.Close,
	}
}

// Close closes the connections that are idle.
func (s *Site) Close() error {
	s.setUp()
	s.fresh.CloseIdleConnections()
	s.direct.CloseIdleConnections()
	return nil
}

func (s *Site) setUp() {
	s.once.Do(func() {
		s.fresh, s.direct = s.transport(), s.transport()
		s.fresh.DisableKeepAlives = true
		s.direct.MaxIdleConnsPerHost = 2 * clients
	})
}

// alone returns what makes a connection for each request. By HTTP/2 requests that come at one moment would share one, which ends with the first.
func (s *Site) alone() *http.Transport {
	s.setUp()
	if s.Protocols == nil {
		return s.fresh
	}
	t := s.transport()
	t.DisableKeepAlives, t.Protocols = true, s.Protocols
	return t
}

func (s *Site) transport() *http.Transport {
	return &http.Transport{TLSClientConfig: s.TLS, DisableCompression: true}
}

// request makes one through the front door.
func (s *Site) request(ctx context.Context, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.Front, "/")+path, body)
	if err == nil && s.Host != "" {
		r.Host = s.Host
	}
	return r, err
}

// probe posts a body, since a client tries a POST only once, and checks that the answer is of that body.
func (s *Site) probe(ctx context.Context, t *http.Transport, rule abswap.PreviewRule) (string, error) {
	body := []byte(rand.Text() + strings.Repeat(".", 500))
	r, err := s.request(ctx, probePath, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if rule.Header != "" {
		r.Header.Set(rule.Header, rule.Value)
	}
	if rule.Cookie != "" {
		r.AddCookie(&http.Cookie{Name: rule.Cookie, Value: rule.Value})
	}
	if rule.Host != "" {
		r.Host = rule.Host
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return "", err
	}
	slot, text, err := whole(resp)
	if err != nil {
		return "", err
	}
	if want := fmt.Sprintf("%s %d %x\n", slot, len(body), sha256.Sum256(body)); text != want {
		return "", fmt.Errorf("slot %q answered %q, not %q", slot, text, want)
	}
	return slot, nil
}

// whole reads an answer to its end.
func whole(resp *http.Response) (slot, text string, err error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", fmt.Errorf("answer cut after %d bytes: %w", len(b), err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("status %s: %.200s", resp.Status, b)
	}
	slot = resp.Header.Get(slotHeader)
	if slot == "" {
		return "", "", fmt.Errorf("the answer has no %s: it is not of an App", slotHeader)
	}
	return slot, string(b), nil
}

// control asks the App of a slot past the front door.
func (s *Site) control(ctx context.Context, slot, what, query string) (string, error) {
	s.setUp()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.Slots[slot], "/")+controlPath+what+"?"+query, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.direct.RoundTrip(r)
	if err != nil {
		return "", err
	}
	_, text, err := whole(resp)
	return text, err
}

// Begin begins work through the front door. See Rig.Begin.
func (s *Site) Begin(ctx context.Context, kind Kind) (Work, error) {
	s.setUp()
	if kind == KindSession {
		return s.session(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	x := &siteWork{s: s, kind: kind, id: rand.Text(), cancel: cancel, answered: make(chan struct{}), sum: sha256.New()}
	slot, err := x.begin(ctx)
	if err != nil {
		x.abort()
		return Work{}, err
	}
	x.slot = slot
	work := Work{Slot: slot, Step: x.step, End: x.end, Abort: x.abort}
	if kind == KindRequest {
		work.Step = nil
	}
	return work, nil
}

// whereBegan returns the slot in which the work has begun.
func (s *Site) whereBegan(ctx context.Context, id string, answered <-chan struct{}, answer func() error) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type found struct {
		slot string
		err  error
	}
	all := make(chan found, len(s.Slots))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for slot := range s.Slots {
		wg.Go(func() {
			_, err := s.control(ctx, slot, "began", url.Values{"id": {id}}.Encode())
			all <- found{slot, err}
		})
	}
	var errs []error
	for range s.Slots {
		select {
		case f := <-all:
			if f.err == nil {
				return f.slot, nil
			}
			errs = append(errs, f.err)
		case <-answered:
			if err := answer(); err != nil {
				return "", err
			}
			answered = nil // it was so short that it has ended: the slots will tell
		}
	}
	return "", errors.Join(errs...)
}

// session begins one by its first request.
func (s *Site) session(ctx context.Context) (Work, error) {
	if s.SessionCookie == "" {
		return Work{}, fmt.Errorf("the site keeps no sessions: %w", errors.ErrUnsupported)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return Work{}, err
	}
	client := &http.Client{Transport: s.alone(), Jar: jar}
	q := url.Values{"kind": {KindSession.String()}, "id": {rand.Text()}, "cookie": {s.SessionCookie}}
	ask := func(ctx context.Context, more string) (string, error) {
		r, err := s.request(ctx, workPath+"?"+q.Encode()+more, nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		slot, _, err := whole(resp)
		return slot, err
	}
	slot, err := ask(ctx, "")
	if err != nil {
		return Work{}, err
	}
	stay := func(ctx context.Context, more string) error {
		got, err := ask(ctx, more)
		if err == nil && got != slot {
			err = fmt.Errorf("a request of the session of %q was answered by %q", slot, got)
		}
		return err
	}
	end := sync.OnceValue(func() error { return stay(ctx, "&end=1") })
	return Work{Slot: slot, Step: func(ctx context.Context) error { return stay(ctx, "") }, End: func(context.Context) error { return end() },
		Abort: func() { _ = end() }}, nil
}
