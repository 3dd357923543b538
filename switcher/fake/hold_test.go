package fake_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// begun is what a request in a hold came to.
type begun struct {
	n     int
	slot  string
	order int64
	err   error
	after time.Duration
}

// hold starts a hold and sends n requests into it, one after the other.
func hold(t *testing.T, sw *fake.Switcher, o abswap.HoldOptions, n int, r fake.Request) (release func(), results chan begun) {
	t.Helper()
	release, err := sw.Hold(t.Context(), o)
	require.NoError(t, err)
	results = make(chan begun, n)
	for i := range n {
		go func() {
			start := time.Now()
			b := begun{n: i}
			w, err := sw.Open(t.Context(), r)
			if err == nil {
				b.slot, b.order = w.Slot(), w.Order()
				w.End()
			}
			b.err, b.after = err, time.Since(start)
			results <- b
		}()
		synctest.Wait()
	}
	return release, results
}

func TestHoldDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		_, results := hold(t, sw, abswap.HoldOptions{Each: time.Minute}, 1, fake.Request{})
		b := <-results
		assert.NoError(t, b.err)
		assert.Equal(t, 10*time.Second, b.after, "Total ends the hold, although nobody releases it")
		_, results = hold(t, sw, abswap.HoldOptions{}, 1, fake.Request{})
		b = <-results
		assert.ErrorIs(t, b.err, fake.ErrRefused)
		assert.Equal(t, 5*time.Second, b.after, "Each")
		assert.Zero(t, sw.Held())
	})
}

func TestHoldRefusesBadOptions(t *testing.T) {
	sw := fake.New("blue", "green")
	for _, o := range []abswap.HoldOptions{{Each: -1}, {Total: -1}, {Max: -1}, {Bytes: -1}} {
		_, err := sw.Hold(t.Context(), o)
		assert.Error(t, err, "%+v", o)
	}
}

func TestHoldGoesOnInOrderAlsoAfterTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		_, results := hold(t, sw, abswap.HoldOptions{Each: time.Hour, Total: time.Minute}, 50, fake.Request{})
		assert.Equal(t, 50, sw.Held())
		order := map[int]int64{}
		for range 50 {
			b := <-results
			require.NoError(t, b.err)
			order[b.n] = b.order
		}
		for i := range 49 {
			assert.Less(t, order[i], order[i+1])
		}
	})
}

func TestHoldThatEndsWithEachRefusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		_, results := hold(t, sw, abswap.HoldOptions{Each: time.Minute, Total: time.Minute}, 200, fake.Request{})
		for range 200 { // all of them at the moment at which each could wait no longer
			assert.NoError(t, (<-results).err)
		}
	})
}

func TestHoldBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		release, results := hold(t, sw, abswap.HoldOptions{Bytes: 25}, 3, fake.Request{Kind: fake.Upload, Body: 10})
		b := <-results
		assert.Equal(t, 2, b.n)
		assert.ErrorIs(t, b.err, fake.ErrRefused)
		assert.Zero(t, b.after)
		release()
		for range 2 {
			assert.NoError(t, (<-results).err)
		}
	})
}

func TestHoldNeverServesAClientThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		release, err := sw.Hold(t.Context(), abswap.HoldOptions{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := sw.Open(ctx, fake.Request{})
			result <- err
		}()
		synctest.Wait()
		cancel()
		release() // in the same moment, before the waiter could leave the queue
		assert.ErrorIs(t, <-result, context.Canceled)
		l, err := sw.InFlight(t.Context(), blue)
		require.NoError(t, err)
		assert.Zero(t, l.Total())
	})
}

func TestHoldWithNothingActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		release, results := hold(t, sw, abswap.HoldOptions{}, 1, fake.Request{})
		require.NoError(t, sw.Seal(t.Context(), blue))
		release()
		assert.ErrorIs(t, (<-results).err, abswap.ErrNoActive)
	})
}
