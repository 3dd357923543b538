package arr_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

const patience = 30 * time.Second

// shares counts who answers n requests.
func (b *box) shares(t *testing.T, n int) map[string]int {
	t.Helper()
	c := b.srv.Client()
	defer c.CloseIdleConnections()
	got := map[string]int{}
	for range n {
		resp, err := c.Get("http://" + host + "/")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		got[resp.Header.Get("X-Switchertest-Slot")]++
	}
	return got
}

// site is the clients' side of the box.
func (b *box) site(t *testing.T) *switchertest.Site {
	t.Helper()
	front, err := b.srv.URL("http/*:80:" + host)
	require.NoError(t, err)
	s := &switchertest.Site{Front: front, Host: host, Slots: map[string]string{"blue": b.direct[0].URL, "green": b.direct[1].URL}}
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// state is that of a slot's first member.
func (b *box) state(t *testing.T, slot string) iistest.MemberState {
	t.Helper()
	all, err := b.srv.Members(farm)
	require.NoError(t, err)
	for _, m := range all {
		if m.Address == address(slot, 0) {
			return m
		}
	}
	require.Fail(t, "no member of slot", slot)
	return iistest.MemberState{}
}

func TestWeightsAreMet(t *testing.T) {
	n := 200
	if *full {
		n = 20000
	}
	for _, members := range []int{1, 2} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			b := opened(t, setting{members: members})
			for _, part := range []int{5, 25, 70} {
				require.NoError(t, b.sw.SetWeights(t.Context(), abswap.Weight{Slot: b.green, Part: part}, abswap.Weight{Slot: b.blue, Part: 100 - part}))
				parts, err := b.sw.Weights(t.Context())
				require.NoError(t, err)
				assert.Equal(t, map[string]int{"green": part, "blue": 100 - part}, parts)
				got := 100 * float64(b.shares(t, n)["green"]) / float64(n)
				assert.InDelta(t, part, got, 2)
				t.Logf("%d members in each slot, part %d: green answers %.2f %% of %d", members, part, got, n)
			}
		})
	}
}

func TestRequestHashIsRefused(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{algorithm: "RequestHash", with: func(*arr.Config) {}})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue), "states work with any algorithm")
	err := b.sw.SetWeights(t.Context(), abswap.Weight{Slot: b.green, Part: 5}, abswap.Weight{Slot: b.blue, Part: 95})
	assert.ErrorIs(t, err, errUnsupported)
	assert.ErrorIs(t, b.sw.Check(t.Context(), abswap.CheckRequest{Steps: []int{5}}), errUnsupported)
	require.NoError(t, b.sw.SetWeights(t.Context(), abswap.Weight{Slot: b.green, Part: 100}))
	assert.Equal(t, map[string]int{"green": 20}, b.shares(t, 20))
}

func TestUnhealthyMembersDoNotGoLive(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{members: 2, health: `<healthCheck url="http://` + host + `/" interval="00:00:20" timeout="16:40:00" />`,
		with: func(c *arr.Config) { c.Patience = 2 * time.Second }})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	out, exit := b.srv.Appcmd(t.Context(), []string{"stop", "site", "MySite-green-1"}, nil)
	require.Zero(t, exit, "%s", out)
	require.Eventually(t, func() bool {
		all, err := b.srv.Members(farm)
		return err == nil && !all[3].Healthy
	}, patience, 5*time.Millisecond)
	err := b.sw.Activate(t.Context(), b.green)
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.NotErrorIs(t, err, abswap.ErrUnknownOutcome)
	assert.Equal(t, map[string]int{"blue": 10}, b.shares(t, 10), "nothing has moved")
	assert.Equal(t, "Inactive", b.state(t, "green").State)
}

func TestForeignMembers(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{members: 2})
	cfg := b.cfg
	cfg.Slots = map[string][]string{"blue": {address("blue", 0)}, "green": {address("green", 0)}}
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	err = sw.Activate(t.Context(), b.blue)
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, address("green", 1))
	cfg.Slots["green"] = []string{"gone"}
	sw, err = arr.New(cfg)
	require.NoError(t, err)
	_, err = sw.Active(t.Context())
	assert.ErrorContains(t, err, `no member "gone"`)
}

