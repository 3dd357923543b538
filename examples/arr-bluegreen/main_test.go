package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap/switcher/iistest"
)

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that this program is also run as
	iistest.Main()
	os.Exit(m.Run())
}

func TestNothingIsLost(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), []string{"-emulate"}, &out)
	t.Log(out.String())
	assert.Zero(t, code)
	assert.Equal(t, 3, strings.Count(out.String(), ": succeeded in "))
	assert.Equal(t, 3, strings.Count(out.String(), "with 1 requests at first"), "the upload outlives the switch")
	assert.Contains(t, out.String(), " 0 lost, 0 late; 3 uploads, 0 cut")
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	assert.Equal(t, 2, run(t.Context(), nil, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-emulate", "release"}, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-no-such-flag"}, &out))
}
