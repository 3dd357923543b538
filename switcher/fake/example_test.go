package fake_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

func ExampleSwitcher() {
	ctx := context.Background()
	blue, green := fake.NewSlot("blue"), fake.NewSlot("green")
	sw := fake.New("blue", "green") // blue is active

	slot, end := sw.Begin() // a request
	fmt.Println("the request is in", slot)
	if err := sw.Activate(ctx, green); err != nil {
		fmt.Println(err)
	}
	load, _ := sw.InFlight(ctx, blue)
	fmt.Println("left in blue:", load.Requests)
	end()
	load, _ = sw.InFlight(ctx, blue)
	fmt.Println("left in blue:", load.Requests)
	fmt.Println(sw.Calls("Activate"))
	// Output:
	// the request is in blue
	// left in blue: 1
	// left in blue: 0
	// [Activate(green)]
}

// A call can fail after its effect; the caller has to look at the world.
func ExampleSwitcher_script() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do func(context.Context, abswap.Slot) error) error {
		if err := do(ctx, to); err != nil {
			return err
		}
		return fmt.Errorf("connection reset: %w", abswap.ErrUnknownOutcome)
	}
	err := sw.Activate(ctx, fake.NewSlot("green"))
	fmt.Println(errors.Is(err, abswap.ErrUnknownOutcome), err)
	fmt.Println(sw.Active(ctx))
	// Output:
	// true connection reset: outcome unknown
	// green <nil>
}

func ExampleSwitcher_Begin() {
	sw := fake.New("blue", "green")
	slot, end := sw.Begin()
	defer end()
	fmt.Println(slot)
	// Output: blue
}

func ExampleSwitcher_Open() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	socket, err := sw.Open(ctx, fake.Request{Kind: fake.Upgraded, Path: "/chat"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.End()
	load, err := sw.InFlight(ctx, fake.NewSlot("blue"))
	fmt.Println(load.Upgraded, load.Evidence, err)
	// Output: 1 exact <nil>
}

// Another hand moves the traffic.
func ExampleSwitcher_Move() {
	sw := fake.New("blue", "green")
	if err := sw.Move(map[string]int{"blue": 40, "green": 60}); err != nil {
		fmt.Println(err)
	}
	name, err := sw.Active(context.Background())
	fmt.Println(name, err)
	// Output: green several slots are active
}

func ExampleSwitcher_SetWeights() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	err := sw.SetWeights(ctx, abswap.Weight{Slot: fake.NewSlot("green"), Part: 5}, abswap.Weight{Slot: fake.NewSlot("blue"), Part: 95})
	hits := map[string]int{}
	for range 100 {
		slot, end := sw.Begin()
		hits[slot]++
		end()
	}
	fmt.Println(hits, err)
	fmt.Println(sw.Calls())
	// Output:
	// map[blue:95 green:5] <nil>
	// [SetWeights(blue 95, green 5)]
}

func ExampleSwitcher_Seal() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	green := fake.NewSlot("green")
	_ = sw.Preview(ctx, green, abswap.PreviewRule{Header: "X-Preview", Value: "yes"})
	err := sw.Seal(ctx, green)
	w, _ := sw.Open(ctx, fake.Request{Header: map[string]string{"X-Preview": "yes"}})
	fmt.Println(w.Slot(), err)
	// Output: blue <nil>
}

func ExampleSwitcher_Hold() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	release, err := sw.Hold(ctx, abswap.HoldOptions{Max: 1, Each: time.Minute, Total: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	waited := make(chan string)
	go func() {
		slot, end := sw.Begin()
		end()
		waited <- slot
	}()
	for sw.Held() < 1 {
		time.Sleep(time.Millisecond)
	}
	_, err = sw.Open(ctx, fake.Request{})
	fmt.Println(errors.Is(err, fake.ErrRefused))
	_ = sw.Activate(ctx, fake.NewSlot("green"))
	release()
	fmt.Println("the one that waited went to", <-waited)
	// Output:
	// true
	// the one that waited went to green
}

func ExampleSwitcher_Preview() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	err := sw.Preview(ctx, fake.NewSlot("green"), abswap.PreviewRule{Cookie: "preview", Value: "yes"})
	tester, _ := sw.Open(ctx, fake.Request{Cookie: map[string]string{"preview": "yes"}})
	user, _ := sw.Open(ctx, fake.Request{})
	fmt.Println(tester.Slot(), user.Slot(), err)
	// Output: green blue <nil>
}

func ExampleSwitcher_Force() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	socket, _ := sw.Open(ctx, fake.Request{Kind: fake.Upgraded})
	_ = sw.Activate(ctx, fake.NewSlot("green"))
	err := sw.Force(ctx, fake.NewSlot("blue"), abswap.ForceCut)
	fmt.Println(err, errors.Is(socket.Err(), fake.ErrCut))
	// Output: <nil> true
}

func ExampleSwitcher_Sessions() {
	ctx := context.Background()
	sw := fake.New("blue", "green")
	session, _ := sw.Open(ctx, fake.Request{Kind: fake.Session})
	_ = sw.Activate(ctx, fake.NewSlot("green"))
	old, _ := sw.Open(ctx, fake.Request{Session: session.ID()})
	load, err := sw.Sessions(ctx, fake.NewSlot("blue"))
	fmt.Println(old.Slot(), load.Sessions, err)
	// Output: blue 1 <nil>
}

func ExampleSlot() {
	ctx := context.Background()
	s := fake.NewSlot("green")
	s.ReadyProbes = 1 // it says no once
	fmt.Println(s.Install(ctx, abswap.Release{ID: "v2"}), s.Start(ctx))
	fmt.Println(s.Ready(ctx))
	fmt.Println(s.Ready(ctx))
	fmt.Println(s.Calls())
	// Output:
	// <nil> <nil>
	// slot "green" has seen 1 probes and needs more than 1: slot is not ready
	// <nil>
	// [Install(green, v2) Start(green) Ready(green) Ready(green)]
}

func ExampleSlot_Sick() {
	s := fake.NewRunningSlot("green", "v2")
	s.Sick(errors.New("out of memory"))
	fmt.Println(s.Ready(context.Background()))
	// Output: slot "green" is sick: out of memory: slot is not ready
}

func ExampleSlot_Put() {
	s := fake.NewSlot("blue")
	s.Put(abswap.SlotState{Release: "v1", Running: true, Address: "127.0.0.1:8081"}) // another process did that
	state, err := s.Inspect(context.Background())
	fmt.Println(state.Release, state.Running, state.Address, err)
	// Output: v1 true 127.0.0.1:8081 <nil>
}

func ExampleBare() {
	_, ok := abswap.As[abswap.WeightedSwitcher](fake.Bare(fake.New("blue", "green")))
	fmt.Println(ok)
	// Output: false
}
