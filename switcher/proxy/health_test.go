package proxy_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

// ward is a proxy with a live blue slot and a green one, in a bubble; sick says which answer badly, and asked counts.
type ward struct {
	*proxy.Switcher
	sick, asked map[string]*atomic.Int64 // by address
	told        chan proxy.SlotHealth
	hung        map[string]chan struct{}
}

// inWard runs f in a bubble.
func inWard(t *testing.T, cfg proxy.Config, f func(t *testing.T, w *ward)) {
	synctest.Test(t, func(t *testing.T) {
		w := &ward{sick: map[string]*atomic.Int64{}, asked: map[string]*atomic.Int64{}, told: make(chan proxy.SlotHealth, 100), hung: map[string]chan struct{}{}}
		apps := map[string]*pipeListener{}
		var all sync.WaitGroup
		var servers []*http.Server
		for _, addr := range []string{"blue:1", "green:1", "blue:2"} {
			l := newPipeListener()
			apps[addr], w.sick[addr], w.asked[addr], w.hung[addr] = l, new(atomic.Int64), new(atomic.Int64), make(chan struct{})
			srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				w.asked[addr].Add(1)
				assert.Equal(t, "/healthz", r.URL.Path)
				assert.Equal(t, "shop.example", r.Host)
				switch n := w.sick[addr].Load(); n {
				case 0:
				case hangs:
					select {
					case <-w.hung[addr]:
					case <-r.Context().Done():
					}
					rw.WriteHeader(http.StatusInternalServerError)
				default:
					rw.WriteHeader(int(n))
				}
			})}
			servers = append(servers, srv)
			all.Go(func() { srv.Serve(l) })
		}
		cfg.Slots, cfg.Active = map[string]string{"blue": "blue:1", "green": "green:1"}, "blue"
		cfg.Health.Path, cfg.Health.Host = "/healthz", "shop.example"
		cfg.OnHealth = func(h proxy.SlotHealth) { w.told <- h }
		cfg.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
			if l := apps[addr]; l != nil {
				return l.dial(ctx, "", "")
			}
			return nil, errors.New("connection refused")
		}
		p, err := proxy.New(cfg)
		require.NoError(t, err)
		w.Switcher = p
		f(t, w)
		require.NoError(t, p.Close())
		for _, s := range servers {
			s.Close()
		}
		all.Wait()
	})
}

const hangs = 1 // of sick: an answer comes when it is let

func (w *ward) both(t *testing.T, blue, green int) {
	require.NoError(t, w.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: blue}, abswap.Weight{Slot: plain("green"), Part: green}))
}

// rounds lets n rounds of probes, of 10 s each, pass, and what follows them.
func (w *ward) rounds(n int) {
	time.Sleep(time.Duration(n)*10*time.Second + time.Millisecond)
	synctest.Wait()
}

func (w *ward) states() map[string]string {
	got := map[string]string{}
	for _, h := range w.Health() {
		got[h.Slot] = h.State.String()
		if h.Ejected {
			got[h.Slot] += ", ejected"
		}
	}
	return got
}

// TestHealthIsTold asks the live and the kept slot, not the sealed one, tells what changes, and moves nothing.
func TestHealthIsTold(t *testing.T) {
	inWard(t, proxy.Config{Health: &proxy.Health{}}, func(t *testing.T, w *ward) {
		synctest.Wait()
		assert.Equal(t, map[string]string{"blue": "healthy"}, w.states(), "it is asked at once")
		assert.Equal(t, proxy.HealthGood, (<-w.told).State)
		require.NoError(t, w.Activate(t.Context(), plain("green")))
		synctest.Wait()
		assert.Equal(t, map[string]string{"blue": "healthy", "green": "healthy"}, w.states(), "so is a new one; the old one is kept")
		<-w.told

		w.sick["green:1"].Store(500)
		w.rounds(2)
		assert.Empty(t, w.told)
		assert.Equal(t, "status 500", w.Health()[1].Err)
		w.rounds(1)
		h := <-w.told
		assert.Equal(t, proxy.HealthUnhealthy, h.State)
		assert.Equal(t, "green", h.Slot)
		assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, w.Switcher))

		w.sick["green:1"].Store(0)
		w.rounds(1)
		assert.Empty(t, w.told, "once is not enough")
		w.rounds(1)
		assert.Equal(t, proxy.HealthGood, (<-w.told).State)

		w.sick["blue:1"].Store(302)
		w.rounds(3)
		h = <-w.told
		assert.Equal(t, "status 302", h.Err, "a redirect is no good answer")
		require.NoError(t, w.Seal(t.Context(), plain("blue")))
		w.rounds(1)
		before := w.asked["blue:1"].Load()
		w.rounds(5)
		assert.Equal(t, before, w.asked["blue:1"].Load(), "a sealed slot is left alone")
		assert.Equal(t, map[string]string{"green": "healthy"}, w.states())
	})
}

// TestHealthOfASlowSlot: no answer within the time is none.
func TestHealthOfASlowSlot(t *testing.T) {
	inWard(t, proxy.Config{Health: &proxy.Health{Timeout: 2 * time.Second, Fails: 1}}, func(t *testing.T, w *ward) {
		synctest.Wait()
		<-w.told
		w.sick["blue:1"].Store(hangs)
		w.rounds(1)
		assert.Empty(t, w.told)
		time.Sleep(2 * time.Second)
		h := <-w.told
		assert.Equal(t, proxy.HealthUnhealthy, h.State)
		assert.Contains(t, h.Err, "no answer within 2s")
	})
}

