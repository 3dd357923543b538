package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

const patience, tick = 20 * time.Second, 20 * time.Millisecond

// try runs the installer with the arguments, and returns its exit code and what it printed.
func try(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	t.Logf("installer %s: exit %d\n%s%s", strings.Join(args, " "), code, out.String(), errs.String())
	return code, out.String(), errs.String()
}

func TestStory(t *testing.T) {
	for _, strategy := range [][]string{{"-strategy", "toggle"}, {"-strategy", "root", "-accept-cut"}} {
		t.Run(strategy[1], func(t *testing.T) {
			t.Parallel()
			code, out, _ := try(t, "", append(strategy, "-emulate", filepath.Join(t.TempDir(), "world"), "demo")...)
			assert.Zero(t, code)
			assert.Equal(t, 11, strings.Count(out, "\n== "))
			for _, c := range []int{exitDone, exitRefused, exitDiscarded, exitRolledBack, exitNothing} {
				assert.Contains(t, out, fmt.Sprintf("exit code %d\n", c))
			}
		})
	}
}

// Each verb is a run of its own, on a machine that was off in between.
func TestVerbs(t *testing.T) {
	t.Parallel()
	world := filepath.Join(t.TempDir(), "world")
	build := func(release string) string { return filepath.Join(world, "build", release) }
	config := func() string {
		data, err := os.ReadFile(filepath.Join(world, "iis", "config", "applicationHost.config"))
		require.NoError(t, err)
		return string(data)
	}
	do := func(want int, stdin string, args ...string) string {
		t.Helper()
		code, out, _ := try(t, stdin, append([]string{"-emulate", world}, args...)...)
		require.Equal(t, want, code)
		return out
	}
	assert.Contains(t, do(exitDone, "", "plan"), `make site "Shop-green-live"`)
	first := config()
	assert.Contains(t, do(exitRefused, "n\n", "setup"), "Go on?")
	assert.Equal(t, first, config(), "a plan changes nothing, nor does a setup that was refused")
	do(exitRefused, "", "deploy", build("v1"))
	assert.Equal(t, first, config(), "without the set-up nothing is touched")

	assert.Empty(t, do(exitDone, "", "-quiet", "-yes", "setup"))
	do(exitNothing, "", "setup")
	do(exitNothing, "", "resume")
	do(exitRefused, "", "deploy", world) // no release
	assert.Empty(t, do(exitDone, "", "-quiet", "deploy", build("v1")))
	assert.Contains(t, do(exitDone, "", "deploy", build("v2")), "[100%] v2 serves in slot blue; green is kept warm")
	assert.Contains(t, do(exitDone, "", "back"), "slot green serves")
	assert.Contains(t, do(exitDone, "", "status"), "slot green  v1       serves")
	do(exitRefused, "", "remove")
	do(exitDiscarded, "", "-quiet", "deploy", build("v3"))
	do(exitDone, "", "deploy", build("v4"))
	do(exitDone, "", "remove")

	assert.NotContains(t, config(), "Shop-", "nothing of the set-up is left")
	assert.Contains(t, config(), filepath.Join(world, "inetpub", "Shop.v4"), "the version that served last stays")
	assert.Contains(t, config(), "Intranet", "what is not ours is left alone")
}

// open makes an installer on a new machine, set up.
func open(t *testing.T, args ...string) *installer {
	t.Helper()
	o, err := parse(append(args, "-yes", "-emulate", filepath.Join(t.TempDir(), "world"), "setup"), io.Discard)
	require.NoError(t, err)
	in, err := newInstaller(o, bufio.NewReader(strings.NewReader("")), t.Output())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.close()) })
	require.NoError(t, in.setup(t.Context()))
	return in
}

func (i *installer) build(release string) string { return filepath.Join(i.emulate, "build", release) }

