package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// TestHoldingUnderAHold activates while the caller holds, as an exclusive swap does.
func TestHoldingUnderAHold(t *testing.T) {
	h := holding(t, hello, hello, nil)
	release, err := h.Hold(t.Context(), abswap.HoldOptions{Total: time.Hour, Each: time.Hour})
	require.NoError(t, err)
	answered := make(chan string, 1)
	go func() {
		_, slot, _ := ask(t, newClient(t), h.front.url)
		answered <- slot
	}()
	h.front.held(t, 1)
	require.NoError(t, h.Activate(t.Context(), plain("green")))
	assert.Equal(t, 1, h.front.Held(), "it is the caller's hold")
	release()
	assert.Equal(t, "green", within(t, answered, "the release"))

	other, err := h.front.Hold(t.Context(), abswap.HoldOptions{})
	require.NoError(t, err)
	defer other()
	assert.ErrorIs(t, h.Activate(t.Context(), plain("blue")), abswap.ErrBusy, "somebody else's hold may end at any time")
	active, err := h.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
}

// TestHoldingUnderAHoldThatIsLost activates under the caller's hold, which the proxy loses in the midst of the inner switch: it is told all the
// same whose requests come from then on.
func TestHoldingUnderAHoldThatIsLost(t *testing.T) {
	t.Parallel()
	var deaf atomic.Bool
	h := holding(t, hello, hello, func(h *held, c *proxy.HoldingConfig) {
		const token = "a-token-of-forty-characters-or-so-no-less"
		handler, err := proxy.ControlHandler(h.front.Switcher, proxy.ControlOptions{Token: token, Lease: 100 * time.Millisecond})
		require.NoError(t, err)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if deaf.Load() && r.URL.Path == "/v1/hold/renew" {
				http.Error(w, "it does not arrive", http.StatusBadGateway)
				return
			}
			handler.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		c.Front = plane{h.front.Switcher, server.Listener.Addr().String(), token}.client(t)
	})
	h.inner.script(func() {
		h.inner.before = func(context.Context) error {
			deaf.Store(true)
			_, slot, _ := ask(t, newClient(t), h.front.url)
			assert.Equal(t, "blue", slot, "the hold ends by itself")
			return nil
		}
	})
	release, err := h.Hold(t.Context(), abswap.HoldOptions{Total: time.Hour, Each: time.Hour})
	require.NoError(t, err)
	defer release()
	require.NoError(t, h.Activate(t.Context(), plain("green")))
	assert.True(t, h.last().Expired)
	active, err := h.front.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
	soon(t, "the counts are known", func() bool { return h.load(t, "blue").Evidence == abswap.EvidenceExact })
}
