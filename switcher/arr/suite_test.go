package arr_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/switchertest"
)

var errUnsupported = errors.ErrUnsupported

var full = flag.Bool("arr.full", false, "run the long forms")

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that this program is also run as
	iistest.Main()
	if how, err := os.ReadFile(os.Args[0] + howFile); err == nil {
		badShell(string(how))
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // tests wait more than they work
	os.Exit(m.Run())
}

// parallel bounds how many machines run at one time.
var parallel = make(chan struct{}, 12)

// briefly is the short form under Wine, where what is short elsewhere takes minutes: a sample of what the other systems run.
func briefly() bool { return testing.Short() && !*full && underWine() }

// begins reports whether a rule's name begins with one of these.
func begins(rule string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(rule, p) })
}

// TestRules is the whole suite with affinity off and on, and with members in each mode; in the short form the whole suite once, and what a mode
// could matter for once more. A part of it makes its calls through a real process.
func TestRules(t *testing.T) {
	for _, affinity := range []bool{false, true} {
		for _, mode := range []iistest.Mode{iistest.Classic, iistest.CoreInProcess, iistest.CoreOutProcess} {
			all, some := affinity && mode == iistest.Classic, !affinity && mode == iistest.CoreInProcess
			if !*full && !all && !some || briefly() && some {
				continue
			}
			t.Run(fmt.Sprintf("affinity %t/%s", affinity, mode), func(t *testing.T) {
				t.Parallel()
				for _, r := range switchertest.Rules() {
					if !*full && some && !begins(r.Name, "S1/in-force-at", "S2/nothing", "S3", "W1/seal-keeps") {
						continue
					}
					if briefly() && !begins(r.Name, "S1/in-force-at", "S2/nothing", "S3/upload", "S4/concurrent", "S5", "D1/upload", "W1") {
						continue
					}
					t.Run(r.Name, func(t *testing.T) {
						t.Parallel()
						parallel <- struct{}{}
						defer func() { <-parallel }()
						s := setting{mode: mode, affinity: affinity, members: 2}
						if some {
							s.members = 1
						}
						s.process = all && (*full || begins(r.Name, "S1/in-force-at", "S3/upload", "S4/concurrent", "D1/upload"))
						res := r.Try(t.Context(), s.rig)
						if res.Err != nil {
							t.Errorf("%s\nthe rule: %s", res.Err, r.Says)
						} else if res.Skipped != "" {
							t.Skip(res.Skipped)
						}
					})
				}
			})
		}
	}
}
