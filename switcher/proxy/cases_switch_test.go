package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
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

// What other front doors have been seen to get wrong in a switch, each as a test of its name.

// TestA1PickBeforeCount begins a drain while a request is between "picked" and "counted". The drain may say that the slot is idle only if the
// request goes elsewhere. (Package route has the same with the fault planted.)
func TestA1PickBeforeCount(t *testing.T) {
	b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue"})
	require.NoError(t, err)
	stall := proxy.NewStaller(p)
	f := serveOn(t, p)
	reached, resume := stall.Stall()
	answered := make(chan string, 1)
	go func() {
		_, by, _ := ask(t, newClient(t), f.url)
		answered <- by
	}()
	within(t, reached, "a request has picked")
	f.activate(t, plain("green"))
	res, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{Timeout: patience})
	require.NoError(t, err)
	assert.True(t, res.Drained)
	resume()
	assert.Equal(t, "green", within(t, answered, "answer"), "blue was drained: it may have been stopped")
}

// TestA2StaleSnapshotDoesNotWin lets a slow look at a slot land after a later switch was asked for, and a probe of health in between: the live
// slot is what the switch that took effect last says.
func TestA2StaleSnapshotDoesNotWin(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	blue := newSlot("blue", abswap.SlotState{})
	looking, goOn := make(chan bool, 1), make(chan bool)
	blue.gate = func(context.Context) error { looking <- true; <-goOn; return nil }
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- f.Activate(t.Context(), blue) }()
	within(t, looking, "blue is being looked at")
	go func() { second <- f.Activate(t.Context(), plain("green")) }()
	notYet(t, second, "a second switch overtook one that had begun", 50*time.Millisecond)
	close(goOn)
	require.NoError(t, within(t, first, "first"))
	require.NoError(t, within(t, second, "second"))
	active, err := f.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
	_, by, _ := ask(t, newClient(t), f.url)
	assert.Equal(t, "green", by)

	blue.set(func(s *slot) { s.gate, s.err = nil, errors.New("sick") })
	assert.Error(t, blue.Ready(t.Context()))
	blue.set(func(s *slot) { s.err = nil })
	assert.NoError(t, blue.Ready(t.Context()))
	active, _ = f.Active(t.Context())
	assert.Equal(t, "green", active, "health moves nothing")
}

// TestA3HealthDoesNotUndrain lets probes of all kinds land while a slot drains: it gets no new work.
func TestA3HealthDoesNotUndrain(t *testing.T) {
	hold := make(chan bool)
	var sent atomic.Int64
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) { sent.Add(1); <-hold }, hello)
	end := inFlight(t, f, "blue")
	f.activate(t, plain("green"))
	drained := make(chan error, 1)
	go func() {
		_, err := abswap.Drain(t.Context(), f, plain("blue"), abswap.DrainOptions{})
		drained <- err
	}()
	blue := newSlot("blue", abswap.SlotState{Release: "v1", Running: true})
	for range 20 {
		require.NoError(t, blue.Ready(t.Context()))
		require.NoError(t, f.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{blue, plain("green")}}))
		_, by, _ := ask(t, newClient(t), f.url)
		require.Equal(t, "green", by)
	}
	assert.Empty(t, drained)
	close(hold)
	end()
	assert.NoError(t, within(t, drained, "drain"))
	assert.EqualValues(t, 1, sent.Load(), "nothing new came to the draining slot")
}

// TestA4LoserOfTwoSwitchesGetsTruth lets switches overlap: each takes effect as a whole, one after the other, and what Active says in the end
// is the slot of one that said yes and was not followed by another.
func TestA4LoserOfTwoSwitchesGetsTruth(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	var mu sync.Mutex
	var order []string // as the slots were looked at, which happens inside of each switch
	slots := map[string]*slot{}
	for _, name := range []string{"blue", "green"} {
		slots[name] = newSlot(name, abswap.SlotState{})
		slots[name].gate = func(context.Context) error {
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			return nil
		}
	}
	for range 30 {
		var both sync.WaitGroup
		for name := range slots {
			both.Go(func() { assert.NoError(t, f.Activate(t.Context(), slots[name])) })
		}
		both.Wait()
		active, err := f.Active(t.Context())
		require.NoError(t, err)
		require.Equal(t, order[len(order)-1], active)
		_, by, _ := ask(t, newClient(t), f.url)
		require.Equal(t, active, by)
	}

	// One whose time ends while it waits for another changes nothing.
	waiting, goOn := make(chan bool), make(chan bool)
	slots["blue"].set(func(s *slot) { s.gate = func(context.Context) error { close(waiting); <-goOn; return nil } })
	first := make(chan error, 1)
	go func() { first <- f.Activate(t.Context(), slots["blue"]) }()
	within(t, waiting, "first")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := f.Activate(ctx, plain("green"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	close(goOn)
	require.NoError(t, within(t, first, "first"))
	active, _ := f.Active(t.Context())
	assert.Equal(t, "blue", active)
}

// TestA5RequestsSeeOneGeneration switches both slots between releases under load: address and release of an answer always belong together.
func TestA5RequestsSeeOneGeneration(t *testing.T) {
	who := func(name string) *backend {
		return newBackend(t, name, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) })
	}
	backends := map[string]*backend{"v1": who("v1"), "v2": who("v2"), "v3": who("v3"), "v4": who("v4")}
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": "", "green": ""}, ReleaseHeader: "Release"})
	slots := []*slot{newSlot("blue", abswap.SlotState{}), newSlot("green", abswap.SlotState{})}
	deploy := func(i int) {
		release := []string{"v1", "v2", "v3", "v4"}[i%4]
		sl := slots[i%2]
		sl.set(func(s *slot) {
			s.now = abswap.SlotState{Release: release, Address: address(backends[release].Server), Started: time.Unix(int64(i), 0)}
		})
		require.NoError(t, f.Activate(t.Context(), sl))
	}
	deploy(0)
	stop := make(chan bool)
	var answers atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			c := newClient(t)
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := c.Post(f.url, "", strings.NewReader("x"))
				if !assert.NoError(t, err) {
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				_, release, _ := strings.Cut(resp.Header.Get("Release"), "/")
				if !assert.Equal(t, string(b), release) {
					return
				}
				answers.Add(1)
			}
		})
	}
	for i := range 60 {
		deploy(i + 1)
		soon(t, "some load between switches", func() bool { return answers.Load() > int64(10*i) })
	}
	close(stop)
	clients.Wait()
	for _, name := range []string{"blue", "green"} {
		f.idle(t, name)
		assert.LessOrEqual(t, f.Generations(name), 30)
	}
}

