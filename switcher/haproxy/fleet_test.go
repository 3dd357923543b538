package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// fleetConfig has all members in one backend.
const fleetConfig = global + `
frontend fe
    bind FRONT
    default_backend be_site
backend be_site
    load-server-state-from-file local
    server-state-file-name DIR/be_site.state
    server s1 N1 weight 50
    server s2 N2 weight 50
    server s3 N3 weight 50
backend be_other
    server one N1 weight 7
`

// site3 is three applications behind two HAProxys.
type site3 struct {
	doors [2]*instance
	fleet *haproxy.Fleet
	hits  [3]atomic.Int64 // requests that have reached a member
}

func startSite3(t *testing.T) *site3 {
	t.Helper()
	needHAProxy(t)
	s := &site3{}
	config := fleetConfig
	for i := range s.hits {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.hits[i].Add(1)
			n, err := io.Copy(io.Discard, r.Body)
			if err == nil {
				fmt.Fprintf(w, "n%d %d", i+1, n)
			}
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(l) })
		t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
		config = strings.ReplaceAll(config, fmt.Sprintf("N%d", i+1), l.Addr().String())
	}
	cfg := haproxy.FleetConfig{Backend: "be_site", Members: map[string][]string{"n1": {"s1"}, "n2": {"s2"}, "n3": {"s3"}}}
	for i := range s.doors {
		s.doors[i] = startDoor(t, config)
		cfg.Doors = append(cfg.Doors, haproxy.Door{Name: fmt.Sprintf("lb%d", i+1), Runtime: s.doors[i].runtime(true), StateFile: s.doors[i].path("be_site.state")})
	}
	var err error
	s.fleet, err = haproxy.NewFleet(cfg)
	require.NoError(t, err)
	return s
}

// startDoor runs an HAProxy without applications of its own.
func startDoor(t *testing.T, config string) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "hap")
	require.NoError(t, err)
	in := &instance{dir: dir, log: &lockedBuffer{}, site: &switchertest.Site{}}
	t.Cleanup(func() { assert.NoError(t, in.close()) })
	for try := 0; ; try++ { // another program may ask for that very port before HAProxy has it
		front, release, err := reserve()
		require.NoError(t, err)
		in.front = front
		write(t, in.path("haproxy.cfg"), strings.NewReplacer("DIR", dir, "FRONT", front).Replace(config))
		if err = errors.Join(in.run(t.Context(), true), release()); err == nil {
			return in
		}
		require.Less(t, try, 3, "%v", err)
	}
}

func node(name string) abswap.Slot { return fake.NewRunningSlot(name, "v1") }

// ask sends n requests over a door and returns how many came to each member.
func (s *site3) ask(t *testing.T, door, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	tr := &http.Transport{DisableKeepAlives: true}
	for range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.doors[door].front+"/", strings.NewReader("x"))
		require.NoError(t, err)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
		name, _, _ := strings.Cut(string(b), " ")
		seen[name]++
	}
	return seen
}

func TestFleetTakesOutAndPutsInAtEveryDoor(t *testing.T) {
	t.Parallel()
	s := startSite3(t)
	ctx := t.Context()
	for _, in := range s.doors {
		require.NoError(t, in.silently("set server be_site/s1 weight 25")) // another hand's: it is to stay
	}
	all, err := s.fleet.Members(ctx)
	require.NoError(t, err)
	assert.Equal(t, map[string]abswap.Member{"n1": {In: true, Up: true}, "n2": {In: true, Up: true}, "n3": {In: true, Up: true}}, all)

	// S1 under load, on connections that are kept too: what begins after TakeOut has returned does not reach n1.
	var over atomic.Bool
	var lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%3 == 0}
			defer tr.CloseIdleConnections()
			for !over.Load() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.doors[i%2].front+"/", strings.NewReader("x"))
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					lost.Add(1)
				}
			}
		})
	}
	for range 5 {
		require.NoError(t, s.fleet.TakeOut(ctx, node("n1")))
		require.Eventually(t, func() bool { // requests that began before it still end
			l, err := s.fleet.InFlight(ctx, node("n1"))
			return err == nil && l.Total() == 0
		}, 20*time.Second, time.Millisecond)
		before := s.hits[0].Load()
		sent := s.hits[1].Load() + s.hits[2].Load()
		require.Eventually(t, func() bool { return s.hits[1].Load()+s.hits[2].Load() > sent+100 }, 20*time.Second, time.Millisecond)
		assert.Equal(t, before, s.hits[0].Load(), "S1: a request reached a member that is out")
		all, err = s.fleet.Members(ctx)
		require.NoError(t, err)
		assert.Equal(t, abswap.Member{Out: true, Up: true, Note: "lb1: s1 MAINT; lb2: s1 MAINT"}, all["n1"])
		require.NoError(t, s.fleet.TakeOut(ctx, node("n1")), "idempotent")
		require.NoError(t, s.fleet.PutIn(ctx, node("n1")))
		require.NoError(t, s.fleet.PutIn(ctx, node("n1")), "idempotent")
		require.Eventually(t, func() bool { return s.hits[0].Load() > before }, 20*time.Second, time.Millisecond)
	}
	over.Store(true)
	wg.Wait()
	assert.Zero(t, lost.Load(), "S2: requests were lost")
	for i, in := range s.doors {
		got, err := in.say("get weight be_site/s1")
		require.NoError(t, err)
		assert.Equal(t, "25 (initial 50)", got, "S6: the weight is as it was")
		assert.Len(t, s.ask(t, i, 12), 3, "all are asked")
	}
}

