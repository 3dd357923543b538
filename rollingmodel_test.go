package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The model test of Rolling runs the engine through a fleet in memory, behind two doors, again and again, each time with another choice of at
// most two faults, breadth first, as the model test of Swapper does. What must never happen is judged at every call, whenever a late effect
// lands, and where a roll comes to rest.

const (
	faultOtherDead fault = "other dead"   // the process of a member that is not in work has died
	faultOtherOut  fault = "hand out"     // another hand takes a member out that is not in work
	faultHandIn    fault = "hand in"      // another hand puts the member in work into service
	faultHandHalf  fault = "hand in half" // at one door only
	faultHandTake  fault = "hand take"    // another hand takes the member in work out
	faultThisSick  fault = "sick in work" // the member in work is not fit from now on
)

// fleet is the world: members behind two doors.
type fleet struct {
	mu      sync.Mutex
	members map[string]*fleetMember
	turn    func(c fleetCall) error // nil: do the effect
}

// fleetCall is one call that the engine makes.
type fleetCall struct {
	op     string // "take out", "put in", "install", "start", "warm", "stop"; "members", "load", "ready", "inspect"
	member string
	effect func() // nil: the call changes nothing
	half   func()
}

type fleetMember struct {
	f       *fleet
	name    string
	release string
	running bool
	sick    bool
	door    [2]bool
	load    int
	stuck   bool   // what it carries does not end
	wedged  bool   // its Stop fails
	bad     string // this release is not fit in it
}

func (f *fleet) call(ctx context.Context, c fleetCall) error {
	if err := ctx.Err(); err != nil && c.effect != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turn(c)
}

func (f *fleet) Members(ctx context.Context) (map[string]Member, error) {
	if err := f.call(ctx, fleetCall{op: "members"}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]Member{}
	for name, m := range f.members {
		all[name] = Member{In: m.door[0] && m.door[1], Out: !m.door[0] && !m.door[1], Up: true}
	}
	return all, nil
}

func (f *fleet) open(m *fleetMember, door int, in bool) {
	m.door[door] = in
	if in {
		m.load = max(m.load, 1)
	}
}

func (f *fleet) change(ctx context.Context, op string, s Slot, in bool) error {
	m := f.members[s.Name()]
	return f.call(ctx, fleetCall{op: op, member: s.Name(),
		effect: func() { f.open(m, 0, in); f.open(m, 1, in) }, half: func() { f.open(m, 0, in) }})
}

func (f *fleet) TakeOut(ctx context.Context, s Slot) error {
	return f.change(ctx, "take out", s, false)
}
func (f *fleet) PutIn(ctx context.Context, s Slot) error { return f.change(ctx, "put in", s, true) }

