package proxy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// What others get wrong about holding requests: each case passes here, and fails with their fault.

// TestD1EveryStateSurvivesACrash leaves a proxy in each of its states, starts another one from what a crash would leave on the disk, and makes
// every move there is: all of them work, and requests are answered. kamal-proxy that was paused comes back paused, with nobody who could
// release it; with that fault requests wait and no other hold is possible.
func TestD1EveryStateSurvivesACrash(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, f *front){
		"active": func(t *testing.T, f *front) {},
		"weights": func(t *testing.T, f *front) {
			require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50}))
		},
		"sealed": func(t *testing.T, f *front) {
			f.activate(t, plain("green"))
			require.NoError(t, f.Seal(t.Context(), plain("blue")))
		},
		"held":              func(t *testing.T, f *front) { f.hold(t, longHold) },
		"held and switched": func(t *testing.T, f *front) { f.hold(t, longHold); f.activate(t, plain("green")) },
	} {
		for _, fault := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fault %v", name, fault), func(t *testing.T) {
				if fault && name != "held" {
					t.Skip("it has no such fault")
				}
				b, g := newBackend(t, "blue", hello), newBackend(t, "green", hello)
				dir := t.TempDir()
				cfg := proxy.Config{Slots: map[string]string{"blue": address(b.Server), "green": address(g.Server)}, Active: "blue", StateFile: filepath.Join(dir, "one")}
				first := serve(t, cfg)
				put(t, first)
				left, err := os.ReadFile(cfg.StateFile)
				require.NoError(t, err)
				cfg.StateFile = filepath.Join(dir, "two")
				require.NoError(t, os.WriteFile(cfg.StateFile, left, 0o600))
				f := serve(t, cfg)
				if fault {
					proxy.RestoreHeld(f.Switcher)
					c := f.raw(t)
					c.send(plainGET)
					f.held(t, 1)
					_, err := f.Hold(t.Context(), longHold)
					assert.ErrorIs(t, err, abswap.ErrBusy)
					return
				}
				answered := func(what string) {
					t.Helper()
					status, _, _ := ask(t, newClient(t), f.url)
					assert.Equal(t, 200, status, what)
				}
				answered("at once")
				for range 2 {
					release := f.hold(t, longHold)
					f.activate(t, plain("green"))
					release()
					release()
					answered("after a hold")
					require.NoError(t, f.Seal(t.Context(), plain("blue")))
					answered("after a seal")
					require.NoError(t, f.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: plain("green"), Part: 50}))
					answered("with weights")
					f.activate(t, plain("blue"))
					answered("after the way back")
				}
			})
		}
	}
}

// TestD2PausesDropNothing holds and releases without a pause under load. With the fault of a pause that is not at one with the pick, here one
// that takes the slots out of work for a moment, requests are refused.
func TestD2PausesDropNothing(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for _, fault := range []bool{false, true} {
		f, _, _ := pair(t, hello, hello)
		var bad, done atomic.Int64
		stop := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			c := newClient(t)
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					resp, err := c.Post(f.url, "text/plain", strings.NewReader("hello"))
					if err != nil {
						bad.Add(1)
						continue
					}
					resp.Body.Close()
					if done.Add(1); resp.StatusCode != 200 {
						bad.Add(1)
					}
				}
			})
		}
		for i := range rounds {
			before := done.Load()
			if fault {
				proxy.Disturb(f.Switcher, "")
				soon(t, "requests come", func() bool { return done.Load() > before })
				proxy.Disturb(f.Switcher, "blue")
				if bad.Load() > 0 {
					break
				}
				continue
			}
			release := f.hold(t, longHold)
			if i%3 == 0 {
				f.held(t, 8) // all of them
			}
			release()
			soon(t, "requests go on", func() bool { return done.Load() > before })
		}
		close(stop)
		all.Wait()
		assert.Equal(t, fault, bad.Load() > 0, "%d of %d", bad.Load(), done.Load())
	}
}

// TestD3HeldAndGoneIsNotDelivered: the client of a POST hangs up while it is held, with its body sent and unread. With the fault of kamal-proxy,
// that nobody looks at it meanwhile, it is delivered.
func TestD3HeldAndGoneIsNotDelivered(t *testing.T) {
	for _, fault := range []bool{false, true} {
		var delivered atomic.Int64
		f, _, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
			if hello(w, r); r.Method == http.MethodPost {
				delivered.Add(1)
			}
		}, hello)
		if fault {
			proxy.Blind(f.Switcher)
		}
		release := f.hold(t, longHold)
		c := f.raw(t)
		c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
		f.held(t, 1)
		c.Close()
		if !fault {
			f.held(t, 0)
		}
		release()
		f.idle(t, "blue")
		if fault {
			soon(t, "a ghost is delivered", func() bool { return delivered.Load() == 1 })
			continue
		}
		status, _, _ := ask(t, newClient(t), f.url)
		assert.Equal(t, 200, status)
		assert.Zero(t, delivered.Load(), "a ghost")
	}
}

// TestD4WaitersAreBoundedAndPaced: a hold keeps so many and no more; what it keeps goes on in order, and with Config.MaxInFlight only as many at
// a time as the slot may carry. With the fault, a release of all at once, the slot gets all at once.
func TestD4WaitersAreBoundedAndPaced(t *testing.T) {
	const waiting, limit = 20, 1
	for _, fault := range []bool{false, true} {
		cfg := proxy.Config{MaxInFlight: limit}
		if fault {
			cfg.MaxInFlight = 0
		}
		f, blue, _ := gated(t, cfg)
		o := longHold
		o.Max = waiting
		release := f.hold(t, o)
		clients := f.post(t, 0, waiting)
		more := f.raw(t)
		more.send(plainGET)
		h := more.head()
		assert.Contains(t, h, "HTTP/1.1 503 ")
		assert.Contains(t, h, "Retry-After: ")
		release()
		if fault {
			soon(t, "all are in the slot at once", func() bool { return blue.most.Load() == waiting })
		}
		for i := range waiting {
			path := within(t, blue.came, "the next")
			if !fault && i >= limit {
				assert.Equal(t, fmt.Sprintf("/%d", i), path)
			}
			blue.goOn <- struct{}{}
		}
		for _, c := range clients {
			assert.Contains(t, c.head(), "200 OK")
		}
		if !fault {
			assert.LessOrEqual(t, blue.most.Load(), int64(limit))
		}
	}
}
