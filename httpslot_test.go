package abswap_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func TestHTTPSlotIsStrict(t *testing.T) {
	hits := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits[r.URL.Path]++
		switch r.URL.Path {
		case "/ok":
			if r.Host != "shop.example" || r.Header.Get("X-Forwarded-Proto") != "https" {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		case "/login":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/created":
			w.WriteHeader(http.StatusCreated)
		case "/broken":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(30 * time.Second):
			}
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer srv.Close()
	slot := func(path string) *abswap.HTTPSlot {
		return &abswap.HTTPSlot{ID: "blue", URL: srv.URL + path, Host: "shop.example", Header: http.Header{"X-Forwarded-Proto": {"https"}}}
	}
	assert.NoError(t, slot("/ok").Ready(t.Context()))

	for path, want := range map[string]string{"/login": "302", "/created": "201", "/500": "500", "/broken": "body"} {
		err := slot(path).Ready(t.Context())
		assert.ErrorIs(t, err, abswap.ErrNotReady, path)
		assert.ErrorContains(t, err, want, path)
	}
	s := slot("/created")
	s.Status = http.StatusCreated
	assert.NoError(t, s.Ready(t.Context()))
	s = slot("/ok")
	s.Expect = func(*http.Response) error { return errors.New("wrong release") }
	assert.ErrorContains(t, s.Ready(t.Context()), "wrong release")
	s = slot("/slow")
	s.Timeout = 50 * time.Millisecond
	assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady)

	s = slot("/ok")
	s.WarmPaths = []string{"/a", "/b?x=1"}
	require.NoError(t, s.Warm(t.Context()))
	assert.Equal(t, 1, hits["/a"])
	assert.Equal(t, 1, hits["/b"])
	s.WarmPaths = []string{"/500"}
	assert.ErrorContains(t, s.Warm(t.Context()), "500")

	state, err := s.Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, strings.TrimPrefix(srv.URL, "http://"), state.Address)
	srv.Close()
	assert.ErrorIs(t, slot("/ok").Ready(t.Context()), abswap.ErrNotReady, "nobody listens")
}

func TestHTTPSlotOverTLSAsksForTheSitesName(t *testing.T) {
	var name string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { name = h.ServerName; return nil, nil }}
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	s := &abswap.HTTPSlot{ID: "blue", URL: srv.URL, Host: "example.com", TLS: &tls.Config{RootCAs: roots}} // the test certificate's name
	require.NoError(t, s.Ready(t.Context()))
	assert.Equal(t, "example.com", name)
}

func TestHTTPSlotCheck(t *testing.T) {
	err := (&abswap.HTTPSlot{URL: "ftp://x/", Status: 99, WarmPaths: []string{"%zz"}}).Check(t.Context(), abswap.CheckRequest{})
	for _, w := range []string{"no ID", "not of the form", "Status 99", "warm path"} {
		assert.ErrorContains(t, err, w)
	}
	assert.NoError(t, (&abswap.HTTPSlot{ID: "a", URL: "https://127.0.0.1/health"}).Check(t.Context(), abswap.CheckRequest{}))
	state, err := (&abswap.HTTPSlot{ID: "a", URL: "https://127.0.0.1/health"}).Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:443", state.Address)
}
