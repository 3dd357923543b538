package abswap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// The phases on the way forward, up to the commit. Each looks at the world first, so that it can be entered again after a crash.

const (
	soakPause  = time.Second            // between looks at the new slot while it soaks
	fitRetry   = 250 * time.Millisecond // after a probe that found it unfit
	fitStrikes = 3                      // probes in a row that must find it unfit: one lost probe is not sickness
)

// untouched makes sure that new work goes where it went when the swap began: nothing has led to the new slot yet.
func (r *run) untouched(ctx context.Context) *verdict {
	w, err := r.see(ctx)
	if err != nil {
		v := failed(err)
		return &v
	}
	if !sameWeights(w, r.st.Weights) {
		v := moved("new work goes to %s, and went to %s when the swap began: somebody else moved it", weightsText(w), weightsText(r.st.Weights))
		return &v
	}
	return nil
}

func (r *run) preparing(ctx context.Context) verdict {
	w, err := r.see(ctx)
	if err != nil {
		return failed(err)
	}
	if r.dark(w) {
		return verdict{result: ResultMoved, err: joinErrors(errors.New("no slot took work any more"), r.relight(context.WithoutCancel(ctx), r.st.From))}
	}
	if !sameWeights(w, r.st.Weights) {
		return failed(fmt.Errorf("new work goes to %s, and went to %s when the swap began: somebody else is moving it", weightsText(w), weightsText(r.st.Weights)))
	}
	if !r.st.Install {
		return ok() // a swap to what the slot holds: it is wanted as it is
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	if state, err := r.inspect(ctx, to); err == nil && !state.Running {
		_, err := r.seal(ctx, to)
		switch {
		case errors.Is(err, errMovedThere):
			return moved("%v", err)
		case err != nil:
			return failed(err)
		}
		return ok()
	}
	o := r.s.Drain
	switch r.s.Occupied {
	case OccupiedRefuse:
		o.AtDeadline, o.Deadline, o.Timeout, o.Classes, o.finish = LeaveUp, time.Time{}, time.Millisecond, nil, true
		if l, err := r.load(ctx, to); err == nil && l.Evidence == EvidenceApproximate && l.Total() == 0 {
			o.Timeout = 2*orDefault(o.Quiet, 5*time.Second) + time.Second // such a zero takes its time to prove, and may be broken once
		}
	case OccupiedCut:
		o.AtDeadline, o.Deadline, o.Timeout, o.Classes, o.Sessions = CutOff, time.Time{}, time.Millisecond, nil, false
	}
	for try := 1; ; try++ {
		res, err := r.drain(ctx, to, o)
		if err != nil {
			return verdict{result: ResultFailed, err: fmt.Errorf("slot %q: %w: %w", to.Name(), ErrSlotOccupied, err), drain: &res}
		}
		note, err := r.retire(ctx, to, o.Sessions && !res.givenUp(o.Classes))
		switch {
		case errors.Is(err, errHasWork) && try < retireTries: // a health test, say, that is there for a moment
			continue
		case errors.Is(err, errMovedThere):
			return moved("%v", err)
		case err != nil:
			return failed(err)
		}
		return verdict{result: ResultOK, note: note}
	}
}

func (r *run) installing(ctx context.Context) verdict {
	if v := r.untouched(ctx); v != nil {
		return *v
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	in, can := ability[InstallingSlot](to)
	if !can {
		return verdict{result: ResultOK, note: fmt.Sprintf("slot %q does not install; what is in it is taken as the release", to.Name())}
	}
	ictx, cancel := within(ctx, r.s.Timeouts.Install, 10*time.Minute)
	defer cancel()
	if err := in.Install(ictx, r.st.Release); err != nil {
		return failed(fmt.Errorf("installing release %q into slot %q: %w", r.st.Release.ID, to.Name(), err))
	}
	if state, err := r.inspect(ctx, to); err == nil && state.Release != "" && state.Release != r.st.Release.ID {
		return failed(fmt.Errorf("slot %q holds release %q after release %q was installed", to.Name(), state.Release, r.st.Release.ID))
	}
	return ok()
}

// inspect asks slot what it holds; the error is errors.ErrUnsupported if it cannot tell.
func (r *run) inspect(ctx context.Context, slot Slot) (SlotState, error) {
	in, can := ability[InspectingSlot](slot)
	if !can {
		return SlotState{}, errors.ErrUnsupported
	}
	ctx, cancel := within(context.WithoutCancel(ctx), r.s.Timeouts.Observe, 10*time.Second)
	defer cancel()
	return in.Inspect(ctx)
}

func (r *run) starting(ctx context.Context) verdict {
	if v := r.untouched(ctx); v != nil {
		return *v
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	sctx, cancel := within(ctx, r.s.Timeouts.Start, 2*time.Minute)
	defer cancel()
	if st, can := ability[StartingSlot](to); can {
		if err := st.Start(sctx); err != nil {
			return failed(fmt.Errorf("starting slot %q: %w", to.Name(), err))
		}
	}
	if err := r.becomesReady(sctx, to, orDefault(r.s.Timeouts.Start, 2*time.Minute)); err != nil {
		return failed(fmt.Errorf("after its start: %w", err))
	}
	return ok()
}

func (r *run) warming(ctx context.Context) verdict {
	if v := r.untouched(ctx); v != nil {
		return *v
	}
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return failed(err)
	}
	if w, can := ability[WarmingSlot](to); can {
		wctx, cancel := within(ctx, r.s.Timeouts.Warm, 5*time.Minute)
		defer cancel()
		if err := w.Warm(wctx); err != nil {
			return failed(fmt.Errorf("warming slot %q: %w", to.Name(), err))
		}
	}
	return ok()
}

func (r *run) gating(ctx context.Context) verdict {
	if v := r.untouched(ctx); v != nil {
		return *v
	}
	if err := r.fit(ctx); err != nil {
		return failed(err)
	}
	if v := r.gate(ctx, 0, r.st.Steps[0], func() *verdict { return r.untouched(ctx) }); v != nil {
		return *v
	}
	if err := r.fit(ctx); err != nil { // asking may have taken its time
		return failed(err)
	}
	return ok()
}

// fit probes the new slot, which is known to have been fit. One that is found unfit is probed some more before that is believed: on a busy
// machine a probe can be lost.
func (r *run) fit(ctx context.Context) error {
	to, err := r.s.slot(r.st.To)
	if err != nil {
		return err
	}
	return r.stillFit(ctx, to)
}

// stillFit is fit for any slot.
func (r *run) stillFit(ctx context.Context, slot Slot) error {
	err := r.ready(ctx, slot)
	for strikes := 1; err != nil && strikes < fitStrikes && !errors.Is(err, ErrPermanent); strikes++ {
		if serr := retry.Sleep(ctx, fitRetry); serr != nil {
			return joinErrors(serr, err)
		}
		err = r.ready(ctx, slot)
	}
	return err
}

// gate asks the caller's Gate, and where that needs a person's approval waits for it. Meanwhile well is asked again and again whether waiting
// still makes sense. broken is the journal's failure.
func (r *run) gate(ctx context.Context, percent, next int, well func() *verdict) *verdict {
	if r.s.Gate == nil || r.st.approved {
		return nil
	}
	gctx, cancel := within(ctx, r.s.Timeouts.Gate, 0)
	defer cancel()
	g := GateRequest{Swap: r.st.id, Release: r.st.Release.ID, From: r.st.From, To: r.st.To, Percent: percent, Next: next}
	err := r.s.Gate(gctx, g)
	if errors.Is(err, ErrApprovalNeeded) {
		return r.awaitApproval(ctx, percent, err, well)
	}
	if err != nil {
		v := failed(fmt.Errorf("the gate at %d %% refused: %w", percent, err))
		return &v
	}
	return nil
}

func (r *run) awaitApproval(ctx context.Context, percent int, why error, well func() *verdict) *verdict {
	note := func(kind EventKind, result Result, text string) *verdict {
		if err := r.append(ctx, Record{Kind: RecordNote, Phase: r.st.phase, Round: r.st.round, Result: result, Note: text}); err != nil {
			v := failed(err)
			return &v
		}
		r.emit(Event{Kind: kind, Message: text})
		return nil
	}
	if v := note(EventAwaiting, resultAwaiting, fmt.Sprintf("waits at %d %%: %v", percent, why)); v != nil {
		return v
	}
	tick := time.NewTicker(soakPause)
	defer tick.Stop()
	for {
		select {
		case by := <-r.approvals:
			return note(EventNote, resultApproved, fmt.Sprintf("approved by %s on %s", by.User, by.Host))
		case <-ctx.Done():
			v := failed(context.Cause(ctx))
			return &v
		case <-tick.C:
			if v := well(); v != nil {
				return v
			}
		}
	}
}

func (r *run) holding(ctx context.Context) verdict {
	h, can := ability[HoldingSwitcher](r.s.Switcher)
	if !can {
		return failed(fmt.Errorf("%T cannot hold: %w", r.s.Switcher, errors.ErrUnsupported))
	}
	o := r.s.Hold.WithDefaults()
	r.letGo()
	hctx, cancel := within(ctx, 2*o.Total, 0) // a hold that a killed run left behind ends by itself
	defer cancel()
	began := time.Now()
	err := retry.Do(hctx, retry.Policy{First: 50 * time.Millisecond, Max: time.Second}, func(ctx context.Context) error {
		began = time.Now()
		ctx, cancel := within(ctx, r.s.Timeouts.Shift, 30*time.Second)
		defer cancel()
		release, err := h.Hold(ctx, o)
		if err != nil && !errors.Is(err, ErrBusy) {
			return retry.Stop(err)
		}
		r.release = release
		return err
	})
	if err != nil {
		return failed(fmt.Errorf("holding new requests: %w", err))
	}
	r.heldUntil = began.Add(o.Total)
	return ok()
}

// holds tells whether this run's hold is in force, with time enough left to act under it.
func (r *run) holds() bool { return r.release != nil && time.Now().Before(r.heldUntil) }

func (r *run) drainingFirst(ctx context.Context) verdict {
	if !r.holds() {
		return verdict{result: ResultLost, note: "the hold is no longer in force"}
	}
	from, err := r.s.slot(r.st.From)
	if err != nil {
		return failed(err)
	}
	o := r.s.Drain
	o.AtDeadline, o.Timeout, o.Sessions, o.Classes = LeaveUp, 0, false, nil
	o.Deadline = r.heldUntil.Add(-r.s.Hold.WithDefaults().Total / 10) // the rest is for the shift
	res, err := r.drain(ctx, from, o)
	if err != nil {
		return verdict{result: ResultFailed, err: fmt.Errorf("slot %q did not finish within the hold: %w", from.Name(), err), drain: &res}
	}
	return verdict{result: ResultOK, drain: &res}
}

func (r *run) shifting(ctx context.Context) verdict {
	target := r.st.wanted(r.st.round)
	w, err := r.see(ctx)
	if err != nil {
		return failed(err)
	}
	if sameWeights(w, target) {
		return verdict{result: ResultOK, note: "was in force already"}
	}
	if !sameWeights(w, r.st.wanted(r.st.round-1)) && len(w) > 0 { // with no slot active, whatever the cause, one has to be
		return moved("new work goes to %s, which is neither where it went before this step (%s) nor where it shall go (%s)",
			weightsText(w), weightsText(r.st.wanted(r.st.round-1)), weightsText(target))
	}
	if r.st.Exclusive && !r.holds() {
		return verdict{result: ResultLost, note: "the hold is no longer in force"}
	}
	if err := r.fit(ctx); err != nil {
		return failed(err)
	}
	if r.st.Exclusive && !r.holds() { // probing took its time: the old slot has new work
		return verdict{result: ResultLost, note: "the hold ended while the new slot was probed"}
	}
	note, err := r.move(ctx, target)
	if err != nil {
		return failed(err)
	}
	return verdict{result: ResultOK, note: note, weights: target}
}

func (r *run) confirming(ctx context.Context) verdict {
	target := r.st.wanted(r.st.round)
	w, err := r.await(ctx, func(w map[string]int) bool { return sameWeights(w, target) })
	if err != nil {
		return failed(err)
	}
	if !sameWeights(w, target) {
		if !r.ours(w) {
			return moved("new work goes to %s, not to %s as ordered", weightsText(w), weightsText(target))
		}
		return failed(fmt.Errorf("new work went back to %s after it was sent to %s", weightsText(w), weightsText(target)))
	}
	if len(target) == 1 && !r.st.Exclusive { // under the hold, nobody would answer
		if err := r.frontDoor(ctx); err != nil {
			return failed(err)
		}
	}
	return verdict{result: ResultOK, weights: w}
}

// ours tells whether w is something that this swap found or ordered, or the gap that a Switcher left between the two.
func (r *run) ours(w map[string]int) bool {
	if len(w) == 0 {
		return true
	}
	for i := -1; i < len(r.st.Steps); i++ {
		if sameWeights(w, r.st.wanted(i)) {
			return true
		}
	}
	return false
}

func (r *run) soaking(ctx context.Context) verdict {
	target := r.st.wanted(r.st.round)
	if r.st.Exclusive {
		if err := r.frontDoor(ctx); err != nil {
			return failed(err)
		}
	}
	for {
		if v := r.well(ctx, target); v != nil {
			return *v
		}
		left := time.Until(r.st.deadline)
		if left <= 0 {
			break
		}
		if err := retry.Sleep(ctx, min(soakPause, left)); err != nil {
			return failed(err)
		}
	}
	last := r.st.round == len(r.st.Steps)-1
	next := 101
	if !last {
		next = r.st.Steps[r.st.round+1]
	}
	if v := r.gate(ctx, target[r.st.To], next, func() *verdict { return r.well(ctx, target) }); v != nil {
		return *v
	}
	if last {
		return ok()
	}
	return verdict{result: ResultMore}
}

// well looks at the new slot under its part of the work, and at where the work goes.
func (r *run) well(ctx context.Context, target map[string]int) *verdict {
	if err := r.fit(ctx); err != nil {
		v := failed(fmt.Errorf("under %d %% of the work: %w", target[r.st.To], err))
		return &v
	}
	return r.stillThere(ctx, target)
}

// stillThere makes sure that new work goes where this round has sent it.
func (r *run) stillThere(ctx context.Context, target map[string]int) *verdict {
	w, err := r.see(ctx)
	switch {
	case err != nil:
		v := failed(err)
		return &v
	case sameWeights(w, target):
		return nil
	case r.ours(w):
		v := failed(fmt.Errorf("new work went back to %s after it was sent to %s", weightsText(w), weightsText(target)))
		return &v
	}
	v := moved("new work goes to %s: somebody else moved it away from %s", weightsText(w), weightsText(target))
	return &v
}

func (r *run) verifying(ctx context.Context) verdict {
	if v := r.stillThere(ctx, r.st.wanted(len(r.st.Steps)-1)); v != nil {
		return *v
	}
	if err := r.fit(ctx); err != nil {
		return failed(err)
	}
	return ok()
}

// drain is Drain with the run's events.
func (r *run) drain(ctx context.Context, slot Slot, o DrainOptions) (DrainResult, error) {
	var by map[Class]ClassOutcome
	o.OnClasses = func(now map[Class]ClassOutcome) { by = now }
	o.OnLoad = func(l Load) { r.emit(Event{Kind: EventLoad, Slot: slot.Name(), Load: l, Classes: by}) }
	return Drain(ctx, r.s.drainer(), slot, o)
}

// slot finds a slot by its name.
func (s *Swapper) slot(name string) (Slot, error) {
	for _, slot := range s.Slots {
		if slot.Name() == name {
			return slot, nil
		}
	}
	return nil, fmt.Errorf("slot %q: %w: the Swapper has %q", name, ErrUnknownSlot, s.names())
}

func (s *Swapper) names() []string {
	names := map[string]bool{}
	for _, slot := range s.Slots {
		names[slot.Name()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (s *Swapper) drainer() Drainer {
	if s.Drainer != nil {
		return s.Drainer
	}
	d, _ := As[Drainer](s.Switcher)
	return d
}
