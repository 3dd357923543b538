package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each emulated appcmd, being this program, lasts a second longer under the race detector
	iistest.Main()
	os.Exit(m.Run())
}

func try(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out strings.Builder
	code := example().Run(t.Context(), args, &out, &out)
	t.Log(out.String())
	return code, out.String()
}

func TestOnlyTheGapLoses(t *testing.T) {
	for _, processes := range []string{"-processes=false", "-processes"} {
		t.Run(processes, func(t *testing.T) {
			if testing.Short() && processes == "-processes" {
				t.Skip("takes half a minute where programs are slow to start")
			}
			t.Parallel()
			code, out := try(t, "-emulate", processes, "-toggles", "1", "-linger", "900ms")
			assert.Zero(t, code)
			assert.Contains(t, out, "every promise was kept")
			assert.Contains(t, out, ", 0 late, 0 cut")
			assert.Equal(t, 3, strings.Count(out, "in force after"))
			assert.Contains(t, out, "gap of 3 switches: median ")
			if processes == "-processes" {
				assert.Regexp(t, `gap of 3 switches: median \S+, maximum [1-9]\S*`, out)
			}
		})
	}
}

func TestCoreApplicationsAreRefused(t *testing.T) {
	t.Parallel()
	code, out := try(t, "-emulate", "-processes=false", "-mode", "outofprocess", "-no-rotation")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "stopping a site shuts its ASP.NET Core applications down")
	code, out = try(t, "-emulate", "-processes=false", "-mode", "outofprocess", "-no-rotation", "-accept-cut", "-toggles", "1")
	assert.Zero(t, code)
	assert.Contains(t, out, ", 2 cut")
}
