package abswap_test

import (
	"context"
	"fmt"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// A fleet of three behind one switcher, updated node by node. The canary is watched for a moment before the others have their turn.
func ExampleRolling_Deploy() {
	slots := []abswap.Slot{fake.NewRunningSlot("n1", "v1"), fake.NewRunningSlot("n2", "v1"), fake.NewRunningSlot("n3", "v1")}
	front := fake.New("n1", "n2", "n3")
	front.Move(map[string]int{"n1": 34, "n2": 33, "n3": 33})

	fleet := &abswap.Rolling{
		Switcher:   abswap.WeightedMembers(front, slots...),
		Slots:      slots,
		MinServing: 2,
		Bake:       10 * time.Millisecond,
		Soak:       -1,
		OnEvent: func(e abswap.Event) {
			if e.Kind == abswap.EventPhase && (e.Phase == abswap.MemberTakingOut || e.Phase == abswap.MemberPuttingIn) {
				fmt.Println(e.Slot, e.Phase)
			}
		},
	}
	report, err := fleet.Deploy(context.Background(), abswap.Release{ID: "v2", Path: "/srv/releases/v2"})
	fmt.Println(report.Outcome, err)
	for _, m := range report.Members {
		fmt.Println(m.Name, m.State, m.Before, "->", m.After)
	}
	// Output:
	// n1 taking-out
	// n1 putting-in
	// n2 taking-out
	// n2 putting-in
	// n3 taking-out
	// n3 putting-in
	// succeeded <nil>
	// n1 updated v1 -> v2
	// n2 updated v1 -> v2
	// n3 updated v1 -> v2
}

// What a roll would do, without doing it.
func ExampleRolling_Plan() {
	slots := []abswap.Slot{fake.NewRunningSlot("n1", "v1"), fake.NewRunningSlot("n2", "v2")}
	front := fake.New("n1", "n2")
	front.Move(map[string]int{"n1": 50, "n2": 50})
	fleet := &abswap.Rolling{Switcher: abswap.WeightedMembers(front, slots...), Slots: slots}
	plan, err := fleet.Plan(context.Background(), abswap.Release{ID: "v2"})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Print(plan)
	// Output:
	// turn 1: n1: take out, stop, install v2, start, warm, put in
	// skipped: n2: it has the release already
}
