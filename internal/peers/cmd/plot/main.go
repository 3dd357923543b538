// plot draws what swaps did to the latency of the requests around them: one panel for each trace, all its swaps on top of each other.
//
//	plot -out swaps.svg ours.trace nginx.trace haproxy.trace
//
// The traces are what bench -record or loadgen rate -record wrote.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/abswap/abswap/internal/peers/internal/trace"
)

func main() {
	out := flag.String("out", "swaps.svg", "the picture")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(out string, files []string) error {
	if len(files) == 0 {
		return errors.New("name at least one trace")
	}
	var all []*trace.Trace
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		t, err := trace.Read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(t.Swaps) == 0 {
			return fmt.Errorf("%s: no swap is in it", name)
		}
		all = append(all, t)
	}
	return os.WriteFile(out, draw(all), 0o644)
}
