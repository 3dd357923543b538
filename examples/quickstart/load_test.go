package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// underLoad runs the load against one application, wrapped by spoil, for a second and a half, and until enough says yes.
func underLoad(t *testing.T, spoil func(http.Handler) http.Handler, enough func(*load) bool) ([]record, deliveries, *load) {
	dir := t.TempDir()
	book, err := openLedger(dir, "v1", "blue")
	require.NoError(t, err)
	defer book.file.Close()
	var h http.Handler = (&app{slot: "blue", release: release{Version: "v1", Behaviour: healthy}, ledger: book}).handler()
	if spoil != nil {
		h = spoil(h)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()

	l := newLoad(srv.Listener.Addr().String(), time.Now(), options{rate: 100, seconds: 5, seed: 7})
	stop := l.begin(t.Context())
	l.transfer(kindUpload, 10)
	l.transfer(kindUpload, 10)
	l.transfer(kindDownload, 10)
	require.NoError(t, pause(t.Context(), 1500*time.Millisecond))
	for end := time.Now().Add(30 * time.Second); enough != nil && !enough(l) && time.Now().Before(end); {
		require.NoError(t, pause(t.Context(), 20*time.Millisecond))
	}
	stop()
	got, err := readLedgers(dir)
	require.NoError(t, err)
	return l.records.list(), got, l
}

func TestLoadAgainstASoundApplication(t *testing.T) {
	recs, got, l := underLoad(t, nil, nil)
	seen := map[kind]int{}
	for _, r := range recs {
		seen[r.kind]++
		assert.Empty(t, r.err, r)
		assert.Equal(t, "blue", r.slot, r)
		assert.Positive(t, r.sent, r)
		assert.LessOrEqual(t, r.sent, r.told, r)
		assert.LessOrEqual(t, r.told, r.ended, r)
		if r.id != "" {
			assert.Equal(t, 1, got.times[r.id], r)
		}
		if r.kind == kindUpload {
			assert.Less(t, r.told, r.ended-300*time.Millisecond, "100 Continue tells early who took it: %s", r)
		}
	}
	for _, k := range []kind{kindGet, kindPost, kindThink, kindUpload, kindDownload, kindWebsocket, kindEvents} {
		assert.Positive(t, seen[k], k)
	}
	assert.Equal(t, 2, seen[kindUpload])
	plan := 100 * (l.stopped - l.started).Seconds()
	assert.LessOrEqual(t, float64(l.planned), plan+1, "100 a second")
	assert.Greater(t, float64(l.planned), plan/2, "a busy machine may be behind the plan")
	assert.Equal(t, map[string]bool{"v1": true}, got.traffic)
	assert.True(t, judge([]deployment{{name: "none"}}, nil, recs, got).OK)
}

// Each fault must be seen by the clients that it concerns: a load that cannot fail proves nothing.
func TestLoadSeesFaults(t *testing.T) {
	for name, c := range map[string]struct {
		hit   func(*http.Request) bool
		spoil func(w http.ResponseWriter, r *http.Request, next http.Handler)
		kind  kind
		long  bool // cut, not lost
	}{
		"a 502 for a GET": {
			hit:   func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/items/") },
			spoil: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusBadGateway) },
			kind:  kindGet,
		},
		"the wrong answer": {
			hit: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/items/") },
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				r.URL.Path = "/"
				next.ServeHTTP(w, r)
			},
			kind: kindGet,
		},
		"a POST delivered twice": {
			hit: func(r *http.Request) bool { return r.Method == http.MethodPost },
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				again := r.Clone(r.Context())
				again.Body = http.NoBody
				next.ServeHTTP(httptest.NewRecorder(), again)
				next.ServeHTTP(w, r)
			},
			kind: kindPost,
		},
		"a POST's body cut short": {
			hit: func(r *http.Request) bool { return r.Method == http.MethodPost && r.ContentLength > 100 },
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				r.Body = http.MaxBytesReader(nil, r.Body, 50)
				next.ServeHTTP(w, r)
			},
			kind: kindPost,
		},
		"a connection closed without an answer": {
			hit:   func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/items/") },
			spoil: func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
			kind:  kindGet,
		},
		"an upload broken": {
			hit: func(r *http.Request) bool { return r.Method == http.MethodPut },
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				breakAfter(w, r, next, 300*time.Millisecond)
			},
			kind: kindUpload, long: true,
		},
		"a download broken": {
			hit: func(r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, "/files/") && r.Method == http.MethodGet
			},
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				breakAfter(w, r, next, 300*time.Millisecond)
			},
			kind: kindDownload, long: true,
		},
		"an event stream that ends early": {
			hit: func(r *http.Request) bool { return r.URL.Path == "/events" },
			spoil: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				endAfter(w, r, next, 150*time.Millisecond)
			},
			kind: kindEvents, long: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var once, spoilt atomic.Bool
			recs, got, _ := underLoad(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if c.hit(r) && once.CompareAndSwap(false, true) {
						defer spoilt.Store(true)
						c.spoil(w, r, next)
						return
					}
					next.ServeHTTP(w, r)
				})
			}, func(l *load) bool {
				seen := func(r record) bool { return r.err != "" }
				return spoilt.Load() && (!c.long || slices.ContainsFunc(l.records.list(), seen))
			})
			v := judge([]deployment{{name: "act"}}, nil, recs, got)
			assert.False(t, v.OK)
			require.Len(t, v.Broken, 1, v.Broken)
			assert.Contains(t, v.Broken[0], string(c.kind))
			if c.long {
				assert.Equal(t, [2]int{0, 1}, [2]int{v.Deploys[0].Lost, v.Deploys[0].Cut})
			} else {
				assert.Equal(t, [2]int{1, 0}, [2]int{v.Deploys[0].Lost, v.Deploys[0].Cut})
			}
		})
	}
}

// breakAfter closes the client's connection while the answer or the upload is under way.
func breakAfter(w http.ResponseWriter, r *http.Request, next http.Handler, d time.Duration) {
	rc := http.NewResponseController(w)
	timer := time.AfterFunc(d, func() {
		rc.SetReadDeadline(time.Now())
		rc.SetWriteDeadline(time.Now())
	})
	defer timer.Stop()
	next.ServeHTTP(w, r)
	panic(http.ErrAbortHandler)
}

// endAfter lets the application end its answer early, but well-formed.
func endAfter(w http.ResponseWriter, r *http.Request, next http.Handler, d time.Duration) {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	next.ServeHTTP(w, r.WithContext(ctx))
}

func TestWebsocketCutIsSeen(t *testing.T) {
	recs, got, _ := underLoad(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/echo" {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set(slotHeader, "blue")
			w.Header().Set(releaseHeader, "v1")
			_, conn, err := acceptWebsocket(w, r, "hello from blue")
			if err == nil {
				conn.Close() // no close frame
			}
		})
	}, func(l *load) bool {
		n := 0
		for _, r := range l.records.list() {
			if r.err != "" {
				n++
			}
		}
		return n >= websockets
	})
	v := judge([]deployment{{name: "act"}}, nil, recs, got)
	assert.False(t, v.OK)
	assert.GreaterOrEqual(t, v.Deploys[0].Cut, websockets)
	assert.Zero(t, v.Deploys[0].Lost)
}
