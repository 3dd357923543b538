package main

import (
	"context"
	"errors"

	"github.com/abswap/abswap"
)

// Exit codes. The table is in main's comment.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitRefused    = 3
	exitDiscarded  = 4
	exitRolledBack = 5
	exitDraining   = 6
	exitBusy       = 7
	exitSuspended  = 8
	exitNothing    = 9
	exitCanceled   = 10
)

// errRefused says that nothing was touched.
var errRefused = errors.New("refused")

// endError is a deploy or a swap that did not end as it was meant to.
type endError struct {
	outcome abswap.Outcome
	err     error
}

func (e *endError) Error() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.outcome == abswap.OutcomeStillDraining:
		return "the new version serves; the old one has work left, and is left to finish it: resume waits for that"
	}
	return "it ended " + string(e.outcome)
}

func (e *endError) Unwrap() error { return e.err }

// ended is nil for a swap that went well.
func ended(rep abswap.Report, err error) error {
	if err == nil && rep.Outcome == abswap.OutcomeSucceeded {
		return nil
	}
	return &endError{rep.Outcome, err}
}

// exitCode is how a verb ended, for scripts.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.Is(err, abswap.ErrNothingToDo):
		return exitNothing
	case errors.Is(err, abswap.ErrBusy):
		return exitBusy
	}
	end, ok := errors.AsType[*endError](err)
	if !ok {
		return exitFailed
	}
	if errors.Is(err, abswap.ErrCanceled) || errors.Is(err, context.Canceled) {
		switch end.outcome {
		case abswap.OutcomeDiscarded, abswap.OutcomeRolledBack, abswap.OutcomeRefused:
			return exitCanceled
		}
	}
	switch end.outcome {
	case abswap.OutcomeRefused:
		return exitRefused
	case abswap.OutcomeDiscarded:
		return exitDiscarded
	case abswap.OutcomeRolledBack:
		return exitRolledBack
	case abswap.OutcomeStillDraining:
		return exitDraining
	case abswap.OutcomeSuspended:
		return exitSuspended
	}
	return exitFailed
}
