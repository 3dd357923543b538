package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that this program is also run as
	iistest.Main()
	os.Exit(m.Run())
}

func TestABadReleaseIsTakenBack(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), []string{"-emulate"}, &out)
	t.Log(out.String())
	assert.Zero(t, code)
	assert.Contains(t, out.String(), `v2: succeeded; slot "green" serves`)
	assert.Contains(t, out.String(), `v3-bad: rolled-back; slot "green" serves`)
	lines := regexp.MustCompile(`at +(\d+) %: \S+ answered ([0-9.]+) %`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, lines, 4, "v2 was judged at 5, at 25, and before the commit; the bad one at 5 only")
	for _, l := range lines {
		part, err := strconv.ParseFloat(l[1], 64)
		require.NoError(t, err)
		share, err := strconv.ParseFloat(l[2], 64)
		require.NoError(t, err)
		assert.LessOrEqual(t, share, part+2)
	}
	assert.Contains(t, lines[3][0], "at   5 %: v3-bad")
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	assert.Equal(t, 2, run(t.Context(), nil, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-emulate", "release"}, &out))
	assert.Equal(t, 1, run(t.Context(), []string{"-blue", "x", "release"}, &out))
}
