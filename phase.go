package abswap

// Phase is a state of a swap. Its text is what journals and events carry.
type Phase string

// The phases, in the order in which a deploy passes them; the table `edges` says which leads where.
const (
	PhasePlanned       Phase = "planned"
	PhasePreparing     Phase = "preparing"      // the target slot is freed: sealed, seen empty, stopped
	PhaseInstalling    Phase = "installing"     // the release is put into it
	PhaseStarting      Phase = "starting"       // it is started and becomes ready
	PhaseWarming       Phase = "warming"        // it is warmed
	PhaseGating        Phase = "gating"         // it is probed once more, and the caller's Gate asked
	PhaseHolding       Phase = "holding"        // only Exclusive: new requests wait
	PhaseDrainingFirst Phase = "draining-first" // only Exclusive: the old slot finishes
	PhaseShifting      Phase = "shifting"       // new work is sent to the new slot, wholly or in part
	PhaseConfirming    Phase = "confirming"     // that is read back, and asked at the front door
	PhaseReleasing     Phase = "releasing"      // only Exclusive: what waits goes on
	PhaseSoaking       Phase = "soaking"        // the new slot is watched under real work
	PhaseVerifying     Phase = "verifying"      // last look before the point of no return
	PhaseCommitting    Phase = "committing"     // the point of no return is written
	PhaseDraining      Phase = "draining"       // the tail begins: the old slot finishes what it has
	PhaseRetaining     Phase = "retaining"      // the old slot is kept warm
	PhaseStopping      Phase = "stopping"       // the old slot is sealed, seen empty, stopped
	PhaseSucceeded     Phase = "succeeded"

	PhaseReverting     Phase = "reverting"      // new work is sent back to the old slot, which was just probed fit
	PhaseRevConfirming Phase = "rev-confirming" // that is read back
	PhaseRevDraining   Phase = "rev-draining"   // what had begun in the new slot finishes there
	PhaseDiscarding    Phase = "discarding"     // what was done to the target slot is undone
	PhaseRolledBack    Phase = "rolled-back"
	PhaseSuspended     Phase = "suspended" // no automatic move is provably safe: Resume, Adopt, Cancel or Abandon
	PhaseAbandoned     Phase = "abandoned"
)

// Outcome says how a swap ended.
type Outcome string

const (
	OutcomeNone          Outcome = ""               // it has not ended
	OutcomeSucceeded     Outcome = "succeeded"      // the new slot serves; the old one is idle, or kept warm as Retain says
	OutcomeStillDraining Outcome = "still-draining" // the new slot serves; the old one is up with work left: the next Resume or Deploy goes on
	OutcomeSuperseded    Outcome = "superseded"     // the new slot served; a later swap took over before the old one was idle
	OutcomeDiscarded     Outcome = "discarded"      // failed before any work went to the new slot
	OutcomeRolledBack    Outcome = "rolled-back"    // failed afterwards; the old slot serves again
	OutcomeSuspended     Outcome = "suspended"      // stopped where it is, for an operator to decide
	OutcomeAbandoned     Outcome = "abandoned"      // an operator ended it where it was
	OutcomeRefused       Outcome = "refused"        // never began; nothing was touched
)
