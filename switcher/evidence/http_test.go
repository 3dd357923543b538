package evidence_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/evidence"
	"github.com/abswap/abswap/switcher/fake"
)

// endpoint answers with a fixed head and body.
func endpoint(t *testing.T, status int, contentType, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTPReads(t *testing.T) {
	for _, c := range []struct {
		contentType, body            string
		requests, upgraded, sessions int
	}{
		{"text/plain; charset=utf-8", "3\n", 3, 0, 0},
		{"text/plain", "0", 0, 0, 0},
		{"application/json", `{"requests":3,"upgraded":1,"sessions":40}`, 3, 1, 40},
		{"application/json", " {\"sessions\": 2, \"requests\": 0}\n", 0, 0, 2},
		{"application/json", "7", 7, 0, 0},
	} {
		d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": endpoint(t, 200, c.contentType, c.body)}}
		l, err := d.InFlight(t.Context(), blue)
		require.NoError(t, err, c.body)
		assert.Equal(t, abswap.Load{Requests: c.requests, Upgraded: c.upgraded, Evidence: abswap.EvidenceApproximate, Source: "in-flight endpoint"}, l)
		s, err := d.Sessions(t.Context(), blue)
		if c.sessions > 0 {
			require.NoError(t, err)
			assert.Equal(t, c.sessions, s.Sessions)
		} else {
			assert.ErrorContains(t, err, "tells no sessions")
		}
	}
}

func TestHTTPTakesNothingElseForEvidence(t *testing.T) {
	for _, c := range []struct {
		status            int
		contentType, body string
	}{
		{200, "text/plain", ""}, {200, "text/plain", "-0"}, {200, "text/plain", "-1"}, {200, "text/plain", "+1"}, {200, "text/plain", "1.0"},
		{200, "text/plain", "0x1"}, {200, "text/plain", "zero"}, {200, "text/plain", "0 requests"}, {200, "text/plain", "99999999999"},
		{200, "text/html", "0"}, {200, "", "0"}, {200, "application/json", `{}`}, {200, "application/json", `{"upgraded":0}`},
		{200, "application/json", `{"requests":0,"requests":3}`}, {200, "application/json", `{"Requests":0}`}, {200, "application/json", `{"requests":"0"}`},
		{200, "application/json", `{"requests":0.0}`}, {200, "application/json", `{"requests":1e1}`}, {200, "application/json", `{"requests":null}`},
		{200, "application/json", `{"requests":0,"other":1}`}, {200, "application/json", `{"requests":0} {}`}, {200, "application/json", `{"requests":0`},
		{200, "application/json", `[0]`}, {200, "application/json", `null`}, {200, "application/json", `"0"`}, {200, "application/json", `-1`},
		{200, "application/json", `{"requests":0}` + strings.Repeat(" ", 5000)},
		{201, "text/plain", "0"}, {302, "text/plain", "0"}, {404, "text/plain", "0"}, {500, "text/plain", "0"}, {503, "application/json", `{"requests":0}`},
	} {
		d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": endpoint(t, c.status, c.contentType, c.body)}}
		l, err := d.InFlight(t.Context(), blue)
		assert.ErrorIs(t, err, evidence.ErrNoEvidence, "%d %s %.40q", c.status, c.contentType, c.body)
		assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
		assert.ErrorIs(t, d.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue}}), evidence.ErrNoEvidence)
	}
}

func TestHTTPOwnRequest(t *testing.T) {
	d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": endpoint(t, 200, "text/plain", "1"), "green": endpoint(t, 200, "text/plain", "0")}, Own: 1}
	l, err := d.InFlight(t.Context(), blue)
	require.NoError(t, err)
	assert.Zero(t, l.Requests)
	_, err = d.InFlight(t.Context(), green)
	assert.ErrorIs(t, err, evidence.ErrNoEvidence, "it does not count what it should")
}

func TestHTTPSendsWhatIsAsked(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.test" || r.Header.Get("Authorization") != "Bearer x" || !r.Close {
			http.Error(w, fmt.Sprint(r.Host, r.Header), http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintln(w, 5)
	}))
	defer s.Close()
	d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": s.URL}, Host: "www.example.test", Header: http.Header{"Authorization": {"Bearer x"}}}
	l, err := d.InFlight(t.Context(), blue)
	require.NoError(t, err)
	assert.Equal(t, 5, l.Requests)
}

func TestHTTPCheckTellsAllAtOnce(t *testing.T) {
	d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": "ftp://127.0.0.1/x"}, Own: -1}
	err := d.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue, green}})
	assert.Len(t, multi.All(err), 3)
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)

	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	d = &evidence.HTTPDrainer{URLs: map[string]string{"blue": closed.URL}}
	err = d.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue}})
	var warning *abswap.Warning
	assert.ErrorAs(t, err, &warning, "an idle slot need not answer")
}

func TestHTTPTimeout(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	d := &evidence.HTTPDrainer{URLs: map[string]string{"blue": s.URL}, Timeout: 50 * time.Millisecond}
	l, err := d.InFlight(t.Context(), blue)
	assert.Error(t, err)
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
}

// TestBothDoesNotTrustOneAlone drains by a balancer that says zero too early, and an application that knows better.
func TestBothDoesNotTrustOneAlone(t *testing.T) {
	var open, asked atomic.Int64
	open.Store(2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 3 && open.Load() > 0 {
			open.Add(-1)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"requests":%d}`, open.Load())
	}))
	defer s.Close()
	d := abswap.Both(&fake.Switcher{}, &evidence.HTTPDrainer{URLs: map[string]string{"blue": s.URL}})
	res, err := abswap.Drain(t.Context(), d, blue, abswap.DrainOptions{Timeout: 30 * time.Second, Poll: time.Millisecond, Quiet: 10 * time.Millisecond})
	require.NoError(t, err)
	assert.Zero(t, open.Load(), "it is drained only when the application says so")
	assert.Equal(t, abswap.EvidenceApproximate, res.Last.Evidence)
	assert.Equal(t, 2, res.First.Requests)
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"3", `{"requests":3,"upgraded":1,"sessions":40}`, `{"requests":0,"requests":3}`, `{"requests":1e1}`, "-0"} {
		f.Add("application/json", []byte(s))
		f.Add("text/plain", []byte(s))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		requests, upgraded, sessions, err := evidence.ParseAnswer(contentType, body)
		if err != nil {
			assert.ErrorIs(t, err, evidence.ErrNoEvidence)
			assert.Zero(t, requests+upgraded+sessions)
			return
		}
		assert.True(t, requests >= 0 && upgraded >= 0 && sessions >= 0)
		if requests > 0 {
			assert.Contains(t, string(body), fmt.Sprint(requests), "the number stands in the body")
		}
	})
}
