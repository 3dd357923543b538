package proxy_test

import (
	"bufio"
	"context"
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
)

// What other front doors have been seen to get wrong in a drain, each as a test of its name.

// TestB1EveryDrainWaits drains many times at once: all end when the slot is idle, with the same result, none before.
func TestB1EveryDrainWaits(t *testing.T) {
	hold := make(chan bool)
	f, _, _ := pair(t, func(http.ResponseWriter, *http.Request) { <-hold }, hello)
	end := inFlight(t, f, "blue")
	f.activate(t, plain("green"))
	results := make(chan abswap.DrainResult, 10)
	for range cap(results) {
		go func() {
			res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{})
			assert.NoError(t, err)
			results <- res
		}()
	}
	notYet(t, results, "a drain", 50*time.Millisecond)
	close(hold)
	end()
	for range cap(results) {
		res := within(t, results, "drain")
		assert.True(t, res.Drained)
		assert.Equal(t, 1, res.First.Requests)
		assert.Zero(t, res.Last.Total())
		assert.Equal(t, abswap.EvidenceExact, res.Last.Evidence)
	}
}

// TestB2CountsAreExact has requests, uploads and upgraded connections come and go while slots switch; at some moments the counts are compared
// with what is open, and in the end they are zero.
func TestB2CountsAreExact(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgrader("", echo)(w, r)
			return
		}
		io.Copy(w, r.Body)
	}
	f, _, _ := pair(t, h, h)
	for round := range 15 {
		name := []string{"blue", "green"}[round%2]
		f.activate(t, plain(name))
		var open []*rawClient
		for i := range 6 {
			c := f.raw(t)
			if i%2 == 0 {
				c.send(upgradeHead)
				c.head()
			} else {
				c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
			}
			open = append(open, c)
		}
		soon(t, "uploads have begun", func() bool { return f.load(t, name).Requests == 3 })
		assert.Equal(t, 3, f.load(t, name).Upgraded)
		var ends sync.WaitGroup
		for i, c := range open {
			ends.Go(func() {
				if i%2 == 1 && round%3 == 0 {
					c.Write([]byte("y"))
					readHead(c.br)
				}
				c.Close()
			})
		}
		ends.Wait()
		f.idle(t, name)
	}
	assert.Zero(t, f.load(t, "blue").Total()+f.load(t, "green").Total())
}

// TestB3CountedToTheLastByte reads an answer slowly: it counts until the client has the last byte, not only its head.
func TestB3CountedToTheLastByte(t *testing.T) {
	hold := make(chan bool)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		<-hold
		io.WriteString(w, "full")
	}, hello)
	resp, err := newClient(t).Get(f.url)
	require.NoError(t, err)
	b := make([]byte, 4)
	io.ReadFull(resp.Body, b)
	f.activate(t, plain("green"))
	assert.Equal(t, 1, f.load(t, "blue").Requests)
	close(hold)
	io.Copy(io.Discard, resp.Body)
	f.idle(t, "blue")
}

// TestB4UpgradedConnectionsCount drains a slot that has nothing but a silent upgraded connection; so does Shutdown.
func TestB4UpgradedConnectionsCount(t *testing.T) {
	f, _, _ := pair(t, upgrader("", echo), hello)
	c := f.raw(t)
	c.send(upgradeHead)
	c.head()
	f.activate(t, plain("green"))
	assert.Equal(t, 1, f.load(t, "blue").Upgraded)
	assert.Zero(t, f.load(t, "blue").Requests)
	drained, down := make(chan error, 1), make(chan error, 1)
	go func() { drained <- f.WaitIdle(t.Context(), plain("blue")) }()
	go func() { down <- f.Shutdown(t.Context()) }()
	c.send("still here")
	assert.Equal(t, "still here", c.read(10))
	notYet(t, drained, "the drain", 700*time.Millisecond) // longer than Farewell
	assert.Empty(t, down)
	c.Close()
	assert.NoError(t, within(t, drained, "drain"))
	assert.NoError(t, within(t, down, "shutdown"))
}

// TestB5UpgradeAroundTheDrain has handshakes end before, at and after the moment at which the drain begins: each is counted all the time,
// none is cut.
func TestB5UpgradeAroundTheDrain(t *testing.T) {
	for _, when := range []string{"before", "at", "after"} {
		t.Run(when, func(t *testing.T) {
			answer := make(chan bool, 1)
			f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
				<-answer
				upgrader("", echo)(w, r)
			}, hello)
			c := f.raw(t)
			c.send(upgradeHead)
			waitLoad(t, f, "blue")
			drained := make(chan error, 1)
			begin := func() {
				f.activate(t, plain("green"))
				go func() { drained <- f.WaitIdle(t.Context(), plain("blue")) }()
			}
			switch when {
			case "before":
				answer <- true
				c.head()
				begin()
			case "at":
				answer <- true
				begin()
				c.head()
			case "after":
				begin()
				answer <- true
				c.head()
			}
			for range 50 {
				if f.load(t, "blue").Total() < 1 {
					t.Fatal("neither request nor upgraded")
				}
			}
			assert.Equal(t, 1, f.load(t, "blue").Upgraded)
			c.send("alive")
			assert.Equal(t, "alive", c.read(5))
			assert.Empty(t, drained)
			c.Close()
			assert.NoError(t, within(t, drained, "drain"))
		})
	}
}

