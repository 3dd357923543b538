package switchertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// Rule is one rule of the suite.
type Rule struct {
	Name string // number and name: "S1/in-force-at-return"
	Says string // what a backend must do, in one sentence

	test func(ctx context.Context, w *world) error
}

// Result is what came out for one rule.
type Result struct {
	Rule    string
	Skipped string // why it was not checked; "": it was
	Err     error  // how it was broken; nil: it was not
	Elapsed time.Duration
}

// String returns the result as one line: "ok", "skip" or "FAIL", the rule, and why.
func (r Result) String() string {
	switch {
	case r.Err != nil:
		return fmt.Sprintf("FAIL %s: %s", r.Rule, strings.ReplaceAll(r.Err.Error(), "\n", "; "))
	case r.Skipped != "":
		return fmt.Sprintf("skip %s: %s", r.Rule, r.Skipped)
	}
	return fmt.Sprintf("ok   %s (%s)", r.Rule, r.Elapsed.Round(time.Millisecond))
}

// Report is what came out for all rules, in their order.
type Report []Result

// Err returns one error with all rules that were broken, or nil.
func (r Report) Err() error {
	var errs []error
	for _, x := range r {
		if x.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.Rule, x.Err))
		}
	}
	return errors.Join(errs...)
}

// Skipped returns the names of the rules that were not checked.
func (r Report) Skipped() []string {
	var names []string
	for _, x := range r {
		if x.Skipped != "" && x.Err == nil {
			names = append(names, x.Rule)
		}
	}
	return names
}

// WriteTo writes one line for each rule.
func (r Report) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for _, x := range r {
		m, err := fmt.Fprintln(w, x)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Rules returns all rules, in the order in which they are checked.
func Rules() []Rule {
	var all []Rule
	for _, some := range [][]Rule{switchRules(), callRules(), honestRules(), weightRules(), previewRules(), countRules(), raceRules(), waitRules(), forceRules(),
		sessionRules(), classRules(), sealRules(), holdRules()} {
		all = append(all, some...)
	}
	return all
}

func known(name string) bool {
	for _, r := range Rules() {
		if r.Name == name {
			return true
		}
	}
	return false
}

// Run checks every rule on a rig of its own, as a subtest of its name.
func Run(t *testing.T, newRig NewRig) {
	t.Helper()
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			res := r.Try(t.Context(), newRig)
			if res.Err != nil {
				t.Errorf("%s\nthe rule: %s", res.Err, r.Says)
			} else if res.Skipped != "" {
				t.Skip(res.Skipped)
			}
		})
	}
}

// Check checks every rule on a rig of its own and returns one error with all that were broken. Examine tells also what was skipped.
func Check(ctx context.Context, newRig NewRig) error {
	return Examine(ctx, newRig).Err()
}

// Examine checks every rule on a rig of its own. When ctx ends, the rules that are left are broken by its error.
func Examine(ctx context.Context, newRig NewRig) Report {
	var report Report
	for _, r := range Rules() {
		report = append(report, r.Try(ctx, newRig))
	}
	return report
}

// Try checks the rule on one rig. It is over after 13 times Rig.Patience at the latest: a call that does not obey its context until then
// breaks the rule, and is left behind with its rig.
func (r Rule) Try(ctx context.Context, newRig NewRig) (res Result) {
	res.Rule = r.Name
	start := time.Now()
	defer func() { res.Elapsed = time.Since(start) }()
	if res.Err = ctx.Err(); res.Err != nil {
		return res
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rig, err := newRig(ctx)
	if err != nil {
		res.Err = fmt.Errorf("new rig: %w", err)
		return res
	}
	closing := rig.Close
	defer func() {
		if closing == nil {
			return
		}
		if err := closing(); err != nil {
			res.Err = errors.Join(res.Err, fmt.Errorf("close rig: %w", err))
		}
	}()
	rig, err = rig.withDefaults()
	if err != nil {
		res.Err = err
		return res
	}
	if why, ok := rig.Except[r.Name]; ok {
		res.Skipped = "excepted: " + why
		return res
	}
	limit := 12 * rig.Patience
	ctx, cancelLimit := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the rule was not through after %s", limit))
	defer cancelLimit()
	w := &world{Rig: rig}
	ctx = w.setUp(ctx)
	done := make(chan error, 1)
	go func() {
		err := r.test(ctx, w)
		w.tidy()
		done <- err
	}()
	hang := time.NewTimer(limit + rig.Patience)
	defer hang.Stop()
	select {
	case err = <-done:
	case <-hang.C:
		res.Err = fmt.Errorf("a call hangs: it goes on %s after its context has ended; the rig is left as it is", rig.Patience)
		closing = nil
		return res
	}
	if s, ok := errors.AsType[*skip](err); ok {
		res.Skipped = s.why
		return res
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	res.Err = err
	return res
}

// skip is why a rule was not checked.
type skip struct{ why string }

func (s *skip) Error() string { return "skipped: " + s.why }

func skipf(format string, args ...any) error { return &skip{fmt.Sprintf(format, args...)} }
