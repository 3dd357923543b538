package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// shop is a Swapper on fakes: v1 runs in blue and takes all work.
func shop() (*abswap.Swapper, *fake.Switcher) {
	front := &fake.Switcher{}
	_ = front.Move(map[string]int{"blue": 100})
	return &abswap.Swapper{
		Switcher: front,
		Slots:    []abswap.Slot{fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")},
		Soak:     -1, // an example need not wait
	}, front
}

func ExampleSwapper_Deploy() {
	s, _ := shop()
	report, err := s.Deploy(context.Background(), abswap.Release{ID: "v2"})
	fmt.Println(report.Outcome, err)
	fmt.Println(report.Serving, "serves", report.Release)
	// Output:
	// succeeded <nil>
	// green serves v2
}

func ExampleSwapper_Deploy_failure() {
	s, _ := shop()
	s.Gate = func(_ context.Context, g abswap.GateRequest) error {
		if g.Percent == 100 {
			return errors.New("too many errors")
		}
		return nil
	}
	report, err := s.Deploy(context.Background(), abswap.Release{ID: "v2"})
	fmt.Println(report.Outcome)
	fmt.Println(err)
	// Output:
	// rolled-back
	// deploy of "v2" to slot "green": soaking: the gate at 100 % refused: too many errors (rolled-back; slot "blue" serves)
}

func ExampleSwapper_Swap() {
	s, _ := shop()
	s.Retain = -1 // keep the old slot warm
	ctx := context.Background()
	_, _ = s.Deploy(ctx, abswap.Release{ID: "v2"})
	report, err := s.Swap(ctx, "blue") // the instant way back
	fmt.Println(report.Serving, err)
	// Output:
	// blue <nil>
}

func ExampleSwapper_Plan() {
	s, _ := shop()
	s.Steps = []int{10}
	plan, err := s.Plan(context.Background(), abswap.Release{ID: "v2"})
	for _, step := range plan.Steps {
		for _, effect := range step.Effects {
			fmt.Println(effect)
		}
	}
	fmt.Println(err)
	// Output:
	// seal green, so that nothing leads to it
	// install v2 into green
	// start green
	// warm green
	// send new work to blue 90 %, green 10 %
	// send all new work to green
	// seal blue, so that nothing leads to it
	// stop blue
	// <nil>
}

func ExampleSwapper_PlanSwap() {
	s, _ := shop()
	plan, _ := s.PlanSwap(context.Background(), "green")
	fmt.Println(plan.From, "to", plan.To)
	// Output: blue to green
}

func ExampleSwapper_Check() {
	s := &abswap.Swapper{Switcher: fake.Bare(&fake.Switcher{}), Steps: []int{5}}
	fmt.Println(errors.Is(s.Check(context.Background()), errors.ErrUnsupported))
	// Output: true
}

func ExampleSwapper_Status() {
	s, _ := shop()
	st, err := s.Status(context.Background())
	fmt.Println(st.Weights, st.Slots[0].State.Release, err)
	// Output: map[blue:100] v1 <nil>
}

func ExampleSwapper_Resume() {
	s, front := shop()
	s.Drain.Timeout = time.Millisecond
	_, endUpload := front.Begin() // work in the old slot
	ctx := context.Background()
	report, _ := s.Deploy(ctx, abswap.Release{ID: "v2"})
	fmt.Println(report.Outcome)
	endUpload()
	report, err := s.Resume(ctx)
	fmt.Println(report.Outcome, err)
	// Output:
	// still-draining
	// succeeded <nil>
}

func ExampleSwapper_Cancel() {
	s, _ := shop()
	_, err := s.Cancel(context.Background())
	fmt.Println(errors.Is(err, abswap.ErrNothingToDo))
	// Output: true
}

func ExampleSwapper_Adopt() {
	s, front := shop()
	s.Gate = func(context.Context, abswap.GateRequest) error {
		return front.Move(map[string]int{"blue": 50, "green": 50}) // somebody else at the controls
	}
	ctx := context.Background()
	report, _ := s.Deploy(ctx, abswap.Release{ID: "v2"})
	fmt.Println(report.Outcome)
	_ = front.Move(map[string]int{"green": 100}) // the operator decides, and says so
	report, err := s.Adopt(ctx)
	fmt.Println(report.Outcome, err)
	// Output:
	// suspended
	// succeeded <nil>
}

func ExampleSwapper_Abandon() {
	s, front := shop()
	s.Gate = func(context.Context, abswap.GateRequest) error {
		return front.Move(map[string]int{"blue": 50, "green": 50})
	}
	ctx := context.Background()
	_, _ = s.Deploy(ctx, abswap.Release{ID: "v2"})
	report, _ := s.Abandon(ctx)
	fmt.Println(report.Outcome)
	// Output: abandoned
}

func ExampleDrain() {
	front := &fake.Switcher{}
	blue, green := fake.NewSlot("blue"), fake.NewSlot("green")
	ctx := context.Background()
	_ = front.Activate(ctx, blue)
	_, endUpload := front.Begin()
	_ = front.Activate(ctx, green)
	time.AfterFunc(10*time.Millisecond, endUpload)
	result, err := abswap.Drain(ctx, front, blue, abswap.DrainOptions{})
	fmt.Println(result.Drained, result.Last.Evidence, err)
	// Output: true exact <nil>
}

// Uploads go on as long as they move; websockets are asked to end, and their clients come back to the other slot.
func ExampleDrain_classes() {
	front := &fake.Switcher{}
	blue, green := fake.NewSlot("blue"), fake.NewSlot("green")
	ctx := context.Background()
	_ = front.Activate(ctx, blue)
	upload, _ := front.Open(ctx, fake.Request{Kind: fake.Upload})
	socket, _ := front.Open(ctx, fake.Request{Kind: fake.Upgraded})
	_ = front.Activate(ctx, green)
	go func() {
		<-socket.Leave() // a polite client closes
		socket.End()
		upload.End()
	}()
	result, err := abswap.Drain(ctx, front, blue, abswap.DrainOptions{Classes: map[abswap.Class]abswap.ClassRule{
		abswap.ClassUpload: {Policy: abswap.FinishMoving},
		abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1},
	}})
	fmt.Println(result.Drained, err)
	fmt.Println("uploads finished:", result.Classes[abswap.ClassUpload].Finished)
	fmt.Println("tunnels closed:", result.Classes[abswap.ClassTunnel].Closed)
	// Output:
	// true <nil>
	// uploads finished: 1
	// tunnels closed: 1
}

