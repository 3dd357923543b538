package abswap

import "fmt"

// Result is how a phase ended; the table `edges` says what comes next.
type Result string

const (
	ResultOK       Result = "ok"
	ResultFailed   Result = "failed"   // it could not be done; go to the safe side
	ResultCanceled Result = "canceled" // Cancel, or the caller's context, ended it; as failed
	ResultMore     Result = "more"     // go round once more
	ResultLeft     Result = "left"     // work is left at the deadline: rest here; the next run goes on
	ResultKept     Result = "kept"     // the old slot stays warm until it is needed
	ResultLost     Result = "lost"     // the hold ended by itself
	ResultMoved    Result = "moved"    // another hand changed the world
	ResultUnfit    Result = "unfit"    // there is no fit slot to go back to

	resultAdopted    Result = "adopted"    // RecordEnd: the operator took the world as it is
	resultAbandoned  Result = "abandoned"  // RecordEnd: the operator ended the swap where it was
	resultSuperseded Result = "superseded" // RecordEnd: a later swap took the tail over
	resultWarning    Result = "warning"    // RecordNote: a finding that did not stop the run
	resultAwaiting   Result = "awaiting"   // RecordNote: the Gate of this phase and round waits for a person
	resultApproved   Result = "approved"   // RecordNote: a person said yes to it
)

// edge says that a phase which ends with a result leads to the next phase.
type edge struct {
	from Phase
	on   Result
	to   Phase
}

// edges is the whole state machine. A phase that does not apply to a swap (see applies) is passed as if it had ended with ResultOK.
// ResultLeft at the tail leads back to the same phase: the swap rests there.
var edges = []edge{
	{PhasePlanned, ResultOK, PhasePreparing},

	// Ahead. Until the first shift the live slot does not know that anything is going on.
	{PhasePreparing, ResultOK, PhaseInstalling},
	{PhasePreparing, ResultFailed, PhaseDiscarding},
	{PhasePreparing, ResultCanceled, PhaseDiscarding},
	{PhasePreparing, ResultMoved, PhaseSuspended},
	{PhaseInstalling, ResultOK, PhaseStarting},
	{PhaseInstalling, ResultFailed, PhaseDiscarding},
	{PhaseInstalling, ResultCanceled, PhaseDiscarding},
	{PhaseInstalling, ResultMoved, PhaseSuspended},
	{PhaseStarting, ResultOK, PhaseWarming},
	{PhaseStarting, ResultFailed, PhaseDiscarding},
	{PhaseStarting, ResultCanceled, PhaseDiscarding},
	{PhaseStarting, ResultMoved, PhaseSuspended},
	{PhaseWarming, ResultOK, PhaseGating},
	{PhaseWarming, ResultFailed, PhaseDiscarding},
	{PhaseWarming, ResultCanceled, PhaseDiscarding},
	{PhaseWarming, ResultMoved, PhaseSuspended},
	{PhaseGating, ResultOK, PhaseHolding},
	{PhaseGating, ResultFailed, PhaseDiscarding},
	{PhaseGating, ResultCanceled, PhaseDiscarding},
	{PhaseGating, ResultMoved, PhaseSuspended},

	// Only Exclusive.
	{PhaseHolding, ResultOK, PhaseDrainingFirst},
	{PhaseHolding, ResultFailed, PhaseDiscarding},
	{PhaseHolding, ResultCanceled, PhaseDiscarding},
	{PhaseDrainingFirst, ResultOK, PhaseShifting},
	{PhaseDrainingFirst, ResultLost, PhaseHolding},
	{PhaseDrainingFirst, ResultFailed, PhaseDiscarding},
	{PhaseDrainingFirst, ResultCanceled, PhaseDiscarding},

	// The rounds.
	{PhaseShifting, ResultOK, PhaseConfirming},
	{PhaseShifting, ResultLost, PhaseHolding},
	{PhaseShifting, ResultFailed, PhaseReverting},
	{PhaseShifting, ResultCanceled, PhaseReverting},
	{PhaseShifting, ResultMoved, PhaseSuspended},
	{PhaseConfirming, ResultOK, PhaseReleasing},
	{PhaseConfirming, ResultFailed, PhaseReverting},
	{PhaseConfirming, ResultCanceled, PhaseReverting},
	{PhaseConfirming, ResultMoved, PhaseSuspended},
	{PhaseReleasing, ResultOK, PhaseSoaking}, // releasing what waits cannot fail: a hold ends by itself
	{PhaseSoaking, ResultMore, PhaseShifting},
	{PhaseSoaking, ResultOK, PhaseVerifying},
	{PhaseSoaking, ResultFailed, PhaseReverting},
	{PhaseSoaking, ResultCanceled, PhaseReverting},
	{PhaseSoaking, ResultMoved, PhaseSuspended},
	{PhaseVerifying, ResultOK, PhaseCommitting},
	{PhaseVerifying, ResultFailed, PhaseReverting},
	{PhaseVerifying, ResultCanceled, PhaseReverting},
	{PhaseVerifying, ResultMoved, PhaseSuspended},
	{PhaseCommitting, ResultOK, PhaseDraining},

	// The tail. From here the engine never goes back by itself.
	{PhaseDraining, ResultOK, PhaseRetaining},
	{PhaseDraining, ResultLeft, PhaseDraining},
	{PhaseDraining, ResultMoved, PhaseSuspended},
	{PhaseRetaining, ResultOK, PhaseStopping},
	{PhaseRetaining, ResultKept, PhaseSucceeded},
	{PhaseRetaining, ResultMore, PhaseDraining}, // kept, and other slots are still to be drained
	{PhaseRetaining, ResultLeft, PhaseRetaining},
	{PhaseStopping, ResultOK, PhaseSucceeded},
	{PhaseStopping, ResultMore, PhaseDraining}, // work came again, or other slots are still to be drained
	{PhaseStopping, ResultLeft, PhaseStopping},
	{PhaseStopping, ResultMoved, PhaseSuspended},

	// Back.
	{PhaseReverting, ResultOK, PhaseRevConfirming},
	{PhaseReverting, ResultUnfit, PhaseSuspended},
	{PhaseReverting, ResultFailed, PhaseSuspended},
	{PhaseReverting, ResultMoved, PhaseSuspended},
	{PhaseRevConfirming, ResultOK, PhaseRevDraining},
	{PhaseRevConfirming, ResultFailed, PhaseSuspended},
	{PhaseRevDraining, ResultOK, PhaseDiscarding},
	{PhaseRevDraining, ResultLeft, PhaseRolledBack}, // the new slot is left up with its work, and the report says so
	{PhaseDiscarding, ResultOK, PhaseRolledBack},
	{PhaseDiscarding, ResultFailed, PhaseSuspended},
	{PhaseDiscarding, ResultMoved, PhaseSuspended},
}

