package nginx_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/nginx"
	"github.com/abswap/abswap/switcher/switchertest"
)

// counts waits until the slot has that many in flight: what is through leaves nginx a moment after its client knows.
func (e *engine) counts(t *testing.T, slot abswap.Slot, want int) {
	t.Helper()
	countsBy(t, e.sw, slot, want)
}

// countsBy is counts as a certain Switcher sees it.
func countsBy(t *testing.T, sw *nginx.Switcher, slot abswap.Slot, want int) {
	t.Helper()
	var load abswap.Load
	var err error
	if !assert.Eventually(t, func() bool {
		load, err = sw.InFlight(t.Context(), slot)
		return err == nil && load.Total() == want
	}, 30*time.Second, 5*time.Millisecond) {
		t.Fatalf("slot %q: %+v, %v; wanted %d", slot.Name(), load, err, want)
	}
	assert.Equal(t, abswap.EvidenceApproximate, load.Evidence)
}

// answer reads the answer that comes over conn.
func answer(t *testing.T, conn net.Conn) string {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return string(text)
}

func TestWebsocketCountsAsRequest(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	work, err := e.site.Begin(t.Context(), switchertest.KindUpgraded)
	require.NoError(t, err)
	defer work.Abort()
	e.counts(t, e.blue, 1)
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.counts(t, e.blue, 1)
	e.counts(t, e.green, 0)
	require.NoError(t, work.Step(t.Context()))
	require.NoError(t, work.End(t.Context()))
	e.counts(t, e.blue, 0)
}

// nginx reads an upload to its end before it picks a connection to the slot, unless it is told not to. An old worker does so too: the slot
// has nothing yet, and will have.
func TestAnUploadThatTheSlotHasNotSeenYetCounts(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{location: "proxy_request_buffering on; client_body_buffer_size 1m;"})
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.front, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	body := strings.Repeat("x", 100_000)
	_, err = fmt.Fprintf(conn, "POST /up HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:50_000])
	require.NoError(t, err)
	e.counts(t, e.blue, 0) // it takes work: what comes is nobody's matter yet
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.counts(t, e.blue, 1)
	for range 20 {
		load, err := e.sw.InFlight(t.Context(), e.blue)
		require.NoError(t, err)
		assert.Equal(t, 1, load.Requests, "the old worker will pass it on to blue")
	}
	e.counts(t, e.green, 0)
	_, err = io.WriteString(conn, body[50_000:])
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("blue %d %x\n", len(body), sha256.Sum256([]byte(body))), answer(t, conn))
	require.NoError(t, conn.Close())
	e.counts(t, e.blue, 0)
}

// A connection over which nothing has come yet is not closed by a reload: what comes over it after the switch goes to the old slot. That
// breaks S1 for it, as the package says; but it counts, so that the old slot is not taken for idle.
func TestAConnectionThatWasOpenedEarlyIsServedByTheOldSlotAndCounts(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.front, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	for range 10 { // until it is surely accepted: those after it are answered
		_, err := e.sw.Ask(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	e.counts(t, e.blue, 1)
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	assert.Contains(t, answer(t, conn), "blue 0 ")
	e.counts(t, e.blue, 0)
}

// A long connection of another site holds the old worker, not the slot.
func TestAnotherSitesWorkDoesNotCount(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	e := newEngine(t, shape{server: fmt.Sprintf("location /other/ { proxy_pass http://%s; }", l.Addr())})
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.front, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /other/ HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	other, err := l.Accept() // it is never answered
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	require.Eventually(t, func() bool { // the one that has nothing ends in its own time
		_, quitting, err := e.sw.Workers()
		return err == nil && len(quitting) == 1
	}, 30*time.Second, 5*time.Millisecond)
	e.counts(t, e.blue, 0)
	_, quitting, err := e.sw.Workers()
	require.NoError(t, err)
	assert.Len(t, quitting, 1, "the other site's work keeps an old worker")
}

// With HTTP/2 an old worker tells its clients to go elsewhere: what begins on a connection that is busy over the switch goes to the new slot. As
// one connection may have many to slots, an old worker with a client counts, whatever its other connections look like.
func TestHTTP2OnABusyConnection(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{http: `server { listen 127.0.0.1:PORT1 http2; location / { proxy_pass http://$abswap_site; proxy_set_header Host $host; } }`})
	front := fmt.Sprintf("http://127.0.0.1:%d", e.ports[0])
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	ask := func(method, url string) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%s %d %s", resp.Proto, resp.StatusCode, text), err
	}
	first, err := ask(http.MethodGet, front+"/")
	require.NoError(t, err)
	require.Contains(t, first, "HTTP/2.0 200 blue ")
	var wg sync.WaitGroup
	defer wg.Wait()
	var long string
	var longErr error
	wg.Go(func() { long, longErr = ask(http.MethodPost, front+"/switchertest/work?kind=request&id=long") })
	e.counts(t, e.blue, 1)
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	for range 20 {
		got, err := ask(http.MethodGet, front+"/")
		require.NoError(t, err)
		assert.Contains(t, got, "HTTP/2.0 200 green ")
	}
	e.counts(t, e.blue, 1)
	resp, err := http.Get(e.site.Slots["blue"] + "/switchertest/control/end?id=long")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	wg.Wait()
	require.NoError(t, longErr)
	assert.Equal(t, "HTTP/2.0 200 long\n", long)
	e.counts(t, e.blue, 0)
}

// A slot is sealed only when nothing can come to it any more, be it over a connection that was opened long before.
func TestSealWaitsForWhatIsStillToCome(t *testing.T) {
	t.Parallel()
	e := newEngine(t, shape{config: func(c *nginx.Config) { c.Patience = 5 * time.Second }})
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.front, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	for range 10 {
		_, err := e.sw.Ask(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, e.sw.Activate(t.Context(), e.green))
	err = e.sw.Seal(t.Context(), e.blue)
	require.ErrorContains(t, err, "1 connections of clients in old worker processes may still lead to it")
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	e.answers(t, "green")
	require.NoError(t, conn.Close())
	e.counts(t, e.blue, 0)
	patient := e.second(t, nil)
	require.NoError(t, patient.Seal(t.Context(), e.blue))
	e.answers(t, "green")

	require.NoError(t, patient.Seal(t.Context(), e.green))
	_, err = patient.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNoActive)
	_, err = e.site.Rig().Probe(t.Context())
	assert.ErrorContains(t, err, "502")
	require.NoError(t, patient.Activate(t.Context(), e.blue))
	e.answers(t, "blue")
}
