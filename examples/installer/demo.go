package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/iisdemo"
)

// demo is the whole story: set-up, first deploy, upgrade, the way back, two releases that are no good, removal. Each chapter says with which exit
// code a run of its own would end, and who must serve then.
func (i *installer) demo(ctx context.Context) error {
	build := func(release string) func(context.Context) error {
		return func(ctx context.Context) error { return i.deployFrom(ctx, filepath.Join(i.emulate, "build", release)) }
	}
	i.yes = true
	for _, c := range []struct {
		title  string
		act    func(context.Context) error
		exit   int
		serves string
	}{
		{"set-up", i.setup, exitDone, before},
		{"set-up, again", i.setup, exitNothing, before},
		{"first deploy", build("v1"), exitDone, "v1"},
		{"removal, while the second slot serves", i.remove, exitRefused, "v1"},
		{"upgrade", build("v2"), exitDone, "v2"},
		{"back", i.back, exitDone, "v1"},
		{"upgrade, once more", build("v2"), exitDone, "v2"},
		{"a release that never gets fit", build("v3"), exitDiscarded, "v2"},
		{"a release whose database fails after the switch", i.failing(build("v4")), exitRolledBack, "v2"},
		{"status", i.status, exitDone, "v2"},
		{"removal", i.remove, exitDone, "v2"},
	} {
		i.out.line("\n== %s", c.title)
		err := c.act(ctx)
		if err != nil {
			i.out.line("%v", err)
		}
		i.out.line("exit code %d", exitCode(err))
		if got := exitCode(err); got != c.exit {
			return fmt.Errorf("%s ended with exit code %d, not %d: %w", c.title, got, c.exit, err)
		}
		serves, err := i.serves(ctx)
		if err != nil || serves != c.serves {
			return fmt.Errorf("after %s %q serves, not %q: %w", c.title, serves, c.serves, err)
		}
	}
	return nil
}

// failing makes the release that a deploy brings fail while it is watched under work.
func (i *installer) failing(deploy func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var broken error
		i.onEvent = func(e abswap.Event) {
			if e.Kind != abswap.EventPhase || e.Phase != abswap.PhaseSoaking {
				return
			}
			dir, err := i.releases.Path(e.Release)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, iisdemo.SickFile), nil, 0o644)
			}
			broken = err
		}
		defer func() { i.onEvent = nil }()
		if err := deploy(ctx); broken == nil {
			return err
		}
		return broken
	}
}

// serves asks at the front door, as a client does.
func (i *installer) serves(ctx context.Context) (string, error) {
	client := i.emu.Client()
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.host+iisdemo.MarkPath, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}
