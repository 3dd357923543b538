package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// fleetRig is a Rolling over members n1, n2, ... of which each runs v1 and takes an equal part of the work.
type fleetRig struct {
	*abswap.Rolling
	sw     *fake.Switcher
	nodes  []*fake.Slot
	events []abswap.Event
}

func newFleetRig(t testing.TB, members int) *fleetRig {
	t.Helper()
	r := &fleetRig{}
	var names []string
	var slots []abswap.Slot
	for i := range members {
		names = append(names, fmt.Sprintf("n%d", i+1))
		r.nodes = append(r.nodes, fake.NewRunningSlot(names[i], "v1"))
		slots = append(slots, r.nodes[i])
	}
	r.sw = fake.New(names...)
	require.NoError(t, r.sw.Move(r.equal(names...)))
	r.Rolling = &abswap.Rolling{Switcher: abswap.WeightedMembers(r.sw, slots...), Slots: slots, Journal: &abswap.MemoryJournal{},
		OnEvent: func(e abswap.Event) { r.events = append(r.events, e) }}
	return r
}

// equal shares the work out between members, as evenly as per cents can.
func (r *fleetRig) equal(names ...string) map[string]int {
	w := map[string]int{}
	for i, n := range names {
		w[n] = 100 / len(names)
		if i < 100%len(names) {
			w[n]++
		}
	}
	return w
}

func (r *fleetRig) releases(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, n := range r.nodes {
		state, err := n.Inspect(context.WithoutCancel(t.Context()))
		require.NoError(t, err)
		if !state.Running {
			state.Release += " stopped"
		}
		all = append(all, state.Release)
	}
	return all
}

func (r *fleetRig) inService() []string {
	var all []string
	for name := range r.sw.Shares() {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func states(rep abswap.RollReport) []string {
	var all []string
	for _, m := range rep.Members {
		all = append(all, m.Name+" "+string(m.State))
	}
	return all
}

// badRelease makes that release sick in a node.
func badRelease(n *fake.Slot, release string) {
	n.ReadyFunc = func(ctx context.Context, do func(context.Context) error) error {
		if state, err := n.Inspect(ctx); err == nil && state.Release == release {
			return fmt.Errorf("bad: %w", abswap.ErrNotReady)
		}
		return do(ctx)
	}
	n.InspectFunc = nil
}

func TestRollUpdatesOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 4)
		most, out := 0, func() int { return 4 - len(r.sw.Shares()) }
		over := make(chan struct{})
		go func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
					most = max(most, out())
				}
			}
		}()
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		close(over)
		synctest.Wait()
		assert.Equal(t, 1, most, "members out at a time")
		assert.Equal(t, []string{"v2", "v2", "v2", "v2"}, r.releases(t))
		assert.Equal(t, []string{"n1", "n2", "n3", "n4"}, r.inService())
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, 4, rep.Serving)
		assert.Equal(t, 3, rep.Floor)
		assert.Equal(t, []string{"n1 updated", "n2 updated", "n3 updated", "n4 updated"}, states(rep))
		assert.GreaterOrEqual(t, time.Since(began), time.Minute+3*10*time.Second, "a minute for the canary, ten seconds for each other one")
		for i, m := range rep.Members {
			assert.Equal(t, i == 0, m.Canary)
			assert.Equal(t, "v1", m.Before)
			assert.Equal(t, "v2", m.After)
			require.Len(t, m.Drains, 1)
			assert.Equal(t, abswap.EvidenceExact, m.Drains[0].Last.Evidence)
			assert.True(t, m.Drains[0].Drained)
			assert.False(t, m.Out.Before(m.Started))
			assert.True(t, m.In.After(m.Out))
			var phases []abswap.Phase
			for _, s := range m.Steps {
				phases = append(phases, s.Phase)
				assert.Equal(t, abswap.ResultOK, s.Result)
			}
			assert.Equal(t, []abswap.Phase{abswap.MemberTakingOut, abswap.MemberDraining, abswap.MemberStopping, abswap.MemberInstalling, abswap.MemberStarting,
				abswap.MemberWarming, abswap.MemberProving, abswap.MemberPuttingIn, abswap.MemberWatching}, phases)
			assert.True(t, r.nodes[i].Warmed())
		}
		again, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"n1 skipped", "n2 skipped", "n3 skipped", "n4 skipped"}, states(again), "they have it")
	})
}

func TestRollWaitsForTheLastUploadOfAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		name, end := r.sw.Begin()
		node := r.nodes[slices.IndexFunc(r.nodes, func(n *fake.Slot) bool { return n.Name() == name })]
		stopped := time.Duration(0)
		began := time.Now()
		node.StopFunc = func(ctx context.Context, do func(context.Context) error) error {
			stopped = time.Since(began)
			return do(ctx)
		}
		time.AfterFunc(2*time.Hour, end)
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, stopped, 2*time.Hour)
	})
}

func TestRollStopsAtABadCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 4)
		badRelease(r.nodes[0], "v2")
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, abswap.ErrNotReady)
		e, ok := errors.AsType[*abswap.RollError](err)
		require.True(t, ok)
		assert.Equal(t, "n1", e.Member)
		assert.Equal(t, abswap.MemberStarting, e.Phase)
		assert.Equal(t, abswap.MemberLeftOut, e.Rests)
		assert.Equal(t, 3, e.Serving)
		assert.ErrorContains(t, e.Rollback, "Rolling.Back is empty")
		assert.Equal(t, abswap.OutcomeStopped, rep.Outcome)
		assert.Equal(t, []string{"n1 left-out", "n2 waiting", "n3 waiting", "n4 waiting"}, states(rep))
		assert.Equal(t, []string{"n2", "n3", "n4"}, r.inService(), "the fleet serves")
		assert.Equal(t, []string{"v2", "v1", "v1", "v1"}, r.releases(t), "the canary is left as it is, for a look")
		assert.NotEmpty(t, rep.Members[0].Notes)
		for _, n := range r.nodes[1:] {
			assert.Empty(t, n.Calls("Stop", "Install", "Start"), "%s was touched", n.ID)
		}

		// The next release begins with the member that was left out, and takes it back.
		rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "n1", rep.Members[0].Name)
		assert.True(t, rep.Members[0].Canary)
		assert.Equal(t, []string{"v3", "v3", "v3", "v3"}, r.releases(t))
		assert.Equal(t, 4, rep.Serving)
	})
}

func TestRollGoesBackToARelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 4)
		badRelease(r.nodes[1], "v2")
		r.Back = abswap.Release{ID: "v1", Path: "/releases/v1"}
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, abswap.ErrNotReady)
		assert.Equal(t, []string{"n1 updated", "n2 kept", "n3 waiting", "n4 waiting"}, states(rep))
		assert.Equal(t, []string{"v2", "v1", "v1", "v1"}, r.releases(t))
		assert.Equal(t, 4, rep.Serving)
		assert.Equal(t, "v1", rep.Members[1].After)
	})
}

func TestRollAsksTheGateAndWithdraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 4)
		var asked []abswap.RollGateRequest
		tooSlow := errors.New("p99 is too high")
		r.Gate = func(_ context.Context, g abswap.RollGateRequest) error {
			g.Roll = ""
			asked = append(asked, g)
			if g.Member == "n2" {
				return tooSlow
			}
			return nil
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, tooSlow)
		assert.Equal(t, []abswap.RollGateRequest{{Release: "v2", Member: "n1", Canary: true, Left: 3}, {Release: "v2", Member: "n2", Updated: 1, Left: 2}}, asked)
		assert.Equal(t, []string{"n1 updated", "n2 left-out", "n3 waiting", "n4 waiting"}, states(rep))
		assert.Equal(t, []string{"n1", "n3", "n4"}, r.inService())
	})
}

func TestRollWithdrawsACanaryThatGetsSickUnderWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		r.Bake = 10 * time.Minute
		r.Back = abswap.Release{ID: "v1"}
		time.AfterFunc(5*time.Minute, func() { r.nodes[0].Sick(errors.New("leaks")) })
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorContains(t, err, "leaks")
		assert.Equal(t, []string{"n1 kept", "n2 waiting", "n3 waiting"}, states(rep))
		assert.Equal(t, []string{"v1", "v1", "v1"}, r.releases(t))
		assert.Len(t, r.inService(), 3)
	})
}

func TestRollPutsBackWhatDoesNotDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 2)
		name, end := r.sw.Begin()
		defer end()
		r.Drain.Timeout = time.Minute
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, abswap.ErrDrainTimeout)
		i := slices.IndexFunc(rep.Members, func(m abswap.MemberReport) bool { return m.Name == name })
		assert.Equal(t, abswap.MemberKept, rep.Members[i].State)
		assert.Equal(t, 1, rep.Members[i].Drains[0].Last.Total())
		assert.Equal(t, []string{"n1", "n2"}, r.inService())
		assert.Empty(t, r.nodes[i].Calls("Stop"))
	})
}

func TestRollSeveralAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 8)
		r.Parallel, r.MinPercent = 3, 50
		var least = 8
		seen := map[int]bool{}
		r.OnEvent = func(e abswap.Event) { // on the caller's goroutine, whoever it is about
			n := len(r.sw.Shares())
			least, seen[8-n] = min(least, n), true
		}
		for _, n := range r.nodes {
			n.ReadyAfter = 20 * time.Second
		}
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, 4, rep.Floor)
		assert.Equal(t, 5, least)
		assert.True(t, seen[3], "three were out at the same time")
		assert.Less(t, time.Since(began), 4*time.Minute)
		for _, m := range rep.Members {
			assert.Equal(t, abswap.MemberUpdated, m.State)
		}
	})
}

