// Command unit-test is a small in-house deploy tool, there for its test: main_test.go shows how a caller's own deploy code is tested with
// package fake, without a server, a process or a second of waiting.
//
// Run as it is, it deploys into fakes and prints what happened: a dry run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// Exit codes of the tool: what a CI job wants to tell apart.
const (
	exitDone    = 0
	exitFailed  = 1 // the old version serves
	exitBusy    = 2 // somebody else deploys: try again later
	exitOnCall  = 3 // nobody knows what to do but a person
	exitMistake = 4 // the call was wrong; nothing was touched
)

// deploy is the tool's own logic, the part worth testing: house rules before, the swap, and what to tell whom.
func deploy(ctx context.Context, s *abswap.Swapper, version string, out io.Writer) int {
	if strings.HasSuffix(version, "-dirty") {
		fmt.Fprintf(out, "%s was not built from a clean tree\n", version)
		return exitMistake
	}
	report, err := s.Deploy(ctx, abswap.Release{ID: version})
	switch {
	case err == nil:
		fmt.Fprintf(out, "%s serves from %s\n", version, report.Serving)
		return exitDone
	case errors.Is(err, abswap.ErrBusy):
		fmt.Fprintln(out, err)
		return exitBusy
	case report.Outcome == abswap.OutcomeSuspended:
		fmt.Fprintln(out, "CALL SOMEBODY:", err)
		return exitOnCall
	case report.Outcome == abswap.OutcomeRefused:
		fmt.Fprintln(out, err)
		return exitMistake
	}
	fmt.Fprintf(out, "%s still serves: %v\n", report.Serving, err)
	return exitFailed
}

func main() {
	front := &fake.Switcher{}
	if err := front.Move(map[string]int{"blue": 100}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitMistake)
	}
	s := &abswap.Swapper{Switcher: front, Slots: []abswap.Slot{fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")}, Soak: -1}
	os.Exit(deploy(context.Background(), s, "v2", os.Stdout))
}
