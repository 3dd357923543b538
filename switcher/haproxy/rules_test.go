package haproxy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

var full = flag.Bool("haproxy.full", false, "run every rule in every form, with the suite's own load")

func slots() (blue, green abswap.Slot) {
	return fake.NewRunningSlot("blue", "v1"), fake.NewRunningSlot("green", "v2")
}

// mapRig is the map form on a real HAProxy.
func mapRig(ctx context.Context, master bool) (switchertest.Rig, *instance, error) {
	in, err := start(ctx, mapConfig, master)
	if err != nil {
		return switchertest.Rig{}, nil, err
	}
	sw, err := haproxy.NewMap(haproxy.MapConfig{Runtime: in.runtime(master), File: in.path("slots.map"), Key: "mysite",
		Backends: map[string]string{"blue": "be_blue", "green": "be_green"}, Closed: "be_closed"})
	if err != nil {
		return switchertest.Rig{}, nil, errors.Join(err, in.close())
	}
	rig := in.site.Rig()
	rig.Switcher = sw
	rig.Blue, rig.Green = slots()
	rig.Disturb = func(_ context.Context, slot string) error {
		if slot == "" {
			slot = "closed"
		}
		return in.silently(fmt.Sprintf("set map %s mysite be_%s", in.path("slots.map"), slot))
	}
	rig.Rest = func(context.Context) (string, error) {
		file, err := os.ReadFile(in.path("slots.map"))
		if err != nil {
			return "", err
		}
		ours := regexp.MustCompile(`mysite be_\w+`)
		running, err := in.say("show map " + in.path("slots.map"))
		states, errStates := in.states()
		return ours.ReplaceAllString(string(file)+running, "mysite") + states, errors.Join(err, errStates)
	}
	rig.Close = in.close
	return rig, in, nil
}

// states is what HAProxy says of all servers, without times.
func (in *instance) states() (string, error) {
	text, err := in.say("show servers state")
	var b strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 9 {
			fmt.Fprintln(&b, append(f[:9:9], f[10:]...))
		}
	}
	return b.String(), err
}

// serversRig is the servers form on a real HAProxy.
func serversRig(ctx context.Context, config string, keep bool) (switchertest.Rig, *instance, error) {
	in, err := start(ctx, config, true)
	if err != nil {
		return switchertest.Rig{}, nil, err
	}
	sw, err := haproxy.NewServers(haproxy.ServersConfig{Runtime: in.runtime(true), Backend: "be_site", KeepSessions: keep,
		Slots: map[string][]string{"blue": {"blue"}, "green": {"green"}}, StateFile: in.path("be_site.state")})
	if err != nil {
		return switchertest.Rig{}, nil, errors.Join(err, in.close())
	}
	if keep {
		in.site.SessionCookie = "SESSION"
	}
	rig := in.site.Rig()
	rig.Switcher = sw
	rig.Blue, rig.Green = slots()
	rig.Disturb = func(_ context.Context, slot string) error {
		for _, s := range []string{"blue", "green"} {
			if s == slot {
				if err := in.silently("set server be_site/"+s+" state ready", "set server be_site/"+s+" weight 50"); err != nil {
					return err
				}
			}
		}
		for _, s := range []string{"blue", "green"} {
			if s != slot {
				if err := in.silently("set server be_site/" + s + " state drain"); err != nil {
					return err
				}
			}
		}
		return nil
	}
	rig.Rest = func(context.Context) (string, error) {
		all, err := in.states()
		var rest strings.Builder
		for line := range strings.Lines(all) {
			if !strings.Contains(line, "be_site") {
				rest.WriteString(line)
			}
		}
		return rest.String(), err
	}
	rig.Close = in.close
	return rig, in, nil
}

// check runs the suite. In the short form it leaves out rules of which the other forms are proof enough, and sends less.
func check(t *testing.T, newRig switchertest.NewRig, short ...string) {
	needHAProxy(t)
	t.Parallel()
	for _, r := range switchertest.Rules() {
		if !*full && len(short) > 0 && !slices.ContainsFunc(short, func(s string) bool { return strings.HasPrefix(r.Name, s) }) {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			res := r.Try(t.Context(), func(ctx context.Context) (switchertest.Rig, error) {
				rig, err := newRig(ctx)
				rig.Patience = 30 * time.Second
				if !*full {
					rig.Load = 80
				}
				return rig, err
			})
			if res.Skipped != "" {
				t.Skip(res.Skipped)
			}
			assert.NoError(t, res.Err, r.Says)
		})
	}
}

func TestRulesMap(t *testing.T) {
	check(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, _, err := mapRig(ctx, true)
		return rig, err
	})
}

func TestRulesMapSingleProcess(t *testing.T) {
	check(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, _, err := mapRig(ctx, false)
		return rig, err
	}, "S1/in-force-at-return", "S5/active-is-true", "D1/counts", "D3/cut")
}

func TestRulesServers(t *testing.T) {
	check(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, _, err := serversRig(ctx, serversConfig, false)
		return rig, err
	}, "S1/", "S2/nothing", "S3/upload", "S4/weights", "S4/context", "S4/concurrent", "S5/", "S6/", "D1/counts", "D1/old", "D1/zero", "D2/exact", "D3/cut", "W1/")
}

func TestRulesServersKeepingSessions(t *testing.T) {
	check(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, _, err := serversRig(ctx, cookieConfig, true)
		return rig, err
	}, "S1/in-force-at-return", "S5/mixed", "D1/counts", "D4/", "W1/")
}

func TestRulesServersNotKeepingSessions(t *testing.T) {
	check(t, func(ctx context.Context) (switchertest.Rig, error) {
		rig, _, err := serversRig(ctx, cookieConfig, false)
		return rig, err
	}, "S1/in-force-at-return", "S3/", "D1/old", "S5/disturbed-activate", "W1/")
}
