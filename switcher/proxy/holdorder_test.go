package proxy_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// TestOrdersUnderALostHold: who holds and then switches must not switch when requests have gone on meanwhile, since the proxy was started anew.
func TestOrdersUnderALostHold(t *testing.T) {
	first, second := idlePair(t), idlePair(t)
	token := rand.Text()
	var now atomic.Pointer[http.Handler]
	serve := func(p *proxy.Switcher) {
		h, err := proxy.ControlHandler(p, proxy.ControlOptions{Token: token})
		require.NoError(t, err)
		now.Store(&h)
	}
	serve(first)
	l, err := proxy.ListenControl("127.0.0.1:0")
	require.NoError(t, err)
	server := proxy.ControlServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*now.Load()).ServeHTTP(w, r) }))
	over := make(chan error, 1)
	go func() { over <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-over
	})
	client := plane{first, l.Addr().String(), token}.client(t)

	release, err := client.Hold(t.Context(), longHold)
	require.NoError(t, err)
	green := plain("green")
	require.NoError(t, client.Activate(t.Context(), green), "the hold is in force")
	release()
	require.NoError(t, client.Activate(t.Context(), plain("blue")))

	release, err = client.Hold(t.Context(), longHold)
	require.NoError(t, err)
	serve(second)
	require.NoError(t, second.Activate(t.Context(), plain("blue")))
	for _, order := range []func() error{
		func() error { return client.Activate(t.Context(), green) },
		func() error {
			return client.SetWeights(t.Context(), abswap.Weight{Slot: green, Part: 30}, abswap.Weight{Slot: plain("blue"), Part: 70})
		},
	} {
		err := order()
		assert.ErrorIs(t, err, abswap.ErrPermanent)
		assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
		assert.ErrorContains(t, err, "the hold is not in force any more")
		weights, err := second.Weights(t.Context())
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"blue": 100}, weights)
	}
	release()
	assert.NoError(t, client.Activate(t.Context(), green), "it was given up, so nothing rests on it")

	_, err = client.Hold(t.Context(), abswap.HoldOptions{Total: 50 * time.Millisecond})
	require.NoError(t, err)
	soon(t, "the hold ends by itself", func() bool {
		release, err := second.Hold(t.Context(), longHold)
		if err == nil {
			release()
		}
		return err == nil
	})
	assert.NoError(t, client.Activate(t.Context(), plain("blue")), "its Total is over, which its owner knows")
}

// TestOrderUnderAHoldThatHasEnded gives the orders by hand: the lease runs out, since nobody renews it.
func TestOrderUnderAHoldThatHasEnded(t *testing.T) {
	c := controlled(t, idlePair(t), proxy.ControlOptions{Lease: 300 * time.Millisecond})
	order := func(path, text string) (int, map[string]any) {
		return c.ask(t, http.MethodPost, path, strings.NewReader(text), nil)
	}
	hold := func() string {
		status, answer := order("/v1/hold", fmt.Sprintf(`{"revision":%d,"each":0,"total":0,"max":0,"bytes":0,"beyond":"refuse"}`, c.revision(t)))
		require.Equal(t, http.StatusOK, status, "%v", answer)
		return answer["id"].(string)
	}
	activate := func(id string) int {
		status, _ := order("/v1/activate", fmt.Sprintf(`{"revision":%d,"slot":{"name":"green"},"hold":%q}`, c.revision(t), id))
		return status
	}
	id := hold()
	soon(t, "the lease runs out", func() bool {
		release, err := c.p.Hold(t.Context(), longHold)
		if err == nil {
			release()
		}
		return err == nil
	})
	assert.Equal(t, http.StatusNotFound, activate(id))
	assert.Equal(t, http.StatusNotFound, activate("never given"))
	id = hold()
	status, answer := order("/v1/hold/release", fmt.Sprintf(`{"id":%q}`, id))
	require.Equal(t, http.StatusOK, status, "%v", answer)
	assert.Equal(t, http.StatusNotFound, activate(id))
	active, err := c.p.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", active)
	assert.Equal(t, http.StatusOK, activate(""))
}

// TestOrderWaitsForAProxyThatComesBack: between the end of a proxy that was killed and the start of the next one nobody listens.
func TestOrderWaitsForAProxyThatComesBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := plane{idlePair(t), l.Addr().String(), rand.Text()}
	require.NoError(t, l.Close())
	h, err := proxy.ControlHandler(c.p, proxy.ControlOptions{Token: c.token})
	require.NoError(t, err)
	server := proxy.ControlServer(h)
	over := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		l, err := proxy.ListenControl(c.address)
		if err != nil {
			over <- err
			return
		}
		over <- server.Serve(l)
	})
	t.Cleanup(func() {
		server.Close()
		assert.ErrorIs(t, <-over, http.ErrServerClosed)
	})
	client := c.client(t)
	_, err = client.Active(t.Context())
	require.Error(t, err, "a question is answered at once")
	require.NoError(t, client.Activate(t.Context(), plain("green")))
	active, err := c.p.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
}
