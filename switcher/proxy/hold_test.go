package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

var longHold = abswap.HoldOptions{Each: 5 * patience, Total: 5 * patience}

// echoBody answers with the body, and with the trailer field that came behind it.
func echoBody(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%d %s %s", len(body), strings.TrimLeft(string(body), "."), r.Trailer.Get("Sum"))
}

func (f *front) hold(t testing.TB, o abswap.HoldOptions) (release func()) {
	release, err := f.Hold(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(release)
	return release
}

func (f *front) held(t testing.TB, n int) {
	t.Helper()
	soon(t, fmt.Sprintf("%d requests are held", n), func() bool { return f.Held() == n })
}

// TestHoldCatchesWhatHasPicked holds while a request is between "picked" and "counted".
func TestHoldCatchesWhatHasPicked(t *testing.T) {
	b := newBackend(t, "blue", hello)
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(b.Server)}, Active: "blue"})
	require.NoError(t, err)
	st := proxy.NewStaller(p)
	f := serveOn(t, p)
	reached, resume := st.Stall()
	defer resume()
	answered := make(chan string, 1)
	go func() {
		_, slot, _ := ask(t, newClient(t), f.url)
		answered <- slot
	}()
	within(t, reached, "the request has picked")
	release := f.hold(t, longHold)
	resume()
	f.held(t, 1)
	f.idle(t, "blue")
	assert.Empty(t, answered)
	release()
	assert.Equal(t, "blue", within(t, answered, "the answer"))
}

// TestHeldBodies sends bodies of all kinds while a hold is in force; they arrive whole in the slot that is active at the release.
func TestHeldBodies(t *testing.T) {
	long := strings.Repeat(".", 300_000)
	for name, tc := range map[string]struct {
		first, rest, want string
		interim           bool
	}{
		"none":           {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "0  ", false},
		"sized":          {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "", "5 hello ", false},
		"half sent":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", "llo", "5 hello ", false},
		"long":           {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300002\r\n\r\n" + long, "!!", "300002 !! ", false},
		"chunked":        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "", "3 abc ", false},
		"half a chunk":   {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "c\r\n0\r\n\r\n", "3 abc ", false},
		"with a trailer": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n", "0\r\nSum: 7\r\n\r\n", "3 abc 7", false},
		"after a 100":    {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "hello", "5 hello ", true},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _ := pair(t, echoBody, echoBody)
			release := f.hold(t, longHold)
			c := f.raw(t)
			for range 2 { // the connection goes on
				c.send(tc.first)
				f.held(t, 1)
				if tc.interim {
					assert.Contains(t, c.head(), "HTTP/1.1 100 ")
				}
				f.activate(t, plain("green"))
				release()
				c.send(tc.rest)
				head := c.head()
				require.Contains(t, head, "HTTP/1.1 200 OK")
				assert.Contains(t, head, "Slot: green")
				assert.Equal(t, tc.want, c.read(len(tc.want)))
				f.idle(t, "green")
				release = f.hold(t, longHold)
			}
			assert.Zero(t, f.Stats().Failed)
		})
	}
}

// TestHeldClientGoesAway in the midst of its body, behind it, and without one: none is delivered.
func TestHeldClientGoesAway(t *testing.T) {
	var delivered atomic.Int64
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		delivered.Add(1)
		echoBody(w, r)
	}, echoBody)
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		release := f.hold(t, longHold)
		c := f.raw(t)
		c.send(text)
		f.held(t, 1)
		c.Close()
		f.held(t, 0)
		release()
		f.idle(t, "blue")
		assert.Zero(t, delivered.Load(), text)
	}
	release := f.hold(t, longHold)
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n")
	assert.Contains(t, c.head(), "HTTP/1.1 400 ")
	release()
	assert.Zero(t, delivered.Load())
}

// TestBodiesBeyondTheBound cannot wait: they are refused, or pass whole.
func TestBodiesBeyondTheBound(t *testing.T) {
	long := strings.Repeat(".", 200_000)
	for name, text := range map[string]string{
		"sized":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + long,
		"chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + long + "\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _ := pair(t, echoBody, echoBody)
			o := longHold
			o.Bytes = 100_000
			release := f.hold(t, o)
			c := f.raw(t)
			go io.WriteString(c.TCPConn, text)
			head := c.head()
			assert.Contains(t, head, "HTTP/1.1 503 ")
			assert.Contains(t, head, "Retry-After: ")
			assert.Contains(t, head, "Connection: close")
			release()
			assert.EqualValues(t, 1, f.Stats().Refused)

			o.Beyond = abswap.HoldPass
			f.hold(t, o)
			c = f.raw(t)
			go io.WriteString(c.TCPConn, text)
			assert.Contains(t, c.head(), "HTTP/1.1 200 ")
			assert.Equal(t, "200000 ", c.read(7))
			assert.Zero(t, f.Held())
		})
	}
}