// TestA6WayBackWhileDraining turns a slot off, orders its end, and turns it on again: from then on nothing in it is cut or handed over.
func TestA6WayBackWhileDraining(t *testing.T) {
	hold := make(chan bool)
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		<-hold
		io.WriteString(w, "whole")
	}, hello)
	answered := make(chan *http.Response, 1)
	go func() {
		resp, err := newClient(t).Get(f.url)
		assert.NoError(t, err)
		answered <- resp
	}()
	waitLoad(t, f, "blue")
	f.activate(t, plain("green"))
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceHandOver))
	f.activate(t, plain("blue"))
	begun := time.Now()
	close(hold)
	resp := within(t, answered, "answer")
	b, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Equal(t, "whole", string(b))
	assert.False(t, resp.Close, "the order to hand over was cancelled")
	assert.Less(t, time.Since(begun), patience)

	// A cut that was ordered while blue was off does not meet what came after it is on again.
	f.activate(t, plain("green"))
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceCut))
	f.activate(t, plain("blue"))
	for range 5 {
		status, by, _ := ask(t, newClient(t), f.url)
		assert.Equal(t, 200, status)
		assert.Equal(t, "blue", by)
	}
	assert.Equal(t, 1, f.Generations("blue"), "the same generation went on")
}

// TestA7NewReleaseAtTheSameAddress redeploys into the same port: the new release inherits neither counts nor connections, nor orders.
func TestA7NewReleaseAtTheSameAddress(t *testing.T) {
	hold := make(chan bool)
	f, b, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			http.NewResponseController(w).Flush()
			<-hold
		}
	}, hello)
	blue := newSlot("blue", abswap.SlotState{Release: "v1", Started: time.Unix(1, 0)})
	f.activate(t, blue)
	c := newClient(t)
	ask(t, c, f.url)
	soon(t, "a kept connection", func() bool { return f.IdleConns("blue") == 1 })
	resp, err := c.Get(f.url + "/hold")
	require.NoError(t, err)
	f.activate(t, plain("green"))
	require.NoError(t, f.Force(t.Context(), plain("blue"), abswap.ForceHandOver))

	blue.set(func(s *slot) { s.now = abswap.SlotState{Release: "v1", Started: time.Unix(2, 0)} }) // the same release, started anew
	f.activate(t, blue)
	assert.Equal(t, 2, f.Generations("blue"))
	assert.Zero(t, f.IdleConns("blue"))
	assert.Equal(t, 1, f.load(t, "blue").Requests, "what the older generation has counts for the slot")
	status, by, _ := ask(t, newClient(t), f.url)
	assert.Equal(t, 200, status)
	assert.Equal(t, "blue", by)

	f.activate(t, blue)
	assert.Equal(t, 2, f.Generations("blue"), "the same one again: no new generation")
	close(hold)
	_, err = io.ReadAll(resp.Body)
	assert.NoError(t, err)
	f.idle(t, "blue")
	soon(t, "connections to the older generation closed", func() bool { return b.conns.Load() <= int64(f.IdleConns("blue")) })
}

// TestA8SwitchIsInForceAtReturn asks right behind every switch, on kept connections: not one answer of the old slot.
func TestA8SwitchIsInForceAtReturn(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	c := f.raw(t)
	late := 0
	for i := range 300 {
		want := []string{"green", "blue"}[i%2]
		f.activate(t, plain(want))
		c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(c.br, nil)
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		if resp.Header.Get("Slot") != want {
			late++
		}
	}
	assert.Zero(t, late)
}
