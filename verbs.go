package abswap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// yieldWait is how long a verb waits for a live holder to give its tail up.
const yieldWait = 5 * time.Second

// Deploy installs rel into an idle slot, proves it fit, sends all new work there and lets the old slot finish what it has.
//
// It returns when the old slot is idle and stopped, or kept as Retain says, or has work left that outlasts Drain: see Report.Outcome. The error
// is nil whenever the new release serves, is proven and committed, even if the old slot could not be brought to rest yet; unless ctx
// ended meanwhile. Otherwise it is a *SwapError that wraps the failure. A deploy that failed has gone back to the old slot, if Report.Outcome
// is OutcomeDiscarded or OutcomeRolledBack; after OutcomeSuspended an operator has to decide.
//
// Refused before anything moves, with OutcomeRefused: a bad release or Swapper (see Check), ErrBusy where another deploys, ErrSlotOccupied,
// ErrMixed where new work is shared out already. A swap that an earlier, killed process left unfinished is brought to its end first; the
// tail of an earlier swap is taken over.
func (s *Swapper) Deploy(ctx context.Context, rel Release) (Report, error) {
	if err := rel.Check(); err != nil {
		return s.refuse(SwapBegin{Release: rel}, fmt.Errorf("%w: %w", ErrPermanent, err))
	}
	return s.begin(ctx, SwapBegin{Release: rel, Install: true})
}

// Swap sends all new work to the slot named to, as it is, without installing: the way back to a kept old slot, or on to a prepared one. All
// else is as with Deploy. If that slot takes all work already, it does nothing and says so.
func (s *Swapper) Swap(ctx context.Context, to string) (Report, error) {
	return s.begin(ctx, SwapBegin{To: to})
}

// begin starts a new swap.
func (s *Swapper) begin(ctx context.Context, b SwapBegin) (Report, error) {
	if err := ctx.Err(); err != nil {
		return s.refuse(b, context.Cause(ctx))
	}
	warnings, err := splitWarnings(s.Check(ctx))
	if err != nil {
		return s.refuse(b, err)
	}
	crashed, err := s.crashed(ctx)
	if err != nil {
		return s.refuse(b, err)
	}
	asked := b
	if !crashed { // a look ahead, so that a refusal disturbs no other process
		if b, err = s.choose(ctx, b); err != nil || b.Weights[b.To] == 100 {
			return s.settled(b, err)
		}
	}
	hold, err := s.lock(ctx, owner(b.Release.ID))
	if err != nil {
		return s.refuse(b, err)
	}
	defer hold.Unlock()
	tail, err := s.clearWay(ctx, hold)
	if err != nil {
		return s.refuse(b, err)
	}
	if b, err = s.choose(ctx, asked); err != nil || b.Weights[b.To] == 100 { // the world may have changed meanwhile
		return s.settled(b, err)
	}
	if tail != nil {
		for _, name := range tail.left {
			if name != b.To && name != b.From && !slices.Contains(b.Tail, name) {
				b.Tail = append(b.Tail, name)
			}
		}
	}
	b.Steps, b.Exclusive, b.Owner = s.rounds(b), s.Exclusive, owner(b.Release.ID)
	return s.start(ctx, hold, b, tail, warnings)
}

// crashed tells whether a swap stands in the journal that was under way, not yet committed.
func (s *Swapper) crashed(ctx context.Context) (bool, error) {
	st, err := s.newest(ctx)
	if errors.Is(err, ErrNothingToDo) {
		return false, nil
	}
	return err == nil && !st.committed && !st.atRest(), err
}

// settled is the answer where nothing is to be done: a refusal, or a slot that takes all work already.
func (s *Swapper) settled(b SwapBegin, err error) (Report, error) {
	if err != nil {
		return s.refuse(b, err)
	}
	return Report{Release: b.Release.ID, From: b.From, To: b.To, Outcome: OutcomeSucceeded, Phase: PhaseSucceeded, Serving: b.To, Traits: s.traits()}, nil
}

// start journals the begin and carries the swap to where it rests.
func (s *Swapper) start(ctx context.Context, hold JournalHold, b SwapBegin, tail *swapState, warnings []string) (Report, error) {
	now := time.Now().Round(0)
	if tail != nil && tail.endedBy == "" {
		err := hold.Append(ctx, Record{Time: now, Swap: tail.id, Kind: RecordEnd, Result: resultSuperseded, Note: "its tail goes on in a later swap"})
		if err != nil {
			return s.refuse(b, fmt.Errorf("journal: %w; nothing was done; make it writable and try again", err))
		}
	}
	r := s.newRun(hold, &swapState{reached: map[Phase]bool{}})
	first := Record{Time: now, Swap: swapID(now), Kind: RecordBegin, Begin: &b}
	if err := hold.Append(context.WithoutCancel(ctx), first); err != nil {
		return s.refuse(b, fmt.Errorf("journal: %w; nothing was done; make it writable and try again", err))
	}
	if err := r.st.apply(first); err != nil {
		return s.refuse(b, err)
	}
	for _, text := range warnings {
		if err := r.warn(ctx, text); err != nil {
			return s.finish(ctx, r, err)
		}
	}
	return s.carry(ctx, r)
}

