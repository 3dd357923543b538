package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// TestHoldingRules runs the conformance suite on a proxy in front of a switcher with a gap.
func TestHoldingRules(t *testing.T) {
	t.Parallel()
	switchertest.Run(t, func(context.Context) (switchertest.Rig, error) { return newHoldingRig() })
}

func newHoldingRig() (rig switchertest.Rig, err error) {
	blue, green := httptest.NewServer(switchertest.NewApp("blue")), httptest.NewServer(switchertest.NewApp("green"))
	var serving sync.WaitGroup
	open := func(cfg proxy.Config) (*proxy.Switcher, string, error) {
		p, err := proxy.New(cfg)
		if err != nil {
			return nil, "", err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		serving.Go(func() { p.Serve(l) })
		return p, l.Addr().String(), nil
	}
	engine, door, err := open(proxy.Config{Slots: map[string]string{"blue": address(blue), "green": address(green)}, Active: "blue"})
	if err != nil {
		return rig, err
	}
	p, front, err := open(proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
	if err != nil {
		return rig, err
	}
	h, err := proxy.NewHolding(proxy.HoldingConfig{Front: p, Inner: &gappy{engine: engine, gap: 2 * time.Millisecond}, Settle: 400 * time.Millisecond,
		Slots: []abswap.Slot{plain("blue"), plain("green")}, Address: door})
	if err != nil {
		return rig, err
	}
	if err := h.Follow(context.Background()); err != nil {
		return rig, err
	}
	site := &switchertest.Site{Front: "http://" + front, Slots: map[string]string{"blue": blue.URL, "green": green.URL}}
	rig = site.Rig()
	rig.Switcher, rig.Blue, rig.Green, rig.Held, rig.Load = h, plain("blue"), plain("green"), p.Held, 60
	rig.Disturb = func(ctx context.Context, slot string) error {
		if slot != "" {
			return engine.Activate(ctx, plain(slot))
		}
		return multi.Join(engine.Seal(ctx, plain("blue")), engine.Seal(ctx, plain("green")))
	}
	rig.Close = func() error {
		err := multi.Join(site.Close(), p.Close(), engine.Close())
		serving.Wait()
		for _, s := range []*httptest.Server{blue, green} {
			s.CloseClientConnections()
			s.Close()
		}
		return err
	}
	return rig, nil
}

// TestHoldingLosesNothing switches under load, with the proxy's hold and without it.
func TestHoldingLosesNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		hold bool
	}{{"held", true}, {"not held", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := holding(t, hello, hello, nil)
			var asked, lost, late atomic.Int64
			var want atomic.Pointer[string] // the slot that must answer, a pointer of its own each time; nil: either
			must := func(slot string) { want.Store(&slot) }
			must("blue")
			ctx, stop := context.WithCancel(t.Context())
			var load sync.WaitGroup
			for range 8 {
				c := newClient(t)
				load.Go(func() {
					for ctx.Err() == nil {
						then := want.Load()
						r, err := http.NewRequest(http.MethodPost, h.front.url, struct{ io.Reader }{strings.NewReader("cannot be repeated")})
						if err != nil {
							lost.Add(1)
							return
						}
						resp, err := c.Do(r)
						asked.Add(1)
						if err != nil {
							lost.Add(1)
							continue
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							lost.Add(1)
						} else if then != nil && then == want.Load() && *then != resp.Header.Get("Slot") {
							late.Add(1)
						}
					}
				})
			}
			slots := []string{"green", "blue"}
			for i := range 10 {
				to := slots[i%2]
				n := asked.Load()
				soon(t, "requests come", func() bool { return asked.Load() > n+8 })
				want.Store(nil)
				var err error
				if tc.hold {
					err = h.Activate(t.Context(), plain(to))
				} else {
					err = multi.Join(h.inner.Activate(t.Context(), plain(to)), h.Follow(t.Context()))
				}
				require.NoError(t, err)
				must(to)
			}
			stop()
			load.Wait()
			assert.Zero(t, late.Load(), "answered by the old slot")
			if tc.hold {
				assert.Zero(t, lost.Load(), "of %d", asked.Load())
				for _, s := range h.seen {
					assert.False(t, s.Expired)
					assert.NoError(t, s.Err)
				}
			} else {
				assert.NotZero(t, lost.Load(), "the gap is there")
			}
		})
	}
}