func ExampleBoth() {
	proxy, sockets := &fake.Switcher{}, &fake.Switcher{Evidence: abswap.EvidenceApproximate}
	load, err := abswap.Both(proxy, sockets).InFlight(context.Background(), fake.NewSlot("blue"))
	fmt.Println(load.Total(), load.Evidence, err)
	// Output: 0 approximate <nil>
}

func ExampleAs() {
	var s abswap.Switcher = &fake.Switcher{}
	if w, ok := abswap.As[abswap.WeightedSwitcher](s); ok {
		err := w.SetWeights(context.Background(), abswap.Weight{Slot: fake.NewSlot("blue"), Part: 95}, abswap.Weight{Slot: fake.NewSlot("green"), Part: 5})
		fmt.Println(err)
	}
	// Output: <nil>
}

func ExampleSwapper_Approve() {
	s, _ := shop()
	s.Gate = func(_ context.Context, g abswap.GateRequest) error {
		if g.Next == 101 {
			return abswap.ErrApprovalNeeded // somebody looks at the dashboard first
		}
		return nil
	}
	asked := make(chan struct{})
	s.OnEvent = func(e abswap.Event) {
		if e.Kind == abswap.EventAwaiting {
			close(asked)
		}
	}
	ctx := context.Background()
	done := make(chan abswap.Report)
	go func() {
		report, _ := s.Deploy(ctx, abswap.Release{ID: "v2"})
		done <- report
	}()
	<-asked
	if _, err := s.Approve(ctx); err != nil { // in real life in another process, started by a person
		fmt.Println(err)
	}
	fmt.Println((<-done).Outcome)
	// Output: succeeded
}
