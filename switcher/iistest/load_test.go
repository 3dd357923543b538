package iistest_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iistest"
)

// TestSwapsUnderLoad: with the documented behaviour nothing fails while pools and folders are exchanged and recycled under load; and when a
// swap is in force, no request that begins then sees the old release.
func TestSwapsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *iistest.Config) { c.AppStart = time.Second })
	w.get(public)
	var stop atomic.Bool
	var asked, late atomic.Int64
	var live atomic.Pointer[string]
	first := "v1"
	live.Store(&first)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			c := w.Client()
			defer c.CloseIdleConnections()
			for !stop.Load() {
				begun := live.Load()
				a := ask(c, http.MethodPost, public+"/x", strings.NewReader("body"))
				if !assert.NoError(t, a.err) || !assert.Equal(t, http.StatusOK, a.status) {
					return
				}
				asked.Add(1)
				if live.Load() == begun && a.release != *begun && *begun != "" {
					late.Add(1)
				}
			}
		})
	}
	pools := []string{"B", "A"}
	releases := []string{"v2", "v3", "v1"}
	for i := range 12 {
		moving := ""
		live.Store(&moving)
		w.rootSwap(pools[i%2], releases[i%3])
		now := releases[i%3]
		live.Store(&now)
		before := asked.Load()
		w.eventually("traffic", func() bool { return asked.Load() > before+20 || t.Failed() })
		w.must("recycle", "apppool", pools[i%2])
	}
	stop.Store(true)
	clients.Wait()
	assert.Zero(t, late.Load())
	assert.Greater(t, asked.Load(), int64(200))
}
