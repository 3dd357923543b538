package arr_test

import (
	"context"
	"fmt"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
)

// A service keeps what deploys have set, when ARR's pool is recycled and ARR forgets it.
func ExampleKeeper() {
	machine, err := setting{}.open() // an emulated one, with a farm of mysite-blue-0 and mysite-green-0
	if err != nil {
		fmt.Println(err)
		return
	}
	defer machine.close()
	cfg := machine.cfg // Farm, Pool, Slots, and a Memory that both know

	// The deploy tool.
	deploys, err := arr.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer deploys.Close()
	if err := deploys.Activate(context.Background(), &abswap.HTTPSlot{ID: "blue"}); err != nil {
		fmt.Println(err)
		return
	}

	// The service, until it is stopped.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	service := func() error {
		sw, err := arr.New(cfg)
		if err != nil {
			return err
		}
		defer sw.Close()
		keeper := &arr.Keeper{Switcher: sw, OnKept: func(k arr.Kept) {
			fmt.Println("set again:", k.Members, k.Err)
			stop()
		}}
		return keeper.Run(ctx)
	}

	if err := machine.recycle(); err != nil { // ARR has forgotten everything
		fmt.Println(err)
		return
	}
	fmt.Println(service())
	fmt.Println(deploys.Active(context.Background()))
	// Output:
	// set again: [mysite-green-0] <nil>
	// context canceled
	// blue <nil>
}
