package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// world is a front door and two slots in memory: v1 runs in blue and takes all work.
func world(t *testing.T) (s *abswap.Swapper, front *fake.Switcher, blue, green *fake.Slot) {
	t.Helper()
	front, blue, green = &fake.Switcher{}, fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")
	if err := front.Move(map[string]int{"blue": 100}); err != nil {
		t.Fatal(err)
	}
	return &abswap.Swapper{Switcher: front, Slots: []abswap.Slot{blue, green}}, front, blue, green
}

func TestDeployTool(t *testing.T) {
	for _, c := range []struct {
		name    string
		version string
		arrange func(s *abswap.Swapper, front *fake.Switcher, blue, green *fake.Slot)
		code    int
		says    string
		serves  string
	}{
		{"all is well", "v2", func(*abswap.Swapper, *fake.Switcher, *fake.Slot, *fake.Slot) {}, exitDone, "v2 serves from green", "green"},
		{"a build from a dirty tree", "v2-dirty", func(*abswap.Swapper, *fake.Switcher, *fake.Slot, *fake.Slot) {}, exitMistake, "clean tree", "blue"},
		{"never healthy", "v2", func(_ *abswap.Swapper, _ *fake.Switcher, _, green *fake.Slot) {
			green.ReadyProbes = 1 << 30
		}, exitFailed, "blue still serves", "blue"},
		{"sick under load", "v2", func(_ *abswap.Swapper, _ *fake.Switcher, _, green *fake.Slot) {
			time.AfterFunc(5*time.Second, func() { green.Sick(errors.New("out of memory")) })
		}, exitFailed, "out of memory", "blue"},
		{"sick, and the old one is gone", "v2", func(_ *abswap.Swapper, _ *fake.Switcher, blue, green *fake.Slot) {
			time.AfterFunc(5*time.Second, func() { green.Sick(errors.New("out of memory")); blue.Sick(errors.New("crashed")) })
		}, exitOnCall, "CALL SOMEBODY", "green"},
		{"the backend says no", "v2", func(_ *abswap.Swapper, front *fake.Switcher, _, _ *fake.Slot) {
			front.ActivateFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) error) error {
				return errors.New("access denied")
			}
		}, exitFailed, "access denied", "blue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // minutes of soaking and waiting pass at once
				s, front, blue, green := world(t)
				c.arrange(s, front, blue, green)
				var out strings.Builder
				if code := deploy(t.Context(), s, c.version, &out); code != c.code {
					t.Errorf("exit code %d, want %d: %s", code, c.code, out.String())
				}
				if !strings.Contains(out.String(), c.says) {
					t.Errorf("it says %q, and not %q", out.String(), c.says)
				}
				if serves, err := front.Active(t.Context()); serves != c.serves || err != nil {
					t.Errorf("%q serves (%v), want %q", serves, err, c.serves)
				}
			})
		})
	}
}

func TestSecondDeployIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _, _ := world(t)
		s.Soak = time.Hour
		first := make(chan int)
		go func() { first <- deploy(context.Background(), s, "v2", &strings.Builder{}) }()
		synctest.Wait() // the first one soaks
		var out strings.Builder
		if code := deploy(t.Context(), s, "v3", &out); code != exitBusy || !strings.Contains(out.String(), `deploying "v2"`) {
			t.Errorf("exit code %d: %s", code, out.String())
		}
		if code := <-first; code != exitDone {
			t.Errorf("the first one ended with %d", code)
		}
	})
}

func TestAnUploadOutlivesTheDeploy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, front, blue, _ := world(t)
		slot, end := front.Begin()
		time.AfterFunc(20*time.Minute, end)
		began := time.Now()
		if code := deploy(t.Context(), s, "v2", &strings.Builder{}); code != exitDone || slot != "blue" {
			t.Fatalf("exit code %d, upload in %s", code, slot)
		}
		stopped := blue.Calls("Stop")
		if len(stopped) != 1 || stopped[0].Time.Sub(began) < 20*time.Minute {
			t.Errorf("the old slot was stopped under the upload: %v", stopped)
		}
	})
}
