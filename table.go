package abswap

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
)
