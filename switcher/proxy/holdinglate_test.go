package proxy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// lateFront is a front whose list takes a while to come: it has one request, in blue.
type lateFront struct {
	*proxy.Switcher
	began time.Time
}

func (f *lateFront) InFlight(ctx context.Context, s abswap.Slot) (abswap.Load, error) {
	l, err := f.Switcher.InFlight(ctx, s)
	if s.Name() == "blue" {
		l.Requests = 1
	}
	return l, err
}

func (f *lateFront) List(_ context.Context, s abswap.Slot, _ int) ([]abswap.Work, error) {
	if s.Name() != "blue" {
		return nil, nil
	}
	all := []abswap.Work{{Kind: "request", Age: time.Since(f.began)}}
	time.Sleep(3 * time.Second)
	return all, nil
}

// TestHoldingOfALateList counts what began before it was known whose it is for every slot, also where the list is old when it comes.
func TestHoldingOfALateList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
		require.NoError(t, err)
		defer p.Close()
		inner, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:1", "green": "127.0.0.1:2"}, Active: "blue"})
		require.NoError(t, err)
		defer inner.Close()
		f := &lateFront{Switcher: p}
		h, err := proxy.NewHolding(proxy.HoldingConfig{Front: f, Inner: &gappy{engine: inner}, Slots: []abswap.Slot{plain("blue"), plain("green")},
			Address: "127.0.0.1:1"})
		require.NoError(t, err)
		require.NoError(t, h.Follow(t.Context()))
		require.NoError(t, inner.Activate(t.Context(), plain("green")))
		f.began = time.Now()
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, h.Follow(t.Context()))
		time.Sleep(10 * time.Second)
		l, err := h.InFlight(t.Context(), plain("green"))
		require.NoError(t, err)
		assert.Equal(t, 1, l.Requests, "it may be green's")
		assert.Equal(t, abswap.EvidenceExact, l.Evidence)
	})
}
