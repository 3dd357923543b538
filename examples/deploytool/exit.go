package main

import (
	"context"
	"errors"

	"github.com/abswap/abswap"
)

// Exit codes. main's comment and the help have the table.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitDiscarded   = 4
	exitRolledBack  = 5
	exitDraining    = 6
	exitBusy        = 7
	exitSuspended   = 8
	exitNothing     = 9
	exitCanceled    = 10
	exitUnreachable = 11
	exitInterrupted = 130
)

// exitTable is the table of the help.
const exitTable = `Exit codes:
   0  it went well: the release serves, or what was asked for is done
   1  something else failed; the text says what. If a deploy was under way: resume
   2  wrong command line, or mistakes in the config file
   3  refused before anything was touched: a bad release, a finding of the checks, an occupied slot
   4  discarded: the release failed before it got any work; the old one never noticed
   5  rolled back: the release failed under work; the old one serves again
   6  the new release serves, but work is left in the old slot, which stays up: resume later
   7  busy: another deploy is running; the text says whose
   8  suspended: no automatic move is safe. Call somebody: status, then resume, adopt, cancel or abandon
   9  nothing to do: no deploy is unfinished, or none waits for approval
  10  canceled, by a signal or by "cancel": it went back to the old release
  11  the proxy does not answer: is "deploytool serve" running?
 130  interrupted by a second signal: resume finishes what was begun
`

// errUnreachable says that the proxy does not answer.
var errUnreachable = errors.New(`the proxy does not answer: is "deploytool serve" running?`)

// exitCode tells how a swap ended.
func exitCode(rep abswap.Report, err error) int {
	switch {
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, abswap.ErrBusy) && (rep.Outcome == abswap.OutcomeRefused || rep.Outcome == abswap.OutcomeNone):
		return exitBusy
	case errors.Is(err, abswap.ErrNothingToDo):
		return exitNothing
	case errors.Is(err, abswap.ErrCanceled) && (rep.Outcome == abswap.OutcomeDiscarded || rep.Outcome == abswap.OutcomeRolledBack),
		errors.Is(err, abswap.ErrCanceled) && rep.Outcome == abswap.OutcomeRefused,
		errors.Is(err, context.Canceled) && rep.Outcome == "":
		return exitCanceled
	}
	switch rep.Outcome {
	case abswap.OutcomeSucceeded, abswap.OutcomeSuperseded:
		return exitOK
	case abswap.OutcomeDiscarded:
		return exitDiscarded
	case abswap.OutcomeRolledBack:
		return exitRolledBack
	case abswap.OutcomeStillDraining:
		return exitDraining
	case abswap.OutcomeSuspended:
		return exitSuspended
	case abswap.OutcomeRefused:
		return exitRefused
	}
	if err == nil {
		return exitOK
	}
	return exitFailed
}