// nextPhase looks p and r up in the table.
func nextPhase(p Phase, r Result) (Phase, error) {
	for _, e := range edges {
		if e.from == p && e.on == r {
			return e.to, nil
		}
	}
	return "", fmt.Errorf("phase %s cannot end with result %q: %w", p, r, ErrPermanent)
}

// applies tells whether the swap has anything to do in phase p.
func (st *swapState) applies(p Phase) bool {
	switch p {
	case PhaseInstalling:
		return st.Install
	case PhaseHolding, PhaseReleasing:
		return st.Exclusive
	case PhaseDrainingFirst:
		return st.Exclusive && st.From != ""
	case PhaseDraining, PhaseStopping:
		return len(st.left) > 0
	case PhaseRetaining:
		return st.leaving == st.From && st.From != "" // only the slot that served until now is worth keeping warm
	}
	return true
}

// ahead tells whether p lies before the commit, on the way forward.
func (p Phase) ahead() bool {
	switch p {
	case PhasePlanned, PhasePreparing, PhaseInstalling, PhaseStarting, PhaseWarming, PhaseGating, PhaseHolding, PhaseDrainingFirst,
		PhaseShifting, PhaseConfirming, PhaseReleasing, PhaseSoaking, PhaseVerifying:
		return true
	}
	return false
}

// tail tells whether p lies after the commit, before the end.
func (p Phase) tail() bool { return p == PhaseDraining || p == PhaseRetaining || p == PhaseStopping }

// final tells whether nothing comes after p.
func (p Phase) final() bool {
	return p == PhaseSucceeded || p == PhaseRolledBack || p == PhaseAbandoned
}
