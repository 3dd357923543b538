package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The model test runs the engine through a model world again and again, each time with another choice of at most two faults, breadth first:
// a fault is tried at a call only if nobody was there before in the same state of world and journal. What must never happen is judged at
// every call and wherever a swap comes to rest.

// fault is something that goes wrong at one call of the engine.
type fault string

const (
	faultFail   fault = "fail"         // an error, no effect; a look that fails
	faultLost   fault = "answer lost"  // the effect happens, the answer does not come
	faultLate   fault = "late"         // the answer does not come, and the effect happens a while later
	faultHalf   fault = "half way"     // an error in the middle of the effect
	faultCrash  fault = "crash before" // the process dies before the effect
	faultCrash2 fault = "crash after"  // and after it
	faultCancel fault = "cancel"       // the caller's context ends
	faultSick   fault = "new sick"     // from now on the new slot is not fit
	faultDead   fault = "old dead"     // the old slot's process has died
	faultToNew  fault = "hand to new"  // another hand sends all work to the new slot
	faultToOld  fault = "hand to old"
	faultMixed  fault = "hand mixed"
)

// hand tells whether f is something that somebody else did to the world, so that the engine may ask for an operator.
func (f fault) hand() bool {
	return slices.Contains([]fault{faultSick, faultDead, faultToNew, faultToOld, faultMixed}, f)
}

// faultAt is a fault at the i-th call of a walk.
type faultAt struct {
	i int
	f fault
}

const mostCalls = 2000 // of one walk; no legal one comes near

var errDead = fmt.Errorf("the process is dead: %w", ErrPermanent)

// scenario is a swap to walk through.
type scenario struct {
	name     string
	begin    func(w *walk)
	verb     func(ctx context.Context, s *Swapper) (Report, error)
	swapper  Swapper // the fields that matter
	from, to string
	first    bool // nothing is active at the beginning
}

// walk is one run of a scenario with its faults.
type walk struct {
	*model
	sc       *scenario
	plan     []faultAt
	bugs     map[Phase]func(*run, context.Context) verdict
	n        int // calls so far
	inPhase  int // calls since the last record
	phaseAt  int // n at the last intent
	proven   map[string]int
	pending  []pendingEffect
	journal  *walkJournal
	dead     bool
	cancel   context.CancelFunc
	handed   bool // another hand moved weights after the engine's last look
	violated []string
	killed   map[string]bool // slots whose process died by a fault
	visit    func(w *walk, c modelCall)
	gap      bool
}

type pendingEffect struct {
	due    time.Time
	call   modelCall
	effect func()
}

// walkJournal is a MemoryJournal that dies with the walk's process and looks at what is written.
type walkJournal struct {
	MemoryJournal
	w *walk
}

type walkHold struct {
	JournalHold
	w *walk
}

func (j *walkJournal) Lock(ctx context.Context, o Owner) (JournalHold, error) {
	h, err := j.MemoryJournal.Lock(ctx, o)
	return &walkHold{h, j.w}, err
}

func (h *walkHold) Append(ctx context.Context, r Record) error {
	if h.w.dead {
		return errDead
	}
	w := h.w
	w.inPhase = 0
	if r.Kind == RecordIntent {
		w.phaseAt = w.n
	}
	if r.Kind == RecordOutcome && r.Phase == PhaseCommitting && !w.handed && !sameWeights(w.weights, map[string]int{w.to(): 100}) {
		w.violate("committed while new work goes to %s", weightsText(w.weights))
	}
	return h.JournalHold.Append(ctx, r)
}

func newWalk(sc *scenario, plan []faultAt) *walk {
	w := &walk{sc: sc, plan: plan, proven: map[string]int{}, killed: map[string]bool{}}
	w.model = &model{slots: map[string]*modelSlot{}, weights: map[string]int{}}
	for _, name := range []string{"blue", "green"} {
		w.slots[name] = &modelSlot{m: w.model, name: name}
	}
	w.journal = &walkJournal{w: w}
	sc.begin(w)
	w.around = w.turn
	return w
}