func TestCommitThatForgetsStates(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{quirks: iistest.ARRQuirks{FarmCommitForgets: true}, members: 2})
	require.NoError(t, b.sw.SetWeights(t.Context(), abswap.Weight{Slot: b.green, Part: 20}, abswap.Weight{Slot: b.blue, Part: 80}))
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	require.NoError(t, b.sw.SetWeights(t.Context(), abswap.Weight{Slot: b.green, Part: 10}, abswap.Weight{Slot: b.blue, Part: 90}))
	got := b.shares(t, 400)
	assert.InDelta(t, 40, got["green"], 10)
}

// TestCountsThatForget: the counters are reset, or gone with their process, while an upload is on its way.
func TestCountsThatForget(t *testing.T) {
	lose := map[string]func(b *box) error{
		"reset":   func(b *box) error { return b.srv.ResetCounters(farm, address("blue", 0)) },
		"health":  func(b *box) error { return b.srv.SetHealthy(farm, address("blue", 0), false) },
		"recycle": func(b *box) error { return b.recycle() },
	}
	for name, f := range lose {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := opened(t, setting{})
			site := b.site(t)
			require.NoError(t, b.sw.Activate(t.Context(), b.blue))
			work, err := site.Begin(t.Context(), switchertest.KindUpload)
			require.NoError(t, err)
			defer work.Abort()
			require.NoError(t, b.sw.Activate(t.Context(), b.green))
			count := func() int {
				l, err := b.sw.InFlight(t.Context(), b.blue)
				if err != nil {
					assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
					return -1
				}
				return l.Total()
			}
			require.Equal(t, 1, count())
			require.NoError(t, f(b))
			assert.Zero(t, b.state(t, "blue").Current, "ARR has forgotten it")
			for range 20 {
				require.NotZero(t, count(), "a count of zero would be a lie")
			}
			require.NoError(t, work.End(t.Context()))
			require.Eventually(t, func() bool { return count() == 0 }, patience, 5*time.Millisecond)
		})
	}
}

// recycle recycles ARR's pool and waits until the new worker process has taken over.
func (b *box) recycle() error {
	before := b.pids()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, exit := b.srv.Appcmd(ctx, []string{"recycle", "apppool", pool}, nil); exit != 0 {
		return fmt.Errorf("exit %d: %s", exit, out)
	}
	for ctx.Err() == nil {
		for pid, state := range b.pids() {
			if _, old := before[pid]; !old && state == "Running" {
				return nil
			}
		}
		time.Sleep(time.Millisecond) // a poll with a deadline
	}
	return ctx.Err()
}

// pids are the worker processes of ARR's pool, with their states.
func (b *box) pids() map[int]string {
	all := map[int]string{}
	for _, p := range b.srv.State().Pools {
		if p.Name == pool {
			for _, w := range p.Workers {
				all[w.PID] = w.State
			}
		}
	}
	return all
}

func TestEmptyMembersStayEmptyInTheCount(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{})
	site := b.site(t)
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	require.NoError(t, b.sw.Activate(t.Context(), b.green))
	require.Eventually(t, func() bool {
		l, err := b.sw.InFlight(t.Context(), b.blue)
		return err == nil && l.Total() == 0
	}, patience, 5*time.Millisecond)
	work, err := site.Begin(t.Context(), switchertest.KindRequest)
	require.NoError(t, err)
	defer work.Abort()
	require.NoError(t, b.srv.ResetCounters(farm, address("blue", 0)))
	l, err := b.sw.InFlight(t.Context(), b.blue)
	require.NoError(t, err)
	assert.Zero(t, l.Total(), "green's request is not taken for one of blue, which was seen closed and empty")
	require.NoError(t, work.End(t.Context()))
}

// counted is a Drainer of the members themselves.
type counted struct {
	n        atomic.Int64
	evidence abswap.Evidence
}

func (c *counted) InFlight(context.Context, abswap.Slot) (abswap.Load, error) {
	return abswap.Load{Requests: int(c.n.Load()), Evidence: c.evidence, Source: "members"}, nil
}

