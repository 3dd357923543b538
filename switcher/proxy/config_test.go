package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// TestNewTellsAllMistakesAtOnce gives New one configuration after the other, each with its mistakes.
func TestNewTellsAllMistakesAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  proxy.Config
		want []string
	}{
		{"zero", proxy.Config{}, []string{"Config.Slots is empty: name at least one slot"}},
		{"addresses", proxy.Config{Slots: map[string]string{"a": "nowhere", "b": ":80", "c": "h:0", "d": "h:99999", "e": "h:http", "": "h:1"}}, []string{
			`slot "a": address "nowhere" is not host:port`, `slot "b": address ":80" has no host`, `slot "c": address "h:0": port "0" is not within 1 to 65535`,
			`slot "d": address "h:99999": port "99999"`, `slot "e": address "h:http": port "http"`, "a slot has an empty name",
		}},
		{"the same address", proxy.Config{Slots: map[string]string{"a": "h:1", "b": "h:1", "c": "", "d": ""}}, []string{`slots "a" and "b" have the same address "h:1"`}},
		{"active", proxy.Config{Slots: map[string]string{"a": "h:1"}, Active: "b"}, []string{`Config.Active: "b" is not one of the slots`}},
		{"active without address", proxy.Config{Slots: map[string]string{"a": ""}, Active: "a"}, []string{`Config.Active: slot "a" has no address`}},
		{"all at once", proxy.Config{Slots: map[string]string{"a": "x"}, Active: "b", TrustedPeers: make([]netip.Prefix, 1), ReleaseHeader: "a b"}, []string{
			`address "x"`, `Config.Active: "b"`, "Config.TrustedPeers: number 0", `Config.ReleaseHeader: "a b" is not a valid name`,
		}},
		{"release header", proxy.Config{Slots: map[string]string{"a": "h:1"}, ReleaseHeader: "connection"}, []string{`"connection" has a meaning of its own`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := proxy.New(tc.cfg)
			require.Error(t, err)
			assert.Nil(t, p)
			for _, w := range tc.want {
				assert.ErrorContains(t, err, w)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestNothingIsActiveUntilActivate(t *testing.T) {
	b := newBackend(t, "blue", hello)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": ""}})
	_, err := f.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNoActive)
	w, err := f.Weights(t.Context())
	assert.NoError(t, err)
	assert.Empty(t, w)
	resp, err := http.Get(f.url)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 503, resp.StatusCode)
	assert.Equal(t, "1", resp.Header.Get("Retry-After"))
	assert.EqualValues(t, 1, f.Stats().Refused)
	f.activate(t, plain("blue"))
	status, _, body := ask(t, newClient(t), f.url)
	assert.Equal(t, 200, status)
	assert.Equal(t, "hello\n", body)
}

// TestCallsThatAreRefused changes nothing by any of them.
func TestCallsThatAreRefused(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	ctx := t.Context()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	sick := errors.New("no answer")
	var nobody abswap.Slot
	for name, tc := range map[string]struct {
		err  error
		is   error
		says string
	}{
		"unknown":          {f.Activate(ctx, plain("red")), abswap.ErrUnknownSlot, `slot "red" is not in Config.Slots`},
		"nil":              {f.Activate(ctx, nobody), nil, "a weight has no slot"},
		"ended":            {f.Activate(ended, plain("green")), context.Canceled, ""},
		"inspect":          {f.Activate(ctx, &slot{name: "green", err: sick}), sick, `nothing changed: slot "green" cannot be inspected`},
		"bad address":      {f.Activate(ctx, newSlot("green", abswap.SlotState{Address: "x"})), nil, `slot "green": address "x" is not host:port`},
		"weights":          {f.SetWeights(ctx, abswap.Weight{Slot: plain("red"), Part: 50}, abswap.Weight{Slot: plain("pink"), Part: 50}), abswap.ErrUnknownSlot, `"pink"`},
		"sum":              {f.SetWeights(ctx, abswap.Weight{Slot: plain("green"), Part: 50}), nil, "sum up to 50"},
		"half sick":        {f.SetWeights(ctx, abswap.Weight{Slot: plain("green"), Part: 50}, abswap.Weight{Slot: &slot{name: "blue", err: sick}, Part: 50}), sick, "nothing changed"},
		"ended weights":    {f.SetWeights(ended, abswap.Weight{Slot: plain("green"), Part: 100}), context.Canceled, ""},
		"seal unknown":     {f.Seal(ctx, plain("red")), abswap.ErrUnknownSlot, ""},
		"seal ended":       {f.Seal(ended, plain("blue")), context.Canceled, ""},
		"seal nil":         {f.Seal(ctx, nil), nil, "the slot is nil"},
		"force unknown":    {f.Force(ctx, plain("red"), abswap.ForceCut), abswap.ErrUnknownSlot, ""},
		"wait unknown":     {f.WaitIdle(ctx, plain("red")), abswap.ErrUnknownSlot, ""},
		"wait ended":       {f.WaitIdle(ended, plain("blue")), context.Canceled, ""},
		"inflight unknown": {second(f.InFlight(ctx, plain("red"))), abswap.ErrUnknownSlot, ""},
		"list unknown":     {second(f.List(ctx, plain("red"), 1)), abswap.ErrUnknownSlot, ""},
		"active ended":     {second(f.Active(ended)), context.Canceled, ""},
		"weights ended":    {second(f.Weights(ended)), context.Canceled, ""},
		"check ended":      {f.Check(ended, abswap.CheckRequest{}), context.Canceled, ""},
	} {
		require.Error(t, tc.err, name)
		if tc.is != nil {
			assert.ErrorIs(t, tc.err, tc.is, name)
		}
		assert.ErrorContains(t, tc.err, tc.says, name)
	}
	active, err := f.Active(ctx)
	assert.NoError(t, err)
	assert.Equal(t, "blue", active)
	w, _ := f.Weights(ctx)
	assert.Equal(t, map[string]int{"blue": 100}, w)
}

func second[T any](_ T, err error) error { return err }

func TestCheckFindsWhatASwapCannotHave(t *testing.T) {
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1", "green": ""}})
	require.NoError(t, err)
	defer p.Close()
	assert.NoError(t, p.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("blue"), newSlot("green", abswap.SlotState{})}, Steps: []int{5}}))
	err = p.Check(t.Context(), abswap.CheckRequest{
		Slots: []abswap.Slot{plain("green"), plain("red"), nil}, Exclusive: true,
		Drain: abswap.DrainOptions{Sessions: true, AtDeadline: abswap.HandOver},
	})
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	for _, says := range []string{`slot "green" has no address`, `slot "red"`, "a slot is nil", "Drain.Sessions", "warning: proxy: a hand-over"} {
		assert.ErrorContains(t, err, says)
	}
	assert.NoError(t, p.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("blue")}, Exclusive: true}), "it can hold")
	assert.Equal(t, abswap.Traits{Forgets: true}, p.Traits())
}