// TestHoldingLeavesLongWorkWhereItIs switches over an upload and a tunnel, which the switch does not wait for and which stay counted.
func TestHoldingLeavesLongWorkWhereItIs(t *testing.T) {
	begun := make(chan string, 2)
	upload := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodPost {
			http.NewResponseController(w).EnableFullDuplex()
			io.WriteString(w, "first byte\n")
			http.NewResponseController(w).Flush()
			begun <- "upload"
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintln(w, n, err)
		}
	}
	h := holding(t, upload, upload, nil)
	body, w := io.Pipe()
	answer := make(chan string, 1)
	c := newClient(t)
	go func() {
		resp, err := c.Post(h.front.url, "text/plain", body)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		answer <- fmt.Sprint(resp.Header.Get("Slot"), " ", string(text), err)
	}()
	_, err := io.WriteString(w, "half")
	require.NoError(t, err)
	within(t, begun, "the upload begins")
	soon(t, "the first byte of the answer is through", func() bool {
		all, err := h.List(t.Context(), plain("blue"), 10)
		return err == nil && len(all) == 1 && all[0].Out > 0
	})

	require.NoError(t, h.Activate(t.Context(), plain("green")))
	assert.Equal(t, 1, h.last().Begun)
	assert.Zero(t, h.last().Unproven)
	assert.Less(t, h.last().Settled, patience, "it is not waited for")
	assert.Equal(t, abswap.Load{Requests: 1, Evidence: abswap.EvidenceExact, Source: "proxy counters"}, h.load(t, "blue"))
	assert.Equal(t, abswap.Load{Evidence: abswap.EvidenceExact, Source: "proxy counters"}, h.load(t, "green"))
	_, slot, _ := ask(t, newClient(t), h.front.url)
	assert.Equal(t, "green", slot)

	require.NoError(t, h.Activate(t.Context(), plain("blue")), "and back")
	assert.Equal(t, 1, h.load(t, "blue").Total())
	_, err = io.WriteString(w, "more")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Equal(t, "blue first byte\n8 <nil>\n<nil>", within(t, answer, "the upload ends"))
	soon(t, "it is counted no more", func() bool { return h.load(t, "blue").Total() == 0 })
}

// TestHoldingWaitsForWhatIsOnItsWay has a request that the inner front door has not begun to answer: nothing moves before it has.
func TestHoldingWaitsForWhatIsOnItsWay(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	slow := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(reached)
			<-goOn
		}
		hello(w, r)
	}
	h := holding(t, slow, hello, nil)
	moves := make(chan struct{})
	h.inner.script(func() { h.inner.before = func(context.Context) error { close(moves); return nil } })
	first, next := make(chan string, 1), make(chan string, 1)
	get := func(path string, to chan string) {
		_, slot, _ := ask(t, newClient(t), h.front.url+path)
		to <- slot
	}
	go get("/slow", first)
	within(t, reached, "it is at the application")
	ended := make(chan error, 1)
	go func() { ended <- h.Activate(t.Context(), plain("green")) }()
	soon(t, "a hold is in force", func() bool {
		release, err := h.front.Hold(t.Context(), abswap.HoldOptions{})
		if err == nil {
			release()
		}
		return errors.Is(err, abswap.ErrBusy)
	})
	go get("/", next)
	h.front.held(t, 1)
	notYet(t, moves, "the inner switch, while a request is on its way", 100*time.Millisecond)
	close(goOn)
	assert.Equal(t, "blue", within(t, first, "the first answer"))
	within(t, moves, "the inner switch")
	require.NoError(t, within(t, ended, "the switch ends"))
	assert.Equal(t, "green", within(t, next, "the one that waited"))
	assert.Zero(t, h.last().Unproven, "it had its answer, or a part of it")
}

// TestHoldingSettlesForAge has a request without an answer that is older than Settle: it is taken as begun, and told.
func TestHoldingSettlesForAge(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	slow := func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-goOn
		hello(w, r)
	}
	h := holding(t, slow, hello, func(_ *held, c *proxy.HoldingConfig) { c.Settle = 10 * time.Millisecond })
	answered := make(chan string, 1)
	go func() {
		_, slot, _ := ask(t, newClient(t), h.front.url)
		answered <- slot
	}()
	within(t, reached, "it is at the application")
	require.NoError(t, h.Activate(t.Context(), plain("green")))
	assert.Equal(t, 1, h.last().Unproven)
	close(goOn)
	assert.Equal(t, "blue", within(t, answered, "the answer"))
}