// TestB6NoSocketsAfterTheDrain counts the connections that the old slot still has when it has drained: none.
func TestB6NoSocketsAfterTheDrain(t *testing.T) {
	gate := make(chan bool)
	f, b, _ := pair(t, func(w http.ResponseWriter, r *http.Request) { <-gate }, hello)
	var all sync.WaitGroup
	c := newClient(t)
	for range 20 {
		all.Go(func() {
			resp, err := c.Post(f.url, "", strings.NewReader("x"))
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		})
	}
	soon(t, "20 requests in blue", func() bool { return f.load(t, "blue").Requests == 20 })
	for range 10 {
		gate <- true
	}
	soon(t, "10 kept connections", func() bool { return f.IdleConns("blue") == 10 })
	f.activate(t, plain("green"))
	soon(t, "none is kept", func() bool { return f.IdleConns("blue") == 0 })
	close(gate)
	all.Wait()
	f.idle(t, "blue")
	assert.Zero(t, f.IdleConns("blue"), "none was put back")
	soon(t, "the slot has seen them closed", func() bool { return b.conns.Load() == 0 })

	f.activate(t, plain("blue"))
	ask(t, c, f.url)
	f.idle(t, "blue")
	assert.Equal(t, 1, f.IdleConns("blue"), "back again, connections are kept again")
}

// TestB6SwitchDoesNotWaitForSockets: closing what was kept to the old slot is left to a sweep behind the switch. The end of a drain, and the next
// switch, come after it, so that the slot that is live again keeps its connections.
func TestB6SwitchDoesNotWaitForSockets(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	c := newClient(t)
	const some = 50
	keep := func(name string) {
		gate := make(chan bool)
		var all sync.WaitGroup
		for range some {
			all.Go(func() {
				pr, pw := io.Pipe()
				go func() {
					<-gate
					pw.Close()
				}()
				resp, err := c.Post(f.url, "", pr)
				if assert.NoError(t, err) {
					resp.Body.Close()
				}
			})
		}
		soon(t, "all in "+name, func() bool { return f.load(t, name).Requests == some })
		close(gate)
		all.Wait()
		soon(t, "all kept in "+name, func() bool { return f.IdleConns(name) == some })
	}
	keep("blue")
	for i := range 20 {
		old, now := []string{"blue", "green"}[i%2], []string{"green", "blue"}[i%2]
		f.activate(t, plain(now))
		require.NoError(t, f.WaitIdle(t.Context(), plain(old)))
		require.Zero(t, f.IdleConns(old))
		keep(now)
	}
	for i := range 21 { // as fast as it goes
		f.activate(t, plain([]string{"green", "blue"}[i%2]))
	}
	require.NoError(t, f.WaitIdle(t.Context(), plain("blue")))
	assert.Zero(t, f.IdleConns("blue"))
	keep("green")
}

// TestB7EveryWayOutDrains turns a slot off in every way there is: what it had begun ends by itself, and counts until then.
func TestB7EveryWayOutDrains(t *testing.T) {
	for name, off := range map[string]func(*testing.T, *front){
		"activate": func(t *testing.T, f *front) { f.activate(t, plain("green")) },
		"weights": func(t *testing.T, f *front) {
			require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("green"), Part: 100}, abswap.Weight{Slot: plain("blue"), Part: 0}))
		},
		"seal":      func(t *testing.T, f *front) { require.NoError(t, f.Seal(t.Context(), plain("blue"))) },
		"restarted": func(t *testing.T, f *front) { f.activate(t, newSlot("blue", abswap.SlotState{Release: "v2"})) },
		"hand over": func(t *testing.T, f *front) {
			f.activate(t, plain("green"))
			require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceHandOver))
		},
	} {
		t.Run(name, func(t *testing.T) {
			hold := make(chan bool)
			f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					upgrader("", echo)(w, r)
					return
				}
				b, _ := io.ReadAll(r.Body)
				<-hold
				w.Write(b)
			}, hello)
			ws, up := f.raw(t), f.raw(t)
			ws.send(upgradeHead)
			ws.head()
			up.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
			soon(t, "both", func() bool { return f.load(t, "blue").Total() == 2 })
			off(t, f)
			assert.Equal(t, 2, f.load(t, "blue").Total())
			up.send("half")
			close(hold)
			h := up.head()
			assert.Contains(t, h, "200 OK")
			assert.Equal(t, name == "hand over", strings.Contains(h, "Connection: close"))
			assert.Equal(t, "halfhalf", up.read(8))
			ws.send("alive")
			assert.Equal(t, "alive", ws.read(5))
			ws.Close()
			f.idle(t, "blue")
		})
	}
}

