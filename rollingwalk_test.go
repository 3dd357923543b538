package abswap

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var rollingFull = flag.Bool("rolling.full", false, "walk rolls with two faults in each scenario, which takes minutes")

func rollScenarios() []*rollScenario {
	bad := func(name string) func(*rollWalk) { return func(w *rollWalk) { w.members[name].bad = "v2" } }
	return []*rollScenario{
		{name: "two members", members: 2, race: true, ends: OutcomeSucceeded},
		{name: "three members", members: 3, ends: OutcomeSucceeded},
		{name: "canary bad", members: 3, begin: bad("n1"), ends: OutcomeStopped},
		{name: "second bad, with a way back", members: 3, begin: bad("n2"), rolling: Rolling{Back: Release{ID: "v1"}}, ends: OutcomeStopped},
		{name: "canary refused, with a way back", members: 3, begin: func(w *rollWalk) { w.refuse = true }, rolling: Rolling{Back: Release{ID: "v1"}}, ends: OutcomeStopped},
		{name: "work that does not end", members: 3, begin: func(w *rollWalk) { w.members["n1"].stuck = true },
			rolling: Rolling{Drain: DrainOptions{Timeout: 5 * time.Second}}, ends: OutcomeStopped},
		{name: "a stop that fails", members: 3, begin: func(w *rollWalk) { w.members["n1"].wedged = true }, rolling: Rolling{Back: Release{ID: "v1"}}, ends: OutcomeStopped},
		{name: "after a roll that left one out", members: 3, begin: beginLeftOut, ends: OutcomeSucceeded},
		{name: "two of four at a time", members: 4, race: true, rolling: Rolling{Parallel: 2}, ends: OutcomeSucceeded},
	}
}

// beginLeftOut is a fleet in which an earlier roll has left a member out, stopped.
func beginLeftOut(w *rollWalk) {
	m := w.members["n2"]
	m.running, m.door, m.load, m.release = false, [2]bool{}, 0, "v1"
	w.hit["n2"] = true // it is not this roll that has taken it out
	ctx := context.Background()
	h, _ := w.journal.MemoryJournal.Lock(ctx, Owner{})
	defer h.Unlock()
	for _, r := range []Record{
		{Kind: RecordBegin, Roll: &RollBegin{Release: Release{ID: "v0"}, Members: []MemberBegin{{Name: "n2"}}, Parallel: 1, Floor: 2}},
		{Kind: RecordIntent, Slot: "n2", Phase: MemberTakingOut},
		{Kind: RecordOutcome, Slot: "n2", Phase: MemberTakingOut, Result: ResultFailed, Error: "no"},
		{Kind: RecordIntent, Slot: "n2", Phase: MemberRestoring},
		{Kind: RecordOutcome, Slot: "n2", Phase: MemberRestoring, Result: ResultFailed, Error: "no"},
		{Kind: RecordEnd, Result: ResultFailed},
	} {
		r.Swap = "earlier"
		_ = h.Append(ctx, r)
	}
}

// exploreRolls walks sc with every choice of at most depth faults that leads somewhere new. It ends early when it has found enough.
func exploreRolls(t *testing.T, sc *rollScenario, depth, enough int, bugs map[Phase]func(*roll, context.Context, *memberState) verdict, edgesSeen map[edge]bool) (violations []string, walks, states int) {
	seen := map[string]bool{}
	queue := [][]faultAt{nil}
	for len(queue) > 0 && len(violations) < enough {
		plan := queue[0]
		queue = queue[1:]
		w := newRollWalk(sc, plan)
		w.bugs = bugs
		last := 0
		if len(plan) > 0 {
			last = plan[len(plan)-1].i
		}
		w.visit = func(w *rollWalk, c fleetCall) {
			if w.n <= last || len(plan) == depth {
				return
			}
			state := fmt.Sprintf("%d|%s", depth-len(plan), w.state(c))
			for _, f := range w.possible(c) {
				if key := state + string(f); !seen[key] {
					seen[key] = true
					queue = append(queue, append(slices.Clone(plan), faultAt{w.n, f}))
				}
			}
		}
		w.run(t)
		walks++
		for _, v := range w.violated {
			violations = append(violations, fmt.Sprintf("%s, faults %v: %s", sc.name, plan, v))
		}
		w.collectEdges(edgesSeen)
	}
	return violations, walks, len(seen)
}

func (w *rollWalk) collectEdges(seen map[edge]bool) {
	ids, _ := w.journal.Swaps(context.Background())
	for _, id := range ids {
		recs, _ := w.journal.MemoryJournal.Records(context.Background(), id)
		for _, r := range recs {
			if r.Kind == RecordOutcome {
				to, _ := nextMemberPhase(r.Phase, r.Result)
				seen[edge{r.Phase, r.Result, to}] = true
			}
		}
	}
}

