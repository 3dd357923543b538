// Command custom-switcher shows a switcher of one's own, the Door of switcher.go, and how it is proven right: as a doctor command, it
// starts two slots and the Door in front of them on this machine, and checks every rule that a switcher must keep.
//
//	go run ./examples/custom-switcher
//
// It prints one line for each rule and exits with 1 if any is broken. The same suite runs in its test.
package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"

	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report := switchertest.Examine(ctx, newRig)
	_, _ = report.WriteTo(os.Stdout)
	if err := report.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "the switcher is not right")
		os.Exit(1)
	}
	fmt.Printf("%d rules kept, %d skipped\n", len(report)-len(report.Skipped()), len(report.Skipped()))
}

// newRig starts two slots with the suite's application in them, and the Door in front.
func newRig(context.Context) (switchertest.Rig, error) {
	site := &switchertest.Site{Slots: map[string]string{}}
	addresses := map[string]*url.URL{}
	var servers []*httptest.Server
	for _, name := range []string{"blue", "green"} {
		app := httptest.NewServer(switchertest.NewApp(name))
		servers = append(servers, app)
		u, err := url.Parse(app.URL)
		if err != nil {
			return switchertest.Rig{}, err
		}
		site.Slots[name], addresses[name] = app.URL, u
	}
	door := NewDoor(addresses)
	front := httptest.NewServer(door)
	site.Front = front.URL

	rig := site.Rig()
	rig.Switcher = door
	rig.Blue, rig.Green = fake.NewRunningSlot("blue", "v1"), fake.NewRunningSlot("green", "v2")
	rig.Disturb = func(_ context.Context, slot string) error { // another hand at our own state
		door.mu.Lock()
		defer door.mu.Unlock()
		door.active = slot
		return nil
	}
	rig.Close = func() error {
		err := site.Close()
		front.Close()
		for _, s := range servers {
			s.Close()
		}
		return err
	}
	return rig, nil
}