// live makes a slot run its release, with a part of the work.
func (w *walk) live(name, release string, part int) {
	s := w.slots[name]
	s.running, s.release = true, release
	if part > 0 {
		w.weights[name] = part
		s.load = 1
	}
}

func (w *walk) swapper() *Swapper {
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	s := &Swapper{
		Switcher: w.model, Drainer: w.model, Journal: w.journal, Steps: w.sc.swapper.Steps, Exclusive: w.sc.swapper.Exclusive,
		Retain: w.sc.swapper.Retain, Occupied: w.sc.swapper.Occupied, Drain: w.sc.swapper.Drain,
		Timeouts: Timeouts{Start: 20 * time.Second, Revert: 20 * time.Second}, handlers: w.bugs,
	}
	for _, name := range slices.Sorted(maps.Keys(w.slots)) {
		s.Slots = append(s.Slots, w.slots[name])
	}
	return s
}

func (w *walk) violate(format string, args ...any) {
	w.violated = append(w.violated, fmt.Sprintf(format, args...))
}

// turn is the world's side of one call. It runs under the model's lock.
func (w *walk) turn(c modelCall) error {
	if w.dead {
		return errDead
	}
	w.land()
	w.n++
	if w.n > mostCalls {
		if w.n == mostCalls+1 {
			w.violate("the engine does not come to rest: %d calls, the last %s %s", w.n, c.op, c.slot)
		}
		w.dead = true
		return errDead
	}
	w.inPhase++
	if w.visit != nil {
		w.visit(w, c)
	}
	var f fault
	for _, p := range w.plan {
		if p.i == w.n {
			f = p.f
		}
	}
	w.befall(f)
	w.judge(c)
	err := w.answer(c, f)
	if c.op == "weights" && err == nil {
		w.handed = false
	}
	if s := w.slots[c.slot]; c.op == "ready" && err == nil && s.running && !s.sick {
		w.proven[c.slot] = w.n
	}
	if err == nil || f == faultLost || f == faultCrash2 {
		if c.op == "start" || c.op == "install" || c.op == "stop" {
			delete(w.proven, c.slot)
		}
	}
	return err
}

// befall is what a fault does to the world by itself.
func (w *walk) befall(f fault) {
	hand := func(weights map[string]int) { w.set(weights); w.handed = true }
	switch f {
	case faultSick:
		w.slots[w.sc.to].sick = true
	case faultDead:
		s := w.slots[w.sc.from]
		s.running, s.load = false, 0
		w.killed[s.name] = true
	case faultToNew:
		hand(map[string]int{w.sc.to: 100})
	case faultToOld:
		hand(map[string]int{w.sc.from: 100})
	case faultMixed:
		hand(map[string]int{w.sc.from: 50, w.sc.to: 50})
	case faultCancel:
		w.cancel()
	}
}

// answer carries the call out as the fault allows.
func (w *walk) answer(c modelCall, f fault) error {
	effect := c.effect
	if effect == nil {
		effect = func() {}
	}
	switch f {
	case faultFail:
		return errors.New("it failed")
	case faultLost:
		effect()
		return fmt.Errorf("the answer was lost: %w", ErrUnknownOutcome)
	case faultLate:
		w.pending = append(w.pending, pendingEffect{time.Now().Add(3 * time.Second), c, effect})
		return fmt.Errorf("no answer in time: %w", ErrUnknownOutcome)
	case faultHalf:
		w.half(c)
		return errors.New("it failed half way")
	case faultCrash:
		w.dead = true
		return errDead
	case faultCrash2:
		effect()
		w.dead = true
		return errDead
	}
	effect()
	return nil
}

func (w *walk) half(c modelCall) {
	s := w.slots[c.slot]
	switch c.op {
	case "install":
		s.release = "half of it"
	case "start":
		s.running, s.sick = true, true
	case "stop":
		s.sick = true
	case "activate":
		w.weights = map[string]int{} // only where the switcher has a gap
	}
}

// land carries out what comes late.
func (w *walk) land() {
	w.pending = slices.DeleteFunc(w.pending, func(p pendingEffect) bool {
		if time.Now().Before(p.due) {
			return false
		}
		p.effect()
		return true
	})
}

