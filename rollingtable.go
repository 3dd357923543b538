package abswap

import "fmt"

// The states of one member in a Roll, as its journal and events name them, in the order in which it passes them; the table `memberEdges` says
// which leads where. Those that a swap has too share its names.
const (
	MemberWaiting     Phase = "waiting"       // its turn has not come; nothing was done to it
	MemberTakingOut   Phase = "taking-out"    // new work is led away from it, if enough others serve
	MemberDraining    Phase = PhaseDraining   // it finishes what it has
	MemberStopping    Phase = PhaseStopping   // it is seen out of service and empty, and stopped
	MemberInstalling  Phase = PhaseInstalling // the release is put into it
	MemberStarting    Phase = PhaseStarting   // it is started and becomes ready
	MemberWarming     Phase = PhaseWarming    // it is warmed
	MemberProving     Phase = "proving"       // it is probed several times, and asked what is in it
	MemberPuttingIn   Phase = "putting-in"    // new work is led to it, which is read back
	MemberWatching    Phase = "watching"      // it is watched under work; the canary for Bake, the others for Soak; then the Gate is asked
	MemberWithdrawing Phase = "withdrawing"   // it failed in service: new work is led away from it again
	MemberReverting   Phase = "reverting"     // the release Back is put into it, started and warmed
	MemberRestoring   Phase = "restoring"     // what it had before is probed fit and put into service again

	MemberUpdated Phase = "updated"  // it serves the new release
	MemberSkipped Phase = "skipped"  // nothing was done to it: it has the release already, or is out of service by another hand
	MemberKept    Phase = "kept"     // it serves what it had before, or Back
	MemberLeftOut Phase = "left-out" // it is out of service, as it is: for somebody to look at. The next Deploy begins with it
	MemberLeftIn  Phase = "left-in"  // it is, or may be, in service though it failed: it could not be taken out
)

// memberEdges is the whole state machine of a member.
//
// A member that fails before its Stop was ordered goes back into service: it is untouched. One that fails later gets the release Back, if
// the caller has named one, through the same proofs as any release; else it is left out. Once a Stop was ordered, a cancel lets the member
// come to its end: half a member is of no use to anybody.
var memberEdges = []edge{
	{MemberWaiting, ResultOK, MemberTakingOut},

	// Untouched.
	{MemberTakingOut, ResultOK, MemberDraining},
	{MemberTakingOut, ResultFailed, MemberRestoring},
	{MemberTakingOut, ResultCanceled, MemberRestoring},
	{MemberTakingOut, ResultMoved, MemberSkipped}, // another hand has taken it out
	{MemberDraining, ResultOK, MemberStopping},
	{MemberDraining, ResultFailed, MemberRestoring},
	{MemberDraining, ResultCanceled, MemberRestoring},
	{MemberDraining, ResultMoved, MemberKept}, // another hand has put it in
	{MemberStopping, ResultOK, MemberInstalling},
	{MemberStopping, ResultMore, MemberDraining}, // work came again
	{MemberStopping, ResultLeft, MemberRestoring},
	{MemberStopping, ResultMoved, MemberKept},

	// Out of service, and not what it was.
	{MemberStopping, ResultFailed, MemberReverting},
	{MemberInstalling, ResultOK, MemberStarting},
	{MemberInstalling, ResultFailed, MemberReverting},
	{MemberStarting, ResultOK, MemberWarming},
	{MemberStarting, ResultFailed, MemberReverting},
	{MemberWarming, ResultOK, MemberProving},
	{MemberWarming, ResultFailed, MemberReverting},
	{MemberProving, ResultOK, MemberPuttingIn},
	{MemberProving, ResultFailed, MemberReverting},

	// In service again, perhaps.
	{MemberPuttingIn, ResultOK, MemberWatching},
	{MemberPuttingIn, ResultFailed, MemberWithdrawing},
	{MemberWatching, ResultOK, MemberUpdated},
	{MemberWatching, ResultCanceled, MemberUpdated}, // it was fit until then
	{MemberWatching, ResultFailed, MemberWithdrawing},
	{MemberWatching, ResultMoved, MemberLeftOut}, // another hand has taken it out

	// Back.
	{MemberWithdrawing, ResultOK, MemberReverting},
	{MemberWithdrawing, ResultFailed, MemberLeftIn},
	{MemberReverting, ResultOK, MemberRestoring},
	{MemberReverting, ResultFailed, MemberLeftOut},
	{MemberRestoring, ResultOK, MemberKept},
	{MemberRestoring, ResultFailed, MemberLeftOut},
}

// nextMemberPhase looks p and r up in the table.
func nextMemberPhase(p Phase, r Result) (Phase, error) {
	for _, e := range memberEdges {
		if e.from == p && e.on == r {
			return e.to, nil
		}
	}
	return "", fmt.Errorf("a member's phase %s cannot end with result %q: %w", p, r, ErrPermanent)
}

// memberAtRest tells whether nothing comes after p.
func memberAtRest(p Phase) bool {
	switch p {
	case MemberUpdated, MemberSkipped, MemberKept, MemberLeftOut, MemberLeftIn:
		return true
	}
	return false
}

// memberHeeds tells whether p is left when the caller's context ends. All others are brought to their end.
func memberHeeds(p Phase) bool {
	_, err := nextMemberPhase(p, ResultCanceled)
	return err == nil
}