// TestHoldingEndedWhileSettling changes nothing, and lets go.
func TestHoldingEndedWhileSettling(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	var came atomic.Int64
	h := holding(t, func(w http.ResponseWriter, r *http.Request) {
		if came.Add(1) == 1 {
			close(reached)
			<-goOn
		}
		hello(w, r)
	}, hello, nil)
	h.inner.script(func() { h.inner.before = func(context.Context) error { t.Error("it moved"); return nil } })
	answered := make(chan string, 2)
	get := func() {
		_, slot, _ := ask(t, newClient(t), h.front.url)
		answered <- slot
	}
	go get()
	within(t, reached, "it is at the application")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Activate(ctx, plain("green")) }()
	soon(t, "a request waits", func() bool {
		if h.front.Held() == 0 {
			release, err := h.front.Hold(t.Context(), abswap.HoldOptions{})
			if err == nil {
				release()
				return false
			}
			go get()
			h.front.held(t, 1)
		}
		return true
	})
	cancel()
	err := within(t, ended, "the switch is given up")
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.Equal(t, "blue", within(t, answered, "the one that waited"))
	close(goOn)
	assert.Equal(t, "blue", within(t, answered, "the one on its way"))
	active, err := h.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", active)
}

// TestHoldingOutcomes fails the inner switch in each way: requests go on to whoever serves, and are counted for that slot.
func TestHoldingOutcomes(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, tc := range []struct {
		name    string
		script  func(*gappy)
		serving string
		want    error
		known   bool
	}{
		{"nothing moved", func(g *gappy) { g.before = func(context.Context) error { return broken } }, "blue", broken, true},
		{"moved, and told as unknown", func(g *gappy) {
			g.after = func() error { return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, broken) }
		}, "green", abswap.ErrUnknownOutcome, true},
		{"moved, and nobody can be asked", func(g *gappy) {
			g.after = func() error {
				g.script(func() { g.asked = func() error { return broken } })
				return fmt.Errorf("%w: %w", abswap.ErrUnknownOutcome, broken)
			}
		}, "green", abswap.ErrUnknownOutcome, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := holding(t, hello, hello, nil)
			h.inner.script(func() { tc.script(h.inner) })
			err := h.Activate(t.Context(), plain("green"))
			assert.ErrorIs(t, err, tc.want)
			assert.ErrorIs(t, err, broken)
			assert.ErrorIs(t, h.last().Err, tc.want)
			status, slot, _ := ask(t, newClient(t), h.front.url)
			assert.Equal(t, http.StatusOK, status)
			assert.Equal(t, tc.serving, slot)
			counted, err := h.front.Active(t.Context())
			require.NoError(t, err)
			if tc.known {
				assert.Equal(t, tc.serving, counted)
				assert.Equal(t, tc.serving, h.last().To)
				assert.Equal(t, abswap.EvidenceExact, h.load(t, "blue").Evidence)
				return
			}
			assert.Equal(t, "blue", counted)
			assert.Equal(t, abswap.EvidenceUnknown, h.load(t, "blue").Evidence)
			assert.Equal(t, abswap.EvidenceUnknown, h.load(t, "green").Evidence)
			h.inner.script(func() { h.inner.asked, h.inner.after = nil, nil })
			require.NoError(t, h.Follow(t.Context()))
			counted, err = h.front.Active(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "green", counted)
			soon(t, "the counts are exact again", func() bool { return h.load(t, "blue").Evidence == abswap.EvidenceExact })
		})
	}
}