// TestHoldWithoutASlot: what waits is refused when no slot takes work at the release.
func TestHoldWithoutASlot(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	release := f.hold(t, longHold)
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	f.held(t, 1)
	require.NoError(t, f.Seal(t.Context(), plain("blue")))
	release()
	assert.Contains(t, c.head(), "HTTP/1.1 503 ")
}

// TestCloseEndsAHold: nobody waits for a proxy that is gone.
func TestCloseEndsAHold(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	f.hold(t, longHold)
	c := f.raw(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	f.held(t, 1)
	require.NoError(t, f.Close())
	assert.Zero(t, f.Held())
	text, _ := io.ReadAll(c.br) // refused, or cut
	assert.NotContains(t, string(text), "200 OK")
	_, err := f.Hold(t.Context(), longHold)
	assert.ErrorIs(t, err, http.ErrServerClosed)
}

// TestHoldThatEndsWithEachRefusesNobody: what came first has waited for Each when Total ends the hold.
func TestHoldThatEndsWithEachRefusesNobody(t *testing.T) {
	t.Parallel()
	f, _, _ := pair(t, hello, hello)
	f.hold(t, abswap.HoldOptions{Each: time.Second, Total: time.Second})
	clients := make([]*rawClient, 200)
	for i := range clients {
		clients[i] = f.raw(t)
		clients[i].send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for _, c := range clients {
		assert.Contains(t, c.head(), "HTTP/1.1 200 ")
	}
}

func TestHoldRefusesNonsense(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	for _, o := range []abswap.HoldOptions{{Each: -1}, {Total: -1}, {Max: -1}, {Bytes: -1}, {Beyond: 7}} {
		_, err := f.Hold(t.Context(), o)
		assert.Error(t, err)
	}
	f.hold(t, longHold)() // none is in force
}

// TestKilledHolder kills a process that holds through the control plane, under load: requests go on, and none is lost.
func TestKilledHolder(t *testing.T) {
	if address := os.Getenv("PROXY_TEST_CONTROL"); address != "" {
		client, err := proxy.NewClient(proxy.ClientConfig{Address: address, Token: os.Getenv("PROXY_TEST_TOKEN")})
		if err == nil {
			_, err = client.Hold(t.Context(), abswap.HoldOptions{Each: 4 * patience, Total: 4 * patience})
		}
		fmt.Println("held", err)
		select {} // until it is killed
	}
	t.Parallel()
	f, _, _ := pair(t, echoBody, echoBody)
	c := controlled(t, f.Switcher, proxy.ControlOptions{Lease: time.Second})
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledHolder$")
	cmd.Env = append(os.Environ(), "PROXY_TEST_CONTROL="+c.address, "PROXY_TEST_TOKEN="+c.token)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	defer killed()
	line := bufio.NewScanner(out)
	require.True(t, line.Scan())
	require.Equal(t, "held <nil>", line.Text())

	const n = 40
	answers := make(chan error, n)
	for i := range n {
		go func() {
			body := fmt.Sprint("order ", i)
			r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, f.url, strings.NewReader(body))
			if err == nil {
				var resp *http.Response
				if resp, err = newClient(t).Do(r); err == nil {
					text, rerr := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := fmt.Sprintf("%d %s ", len(body), body); rerr != nil || resp.StatusCode != 200 || string(text) != want {
						err = fmt.Errorf("%s, %q, %v", resp.Status, text, rerr)
					}
				}
			}
			answers <- err
		}()
	}
	f.held(t, n)
	notYet(t, answers, "the lease is renewed while the holder lives", 2500*time.Millisecond)
	killed()
	began := time.Now()
	for range n {
		assert.NoError(t, within(t, answers, "a held request goes on"))
	}
	assert.Less(t, time.Since(began), patience, "after the lease, not after Total")
	f.hold(t, longHold)
}

// TestClosedClientGivesUpItsHold at once.
func TestClosedClientGivesUpItsHold(t *testing.T) {
	c := controlled(t, idlePair(t), proxy.ControlOptions{Lease: 5 * patience})
	client := c.client(t)
	release, err := client.Hold(t.Context(), longHold)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	second, err := c.p.Hold(t.Context(), longHold)
	require.NoError(t, err, "it has ended")
	release()
	_, err = client.Hold(t.Context(), longHold)
	assert.ErrorContains(t, err, "closed")
	_, err = c.p.Hold(t.Context(), longHold)
	assert.ErrorIs(t, err, abswap.ErrBusy, "the release of an earlier one did no harm")
	second()
}

// TestBodyThatPassesAHoldIsAskedFor: a client that waits for a 100, and whose body is too large to wait, gets the slot's.
func TestBodyThatPassesAHoldIsAskedFor(t *testing.T) {
	f, _, _ := pair(t, echoBody, echoBody)
	release, err := f.Hold(t.Context(), abswap.HoldOptions{Total: longHold.Total, Bytes: 1, Beyond: abswap.HoldPass})
	require.NoError(t, err)
	defer release()
	c := f.raw(t)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	require.Contains(t, c.head(), "100 Continue")
	c.send("hello")
	assert.Contains(t, c.head(), "200 OK")
	assert.Equal(t, "5 hello ", c.read(8))
}
