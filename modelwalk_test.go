package abswap

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var deployV2 = func(ctx context.Context, s *Swapper) (Report, error) {
	return s.Deploy(ctx, Release{ID: "v2"})
}

// What a model with fewer abilities stands for.
type (
	onlyCore    struct{ Switcher }
	onlyWeights struct{ WeightedSwitcher }
	withGap     struct{ SealingSwitcher }
)

func (withGap) Traits() Traits { return Traits{Gap: true} }

func scenarios() []*scenario {
	live := func(w *walk) { w.live("blue", "v1", 100) }
	return []*scenario{
		{name: "deploy", begin: live, verb: deployV2, from: "blue", to: "green"},
		{name: "deploy in steps", begin: live, verb: deployV2, from: "blue", to: "green", swapper: Swapper{Steps: []int{10}}},
		{name: "deploy without seal", begin: func(w *walk) { live(w); w.looks = onlyWeights{w.model} }, verb: deployV2, from: "blue", to: "green"},
		{name: "deploy with the core alone", begin: func(w *walk) { live(w); w.looks = onlyCore{w.model} }, verb: deployV2, from: "blue", to: "green"},
		{name: "deploy with a gap", begin: func(w *walk) { live(w); w.looks = withGap{w.model}; w.gap = true }, verb: deployV2, from: "blue", to: "green"},
		{name: "deploy over a kept slot", begin: func(w *walk) { live(w); w.live("green", "v0", 0) }, verb: deployV2, from: "blue", to: "green", swapper: Swapper{Retain: -1}},
		{name: "first deploy", begin: func(*walk) {}, verb: deployV2, to: "blue", first: true},
		{name: "swap back", begin: func(w *walk) { live(w); w.live("green", "v0", 0) }, from: "blue", to: "green", swapper: Swapper{Retain: -1},
			verb: func(ctx context.Context, s *Swapper) (Report, error) { return s.Swap(ctx, "green") }},
		{name: "exclusive", begin: live, verb: deployV2, from: "blue", to: "green", swapper: Swapper{Exclusive: true}},
		{name: "exclusive with work that does not end", begin: func(w *walk) { live(w); w.slots["blue"].stuck = true }, verb: deployV2, from: "blue", to: "green",
			swapper: Swapper{Exclusive: true, Drain: DrainOptions{Timeout: time.Minute}}},
		{name: "kept for an hour", begin: live, verb: deployV2, from: "blue", to: "green", swapper: Swapper{Retain: time.Hour}},
		{name: "over another swap's tail", begin: beginInATail, verb: deployV2, from: "green", to: "mauve", swapper: Swapper{Retain: -1}},
	}
}

// beginInATail is a world of three slots in which an earlier swap, from blue to green, rests with work left in blue.
func beginInATail(w *walk) {
	w.slots["mauve"] = &modelSlot{m: w.model, name: "mauve"}
	w.live("green", "v1", 100)
	w.live("blue", "v0", 0)
	w.slots["blue"].load = 3
	ctx := context.Background()
	h, _ := w.journal.MemoryJournal.Lock(ctx, Owner{})
	defer h.Unlock()
	for _, r := range []Record{
		{Kind: RecordBegin, Begin: &SwapBegin{From: "blue", To: "green", Steps: []int{100}, Weights: map[string]int{"blue": 100}}},
		{Kind: RecordIntent, Phase: PhaseCommitting},
		{Kind: RecordOutcome, Phase: PhaseCommitting, Result: ResultOK},
		{Kind: RecordIntent, Phase: PhaseDraining},
		{Kind: RecordOutcome, Phase: PhaseDraining, Result: ResultLeft},
	} {
		r.Swap = "earlier"
		_ = h.Append(ctx, r)
	}
}

// explore walks sc with every choice of at most depth faults that leads somewhere new. It returns the violations found, each with its
// faults, and how many walks and states there were. It ends early when it has found enough.
func explore(t *testing.T, sc *scenario, depth, enough int, bugs map[Phase]func(*run, context.Context) verdict, edgesSeen map[edge]bool) (violations []string, walks, states int) {
	seen := map[string]bool{}
	queue := [][]faultAt{nil}
	for len(queue) > 0 && len(violations) < enough {
		plan := queue[0]
		queue = queue[1:]
		w := newWalk(sc, plan)
		w.bugs = bugs
		last := 0
		if len(plan) > 0 {
			last = plan[len(plan)-1].i
		}
		w.visit = func(w *walk, c modelCall) {
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
		if edgesSeen != nil {
			w.collectEdges(edgesSeen)
		}
	}
	return violations, walks, len(seen)
}

func (w *walk) collectEdges(seen map[edge]bool) {
	ids, _ := w.journal.Swaps(context.Background())
	for _, id := range ids {
		recs, _ := w.journal.Records(context.Background(), id)
		for _, r := range recs {
			if r.Kind == RecordOutcome {
				to, _ := nextPhase(r.Phase, r.Result)
				seen[edge{r.Phase, r.Result, to}] = true
			}
		}
	}
}

func TestModelEveryStateWithTwoFaults(t *testing.T) {
	edgesSeen := map[edge]bool{}
	depth := 2
	if raceDetector || testing.Short() { // it computes only: the same on every system
		depth = 1
	}
	for i, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			if raceDetector && i%4 != 0 {
				t.Skip("walked without the race detector")
			}
			synctest.Test(t, func(t *testing.T) {
				violations, walks, states := explore(t, sc, depth, 20, nil, edgesSeen)
				for _, v := range violations {
					t.Error(v)
				}
				t.Logf("%d walks, %d states with a fault, at most %d faults in one walk", walks, states, depth)
			})
		})
	}
	for _, e := range edges {
		if depth == 2 && !edgesSeen[e] {
			t.Errorf("edge never taken: %v", e)
		}
	}
}