// TestHoldingSeesOthersMoving has somebody else move the inner switcher: a zero is not told as one, and what began meanwhile counts for every
// slot, until it has ended.
func TestHoldingSeesOthersMoving(t *testing.T) {
	t.Parallel()
	reached, goOn := make(chan struct{}), make(chan struct{})
	long := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			io.WriteString(w, "begun\n")
			http.NewResponseController(w).Flush()
			close(reached)
			<-goOn
		}
		hello(w, r)
	}
	h := holding(t, long, long, nil)
	require.NoError(t, h.inner.engine.Activate(t.Context(), plain("green")))
	answered := make(chan string, 1)
	go func() {
		_, slot, _ := ask(t, newClient(t), h.front.url+"/long")
		answered <- slot
	}()
	within(t, reached, "it is at the application")
	assert.Equal(t, abswap.EvidenceUnknown, h.load(t, "green").Evidence, "no zero: the request is there, and counted for blue")
	warning, err := split(h.Check(t.Context(), abswap.CheckRequest{Slots: []abswap.Slot{plain("blue"), plain("green")}}))
	assert.NoError(t, err)
	assert.Contains(t, warning, "somebody else has moved")

	require.NoError(t, h.Follow(t.Context()))
	soon(t, "it counts for both", func() bool {
		b, g := h.load(t, "blue"), h.load(t, "green")
		return b.Evidence == abswap.EvidenceExact && g.Evidence == abswap.EvidenceExact && b.Requests == 1 && g.Requests == 1
	})
	status, _, _ := ask(t, newClient(t), h.front.url)
	assert.Equal(t, http.StatusOK, status)
	close(goOn)
	assert.Equal(t, "green", within(t, answered, "the answer"))
	soon(t, "it counts for none", func() bool { return h.load(t, "blue").Total() == 0 && h.load(t, "green").Total() == 0 })
}

// split takes the warnings of a Check from the rest.
func split(err error) (warnings string, rest error) {
	var left []error
	for _, e := range multi.All(err) {
		if w, ok := errors.AsType[*abswap.Warning](e); ok {
			warnings += w.Error() + "\n"
			continue
		}
		left = append(left, e)
	}
	return warnings, multi.Join(left...)
}

// TestHoldingOfADeadCaller holds by a client that the proxy no longer hears of, in the midst of an inner switch that hangs: the hold ends, and
// requests go on to whoever serves.
func TestHoldingOfADeadCaller(t *testing.T) {
	t.Parallel()
	var end func()
	h := holding(t, hello, hello, func(h *held, c *proxy.HoldingConfig) {
		handler, err := proxy.ControlHandler(h.front.Switcher, proxy.ControlOptions{Token: "a-token-of-forty-characters-or-so-no-less", Lease: 200 * time.Millisecond})
		require.NoError(t, err)
		l, err := proxy.ListenControl("127.0.0.1:0")
		require.NoError(t, err)
		server := proxy.ControlServer(handler)
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(l) })
		end = func() {
			server.Close() // as dead as its caller can be to the proxy
			serving.Wait()
		}
		t.Cleanup(end)
		c.Front = plane{h.front.Switcher, l.Addr().String(), "a-token-of-forty-characters-or-so-no-less"}.client(t)
	})
	moving, hang := make(chan struct{}), make(chan struct{})
	h.inner.script(func() {
		h.inner.before = func(context.Context) error { close(moving); <-hang; return errors.New("killed") }
	})
	var deploy sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	deploy.Go(func() { h.Activate(ctx, plain("green")) })
	within(t, moving, "the inner switch begins")
	answered := make(chan string, 1)
	go func() {
		_, slot, _ := ask(t, newClient(t), h.front.url)
		answered <- slot
	}()
	h.front.held(t, 1)
	end()
	assert.Equal(t, "blue", within(t, answered, "the hold ends by itself"))
	cancel()
	close(hang)
	deploy.Wait()
}

// TestHoldingThatExpires has an inner switch that takes longer than the hold: it is told, and what came in between counts for both slots.
func TestHoldingThatExpires(t *testing.T) {
	t.Parallel()
	reached, goOn := make(chan struct{}), make(chan struct{})
	h := holding(t, func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-goOn
		hello(w, r)
	}, hello, func(_ *held, c *proxy.HoldingConfig) { c.Hold.Total = 100 * time.Millisecond })
	answered := make(chan string, 1)
	h.inner.script(func() {
		h.inner.before = func(context.Context) error {
			go func() {
				_, slot, _ := ask(t, newClient(t), h.front.url)
				answered <- slot
			}()
			within(t, reached, "the hold ends by itself")
			return nil
		}
	})
	require.NoError(t, h.Activate(t.Context(), plain("green")))
	assert.True(t, h.last().Expired)
	soon(t, "it counts for both", func() bool {
		b, g := h.load(t, "blue"), h.load(t, "green")
		return b.Evidence == abswap.EvidenceExact && g.Evidence == abswap.EvidenceExact && b.Requests == 1 && g.Requests == 1
	})
	close(goOn)
	assert.Equal(t, "blue", within(t, answered, "the answer"))
	soon(t, "it counts for none", func() bool { return h.load(t, "blue").Total() == 0 && h.load(t, "green").Total() == 0 })
}