// judge holds a call against the promises.
func (w *walk) judge(c modelCall) {
	if c.effect == nil {
		return
	}
	_, seals := ability[SealingSwitcher](w.model)
	switch c.op {
	case "stop":
		s := w.slots[c.slot]
		switch {
		case w.weights[c.slot] > 0 && !w.handed:
			w.violate("W1: slot %s is stopped while new work goes to %s", c.slot, weightsText(w.weights))
		case s.running && s.load > 0 && !w.handed:
			w.violate("W1: slot %s is stopped with %d pieces of work", c.slot, s.load)
		case seals && !s.sealed && !w.handed:
			w.violate("W1: slot %s is stopped unsealed", c.slot)
		}
		for _, p := range w.pending {
			if p.call.to[c.slot] > 0 {
				w.violate("W1: slot %s is stopped while an order that leads work there may still land", c.slot)
			}
		}
	case "install":
		if w.weights[c.slot] > 0 && !w.handed {
			w.violate("W1: release installed into slot %s, which takes work", c.slot)
		}
	case "seal":
		if w.weights[c.slot] > 0 && !w.handed && !w.sc.first {
			w.violate("slot %s is sealed while it takes work", c.slot)
		}
	case "activate", "weigh":
		for name, part := range c.to {
			if part > w.weights[name] && !w.handed && w.proven[name] <= w.phaseAt {
				w.violate("W1/W3: work is led to slot %s, which was not probed fit just before", name)
			}
		}
		if w.sc.swapper.Exclusive && !w.handsSoFar() && w.slots[w.other(c.slot)].load > 0 {
			w.violate("exclusive: slot %s gets work while slot %s still has some", c.slot, w.other(c.slot))
		}
	}
}

// answerLost tells whether a hold may be in force that its caller has no handle of, so that it ends by itself.
func (w *walk) answerLost() bool {
	return slices.ContainsFunc(w.plan, func(p faultAt) bool {
		return p.f == faultLost || p.f == faultLate || p.f == faultCrash || p.f == faultCrash2
	})
}

func (w *walk) swapperHold() time.Duration { return w.sc.swapper.Hold.WithDefaults().Total }

// handsSoFar tells whether another hand was in play.
func (w *walk) handsSoFar() bool {
	return slices.ContainsFunc(w.plan, func(p faultAt) bool { return p.f.hand() && p.i <= w.n })
}

// to is the slot that the newest swap in the journal leads to.
func (w *walk) to() string {
	ids, _ := w.journal.Swaps(context.Background())
	if len(ids) == 0 {
		return w.sc.to
	}
	recs, _ := w.journal.Records(context.Background(), ids[0])
	return recs[0].Begin.To
}

func (w *walk) other(name string) string {
	if name == "blue" {
		return "green"
	}
	return "blue"
}

// possible lists the faults that make sense at a call.
func (w *walk) possible(c modelCall) []fault {
	fs := []fault{faultFail, faultCrash}
	if c.effect != nil {
		fs = append(fs, faultLost, faultLate, faultCrash2)
		switch c.op {
		case "install", "start", "stop":
			fs = append(fs, faultHalf)
		case "activate":
			if w.gap {
				fs = append(fs, faultHalf)
			}
		}
	}
	fs = append(fs, faultCancel, faultSick, faultToNew)
	if !w.sc.first {
		fs = append(fs, faultDead, faultToOld, faultMixed)
	}
	return fs
}