func TestFleetOneDoorIsNotAll(t *testing.T) {
	t.Parallel()
	s := startSite3(t)
	ctx := t.Context()
	require.NoError(t, s.fleet.TakeOut(ctx, node("n2")))
	require.NoError(t, s.doors[1].silently("set server be_site/s2 state ready")) // another hand, at one door
	all, err := s.fleet.Members(ctx)
	require.NoError(t, err)
	assert.Equal(t, abswap.Member{Up: true, Note: "lb1: s2 MAINT"}, all["n2"], "neither in nor out")
	require.NoError(t, s.doors[1].silently("set server be_site/s2 state drain"))
	all, err = s.fleet.Members(ctx)
	require.NoError(t, err)
	assert.False(t, all["n2"].Out, "a drained server still gets what is bound to it")
	assert.Contains(t, all["n2"].Note, "lb2: s2 DRAIN")
	require.NoError(t, s.fleet.PutIn(ctx, node("n2")))

	require.NoError(t, s.fleet.TakeOut(ctx, node("n1")))
	require.NoError(t, s.doors[0].silently("set server be_site/s2 state maint"))
	err = s.fleet.TakeOut(ctx, node("n3"))
	require.ErrorIs(t, err, abswap.ErrPermanent, "the last one that a door has")
	all, err = s.fleet.Members(ctx)
	require.NoError(t, err)
	assert.True(t, all["n3"].In, "nothing was changed at the other door either")

	assert.ErrorIs(t, s.fleet.TakeOut(ctx, node("n9")), abswap.ErrUnknownSlot)
	assert.ErrorIs(t, s.fleet.PutIn(ctx, nil), abswap.ErrUnknownSlot)
	over, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, s.fleet.PutIn(over, node("n1")), context.Canceled)
	_, err = s.fleet.Members(over)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestFleetCountsOverDoorsAndReloads(t *testing.T) {
	t.Parallel()
	s := startSite3(t)
	ctx := t.Context()
	for _, name := range []string{"n1", "n3"} {
		for _, in := range s.doors {
			require.NoError(t, in.silently("set server be_site/s"+name[1:]+" state maint")) // all work goes to n2
		}
	}
	type sent struct {
		body *io.PipeWriter
		done chan error
	}
	var uploads []sent
	for _, in := range s.doors {
		r, w := io.Pipe()
		u := sent{w, make(chan error, 1)}
		go func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+in.front+"/", r)
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err == nil {
				var b []byte
				if b, err = io.ReadAll(resp.Body); err == nil && string(b) != "n2 10" {
					err = fmt.Errorf("answer %q", b)
				}
				resp.Body.Close()
			}
			u.done <- err
		}()
		_, err := w.Write([]byte("12345"))
		require.NoError(t, err)
		uploads = append(uploads, u)
	}
	total := func() int {
		l, err := s.fleet.InFlight(ctx, node("n2"))
		if err != nil {
			return -1
		}
		assert.Equal(t, abswap.EvidenceExact, l.Evidence)
		return l.Total()
	}
	require.Eventually(t, func() bool { return total() == 2 }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, s.fleet.PutIn(ctx, node("n1")))
	require.NoError(t, s.fleet.TakeOut(ctx, node("n2")))
	s.doors[0].reloaded(t) // by another hand
	require.Eventually(t, func() bool {
		all, err := s.fleet.Members(ctx)
		return err == nil && all["n2"].Out && all["n1"].In
	}, 20*time.Second, 5*time.Millisecond, "a reload does not bring it back")
	assert.Equal(t, 2, total(), "the old worker's upload counts")
	list, err := s.fleet.List(ctx, node("n2"), 10)
	require.NoError(t, err)
	assert.Len(t, list, 2)
	for i, u := range uploads {
		_, err := u.body.Write([]byte("67890"))
		require.NoError(t, err)
		require.NoError(t, u.body.Close())
		assert.NoError(t, <-u.done, "S3: what it had begun it finishes")
		if i == 0 {
			require.Eventually(t, func() bool { return total() == 1 }, 20*time.Second, 5*time.Millisecond)
		}
	}
	idle, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	require.NoError(t, s.fleet.WaitIdle(idle, node("n2")))
	assert.Zero(t, total())
	assert.NoError(t, s.fleet.Force(ctx, node("n2"), abswap.ForceCut), "there is nothing to cut")
	assert.ErrorIs(t, s.fleet.Force(ctx, node("n9"), abswap.ForceCut), abswap.ErrUnknownSlot)
}