// TestHoldingAbilities offers what stays true behind a hold, and no more.
func TestHoldingAbilities(t *testing.T) {
	h := holding(t, hello, hello, nil)
	assert.Equal(t, abswap.Traits{Forgets: true, CompareAndSet: true}, h.Traits())
	_, can := abswap.As[abswap.WeightedSwitcher](h.Holding)
	assert.False(t, can, "weights")
	_, can = abswap.As[abswap.PreviewingSwitcher](h.Holding)
	assert.False(t, can, "preview")
	_, can = abswap.As[abswap.SealingSwitcher](h.Holding)
	assert.False(t, can, "seal: the inner switcher cannot")
	assert.Same(t, h.inner, h.Inner())

	h = holding(t, hello, hello, func(h *held, c *proxy.HoldingConfig) { c.Inner = h.inner.engine })
	_, can = abswap.As[abswap.WeightedSwitcher](h.Holding)
	assert.False(t, can, "weights would pass the hold")
	seal, can := abswap.As[abswap.SealingSwitcher](h.Holding)
	require.True(t, can)
	require.NoError(t, seal.Activate(t.Context(), plain("green")))
	require.NoError(t, seal.Seal(t.Context(), plain("blue")))
	assert.True(t, h.inner.engine.Sealed("blue"))
	assert.ErrorIs(t, seal.Seal(t.Context(), plain("red")), abswap.ErrUnknownSlot)
	active, err := seal.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", active)
	assert.Equal(t, "proxy counters and proxy counters", h.load(t, "blue").Source, "its counts count too")
}

// TestHoldingCheck finds what cannot be.
func TestHoldingCheck(t *testing.T) {
	h := holding(t, hello, hello, nil)
	both := []abswap.Slot{plain("blue"), plain("green")}
	warnings, err := split(h.Check(t.Context(), abswap.CheckRequest{Slots: both}))
	assert.NoError(t, err)
	assert.Contains(t, warnings, "does not count")
	_, err = split(h.Check(t.Context(), abswap.CheckRequest{Slots: append(both, plain("red"), nil), Steps: []int{10}}))
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, err, abswap.ErrUnknownSlot)
	assert.ErrorContains(t, err, "a slot is nil")

	lost := serve(t, proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
	n, err := proxy.NewHolding(proxy.HoldingConfig{Front: lost.Switcher, Inner: h.inner, Slots: both, Address: h.door})
	require.NoError(t, err)
	assert.ErrorContains(t, n.Check(t.Context(), abswap.CheckRequest{Slots: both}), "call Follow")
	require.NoError(t, n.Follow(t.Context()))
	_, err = split(n.Check(t.Context(), abswap.CheckRequest{Slots: both}))
	assert.NoError(t, err)
}

// TestHoldingMistakes are all told at once.
func TestHoldingMistakes(t *testing.T) {
	_, err := proxy.NewHolding(proxy.HoldingConfig{Hold: abswap.HoldOptions{Each: -1, Beyond: abswap.HoldPass}})
	for _, want := range []string{"Front", "Inner", "Slots", "Address", "Each", "Beyond"} {
		assert.ErrorContains(t, err, want)
	}
	h := holding(t, hello, hello, nil)
	_, err = proxy.NewHolding(proxy.HoldingConfig{Front: h.front.Switcher, Inner: h.inner, Address: h.door,
		Slots: []abswap.Slot{plain("blue"), plain("blue"), nil}})
	assert.ErrorContains(t, err, "twice")
	assert.ErrorContains(t, err, "number 2")
	assert.ErrorIs(t, h.Activate(t.Context(), plain("red")), abswap.ErrUnknownSlot)
	assert.Error(t, h.Activate(t.Context(), nil))
}