// carry runs r until it rests, obeying requests, and makes the report.
func (s *Swapper) carry(ctx context.Context, r *run) (Report, error) {
	watched, stop := r.watch(ctx)
	err := r.loop(watched)
	stop()
	return s.finish(ctx, r, err)
}

// finish makes the report and the error of a run. broken is the journal's failure.
func (s *Swapper) finish(ctx context.Context, r *run, broken error) (Report, error) {
	rep := s.report(ctx, r.st)
	err := broken
	switch {
	case broken != nil:
	case r.st.committed && r.st.phase != PhaseSuspended:
		if ctx.Err() != nil && r.left != nil {
			err = r.left
		}
	case r.cause != nil && r.st.phase == PhaseSuspended:
		err = fmt.Errorf("%w: %w", r.st.err(), r.cause)
	case r.cause != nil:
		err = r.cause
	default:
		err = r.st.err()
	}
	if err != nil {
		failed := r.st.failed
		if failed == "" || r.st.committed {
			failed = r.st.phase
		}
		err = &SwapError{Phase: failed, From: r.st.From, To: r.st.To, Release: r.st.Release.ID, Serving: rep.Serving, Outcome: rep.Outcome,
			Err: err, Rollback: joinErrors(r.rollback...)}
		rep.Err = err.Error()
	}
	r.emit(Event{Kind: EventEnd, Outcome: rep.Outcome, Elapsed: r.now().Sub(r.st.began), Err: err})
	return rep, err
}

// refuse is the answer of a verb that has touched nothing.
func (s *Swapper) refuse(b SwapBegin, err error) (Report, error) {
	rep := Report{Release: b.Release.ID, From: b.From, To: b.To, Outcome: OutcomeRefused, Phase: PhasePlanned, Serving: b.From, Err: err.Error()}
	return rep, &SwapError{Phase: PhasePlanned, From: b.From, To: b.To, Release: b.Release.ID, Serving: b.From, Outcome: OutcomeRefused, Err: err}
}

// choose observes who serves and finds the slot for the swap.
func (s *Swapper) choose(ctx context.Context, b SwapBegin) (SwapBegin, error) {
	w, err := s.weights(ctx)
	if err == nil {
		err = s.knows(w)
	}
	if err != nil {
		return b, err
	}
	b.Weights, b.From, b.Tail = w, "", nil
	for _, name := range s.names() {
		if w[name] > w[b.From] {
			b.From = name
		}
	}
	if len(w) > 1 {
		if b.Install {
			return b, fmt.Errorf("new work goes to %s: %w; send all of it to one slot first, with Swap", weightsText(w), ErrMixed)
		}
		for _, name := range s.names() {
			if w[name] > 0 && name != b.From && name != b.To {
				b.Tail = append(b.Tail, name)
			}
		}
	}
	if b.To == "" {
		if b.To, err = s.free(ctx, b.From); err != nil {
			return b, err
		}
	}
	to, err := s.slot(b.To)
	if err != nil {
		return b, err
	}
	if b.From == b.To && len(w) > 1 { // from a mixed world to its largest slot: the others are the old ones
		b.From, b.Tail = b.Tail[0], b.Tail[1:]
	}
	b.Running = !b.Install
	if state, err := (&run{s: s}).inspect(ctx, to); err == nil {
		b.Running = state.Running
	}
	return b, nil
}

// free picks the slot for a deploy: not live, and nothing in flight; the one that comes next after the live one, so that the slot which
// served last is overwritten last. With all others at work, Occupied decides.
func (s *Swapper) free(ctx context.Context, live string) (string, error) {
	start := slices.IndexFunc(s.Slots, func(slot Slot) bool { return slot.Name() == live })
	var busy []error
	first := ""
	for i := range s.Slots {
		slot := s.Slots[(start+1+i+len(s.Slots))%len(s.Slots)]
		if slot.Name() == live {
			continue
		}
		if first == "" {
			first = slot.Name()
		}
		why := s.atWork(ctx, slot)
		if why == nil {
			return slot.Name(), nil
		}
		busy = append(busy, why)
	}
	if s.Occupied != OccupiedRefuse {
		return first, nil
	}
	return "", fmt.Errorf("%w: %w; wait, or set Swapper.Occupied", ErrSlotOccupied, joinErrors(busy...))
}