// TestModelCatchesPlantedBugs proves that the model test can fail: each bug is one that an engine like this could well have.
func TestModelCatchesPlantedBugs(t *testing.T) {
	if raceDetector {
		t.Skip("walked without the race detector")
	}
	type handler = func(*run, context.Context) verdict
	stopBlindly := func(r *run, ctx context.Context) verdict {
		slot, err := r.s.slot(r.st.leaving)
		if err != nil {
			return leave(err)
		}
		_ = r.s.Switcher.(SealingSwitcher).Seal(ctx, slot)
		st, _ := ability[StoppingSlot](slot)
		if err := r.stop(ctx, slot, st); err != nil {
			return leave(err)
		}
		return verdict{result: ResultOK, slot: slot.Name()}
	}
	assume := func(*run, context.Context) verdict { return ok() }
	for _, bug := range []struct {
		name     string
		scenario string
		phases   map[Phase]handler
	}{
		{"stop without observing", "deploy", map[Phase]handler{PhaseStopping: stopBlindly}},
		{"stop without draining", "deploy", map[Phase]handler{PhaseStopping: stopBlindly, PhaseDraining: func(r *run, _ context.Context) verdict {
			return verdict{result: ResultOK, slot: r.st.left[0]}
		}}},
		{"roll back without probing", "deploy", map[Phase]handler{PhaseReverting: func(r *run, ctx context.Context) verdict {
			if _, err := r.move(ctx, r.home()); err != nil {
				return failed(err)
			}
			return ok()
		}}},
		{"resume by assumption", "deploy", map[Phase]handler{
			PhaseShifting: func(r *run, ctx context.Context) verdict {
				times := 0
				for _, s := range r.st.steps {
					if s.Phase == PhaseShifting {
						times++
					}
				}
				if times > 1 { // an earlier process was here: it will have done it
					return ok()
				}
				return r.shifting(ctx)
			},
			PhaseConfirming: assume, PhaseSoaking: assume, PhaseVerifying: assume}},
		{"believe the answer instead of the world", "deploy", map[Phase]handler{
			PhaseShifting: func(r *run, ctx context.Context) verdict {
				if r.fit(ctx) != nil || r.order(ctx, r.st.wanted(r.st.round)) != nil {
					return failed(fmt.Errorf("it said no"))
				}
				return ok()
			},
			PhaseReverting: assume, PhaseRevConfirming: assume}},
		{"switch to what was not probed", "deploy", map[Phase]handler{PhaseShifting: func(r *run, ctx context.Context) verdict {
			if _, err := r.move(ctx, r.st.wanted(r.st.round)); err != nil {
				return failed(err)
			}
			return ok()
		}}},
		{"commit without confirming", "deploy in steps", map[Phase]handler{PhaseConfirming: assume, PhaseSoaking: func(r *run, _ context.Context) verdict {
			return ok() // and the last step is forgotten
		}, PhaseVerifying: assume}},
		{"forget the hold", "exclusive", map[Phase]handler{PhaseDrainingFirst: assume}},
		{"install over a slot at work", "deploy over a kept slot", map[Phase]handler{PhasePreparing: func(r *run, ctx context.Context) verdict {
			slot, _ := r.s.slot(r.st.To)
			_ = r.s.Switcher.(SealingSwitcher).Seal(ctx, slot)
			st, _ := ability[StoppingSlot](slot)
			_ = r.stop(ctx, slot, st)
			return ok()
		}}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := scenarios()
				sc := all[slices.IndexFunc(all, func(sc *scenario) bool { return sc.name == bug.scenario })]
				violations, walks, _ := explore(t, sc, 2, 1, bug.phases, nil)
				if len(violations) == 0 {
					t.Fatalf("not caught in %d walks", walks)
				}
				t.Logf("caught after %d walks: %s", walks, violations[0])
			})
		})
	}
}