func TestFleetCheckAndADoorThatIsGone(t *testing.T) {
	t.Parallel()
	s := startSite3(t)
	slots := []abswap.Slot{node("n1"), node("n2"), node("n3")}
	require.NoError(t, s.fleet.Check(t.Context(), abswap.CheckRequest{Slots: slots}))
	s.doors[1].stop()
	cfg := haproxy.FleetConfig{Backend: "be_site", Members: map[string][]string{"n1": {"s1"}, "n2": {"s2"}, "n3": {"s3"}}}
	for i, in := range s.doors {
		rt := in.runtime(true)
		if i == 1 { // the one that is gone; the other may take its time
			rt.Patience, rt.Timeout = 300*time.Millisecond, 300*time.Millisecond
		}
		cfg.Doors = append(cfg.Doors, haproxy.Door{Name: fmt.Sprintf("lb%d", i+1), Runtime: rt})
	}
	f, err := haproxy.NewFleet(cfg)
	require.NoError(t, err)
	_, err = f.Members(t.Context())
	assert.ErrorContains(t, err, `door "lb2"`, "nobody knows what it does")
	assert.NotContains(t, err.Error(), `door "lb1"`)
	assert.Error(t, f.TakeOut(t.Context(), node("n1")))
	got, err := s.doors[0].say("show servers state be_site")
	require.NoError(t, err)
	states, _, err := haproxy.ParseStates(got+"\n", "be_site", nil)
	require.NoError(t, err)
	assert.True(t, states["s1"].On, "nothing was changed at the door that answers")
	err = f.Check(t.Context(), abswap.CheckRequest{Slots: slots})
	assert.ErrorContains(t, err, `door "lb2"`)
	assert.ErrorContains(t, err, "has no state file")
	_, warned := errors.AsType[*abswap.Warning](err)
	assert.True(t, warned)
}

// Of the last two members one stays, also where both are taken out at the same time.
func TestFleetKeepsTheLastOfTwoThatAreTakenOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f *haproxy.Fleet
		var first sync.Once
		second := make(chan error, 1)
		admin := map[string]int{"s1": 0, "s2": 0}
		rt := scripted(t, func(command string) string {
			first.Do(func() { // the other one comes while this one looks whether another serves
				go func() { second <- f.TakeOut(t.Context(), node("n2")) }()
				synctest.Wait()
			})
			words := strings.Fields(command)
			switch {
			case strings.HasPrefix(command, "show servers state "):
				text := "1\n# be_name srv_name srv_op_state srv_admin_state srv_uweight srv_iweight\n"
				for _, name := range []string{"s1", "s2"} {
					text += fmt.Sprintf("be_site %s 2 %d 1 1\n", name, admin[name])
				}
				return text + "\n"
			case strings.HasPrefix(command, "set server ") && strings.HasSuffix(command, " state maint"):
				admin[strings.TrimPrefix(words[2], "be_site/")] = 1
				return "\n"
			}
			return "Unknown command.\n\n"
		})
		var err error
		f, err = haproxy.NewFleet(haproxy.FleetConfig{Doors: []haproxy.Door{{Runtime: rt}}, Backend: "be_site",
			Members: map[string][]string{"n1": {"s1"}, "n2": {"s2"}}})
		require.NoError(t, err)
		require.NoError(t, f.TakeOut(t.Context(), node("n1")))
		assert.ErrorIs(t, <-second, abswap.ErrPermanent)
		assert.Equal(t, map[string]int{"s1": 1, "s2": 0}, admin)
	})
}

func TestFleetTellsAllMistakes(t *testing.T) {
	_, err := haproxy.NewFleet(haproxy.FleetConfig{})
	assert.ErrorContains(t, err, "Doors is empty")
	_, err = haproxy.NewFleet(haproxy.FleetConfig{Backend: "be", Members: map[string][]string{"n1": {"s1"}, "n2": {"s1"}},
		Doors: []haproxy.Door{{Name: "a", Runtime: haproxy.Runtime{Master: "/m"}}, {Name: "a"}, {Runtime: haproxy.Runtime{Master: "/m"}, Backend: "x y"}}})
	for _, text := range []string{`"s1" is named twice`, `door "a" is named twice`, "neither Runtime.Master nor Runtime.Stats", "another door has too", `"x y"`} {
		assert.ErrorContains(t, err, text)
	}
}