// TestWeightsThroughTheFrontDoor shares requests exactly, and a slot of weight 0 gets none.
func TestWeightsThroughTheFrontDoor(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 93}, abswap.Weight{Slot: plain("green"), Part: 7}))
	name, err := f.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrMixed)
	assert.Equal(t, "blue", name)
	c := newClient(t)
	got := map[string]int{}
	for range 200 {
		_, by, _ := ask(t, c, f.url)
		got[by]++
	}
	assert.Equal(t, map[string]int{"blue": 186, "green": 14}, got)
	require.NoError(t, f.Seal(t.Context(), plain("blue")))
	w, _ := f.Weights(t.Context())
	assert.Equal(t, map[string]int{"green": 100}, w)
}

// TestCloseEndsAllAtOnce closes with work in flight; afterwards nothing moves.
func TestCloseEndsAllAtOnce(t *testing.T) {
	f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, hello)
	c := f.raw(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	waitLoad(t, f, "blue")
	require.NoError(t, f.Close())
	assert.Zero(t, f.load(t, "blue").Total())
	assert.ErrorIs(t, f.Activate(t.Context(), plain("green")), http.ErrServerClosed)
	assert.ErrorIs(t, f.Seal(t.Context(), plain("green")), http.ErrServerClosed)
	require.NoError(t, f.Close())
	require.NoError(t, f.Shutdown(t.Context()))
	_, err := f.Active(t.Context())
	assert.ErrorIs(t, err, http.ErrServerClosed, "nobody decided that no slot takes work")
}

// TestShutdownLosesNothing has clients post on kept connections while the proxy goes: every POST that was begun is answered, and a client is
// told to leave before its connection is closed.
func TestShutdownLosesNothing(t *testing.T) {
	f, _, _ := pair(t, hello, hello)
	c := f.raw(t)
	post := func() http.Header {
		c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
		resp, err := http.ReadResponse(c.br, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		if resp.Close {
			return nil
		}
		return resp.Header
	}
	assert.NotNil(t, post())
	idle := f.raw(t)
	idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.head()
	down := make(chan error, 1)
	go func() { down <- f.Shutdown(t.Context()) }()
	soon(t, "no new connections", func() bool {
		resp, err := newClient(t).Get(f.url)
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	assert.Nil(t, post(), "answered, and told to leave")
	assert.Empty(t, c.rest())
	assert.NoError(t, within(t, down, "shutdown"))
	assert.Equal(t, "hello\n", idle.rest(), "closed without an error")
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	hold := make(chan bool)
	f, _, _ := pair(t, func(http.ResponseWriter, *http.Request) { <-hold }, hello)
	end := inFlight(t, f, "blue")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, f.Shutdown(ctx), context.DeadlineExceeded)
	assert.Equal(t, 1, f.load(t, "blue").Requests, "what is left goes on")
	close(hold)
	end()
}
