package abswap

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

var errYield = errors.New("another swap takes over")

// run carries one swap through its phases. Each step writes its intent, acts, observes, writes the outcome; the state is what the journal
// says. A journal that cannot be written ends the run before the next effect.
type run struct {
	s    *Swapper
	hold JournalHold
	st   *swapState
	now  func() time.Time // for records
	plan bool             // the world is a model: waiting is skipped

	cause    error   // the failure that turned the swap back, as this run saw it; st.cause has its text
	rollback []error // what could not be undone
	left     error   // why the tail was left

	inTail    atomic.Bool // for the goroutine that listens to requests
	approvals chan Owner  // from there

	release   func()    // ends the hold that this run has; nil: none
	heldUntil time.Time // when that hold ends by itself
}

// verdict is how a phase ended.
type verdict struct {
	result    Result
	err       error
	slot      string
	note      string
	drain     *DrainResult
	weights   map[string]int
	undone    []string
	notUndone []string
}

func ok() verdict { return verdict{result: ResultOK} }

func failed(err error) verdict { return verdict{result: ResultFailed, err: err} }

func moved(format string, args ...any) verdict {
	return verdict{result: ResultMoved, err: fmt.Errorf(format, args...)}
}

// loop runs phases until the swap rests. Its error is the journal's.
func (r *run) loop(ctx context.Context) error {
	defer r.letGo()
	for !r.st.atRest() {
		if err := r.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step runs the phase that the swap is in.
func (r *run) step(ctx context.Context) error {
	p := r.st.phase
	if r.canceledBefore(ctx, p) {
		return r.outcome(ctx, verdict{result: ResultCanceled, err: context.Cause(ctx)}, r.now())
	}
	began := r.now()
	rec := Record{Kind: RecordIntent, Phase: p, Round: r.st.round, Deadline: r.deadline(p)}
	if r.st.entered && !r.st.deadline.IsZero() {
		rec.Deadline = r.st.deadline // wall-clock: a crash does not prolong it
	}
	if err := r.append(ctx, rec); err != nil {
		return err
	}
	r.emit(Event{Kind: EventPhase})
	v := r.act(ctx, p)
	if v.result == ResultFailed && p.ahead() && ctx.Err() != nil {
		v.result = ResultCanceled
		if cause := context.Cause(ctx); !errors.Is(v.err, cause) {
			v.err = fmt.Errorf("%w: %w", cause, v.err)
		}
	}
	return r.outcome(ctx, v, began)
}

// canceledBefore tells whether p is not even begun, since the caller's context has ended or Cancel was asked for.
func (r *run) canceledBefore(ctx context.Context, p Phase) bool {
	if ctx.Err() == nil {
		return false
	}
	_, err := nextPhase(p, ResultCanceled)
	return err == nil
}

func (r *run) outcome(ctx context.Context, v verdict, began time.Time) error {
	p, round := r.st.phase, r.st.round
	rec := Record{Kind: RecordOutcome, Phase: p, Round: round, Result: v.result, Note: v.note, Slot: v.slot, Drain: v.drain, Weights: v.weights,
		Undone: v.undone, NotUndone: v.notUndone}
	if v.err != nil {
		rec.Error = v.err.Error()
	}
	if r.cause == nil && !r.st.committed && v.result != ResultOK && v.err != nil && (p.ahead() || r.st.failed == "") {
		r.cause = v.err
	}
	for _, s := range v.notUndone {
		r.rollback = append(r.rollback, errors.New(s))
	}
	if v.err != nil && !p.ahead() && !p.tail() {
		r.rollback = append(r.rollback, fmt.Errorf("%s: %w", p, v.err))
	}
	if p.tail() && v.result == ResultLeft {
		r.left = v.err
	}
	if err := r.append(ctx, rec); err != nil {
		return err
	}
	r.emit(Event{Kind: EventDone, Phase: p, Round: round, Slot: v.slot, Result: v.result, Elapsed: r.now().Sub(began), Message: v.note, Err: v.err})
	return nil
}

// act runs the handler of p.
func (r *run) act(ctx context.Context, p Phase) verdict {
	back := context.WithoutCancel(ctx)
	if h, planted := r.s.handlers[p]; planted {
		return h(r, back)
	}
	switch p {
	case PhasePreparing:
		return r.preparing(ctx)
	case PhaseInstalling:
		return r.installing(ctx)
	case PhaseStarting:
		return r.starting(ctx)
	case PhaseWarming:
		return r.warming(ctx)
	case PhaseGating:
		return r.gating(ctx)
	case PhaseHolding:
		return r.holding(ctx)
	case PhaseDrainingFirst:
		return r.drainingFirst(ctx)
	case PhaseShifting:
		return r.shifting(ctx)
	case PhaseConfirming:
		return r.confirming(ctx)
	case PhaseReleasing:
		r.letGo()
		return ok()
	case PhaseSoaking:
		return r.soaking(ctx)
	case PhaseVerifying:
		return r.verifying(ctx)
	case PhaseDraining:
		return r.draining(ctx)
	case PhaseRetaining:
		return r.retaining(ctx)
	case PhaseStopping:
		return r.stopping(back)
	case PhaseReverting:
		return r.reverting(back)
	case PhaseRevConfirming:
		return r.revConfirming(back)
	case PhaseRevDraining:
		return r.revDraining(back)
	case PhaseDiscarding:
		return r.discarding(back)
	}
	return ok() // planned, committing: their record is all there is to do
}

// deadline is when the wait that p begins is over.
func (r *run) deadline(p Phase) time.Time {
	var d time.Duration
	switch p {
	case PhaseSoaking:
		d = orDefault(r.s.Soak, 10*time.Second)
	case PhaseDraining:
		d = r.s.Drain.Timeout
	case PhaseRetaining:
		d = r.s.Retain
	case PhaseRevDraining:
		d = r.s.Timeouts.revert()
	}
	if d <= 0 {
		return time.Time{}
	}
	return r.now().Add(d).Round(0)
}

// append writes rec to the journal and takes it into the state. Ended contexts do not keep a record from being written.
func (r *run) append(ctx context.Context, rec Record) error {
	rec.Swap, rec.Time = r.st.id, r.now().Round(0)
	if err := r.hold.Append(context.WithoutCancel(ctx), rec); err != nil {
		return fmt.Errorf("journal: %w; nothing more was done; make it writable and call Resume", err)
	}
	err := r.st.apply(rec)
	r.inTail.Store(r.st.phase.tail())
	return err
}

// warn writes a finding that does not stop the run into the journal and tells it.
func (r *run) warn(ctx context.Context, text string) error {
	if err := r.append(ctx, Record{Kind: RecordNote, Result: resultWarning, Note: text}); err != nil {
		return err
	}
	r.emit(Event{Kind: EventWarning, Message: text})
	return nil
}

// emit tells OnEvent and Logger. Fields that are the swap's are filled in.
func (r *run) emit(e Event) {
	st := r.st
	e.Time, e.Swap, e.Release, e.From, e.To = r.now(), st.id, st.Release.ID, st.From, st.To
	if e.Phase == "" {
		e.Phase, e.Round = st.phase, st.round
	}
	switch e.Phase {
	case PhaseShifting, PhaseConfirming, PhaseSoaking:
		e.Percent = st.Steps[min(e.Round, len(st.Steps)-1)]
	}
	r.s.tell(e)
}

// letGo ends the hold, if this run has one.
func (r *run) letGo() {
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

// watch turns requests from other processes into the end of the context that it returns. stop ends the watching and waits for it.
func (r *run) watch(ctx context.Context) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	listen, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			req, err := r.hold.NextRequest(listen)
			if err != nil {
				if retry.Sleep(listen, time.Second) != nil { // the folder may be out of reach for a while
					return
				}
				continue
			}
			switch req.Kind {
			case RequestCancel:
				cancel(fmt.Errorf("%w by %s on %s", ErrCanceled, req.From.User, req.From.Host))
			case RequestApprove:
				select {
				case r.approvals <- req.From:
				default: // nobody waits: it is void
				}
			case RequestYield:
				if r.inTail.Load() { // who asked saw a tail, but that may have been an earlier one's
					cancel(errYield)
				}
			}
		}
	}()
	return watched, func() { end(); <-done; cancel(nil) }
}
