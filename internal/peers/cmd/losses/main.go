// Losses counts what clients lose while slots are switched: ours beside the peers that are installed, in one table. Everything is on
// loopback: 16 clients that POST bodies which cannot be sent again, over connections that they keep; 8 uploads of 1.5 s at a time; 20
// websockets (over HTTP/2: two-way streams) and 20 streams of events that are opened before the first switch.
//
//	go run ./cmd/losses                    # 20 switches, one every 0.5 s, row by row
//	go run ./cmd/losses -switches 1000 -rows h1,h2,grpc,tcp -together
//
// It fails if a row of ours has lost anything.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.switches, "switches", 20, "how often the slots are switched")
	flag.DurationVar(&o.every, "every", 500*time.Millisecond, "time between two switches")
	flag.DurationVar(&o.pause, "pause", time.Millisecond, "between two POSTs of a client")
	names := flag.String("rows", "", "rows, with commas; all whose program is installed if empty")
	together := flag.Bool("together", false, "all rows at the same time")
	flag.Parse()
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")

	var chosen []row
	for _, r := range rows {
		if *names == "" && r.needs != "" {
			if _, err := exec.LookPath(r.needs); err != nil {
				fmt.Fprintf(os.Stderr, "%s is left out: %v\n", r.name, err)
				continue
			}
		}
		if *names == "" || strings.Contains(","+*names+",", ","+r.name+",") {
			chosen = append(chosen, r)
		}
	}
	results := make([]result, len(chosen))
	errs := make([]error, len(chosen))
	var all sync.WaitGroup
	for i, r := range chosen {
		run := func() { results[i], errs[i] = measure(r, o) }
		if *together {
			all.Go(run)
		} else {
			run()
		}
	}
	all.Wait()
	bad := false
	fmt.Print(tableHead)
	for i, r := range chosen {
		if errs[i] != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", r.name, errs[i])
			bad = true
			continue
		}
		fmt.Println(results[i].row(r.title))
		for _, err := range results[i].samples {
			fmt.Fprintf(os.Stderr, "%s: %v\n", r.name, err)
		}
		bad = bad || r.ours && results[i].lost() > 0
	}
	if bad {
		os.Exit(1)
	}
}