func TestBusy(t *testing.T) {
	t.Parallel()
	in := open(t)
	var second error
	in.onEvent = func(e abswap.Event) {
		if e.Kind == abswap.EventPhase && e.Phase == abswap.PhaseStarting {
			second = in.deployFrom(t.Context(), in.build("v2"))
		}
	}
	require.NoError(t, in.deployFrom(t.Context(), in.build("v1")))
	assert.Equal(t, exitBusy, exitCode(second), "%v", second)
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	in := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in.onEvent = func(e abswap.Event) {
		if e.Kind == abswap.EventPhase && e.Phase == abswap.PhaseWarming {
			cancel()
		}
	}
	err := in.deployFrom(ctx, in.build("v1"))
	assert.Equal(t, exitCanceled, exitCode(err), "%v", err)
	serves, err := in.serves(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, serves)
}

// An upload outlasts -wait: the new version serves, the old one is left to finish, and resume waits for that.
func TestStillDraining(t *testing.T) {
	t.Parallel()
	in := open(t, "-wait", "3s")
	require.NoError(t, in.deployFrom(t.Context(), in.build("v1")))
	body, send := io.Pipe()
	done := make(chan error, 1)
	go func() {
		client := in.emu.Client()
		defer client.CloseIdleConnections()
		resp, err := client.Post("http://"+in.host+"/upload", "text/plain", body)
		if err == nil {
			err = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		done <- err
	}()
	_, err := send.Write([]byte("half"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		out, exit := in.emu.Appcmd(t.Context(), []string{"list", "requests"}, nil)
		return exit == 0 && strings.Contains(string(out), "/upload")
	}, patience, tick)

	err = in.deployFrom(t.Context(), in.build("v2"))
	assert.Equal(t, exitDraining, exitCode(err), "%v", err)
	serves, err := in.serves(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "v2", serves)

	require.NoError(t, send.Close())
	require.NoError(t, <-done)
	in.wait = patience
	assert.NoError(t, in.resume(t.Context()))
	assert.Equal(t, exitNothing, exitCode(in.resume(t.Context())))
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitDone:       nil,
		exitFailed:     errors.New("disk"),
		exitRefused:    ended(abswap.Report{Outcome: abswap.OutcomeRefused}, errors.New("check")),
		exitDiscarded:  ended(abswap.Report{Outcome: abswap.OutcomeDiscarded}, errors.New("sick")),
		exitRolledBack: ended(abswap.Report{Outcome: abswap.OutcomeRolledBack}, errors.New("sick")),
		exitDraining:   ended(abswap.Report{Outcome: abswap.OutcomeStillDraining}, nil),
		exitBusy:       fmt.Errorf("deploy: %w", &abswap.BusyError{}),
		exitSuspended:  ended(abswap.Report{Outcome: abswap.OutcomeSuspended}, abswap.ErrSuspended),
		exitNothing:    abswap.ErrNothingToDo,
		exitCanceled:   ended(abswap.Report{Outcome: abswap.OutcomeDiscarded}, abswap.ErrCanceled),
	} {
		assert.Equal(t, want, exitCode(err), "%v", err)
	}
	assert.Equal(t, exitFailed, exitCode(ended(abswap.Report{}, nil)), "a swap without an end is not done")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"plan"}, {"-emulate", "x"}, {"-emulate", "x", "fly"}, {"-emulate", "x", "deploy"}, {"-emulate", "x", "plan", "more"}, {"-site", "S", "-host", "h", "demo"},
		{"-emulate", "x", "-quiet", "setup"}, {"-emulate", "x", "-strategy", "hope", "plan"}, {"-emulate", "x", "-staging", "one", "plan"},
	} {
		code, _, _ := try(t, "", args...)
		assert.Equal(t, exitUsage, code, "%v", args)
	}
	code, _, text := try(t, "", "-h")
	assert.Zero(t, code)
	assert.Contains(t, text, "deploy FOLDER")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	code, _, text = try(t, "", "-emulate", filepath.Join(file, "below"), "plan")
	assert.Equal(t, exitFailed, code)
	assert.NotEmpty(t, text)
}