func TestInside(t *testing.T) {
	t.Parallel()
	in := &counted{evidence: abswap.EvidenceApproximate}
	b := opened(t, setting{with: func(c *arr.Config) { c.Inside = in }})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	in.n.Store(3)
	l, err := b.sw.InFlight(t.Context(), b.green)
	require.NoError(t, err)
	assert.Equal(t, 3, l.Total())
	in.n.Store(0)
	l, err = b.sw.InFlight(t.Context(), b.green)
	require.NoError(t, err)
	assert.Zero(t, l.Total())
	assert.Equal(t, abswap.EvidenceApproximate, l.Evidence)
	in.evidence = abswap.EvidenceUnknown
	l, err = b.sw.InFlight(t.Context(), b.green)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
}

func TestWithoutRequestMonitor(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{})
	b.srv.SetRequestMonitor(false)
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	l, err := b.sw.InFlight(t.Context(), b.blue)
	assert.ErrorIs(t, err, errUnsupported)
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
	assert.ErrorIs(t, b.sw.Check(t.Context(), abswap.CheckRequest{}), errUnsupported)
}

// sticky is a client with a cookie.
func sticky(t *testing.T, b *box) func() string {
	c := b.srv.Client()
	var cookies []*http.Cookie
	return func() string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/", nil)
		require.NoError(t, err)
		for _, x := range cookies {
			r.AddCookie(x)
		}
		resp, err := c.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		cookies = resp.Cookies()
		return resp.Header.Get("X-Switchertest-Slot")
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		b := opened(t, setting{affinity: true})
		require.NoError(t, b.sw.Activate(t.Context(), b.blue))
		client := sticky(t, b)
		require.Equal(t, "blue", client())
		require.NoError(t, b.sw.Activate(t.Context(), b.green))
		assert.Equal(t, "green", client(), "a graceful stop moves clients with a cookie")
	})
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		b := opened(t, setting{affinity: true, with: func(c *arr.Config) { c.KeepSessions = true }})
		require.NoError(t, b.sw.Activate(t.Context(), b.blue))
		client := sticky(t, b)
		require.Equal(t, "blue", client())
		require.NoError(t, b.sw.Activate(t.Context(), b.green))
		name, err := b.sw.Active(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "green", name)
		assert.Equal(t, "blue", client(), "a session stays")
		assert.Equal(t, map[string]int{"green": 10}, b.shares(t, 10), "new clients do not come")
		d := arr.NewSessions(b.sw, idle)
		var last time.Time // the session's last request
		began, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for i := range 20 {
				last = time.Now()
				client()
				if i == 0 {
					close(began)
				}
				pause(t.Context(), 20*time.Millisecond)
			}
		}()
		<-began
		_, err = abswap.Drain(t.Context(), d, b.blue, abswap.DrainOptions{Sessions: true, Quiet: 50 * time.Millisecond, Poll: 20 * time.Millisecond})
		drained := time.Now()
		<-ended
		require.NoError(t, err)
		assert.GreaterOrEqual(t, drained.Sub(last), idle, "the drain has waited for the session")
		require.NoError(t, b.sw.Seal(t.Context(), b.blue))
		l, err := d.Sessions(t.Context(), b.blue)
		require.NoError(t, err)
		assert.Zero(t, l.Sessions)
		assert.Equal(t, "green", client(), "a sealed slot keeps nobody")
	})
}

func TestForce(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	assert.ErrorIs(t, b.sw.Force(t.Context(), b.blue, abswap.ForceCut), abswap.ErrPermanent, "it is live")
	assert.ErrorIs(t, b.sw.Force(t.Context(), b.green, 9), abswap.ErrPermanent)
}

// A change that is in force, and of which only the last note failed, is not told as one that did not happen.
func TestMemoryThatFailsAtTheEndOfAChange(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	b := opened(t, setting{with: func(c *arr.Config) {
		c.OnCall = func(call string, _ time.Duration, _ error) {
			if strings.Contains(call, "GracefulStop") && armed.CompareAndSwap(true, false) { // a folder that nothing can replace
				assert.NoError(t, os.Remove(c.Memory))
				assert.NoError(t, os.Mkdir(c.Memory, 0o755))
			}
		}
	}})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	armed.Store(true)
	assert.ErrorIs(t, b.sw.Activate(t.Context(), b.green), abswap.ErrUnknownOutcome)
	assert.False(t, armed.Load())
	name, err := b.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "green", name)
}