// InFlight counts exactly. What a member carries when nothing new comes ends by itself, one piece from look to look.
func (f *fleet) InFlight(ctx context.Context, s Slot) (Load, error) {
	if err := f.call(ctx, fleetCall{op: "load", member: s.Name()}); err != nil {
		return Load{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[s.Name()]
	l := Load{Requests: m.load, Evidence: EvidenceExact, Source: "fleet"}
	if m.load > 0 && !m.stuck && !m.door[0] && !m.door[1] {
		m.load--
	}
	return l, nil
}

func (m *fleetMember) Name() string { return m.name }

func (m *fleetMember) Ready(ctx context.Context) error {
	if err := m.f.call(ctx, fleetCall{op: "ready", member: m.name}); err != nil {
		return err
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if !m.fit() {
		return fmt.Errorf("member %q: %w", m.name, ErrNotReady)
	}
	return nil
}

func (m *fleetMember) fit() bool { return m.running && !m.sick }

func (m *fleetMember) serves() bool { return m.fit() && m.door[0] && m.door[1] }

func (m *fleetMember) Install(ctx context.Context, r Release) error {
	return m.f.call(ctx, fleetCall{op: "install", member: m.name, half: func() { m.release, m.sick = "half of it", true },
		effect: func() { m.release, m.sick = r.ID, r.ID == m.bad }})
}

func (m *fleetMember) Start(ctx context.Context) error {
	return m.f.call(ctx, fleetCall{op: "start", member: m.name, effect: func() { m.running = true }, half: func() { m.running, m.sick = true, true }})
}

func (m *fleetMember) Warm(ctx context.Context) error {
	return m.f.call(ctx, fleetCall{op: "warm", member: m.name, effect: func() {}, half: func() {}})
}

func (m *fleetMember) Stop(ctx context.Context) error {
	if m.wedged {
		return errors.Join(errors.New("access denied"), m.f.call(ctx, fleetCall{op: "stop that fails", member: m.name}))
	}
	return m.f.call(ctx, fleetCall{op: "stop", member: m.name, effect: func() { m.running, m.load = false, 0 }, half: func() { m.sick = true }})
}

func (m *fleetMember) Inspect(ctx context.Context) (SlotState, error) {
	if err := m.f.call(ctx, fleetCall{op: "inspect", member: m.name}); err != nil {
		return SlotState{}, err
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return SlotState{Release: m.release, Running: m.running}, nil
}

// rollScenario is a roll to walk through.
type rollScenario struct {
	name    string
	members int
	rolling Rolling // the fields that matter
	begin   func(w *rollWalk)
	ends    Outcome // without a fault
	race    bool    // walked with the race detector too, which is slow
}

// rollWalk is one run of a scenario with its faults.
type rollWalk struct {
	fleet
	sc       *rollScenario
	plan     []faultAt
	bugs     map[Phase]func(*roll, context.Context, *memberState) verdict
	n        int
	phaseAt  map[string]int // n at a member's last intent
	inPhase  int            // calls since the last record
	proven   map[string]int
	pending  []pendingFleet
	journal  *rollJournal
	dead     bool
	cancel   context.CancelFunc
	looked   int             // n at the engine's last look at the doors
	handed   int             // n when another hand, or fate, was last at the fleet
	hit      map[string]bool // members that another hand, or fate, has struck
	violated []string
	visit    func(w *rollWalk, c fleetCall)
	refuse   bool // the Gate refuses
}

type pendingFleet struct {
	due  time.Time
	call fleetCall
}

type rollJournal struct {
	MemoryJournal
	w *rollWalk
}

type rollHold struct {
	JournalHold
	w *rollWalk
}

func (j *rollJournal) Lock(ctx context.Context, o Owner) (JournalHold, error) {
	h, err := j.MemoryJournal.Lock(ctx, o)
	return &rollHold{h, j.w}, err
}

func (h *rollHold) Append(ctx context.Context, r Record) error {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errDead
	}
	w.inPhase = 0
	if r.Kind == RecordIntent {
		w.phaseAt[r.Slot] = w.n
	}
	return h.JournalHold.Append(ctx, r)
}

func newRollWalk(sc *rollScenario, plan []faultAt) *rollWalk {
	w := &rollWalk{sc: sc, plan: plan, phaseAt: map[string]int{}, proven: map[string]int{}, hit: map[string]bool{}}
	w.members = map[string]*fleetMember{}
	for i := range sc.members {
		name := fmt.Sprintf("n%d", i+1)
		w.members[name] = &fleetMember{f: &w.fleet, name: name, release: "v1", running: true, door: [2]bool{true, true}, load: 1}
	}
	w.journal = &rollJournal{w: w}
	if sc.begin != nil {
		sc.begin(w)
	}
	w.turn = w.take
	return w
}

func (w *rollWalk) rolling() *Rolling {
	o := &Rolling{Switcher: &w.fleet, Drainer: &w.fleet, Journal: w.journal, Parallel: w.sc.rolling.Parallel, MinServing: w.sc.rolling.MinServing,
		Back: w.sc.rolling.Back, Drain: w.sc.rolling.Drain, Bake: 2 * time.Second, Soak: -1, Patience: 5 * time.Second,
		Timeouts: Timeouts{Start: 20 * time.Second, Revert: 20 * time.Second}, handlers: w.bugs}
	if w.refuse {
		o.Gate = func(context.Context, RollGateRequest) error { return errors.New("refused by the gate") }
	}
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		o.Slots = append(o.Slots, w.members[name])
	}
	return o
}

func (w *rollWalk) floor() int {
	return (&Rolling{Slots: make([]Slot, w.sc.members), Parallel: w.sc.rolling.Parallel, MinServing: w.sc.rolling.MinServing}).floor()
}

func (w *rollWalk) violate(format string, args ...any) {
	w.violated = append(w.violated, fmt.Sprintf(format, args...))
}

// inWork is the member that the newest roll has in work; "" for none.
func (w *rollWalk) inWork() string {
	st, err := readRoll(context.Background(), &w.journal.MemoryJournal, "")
	if err != nil {
		return ""
	}
	for _, b := range st.Members {
		if m := st.members[b.Name]; m.inWork() {
			return b.Name
		}
	}
	return ""
}

// take is the world's side of one call. It runs under the fleet's lock.
func (w *rollWalk) take(c fleetCall) error {
	if w.dead {
		return errDead
	}
	w.land()
	w.n++
	if w.n > mostCalls {
		if w.n == mostCalls+1 {
			w.violate("the engine does not come to rest: %d calls, the last %s %s", w.n, c.op, c.member)
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
	w.judge(c.op, c.member, false)
	err := w.answer(c, f)
	if c.op == "members" && err == nil {
		w.looked = w.n
	}
	if m := w.members[c.member]; c.op == "ready" && err == nil && m.fit() {
		w.proven[c.member] = w.n
	}
	if c.op == "start" || c.op == "install" || c.op == "stop" {
		delete(w.proven, c.member)
	}
	w.count()
	return err
}

// count judges the floor: of the members that nobody has struck, no more may be missing than the roll may take out.
func (w *rollWalk) count() {
	missing := 0
	for name, m := range w.members {
		if !m.serves() && !w.hit[name] {
			missing++
		}
	}
	if missing > w.sc.members-w.floor() {
		w.violate("floor: %d members do not serve, and no other hand was at them", missing)
	}
}

// befall is what a fault does to the world by itself.
func (w *rollWalk) befall(f fault) {
	if f == "" {
		return
	}
	this := w.members[w.inWork()]
	other := w.members[fmt.Sprintf("n%d", w.sc.members)]
	if other == this {
		other = w.members["n1"]
	}
	strike := func(m *fleetMember, do func(m *fleetMember)) {
		if m != nil {
			do(m)
			w.hit[m.name], w.handed = true, w.n
		}
	}
	switch f {
	case faultOtherDead:
		strike(other, func(m *fleetMember) { m.running, m.load = false, 0 })
	case faultOtherOut:
		strike(other, func(m *fleetMember) { m.door = [2]bool{} })
	case faultHandIn:
		strike(this, func(m *fleetMember) { w.open(m, 0, true); w.open(m, 1, true) })
	case faultHandHalf:
		strike(this, func(m *fleetMember) { w.open(m, 0, true) })
	case faultHandTake:
		strike(this, func(m *fleetMember) { m.door = [2]bool{} })
	case faultThisSick:
		strike(this, func(m *fleetMember) { m.sick = true })
	case faultCancel:
		w.cancel()
	}
}

// answer carries the call out as the fault allows.
func (w *rollWalk) answer(c fleetCall, f fault) error {
	effect := c.effect
	if effect == nil { // two members at a time take turns as they come: there it need not be the call for which the fault was meant
		effect, c.half = func() {}, func() {}
		c.effect = effect
	}
	switch f {
	case faultFail:
		return errors.New("it failed")
	case faultLost:
		effect()
		return fmt.Errorf("the answer was lost: %w", ErrUnknownOutcome)
	case faultLate:
		w.pending = append(w.pending, pendingFleet{time.Now().Add(3 * time.Second), c})
		return fmt.Errorf("no answer in time: %w", ErrUnknownOutcome)
	case faultHalf:
		c.half()
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

// land carries out what comes late, and judges it as if it were ordered now.
func (w *rollWalk) land() {
	w.pending = slices.DeleteFunc(w.pending, func(p pendingFleet) bool {
		if time.Now().Before(p.due) {
			return false
		}
		w.judge(p.call.op, p.call.member, true)
		p.call.effect()
		delete(w.proven, p.call.member)
		return true
	})
}

// judge holds an effect against the promises.
func (w *rollWalk) judge(op, name string, late bool) {
	m := w.members[name]
	say := func(format string, args ...any) {
		if late && w.hit[name] { // it was struck since the order was given
			return
		}
		looked := w.looked
		if w.sc.rolling.Parallel > 1 { // whose look it was is not known
			looked = min(looked, w.phaseAt[name]+1)
		}
		if w.handed <= looked || looked <= w.phaseAt[name] { // no excuse: it could have seen that, or it did not look at all
			w.violate("%s %s (late: %v): %s", op, name, late, fmt.Sprintf(format, args...))
		}
	}
	switch op {
	case "take out":
		serving := 0
		for _, x := range w.members {
			if x != m && (x.serves() || late && w.hit[x.name]) { // late: it was struck since the order was given
				serving++
			}
		}
		if m.serves() && serving < w.floor() {
			say("only %d others serve", serving)
		}
	case "stop", "install":
		if m.door[0] || m.door[1] {
			say("it is in service")
		}
		if m.running && (m.load > 0 || op == "install") {
			say("it runs with %d pieces of work", m.load)
		}
		for _, p := range w.pending {
			if p.call.op == "put in" && p.call.member == name {
				say("an order that puts it in may still land")
			}
		}
	case "put in":
		if !m.fit() && w.proven[name] <= w.phaseAt[name] || late && !m.fit() && !w.hit[name] {
			say("it is not fit")
		}
		if !late && w.proven[name] <= w.phaseAt[name] {
			say("it was not probed fit just before")
		}
		if m.release != "v1" && m.release != "v2" {
			say("it holds %q", m.release)
		}
	}
}

// possible lists the faults that make sense at a call.
func (w *rollWalk) possible(c fleetCall) []fault {
	fs := []fault{faultFail, faultCrash}
	if c.effect != nil {
		fs = append(fs, faultLost, faultLate, faultCrash2, faultHalf)
	}
	return append(fs, faultCancel, faultOtherDead, faultOtherOut, faultHandIn, faultHandHalf, faultHandTake, faultThisSick)
}

// state is what the future depends on, as text.
func (w *rollWalk) state(c fleetCall) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d|", c.op, c.member, w.inPhase)
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		fmt.Fprintf(&b, "%s %v %v %v %d|", m.release, m.running, m.sick, m.door, m.load)
	}
	for _, p := range w.pending {
		fmt.Fprintf(&b, "late %s %s|", p.call.op, p.call.member)
	}
	if st, err := readRoll(context.Background(), &w.journal.MemoryJournal, ""); err == nil {
		for _, m := range st.Members {
			x := st.members[m.Name]
			fmt.Fprintf(&b, "%s %v %s %v|", x.phase, x.entered, x.failed, x.Out)
		}
		fmt.Fprintf(&b, "%s", st.endedBy)
	}
	return b.String()
}

// run walks the scenario to its end, with as many processes as it takes, and judges that.
func (w *rollWalk) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.cancel = cancel
	rep, err := w.rolling().Deploy(ctx, Release{ID: "v2"})
	for range 6 {
		if !w.dead || w.n > mostCalls {
			break
		}
		w.dead = false // a new process comes up
		ctx, w.cancel = context.WithCancel(t.Context())
		rep, err = w.rolling().Resume(ctx)
		w.cancel()
	}
	synctest.Wait()
	time.Sleep(4 * time.Second) // in the bubble: what is late lands
	w.mu.Lock()
	defer w.mu.Unlock()
	w.land()
	w.judgeRest(rep, err)
}

func (w *rollWalk) judgeRest(rep RollReport, err error) {
	st, rerr := readRoll(context.Background(), &w.journal.MemoryJournal, "")
	if errors.Is(rerr, ErrNothingToDo) { // it never began
		for name, m := range w.members {
			if !w.hit[name] && (!m.serves() || m.release != "v1") {
				w.violate("nothing began, and member %s has %s", name, m.release)
			}
		}
		return
	}
	if rerr != nil {
		w.violate("journal: %v", rerr)
		return
	}
	w.count()
	if st.endedBy == "" || st.outcome() != rep.Outcome && rep.Outcome != OutcomeRefused {
		w.violate("at rest: the journal says %q, the report %q: %v", st.outcome(), rep.Outcome, err)
	}
	if len(w.plan) == 0 && rep.Outcome != w.sc.ends {
		w.violate("without a fault it ended %q: %v", rep.Outcome, err)
	}
	if (err == nil) != (rep.Outcome == OutcomeSucceeded) && !errors.Is(err, ErrNothingToDo) {
		w.violate("outcome %q with error %v", rep.Outcome, err)
	}
	for name, s := range st.members {
		m := w.members[name]
		switch s.phase {
		case MemberWaiting, MemberSkipped:
			if rep.Outcome == OutcomeSucceeded && s.phase == MemberWaiting {
				w.violate("it succeeded, and member %s is still waiting", name)
			}
			if !w.hit[name] && s.phase == MemberWaiting && !s.Out && (!m.serves() || m.release != "v1") {
				w.violate("member %s waits and has %s", name, m.release)
			}
		case MemberUpdated:
			if !w.hit[name] && (!m.serves() || m.release != "v2") {
				w.violate("member %s is updated, and has %s, running %v, doors %v", name, m.release, m.running, m.door)
			}
		case MemberKept:
			if !w.hit[name] && (!m.serves() || m.release != "v1") {
				w.violate("member %s is kept, and has %s, running %v, doors %v", name, m.release, m.running, m.door)
			}
		case MemberLeftOut:
			if !w.hit[name] && (m.door[0] || m.door[1]) && m.release != "v1" {
				w.violate("member %s is left out, and its doors are %v", name, m.door)
			}
		case MemberLeftIn:
			if len(w.hit) == 0 && len(w.plan) < 2 {
				w.violate("member %s is left in service: %v", name, err)
			}
		default:
			w.violate("at rest member %s is in phase %s: %v", name, s.phase, err)
		}
	}
}
