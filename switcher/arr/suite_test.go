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
	iistest.Main()
	if how := os.Getenv(envShell); how != "" {
		badShell(how)
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // tests wait more than they work
	os.Exit(m.Run())
}

// parallel bounds how many machines run at one time.
var parallel = make(chan struct{}, 12)

// TestRules is the whole suite with affinity off and on, and with members in each mode.
func TestRules(t *testing.T) {
	n := 0
	for _, affinity := range []bool{false, true} {
		for _, mode := range []iistest.Mode{iistest.Classic, iistest.CoreInProcess, iistest.CoreOutProcess} {
			n++
			if !*full && n != 2 && n != 4 {
				continue
			}
			s := setting{mode: mode, affinity: affinity, members: 1 + n%2, process: n == 4}
			t.Run(fmt.Sprintf("affinity %t/%s", affinity, mode), func(t *testing.T) {
				t.Parallel()
				for _, r := range switchertest.Rules() {
					if !*full && mode == iistest.CoreInProcess && !slices.ContainsFunc([]string{"S1/in-force-at", "S2/nothing", "S3", "W1/seal-keeps"}, func(p string) bool { return strings.HasPrefix(r.Name, p) }) {
						continue
					}
					t.Run(r.Name, func(t *testing.T) {
						t.Parallel()
						parallel <- struct{}{}
						defer func() { <-parallel }()
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