func TestHealthFile(t *testing.T) {
	ran := 0
	for _, r := range switchertest.Rules() {
		if !begins(r.Name, "S1/in-force-at", "S2/nothing", "S3/upload", "S4", "S5/active-is", "S5/no-active", "S6") || begins(r.Name, "S4/weights", "S4/preview") {
			continue
		}
		ran++
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			parallel <- struct{}{}
			defer func() { <-parallel }()
			res := r.Try(t.Context(), healthRig)
			if res.Skipped != "" {
				t.Skip(res.Skipped)
			}
			assert.NoError(t, res.Err)
		})
	}
	require.Greater(t, ran, 10)
}

// healthRig is a farm whose health test reads a file.
func healthRig(ctx context.Context) (switchertest.Rig, error) {
	s := setting{health: `<healthCheck url="http://` + host + `/up.html" interval="00:00:15" timeout="16:40:00" responseMatch="up" />`}
	r, err := s.rig(ctx)
	if err != nil {
		return r, err
	}
	b := r.Switcher.(*arr.Switcher)
	dir := filepath.Dir(arr.MemoryOf(b))
	file := func(slot string) string {
		return filepath.Join(dir, "drives", "C", "inetpub", "MySite."+slot+"-1", "up.html")
	}
	if err := os.WriteFile(file("green"), []byte("down"), 0o644); err != nil {
		return r, err
	}
	h, err := arr.NewHealthFile(arr.HealthFileConfig{Slots: map[string][]string{"blue": {file("blue")}, "green": {file("green")}}, Ask: r.Probe,
		Interval: 15 * time.Millisecond, Timeout: 50 * time.Millisecond, Patience: 10 * time.Second})
	r.Switcher, r.Drainer = h, b
	r.Disturb = func(_ context.Context, slot string) error {
		for _, name := range slotNames() {
			text := map[bool]string{true: "up", false: "down"}[name == slot]
			if err := os.WriteFile(file(name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	r.Load = 100
	return r, err
}

// TestHealthFilePutsDownWhatItPutUp activates a slot of which one member serves and another was taken out by hand, while the front door does not
// answer: the member that serves goes on.
func TestHealthFilePutsDownWhatItPutUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := func(name, text string) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			return path
		}
		serves, out := file("blue1", "up"), file("blue2", "down")
		h, err := arr.NewHealthFile(arr.HealthFileConfig{Slots: map[string][]string{"blue": {serves, out}, "green": {file("green", "down")}},
			Ask: func(context.Context) (string, error) { return "", io.ErrUnexpectedEOF }})
		require.NoError(t, err)
		assert.ErrorIs(t, h.Activate(t.Context(), fake.NewSlot("blue")), abswap.ErrNotReady)
		for path, want := range map[string]string{serves: "up", out: "down"} {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, want, strings.TrimSpace(string(text)), filepath.Base(path))
		}
		name, err := h.Active(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "blue", name)
	})
}

// TestHealthFileProvesWhatIsSoAlready activates again a slot whose files say so since an Activate that could not see it in force.
func TestHealthFileProvesWhatIsSoAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := func(name, text string) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			return path
		}
		blue, green := file("blue", "up"), file("green", "down")
		then := "blue" // who answers when blue is put down: the health test hangs, and its members go on
		h, err := arr.NewHealthFile(arr.HealthFileConfig{Slots: map[string][]string{"blue": {blue}, "green": {green}},
			Ask: func(context.Context) (string, error) {
				if text, err := os.ReadFile(blue); err != nil || string(text) == "up" {
					return "green", err
				}
				return then, nil
			}})
		require.NoError(t, err)
		require.ErrorIs(t, h.Activate(t.Context(), fake.NewSlot("green")), abswap.ErrUnknownOutcome)
		assert.ErrorIs(t, h.Activate(t.Context(), fake.NewSlot("green")), abswap.ErrUnknownOutcome, "blue answers")
		then = "green"
		assert.NoError(t, h.Activate(t.Context(), fake.NewSlot("green")))
	})
}