// TestB8DrainSaysHowItEnded drains at a deadline in each way and reads the result.
func TestB8DrainSaysHowItEnded(t *testing.T) {
	hold := make(chan bool)
	defer close(hold)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}, hello)
	got := make(chan int, 2)
	for i := range 2 {
		go func() {
			resp, err := newClient(t).Get(f.url + "/report?secret=" + fmt.Sprint(i))
			if !assert.NoError(t, err) {
				got <- 0
				return
			}
			resp.Body.Close()
			got <- resp.StatusCode
		}()
	}
	soon(t, "both", func() bool { return f.load(t, "blue").Total() == 2 })
	f.activate(t, plain("green"))
	res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Timeout: 30 * time.Millisecond})
	require.ErrorIs(t, err, abswap.ErrDrainTimeout)
	assert.False(t, res.Drained)
	assert.Equal(t, 2, res.Last.Requests)
	require.Len(t, res.Left, 2)
	assert.Equal(t, "/report", res.Left[0].Path, "without its query")
	assert.Equal(t, "request", res.Left[0].Kind)
	assert.GreaterOrEqual(t, res.Left[0].Age, res.Left[1].Age, "oldest first")
	assert.GreaterOrEqual(t, res.Left[0].Age, 30*time.Millisecond)
	assert.Contains(t, res.Left[0].Peer, "127.0.0.1:")

	res, err = abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Timeout: time.Millisecond, AtDeadline: abswap.CutOff, Grace: -1})
	assert.NoError(t, err)
	assert.True(t, res.Drained)
	assert.Equal(t, 2, res.Cut)
	assert.Equal(t, 503, within(t, got, "an answer"), "asked to come again")
	assert.Equal(t, 503, within(t, got, "an answer"))
	assert.EqualValues(t, 2, f.Stats().Cut)
}

// inFlight begins a request in the slot, which takes work. end waits for its answer.
func inFlight(t *testing.T, f *front, name string) (end func()) {
	t.Helper()
	ended := make(chan bool)
	go func() {
		defer close(ended)
		resp, err := newClient(t).Post(f.url, "", strings.NewReader("x"))
		if assert.NoError(t, err) {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	waitLoad(t, f, name)
	return func() { within(t, ended, "end of the request") }
}

// TestForceCut cuts work of every kind at every stage, and nothing in the other slot.
func TestForceCut(t *testing.T) {
	begun := make(chan bool, 10)
	work := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			upgrader("", func(c *net.TCPConn, br *bufio.Reader) {
				begun <- true
				io.Copy(io.Discard, br)
			})(w, r)
		case "/stream":
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
			begun <- true
			<-r.Context().Done()
		case "/flood":
			begun <- true
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<20))
			}
		default:
			begun <- true
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	}
	f, _, _ := pair(t, work, work)
	begin := func(head string) *rawClient {
		c := f.raw(t)
		c.send(head)
		within(t, begun, head)
		return c
	}
	heads := []string{
		"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n", // the client does not read
		upgradeHead,
	}
	other := begin(heads[0])
	f.activate(t, plain("green"))
	var cut []*rawClient
	for _, h := range heads {
		cut = append(cut, begin(h))
	}
	cut[2].head()
	cut[2].read(len("1\r\nx\r\n"))
	cut[4].head()
	f.activate(t, plain("blue"))
	require.NoError(t, f.Force(t.Context(), plain("green"), abswap.ForceCut))
	f.idle(t, "green")
	assert.Equal(t, 1, f.load(t, "blue").Requests, "the other slot's work lives")
	assert.Contains(t, cut[0].head(), "503 ")
	assert.Contains(t, cut[1].head(), "503 ")
	rest, _ := io.ReadAll(cut[2].br)
	assert.Empty(t, string(rest), "no last chunk: the stream is seen broken")
	rest, _ = io.ReadAll(cut[4].br)
	assert.Empty(t, string(rest))
	other.Close()
	f.idle(t, "blue")
	assert.EqualError(t, f.Force(t.Context(), plain("blue"), 7), `proxy: slot "blue": 7 is no way to force it: ForceHandOver and ForceCut are`)
}

// TestForceCutWhileDialling cuts a request that has not reached its slot yet.
func TestForceCutWhileDialling(t *testing.T) {
	dialling := make(chan bool)
	f := dialler(t, func(ctx context.Context) error {
		close(dialling)
		<-ctx.Done()
		return ctx.Err()
	})
	c := f.raw(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	within(t, dialling, "dial")
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
	assert.Contains(t, c.head(), "503 ")
	f.idle(t, "blue")
}
