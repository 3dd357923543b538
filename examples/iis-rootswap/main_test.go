package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iistest"
)

// try runs the program, and returns its exit code and what it printed.
func try(t *testing.T, spoil func(*iistest.Quirks), args ...string) (int, string) {
	t.Helper()
	var out strings.Builder
	e := example()
	e.Spoil = spoil
	code := e.Run(t.Context(), args, &out, &out)
	t.Log(out.String())
	return code, out.String()
}

func TestEveryPromiseIsKept(t *testing.T) {
	for _, mode := range []string{"classic", "inprocess"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			code, out := try(t, nil, "-emulate", "-mode", mode, "-no-rotation", "-linger", "900ms")
			assert.Zero(t, code)
			assert.Contains(t, out, "and 2 uploads: 0 lost, 0 late, 0 cut")
			assert.Contains(t, out, "every promise was kept")
			assert.Equal(t, 2, strings.Count(out, "appcmd set config /section:system.applicationHost/sites \"/[name='MySite'].[path='/'].applicationPool:MySite-green\""),
				"one commit for each switch to green")
		})
	}
}

func TestAnUnverifiedLossIsRefusedAndMayBeAccepted(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		code, out := try(t, nil, "-emulate", "-fact", "OldWorkerSeesPathChange=yes")
		assert.Equal(t, 1, code)
		assert.Contains(t, out, "rule S3 is not kept: the old worker process may unload the application")
		assert.Contains(t, out, "0 lost, 0 late, 0 cut")
	})
	t.Run("accepted", func(t *testing.T) {
		t.Parallel()
		code, out := try(t, nil, "-emulate", "-fact", "OldWorkerSeesPathChange=yes", "-accept-cut")
		assert.Zero(t, code)
		assert.Contains(t, out, "0 lost, 0 late, 2 cut")
		assert.Contains(t, out, "2 of these are of the kinds that were known before")
	})
}

func TestABrokenPromiseIsSeen(t *testing.T) {
	t.Parallel()
	code, out := try(t, func(q *iistest.Quirks) { q.PoolChangeCuts = iistest.On }, "-emulate")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "broken: cut: an upload")
	assert.NotContains(t, out, "every promise was kept")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"-emulate", "folder"}, {"-emulate", "-fact", "Moon=yes"}, {"-emulate", "-rate", "0"}, {"-mode", "x"}} {
		code, _ := try(t, nil, args...)
		assert.Equal(t, 2, code, "%v", args)
	}
	code, out := try(t, nil, "-h")
	assert.Zero(t, code)
	assert.Contains(t, out, "-emulate")
}
