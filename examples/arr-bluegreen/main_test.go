package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/arrdemo"
	"github.com/abswap/abswap/switcher/arr"
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
	assert.Len(t, regexp.MustCompile("with [1-9][0-9]* requests at first").FindAllString(out.String(), -1), 3, "the upload outlives the switch")
	assert.Contains(t, out.String(), " 0 lost, 0 late; 3 uploads, 0 cut")
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	assert.Equal(t, 2, run(t.Context(), nil, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-emulate", "release"}, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-no-such-flag"}, &out))
	assert.Equal(t, 2, run(t.Context(), []string{"-keep", "release"}, &out))
	assert.Equal(t, 1, run(t.Context(), []string{"-keep", "-farm", ""}, &out))
}

// TestServiceKeeps: a service that knows no more than the farm and the file sets right what a recycle of ARR's pool has undone.
func TestServiceKeeps(t *testing.T) {
	o := options{blue: "mysite-blue", green: "mysite-green", farm: arr.Config{Farm: arrdemo.Farm, Pool: arrdemo.Pool}}
	m, err := newMachine(&o)
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	resp, err := m.Client().Get("http://" + arrdemo.Host + "/release.txt") // ARR's process begins with the first request
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	ctx, stop := context.WithCancel(t.Context())
	lines, ended := make(lines, 100), make(chan error, 1)
	go func() { ended <- keep(ctx, o, lines) }()
	cfg := o.farm
	cfg.Slots = o.members()
	sw, err := arr.New(cfg) // the deploy tool's
	require.NoError(t, err)
	defer func() { assert.NoError(t, sw.Close()) }()
	require.NoError(t, sw.Activate(t.Context(), &abswap.HTTPSlot{ID: "blue"}))
	for range 2 {
		out, exit := m.Appcmd(t.Context(), []string{"recycle", "apppool", arrdemo.Pool}, nil)
		require.Zero(t, exit, "%s", out)
		for line := ""; line != "keeper: states set again: [mysite-green] <nil>\n"; {
			select {
			case line = <-lines:
				t.Logf("%s", line)
			case err := <-ended:
				require.Fail(t, "the service has ended", "%v", err)
			case <-time.After(time.Minute):
				require.Fail(t, "nothing was restored")
			}
		}
		active, err := sw.Active(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "blue", active)
	}
	stop()
	assert.NoError(t, <-ended, "it ends when it is asked to")
}

// lines are what a program prints, line by line.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}