// TestHealthEjects takes an unhealthy slot out of the weights and brings it back, never the last one, and never one that has no part.
func TestHealthEjects(t *testing.T) {
	inWard(t, proxy.Config{Health: &proxy.Health{Eject: true}}, func(t *testing.T, w *ward) {
		w.both(t, 95, 5)
		synctest.Wait()
		w.sick["green:1"].Store(500)
		w.rounds(3)
		assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, w.Switcher))
		assert.Equal(t, map[string]string{"blue": "healthy", "green": "unhealthy, ejected"}, w.states())
		w.sick["blue:1"].Store(500)
		w.rounds(3)
		assert.Equal(t, map[string]int{"blue": 95, "green": 5}, weightsOf(t, w.Switcher), "none is better than the other")
		w.sick["green:1"].Store(0)
		w.rounds(2)
		assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, w.Switcher))
		w.sick["blue:1"].Store(0)
		w.rounds(2)
		assert.Equal(t, map[string]int{"blue": 95, "green": 5}, weightsOf(t, w.Switcher))

		w.sick["green:1"].Store(500)
		w.rounds(3)
		require.NoError(t, w.Activate(t.Context(), plain("green")))
		assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, w.Switcher), "what is ordered is done")
		w.sick["green:1"].Store(0)
		w.rounds(2)
		w.sick["green:1"].Store(500)
		w.rounds(5)
		assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, w.Switcher), "blue is well, but has no part")
	})
}

// TestA2HealthOfAnOlderGeneration lets a probe of a release hang, puts the next release into the slot, and lets the probe end: that says
// nothing of the new one. With the peers' fault, that what is known goes by address, it does.
func TestA2HealthOfAnOlderGeneration(t *testing.T) {
	for _, fault := range []bool{false, true} {
		inWard(t, proxy.Config{Health: &proxy.Health{Timeout: time.Hour, Fails: 1, Eject: true}}, func(t *testing.T, w *ward) {
			if fault {
				proxy.HealthByAddress(w.Switcher)
			}
			v1 := newSlot("green", abswap.SlotState{Release: "v1", Running: true, Address: "green:1"})
			require.NoError(t, w.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: v1, Part: 50}))
			synctest.Wait()
			w.sick["green:1"].Store(hangs)
			w.rounds(1)
			v2 := newSlot("green", abswap.SlotState{Release: "v2", Running: true, Address: "green:1"})
			w.sick["green:1"].Store(0)
			require.NoError(t, w.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 50}, abswap.Weight{Slot: v2, Part: 50}))
			synctest.Wait()
			close(w.hung["green:1"])
			synctest.Wait()
			want, state := map[string]int{"blue": 50, "green": 50}, "healthy"
			if fault {
				want, state = map[string]int{"blue": 100}, "unhealthy, ejected"
			}
			assert.Equal(t, want, weightsOf(t, w.Switcher), "fault: %v", fault)
			assert.Equal(t, state, w.states()["green"], "fault: %v", fault)
		})
	}
}

// TestA3ProbeNeverUndrains: a probe that passes while its slot drains, or is sealed since, changes nothing. With kamal-proxy's fault it does.
func TestA3ProbeNeverUndrains(t *testing.T) {
	for _, fault := range []bool{false, true} {
		inWard(t, proxy.Config{Health: &proxy.Health{Timeout: time.Hour, Eject: true}}, func(t *testing.T, w *ward) {
			synctest.Wait()
			if fault {
				proxy.HealthUndrains(w.Switcher)
			}
			require.NoError(t, w.Activate(t.Context(), plain("green")))
			w.rounds(4)
			got := weightsOf(t, w.Switcher)
			if fault {
				assert.Positive(t, got["blue"])
				return
			}
			assert.Equal(t, map[string]int{"green": 100}, got)
			w.sick["blue:1"].Store(hangs)
			w.rounds(1)
			require.NoError(t, w.Seal(t.Context(), plain("blue")))
			close(w.hung["blue:1"])
			w.rounds(4)
			assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, w.Switcher))
			assert.True(t, w.Sealed("blue"))
		})
	}
}

// TestHealthOfASlotThatSpeaksHTTP2 only, in plaintext.
func TestHealthOfASlotThatSpeaksHTTP2(t *testing.T) {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	app := &http.Server{Protocols: only, Handler: http.HandlerFunc(hello)}
	go app.Serve(l)
	t.Cleanup(func() { app.Close() })
	told := make(chan proxy.SlotHealth, 1)
	serve(t, proxy.Config{Slots: map[string]string{"blue": l.Addr().String()}, Active: "blue", Protocols: map[string]proxy.Protocol{"blue": proxy.H2C},
		Health: &proxy.Health{Path: "/"}, OnHealth: func(h proxy.SlotHealth) { told <- h }})
	h := within(t, told, "the first probe")
	assert.Equal(t, proxy.HealthGood, h.State, h.Err)
}

// TestHealthMistakes are told by New.
func TestHealthMistakes(t *testing.T) {
	_, err := proxy.New(proxy.Config{Slots: map[string]string{"a": "h:1"}, Health: &proxy.Health{Path: "x", Every: -1}})
	assert.ErrorContains(t, err, `Config.Health.Path: "x" does not begin with /`)
	assert.ErrorContains(t, err, "none may be below 0")
}