func TestRollModelEveryFault(t *testing.T) {
	part := !*rollingFull && (raceDetector || testing.Short()) // it computes only: the same on every system
	edgesSeen := map[edge]bool{{MemberWaiting, ResultOK, MemberTakingOut}: true}
	for _, sc := range rollScenarios() {
		t.Run(sc.name, func(t *testing.T) {
			if part && !sc.race {
				t.Skip("walked in the form that is not short, without the race detector")
			}
			depth := 1
			if *rollingFull || sc.members == 2 && !part {
				depth = 2
			}
			synctest.Test(t, func(t *testing.T) {
				violations, walks, states := exploreRolls(t, sc, depth, 20, nil, edgesSeen)
				for _, v := range violations {
					t.Error(v)
				}
				t.Logf("%d walks, %d states with a fault, at most %d faults in one walk", walks, states, depth)
			})
		})
	}
	for _, e := range memberEdges {
		if !edgesSeen[e] && !part {
			t.Errorf("edge never taken: %v", e)
		}
	}
}

// TestRollModelCatchesPlantedBugs proves that the model test can fail: each bug is one that an engine like this could well have.
func TestRollModelCatchesPlantedBugs(t *testing.T) {
	if raceDetector {
		t.Skip("walked without the race detector")
	}
	type handler = func(*roll, context.Context, *memberState) verdict
	assume := func(*roll, context.Context, *memberState) verdict { return ok() }
	on := func(do func(r *roll, ctx context.Context, slot Slot) error) handler {
		return func(r *roll, ctx context.Context, m *memberState) verdict {
			slot, err := r.o.slot(m.Name)
			if err == nil {
				err = do(r, ctx, slot)
			}
			if err != nil {
				return failed(err)
			}
			return ok()
		}
	}
	stopBlindly := on(func(r *roll, ctx context.Context, slot Slot) error { return r.halt(ctx, slot) })
	order := func(in bool) handler {
		return on(func(r *roll, ctx context.Context, slot Slot) error {
			_, err := r.order(ctx, slot, in)
			return err
		})
	}
	for _, bug := range []struct {
		name     string
		scenario string
		phases   map[Phase]handler
	}{
		{"stop without looking", "three members", map[Phase]handler{MemberStopping: stopBlindly}},
		{"stop without draining", "three members", map[Phase]handler{MemberStopping: stopBlindly, MemberDraining: assume}},
		{"take out without counting the others", "three members", map[Phase]handler{MemberTakingOut: order(false)}},
		{"take out without counting, two at a time", "two of four at a time", map[Phase]handler{MemberTakingOut: order(false)}},
		{"put in what was not probed", "three members", map[Phase]handler{MemberPuttingIn: order(true)}},
		{"put back what was not probed", "work that does not end", map[Phase]handler{MemberRestoring: order(true)}},
		{"believe the answer instead of the world", "three members", map[Phase]handler{
			MemberTakingOut: on(func(r *roll, ctx context.Context, slot Slot) error {
				_ = r.o.Switcher.TakeOut(ctx, slot)
				return nil
			}), MemberDraining: assume, MemberStopping: stopBlindly}},
		{"resume by assumption", "three members", map[Phase]handler{MemberWatching: assume, MemberPuttingIn: func(r *roll, ctx context.Context, m *memberState) verdict {
			if m.times[MemberPuttingIn] > 1 { // an earlier process was here: it will have done it
				return ok()
			}
			slot, _ := r.o.slot(m.Name)
			return r.puttingIn(ctx, slot)
		}}},
		{"go back under work", "canary refused, with a way back", map[Phase]handler{MemberWithdrawing: assume,
			MemberReverting: on(func(r *roll, ctx context.Context, slot Slot) error {
				_ = r.halt(ctx, slot)
				return r.install(ctx, slot, r.st.Back)
			})}},
		{"do not wait for what may land late", "three members", map[Phase]handler{
			MemberTakingOut: func(r *roll, ctx context.Context, m *memberState) verdict {
				slot, _ := r.o.slot(m.Name)
				w, err := r.see(ctx)
				if n, missing := r.others(ctx, w, m.Name, true); err == nil && n < r.st.Floor {
					err = r.short(n, missing)
				}
				if err == nil {
					err = r.o.Switcher.TakeOut(ctx, slot)
				}
				if err != nil {
					return failed(err) // and it goes back into service, as it seems
				}
				return ok()
			}}},
		{"leave a canary that failed in service", "canary refused, with a way back", map[Phase]handler{MemberWithdrawing: func(*roll, context.Context, *memberState) verdict {
			return failed(fmt.Errorf("no"))
		}}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := rollScenarios()
				sc := all[slices.IndexFunc(all, func(sc *rollScenario) bool { return sc.name == bug.scenario })]
				violations, walks, _ := exploreRolls(t, sc, 1, 1, bug.phases, map[edge]bool{})
				if len(violations) == 0 {
					t.Fatalf("not caught in %d walks", walks)
				}
				t.Logf("caught after %d walks: %s", walks, violations[0])
			})
		})
	}
}