// atWork says what keeps slot from being overwritten; nil if nothing does.
func (s *Swapper) atWork(ctx context.Context, slot Slot) error {
	r := &run{s: s}
	if state, err := r.inspect(ctx, slot); err == nil && !state.Running {
		return nil
	}
	l, err := r.loadWith(ctx, slot, s.Drain.Sessions)
	switch {
	case err != nil:
		return fmt.Errorf("slot %q: %w", slot.Name(), err)
	case l.Evidence == EvidenceUnknown:
		return fmt.Errorf("slot %q: what it carries is not known", slot.Name())
	case l.Total() > 0:
		return fmt.Errorf("slot %q has %d requests, %d upgraded connections, %d sessions", slot.Name(), l.Requests, l.Upgraded, l.Sessions)
	}
	return nil
}

// rounds are the steps of a swap, the last 100 included. A first deploy has nothing to share with.
func (s *Swapper) rounds(b SwapBegin) []int {
	if b.From == "" || len(b.Weights) > 1 {
		return []int{100}
	}
	return append(slices.Clone(s.Steps), 100)
}

// lock takes the journal. A holder that is in its tail is asked to give it up.
func (s *Swapper) lock(ctx context.Context, o Owner) (JournalHold, error) {
	hold, err := s.journal().Lock(ctx, o)
	if !errors.Is(err, ErrBusy) {
		return hold, err
	}
	if st, serr := s.newest(ctx); serr != nil || !st.committed || st.atRest() {
		return nil, err
	}
	if perr := s.journal().Post(ctx, Request{Kind: RequestYield, From: o}); perr != nil {
		return nil, joinErrors(err, perr)
	}
	ctx, cancel := context.WithTimeout(ctx, yieldWait)
	defer cancel()
	for {
		hold, err := s.journal().Lock(ctx, o)
		if !errors.Is(err, ErrBusy) {
			return hold, err
		}
		if serr := retry.Sleep(ctx, 10*time.Millisecond); serr != nil {
			return nil, err
		}
	}
}

// clearWay brings an earlier swap to where a new one may begin: an unfinished one to its end or its commit. It returns the state whose tail
// the new swap takes over; nil if there is none. ErrCanceled if Cancel was asked for meanwhile: then no new one begins.
func (s *Swapper) clearWay(ctx context.Context, hold JournalHold) (*swapState, error) {
	st, err := s.newest(ctx)
	if errors.Is(err, ErrNothingToDo) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.committed && !st.atRest() {
		r := s.newRun(hold, st)
		watched, stop := r.watch(ctx)
		defer stop()
		for !st.atRest() && !st.committed {
			if err := r.step(watched); err != nil {
				return nil, err
			}
		}
		r.letGo()
		stop() // a request that is taken is heard
		if err := context.Cause(watched); errors.Is(err, ErrCanceled) {
			return nil, fmt.Errorf("%w while an earlier swap was brought to its end", err)
		}
	}
	switch {
	case st.phase == PhaseSuspended:
		return nil, fmt.Errorf("an earlier swap stands in the way: %w", st.err())
	case st.endedBy == resultSuperseded: // and nothing came after it: the swap that was to take its tail over could not begin
		return st, nil
	case st.phase.final():
		return nil, nil
	}
	return st, nil
}

func (s *Swapper) newRun(hold JournalHold, st *swapState) *run {
	return &run{s: s, hold: hold, st: st, now: time.Now, plan: s.plan, approvals: make(chan Owner)}
}

// newest folds the newest swap's records; ErrNothingToDo if there is none.
func (s *Swapper) newest(ctx context.Context) (*swapState, error) {
	return readSwap(ctx, s.journal(), "")
}

// journal is Journal, or one in memory that lasts as long as the Swapper.
func (s *Swapper) journal() Journal {
	if s.Journal != nil {
		return s.Journal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory == nil {
		s.memory = &MemoryJournal{}
	}
	return s.memory
}

// tell passes an event on.
func (s *Swapper) tell(e Event) {
	if s.OnEvent != nil {
		s.OnEvent(e)
	}
	if s.Logger == nil {
		return
	}
	level := slog.LevelInfo
	switch {
	case e.Kind == EventLoad:
		level = slog.LevelDebug
	case e.Err != nil, e.Kind == EventWarning:
		level = slog.LevelWarn
	}
	s.Logger.Log(context.Background(), level, "swap", slog.Any("event", e))
}

// owner describes this process.
func owner(release string) Owner {
	o := Owner{PID: os.Getpid(), Since: time.Now().Round(0), Release: release, User: "unknown", Host: "unknown"}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		o.Host = h
	}
	return o
}

// swapID names a swap so that IDs sort by time and two processes never make the same.
func swapID(now time.Time) string {
	return now.UTC().Format("20060102-150405.000") + "-" + strings.ToLower(rand.Text()[:4])
}
