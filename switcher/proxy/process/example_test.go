package process_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// The application of this example is the test program itself; yours is something like {"./server"}.
func Example() {
	ctx := context.Background()
	program, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	blue, err := process.New(process.Config{
		Name:     "blue",
		Dir:      filepath.Join(dir, "blue"), // the slot's own: its record, its logs
		Command:  []string{program},
		Env:      []string{envApp + "=normal"},
		Health:   "/healthz",
		StopPath: "/stop",
	})
	if err != nil {
		fmt.Println(err) // all mistakes in the Config at once
		return
	}
	if err := blue.Install(ctx, abswap.Release{ID: "v1", Path: dir}); err != nil {
		fmt.Println(err)
		return
	}
	if err := blue.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for blue.Ready(ctx) != nil { // a Swapper does that for you
		time.Sleep(20 * time.Millisecond)
	}
	st, err := blue.Inspect(ctx)
	fmt.Println(st.Release, st.Running, err)

	err = blue.Stop(ctx)
	fmt.Println(err)
	st, err = blue.Inspect(ctx)
	fmt.Println(st.Release, st.Running, err)
	// Output:
	// v1 true <nil>
	// <nil>
	// v1 false <nil>
}