func TestRollCountsWhoIsSickOrOutByAnotherHand(t *testing.T) {
	t.Run("sick for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newFleetRig(t, 4)
			r.nodes[3].Sick(errors.New("its disk is full"))
			rep, err := r.Deploy(t.Context(), v2)
			require.ErrorContains(t, err, "too few other members serve: 2, and the floor is 3")
			assert.ErrorContains(t, err, "its disk is full")
			assert.Equal(t, []string{"n1 kept", "n2 waiting", "n3 waiting", "n4 waiting"}, states(rep))
			assert.Empty(t, r.sw.Calls("Seal"), "nobody was taken out")
		})
	})
	t.Run("well again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newFleetRig(t, 4)
			r.nodes[3].Sick(errors.New("it restarts"))
			time.AfterFunc(30*time.Second, func() { r.nodes[3].Sick(nil) })
			_, err := r.Deploy(t.Context(), v2)
			require.NoError(t, err)
		})
	})
	t.Run("dies while another drains", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newFleetRig(t, 3)
			name, end := r.sw.Begin()
			defer end()
			require.Equal(t, "n1", name)
			time.AfterFunc(time.Minute, func() { assert.NoError(t, r.sw.Move(map[string]int{"n3": 100})) })
			rep, err := r.Deploy(t.Context(), v2)
			require.ErrorContains(t, err, "too few other members serve: 1")
			assert.Equal(t, abswap.MemberKept, rep.Members[0].State)
			assert.Equal(t, []string{"n1", "n3"}, r.inService(), "it went back, untouched")
			assert.Equal(t, []string{"v1", "v1", "v1"}, r.releases(t))
		})
	})
	t.Run("out is skipped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newFleetRig(t, 4)
			r.MinServing = 2
			require.NoError(t, r.sw.Move(r.equal("n1", "n2", "n4")))
			rep, err := r.Deploy(t.Context(), v2)
			require.NoError(t, err)
			assert.Equal(t, []string{"n1 updated", "n2 updated", "n3 skipped", "n4 updated"}, states(rep))
			assert.Contains(t, rep.Members[2].Notes[0], "TakeBack")
			assert.Equal(t, []string{"n1", "n2", "n4"}, r.inService())
			r.TakeBack = true
			rep, err = r.Deploy(t.Context(), v2)
			require.NoError(t, err)
			assert.Equal(t, []string{"n3 updated", "n1 skipped", "n2 skipped", "n4 skipped"}, states(rep))
			assert.Equal(t, []string{"n1", "n2", "n3", "n4"}, r.inService())
		})
	})
}

func TestRollFirstDeployOfAFleetThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 2)
		for _, n := range r.nodes {
			n.Put(abswap.SlotState{})
		}
		require.NoError(t, r.sw.Move(nil))
		r.TakeBack = true
		_, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"n1", "n2"}, r.inService())
	})
}

// slowDoor holds a member to be healthy only a while after it was put in.
type slowDoor struct {
	abswap.MemberSwitcher
	after   time.Duration
	healthy map[string]time.Time
}

func (d *slowDoor) PutIn(ctx context.Context, s abswap.Slot) error {
	d.healthy[s.Name()] = time.Now().Add(d.after)
	return d.MemberSwitcher.PutIn(ctx, s)
}

func (d *slowDoor) Members(ctx context.Context) (map[string]abswap.Member, error) {
	w, err := d.MemberSwitcher.Members(ctx)
	for name, m := range w {
		m.Up = !time.Now().Before(d.healthy[name])
		w[name] = m
	}
	return w, err
}

func TestRollWithoutABoundWaitsForTheDoorsWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 2)
		r.Switcher, r.Drainer = &slowDoor{MemberSwitcher: r.Switcher, after: 5 * time.Minute, healthy: map[string]time.Time{}}, r.sw
		r.Timeouts.Start = -1
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"n1 updated", "n2 updated"}, states(rep))
	})
}

// TestRollOfAMemberThatOnlySessionsLeadTo takes back a member to which another hand has given no part of the work: its session goes elsewhere before
// it is stopped.
func TestRollOfAMemberThatOnlySessionsLeadTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		s, err := r.sw.Open(t.Context(), fake.Request{Kind: fake.Session})
		require.NoError(t, err)
		i := slices.IndexFunc(r.nodes, func(n *fake.Slot) bool { return n.Name() == s.Slot() })
		rest := slices.DeleteFunc([]string{"n1", "n2", "n3"}, func(name string) bool { return name == s.Slot() })
		require.NoError(t, r.sw.Move(r.equal(rest...)))
		stops := 0
		r.nodes[i].StopFunc = func(ctx context.Context, do func(context.Context) error) error {
			stops++
			w, err := r.sw.Open(ctx, fake.Request{Session: s.ID()})
			if assert.NoError(t, err) {
				assert.NotEqual(t, s.Slot(), w.Slot(), "the session's request reaches what is being stopped")
				w.End()
			}
			return do(ctx)
		}
		r.TakeBack = true
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		assert.Equal(t, 1, stops)
	})
}
