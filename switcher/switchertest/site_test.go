package switchertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

// httpDoor is a front door with every ability, over real sockets: a fake decides and counts, a reverse proxy carries.
type httpDoor struct {
	sw    *fake.Switcher
	slots map[string]*httputil.ReverseProxy

	mu       sync.Mutex
	sessions map[string]*fake.Work        // by the value of the cookie
	carrying map[*fake.Work]chan struct{} // closed when it is over

	wrap func(http.Handler) http.Handler // of a broken one; nil: none
}

const sessionCookie = "SID"

func (d *httpDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := fake.Request{Method: r.Method, Path: r.URL.Path, Peer: r.RemoteAddr, Host: r.Host, Header: map[string]string{}}
	for name := range r.Header {
		req.Header[name] = r.Header.Get(name)
	}
	switch {
	case r.Header.Get("Upgrade") != "":
		req.Kind = fake.Upgraded
	case r.URL.Query().Get("kind") == switchertest.KindUpload.String():
		req.Kind = fake.Upload
	case r.URL.Query().Get("kind") == switchertest.KindDownload.String():
		req.Kind = fake.Stream
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		d.mu.Lock()
		if s := d.sessions[c.Value]; s != nil {
			req.Session = s.ID()
		}
		d.mu.Unlock()
	}
	if r.ContentLength > 0 { // read ahead, so that the server sees a client that goes away
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body, req.Body = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	work, err := d.sw.Open(r.Context(), req)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer work.End()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	done := make(chan struct{})
	d.mu.Lock()
	d.carrying[work] = done
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.carrying, work)
	}()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer close(done)
	watch.Go(func() {
		select {
		case <-work.Cut():
			cancel()
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // an upload's client may send nothing for long
		case <-done:
		}
	})
	d.slots[work.Slot()].ServeHTTP(w, r.WithContext(ctx))
}

// learn binds the session that an answer begins, and frees the one that it ends.
func (d *httpDoor) learn(resp *http.Response) error {
	for _, c := range resp.Cookies() {
		if c.Name != sessionCookie {
			continue
		}
		d.mu.Lock()
		if c.MaxAge < 0 {
			if sent, err := resp.Request.Cookie(sessionCookie); err == nil && d.sessions[sent.Value] != nil {
				d.sessions[sent.Value].End()
				delete(d.sessions, sent.Value)
			}
		} else if s, err := d.sw.Open(resp.Request.Context(), fake.Request{Kind: fake.Session}); err == nil {
			d.sessions[c.Value] = s
		}
		d.mu.Unlock()
	}
	return nil
}

// force returns when what it cuts is over, since the fake counts it no more.
func (d *httpDoor) force(ctx context.Context, s abswap.Slot, how abswap.Force, do func(context.Context, abswap.Slot, abswap.Force) error) error {
	err := do(ctx, s, how)
	d.awaitCut()
	return err
}

// end does the same for single pieces of work.
func (d *httpDoor) end(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do func(context.Context, abswap.Slot, abswap.Force, ...uint64) error) error {
	err := do(ctx, s, how, ids...)
	d.awaitCut()
	return err
}

// awaitCut returns when what has been cut is over.
func (d *httpDoor) awaitCut() {
	var cut []chan struct{}
	d.mu.Lock()
	for work, done := range d.carrying {
		if work.Err() != nil {
			cut = append(cut, done)
		}
	}
	d.mu.Unlock()
	for _, done := range cut {
		<-done
	}
}

func newHTTPRig(fault func(*httpDoor)) switchertest.NewRig {
	return func(context.Context) (switchertest.Rig, error) {
		base := newDoor()
		d := &httpDoor{sw: base.sw, slots: map[string]*httputil.ReverseProxy{}, sessions: map[string]*fake.Work{},
			carrying: map[*fake.Work]chan struct{}{}}
		d.sw.CutAfter, d.sw.ForceFunc, d.sw.EndFunc = 0, d.force, d.end
		site := &switchertest.Site{Slots: map[string]string{}, SessionCookie: sessionCookie, Host: "shop.example"}
		var servers []*httptest.Server
		for _, name := range []string{"blue", "green"} {
			app := httptest.NewServer(switchertest.NewApp(name))
			servers = append(servers, app)
			site.Slots[name] = app.URL
			u, err := url.Parse(app.URL)
			if err != nil {
				return switchertest.Rig{}, err
			}
			d.slots[name] = &httputil.ReverseProxy{
				Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(u); r.Out.Host = r.In.Host },
				ModifyResponse: d.learn,
				FlushInterval:  -1,
				ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
			}
		}
		var handler http.Handler = d
		if fault != nil {
			fault(d)
			if d.wrap != nil {
				handler = d.wrap(d)
			}
		}
		front := httptest.NewServer(handler)
		site.Front = front.URL
		rig := site.Rig()
		rig.Switcher, rig.Blue, rig.Green = base.sw, base.rig.Blue, base.rig.Green
		rig.Disturb, rig.Rest, rig.Stall, rig.Held = base.rig.Disturb, base.rig.Rest, base.rig.Stall, base.rig.Held
		rig.Load = 240
		rig.Close = func() error {
			err := site.Close()
			front.CloseClientConnections()
			front.Close()
			for _, s := range servers {
				s.CloseClientConnections()
				s.Close()
			}
			return err
		}
		return rig, nil
	}
}

func TestRulesOverHTTP(t *testing.T) {
	report := switchertest.Examine(t.Context(), newHTTPRig(nil))
	assert.NoError(t, report.Err())
	assert.Equal(t, []string{"H2/hold-order", "S5/unsupported-is-said"}, sorted(report.Skipped()), "a Site has no ProbeOrder")
}

func sorted(names []string) []string {
	if len(names) == 2 && names[0] > names[1] {
		names[0], names[1] = names[1], names[0]
	}
	return names
}

// A Site notices what a front door does to the bytes.
func TestSiteSeesBrokenBytes(t *testing.T) {
	for _, c := range []struct {
		name, rule, says string
		wrap             func(http.Handler) http.Handler
	}{
		{"a body is lost", "S5/active-is-true", "answered", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Body, r.ContentLength = http.NoBody, 0
				h.ServeHTTP(w, r)
			})
		}},
		{"the end of a download is lost", "S3/download-survives", "EOF", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&cutting{ResponseWriter: w}, r) })
		}},
		{"an upgrade is refused", "S3/upgraded-survives", "426", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					http.Error(w, "no websockets here", http.StatusUpgradeRequired)
					return
				}
				h.ServeHTTP(w, r)
			})
		}},
		{"another server answers", "S5/active-is-true", "not of an App", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newRig := newHTTPRig(func(d *httpDoor) { d.wrap = c.wrap })
			for _, rule := range switchertest.Rules() {
				if rule.Name != c.rule {
					continue
				}
				res := rule.Try(t.Context(), func(ctx context.Context) (switchertest.Rig, error) {
					rig, err := newRig(ctx)
					rig.Patience = settle
					return rig, err
				})
				assert.ErrorContains(t, res.Err, c.says)
			}
		})
	}
}

// cutting drops the last line of a download and the connection with it.
type cutting struct{ http.ResponseWriter }

func (c *cutting) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "end") {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestSiteWithoutSessionsSaysSo(t *testing.T) {
	_, err := new(switchertest.Site).Begin(t.Context(), switchertest.KindSession)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
}