// state is what the future depends on, as text.
func (w *walk) state(c modelCall) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %v|%v|%v|%v|", c.op, c.slot, weightsText(c.to), weightsText(w.weights), time.Until(w.held).Round(time.Second), w.inPhase)
	for _, name := range slices.Sorted(maps.Keys(w.slots)) {
		s := w.slots[name]
		fmt.Fprintf(&b, "%s %s %v %v %v %d|", name, s.release, s.running, s.sick, s.sealed, s.load)
	}
	for _, p := range w.pending {
		fmt.Fprintf(&b, "late %s %s|", p.call.op, p.call.slot)
	}
	if ids, _ := w.journal.Swaps(context.Background()); len(ids) > 0 {
		recs, _ := w.journal.Records(context.Background(), ids[0])
		if st, err := fold(recs); err == nil {
			fmt.Fprintf(&b, "%d %s %d %v %v %s %s %s %v", len(ids), st.phase, st.round, st.entered, st.left, st.leaving, st.failed, st.suspendedIn, st.canceled)
			for _, p := range slices.Sorted(maps.Keys(st.reached)) {
				b.WriteString(string(p[0]) + string(p[2]))
			}
		}
	}
	return b.String()
}

// run walks the scenario to a rest that nothing but an operator can change, and judges that.
func (w *walk) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.cancel = cancel
	rep, err := w.sc.verb(ctx, w.swapper())
	for range 6 {
		if w.n > mostCalls {
			break
		}
		if w.dead { // a new process comes up
			w.dead = false
		} else if w.slots["blue"].stuck || rep.Outcome != OutcomeStillDraining && rep.Outcome != OutcomeNone {
			break
		}
		ctx, w.cancel = context.WithCancel(t.Context())
		rep, err = w.swapper().Resume(ctx)
		w.cancel()
		if errors.Is(err, ErrNothingToDo) && !w.dead {
			break
		}
	}
	synctest.Wait()
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	w.judgeRest(rep, err)
}

func (w *walk) judgeRest(rep Report, err error) {
	var hands []fault
	for _, p := range w.plan {
		if p.f.hand() {
			hands = append(hands, p.f)
		}
	}
	active := ""
	for name, part := range w.weights {
		if part > 0 {
			active = name
		}
	}
	someFit := false
	for _, s := range w.slots {
		someFit = someFit || s.running && !s.sick
	}
	if active == "" && !w.sc.first && someFit {
		w.violate("at rest (%s) no slot takes work", rep.Phase)
	}
	for name, part := range w.weights {
		if s := w.slots[name]; part > 0 && !s.running && !w.killed[name] && len(hands) == 0 {
			w.violate("at rest (%s) slot %s takes work and does not run", rep.Phase, name)
		}
	}
	if left := time.Until(w.held); left > 0 && !w.answerLost() {
		w.violate("at rest (%s) requests are still held", rep.Phase)
	} else if left > w.swapperHold() {
		w.violate("at rest (%s) requests are held for another %s", rep.Phase, left)
	}
	switch rep.Outcome {
	case OutcomeSucceeded:
		if len(hands) == 0 && !sameWeights(w.weights, map[string]int{w.to(): 100}) {
			w.violate("succeeded, and new work goes to %s", weightsText(w.weights))
		}
		if len(hands) == 0 && w.sc.swapper.Retain >= 0 && w.sc.from != "" && w.slots[w.sc.from].running {
			w.violate("succeeded, and the old slot still runs")
		}
	case OutcomeRefused:
	case OutcomeRolledBack, OutcomeDiscarded:
		if len(hands) == 0 && w.weights[w.to()] > 0 {
			w.violate("%s, and new work goes to %s", rep.Outcome, weightsText(w.weights))
		}
	case OutcomeSuspended:
		if len(hands) == 0 && !w.sc.first {
			w.violate("suspended in %s though no other hand was in play: %v", rep.Phase, err)
		}
	case OutcomeStillDraining:
		if len(hands) == 0 && !w.slots["blue"].stuck {
			w.violate("the old slot is never brought to rest: %v", err)
		}
	default:
		w.violate("at rest with outcome %q in phase %s: %v", rep.Outcome, rep.Phase, err)
	}
	w.judgeJournal()
}

// judgeJournal makes sure that the journal reads as one legal history.
func (w *walk) judgeJournal() {
	ids, _ := w.journal.Swaps(context.Background())
	for _, id := range ids {
		recs, _ := w.journal.Records(context.Background(), id)
		if _, err := fold(recs); err != nil {
			w.violate("journal: %v", err)
		}
	}
}
