// Command haproxy-fleet updates a fleet node by node: four machines behind two HAProxys, of which never fewer than three serve.
//
//	go run ./examples/haproxy-fleet
//
// It needs the program haproxy (apt-get install haproxy). It starts two of its own, and four processes that stand for the machines, each with an
// agent that installs, starts and stops the application. Then, under load, it rolls out a good release and a bad one, of which only the canary
// learns, and tells what the clients felt, how many members served at each millisecond, and what the reports say. It ends with 0 if all went as
// promised, with 1 if not, with 2 if it could not begin.
//
// The deploy tool itself is a process of its own each time, as in earnest; it may be killed at any moment, and taken up again:
//
//	haproxy-fleet roll    SITE RELEASE [BAD-ON]   roll a release out; BAD-ON is the node in which it will not become fit
//	haproxy-fleet resume  SITE                    finish what a killed tool left
//	haproxy-fleet status  SITE                    tell what is what
//
// What a tool of your own needs of this is tool.go; the rest is machines, balancers and load.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

const (
	exitOK     = 0
	exitBroken = 1
	exitUnable = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, openJournal)
	stop()
	os.Exit(code)
}

// run is the command, with how the tool opens its journal.
func run(ctx context.Context, args []string, out io.Writer, open journalOpener) int {
	var err error
	switch {
	case len(args) == 0:
		return show(ctx, out)
	case args[0] == "node" && len(args) == 2:
		err = runNode(ctx, args[1], os.Stdin, out)
	case (args[0] == "roll" || args[0] == "resume" || args[0] == "status") && len(args) >= 2:
		err = tool(ctx, args, out, open)
	default:
		fmt.Fprintln(out, "usage: haproxy-fleet | roll SITE RELEASE [BAD-ON] | resume SITE | status SITE")
		return exitUnable
	}
	if err != nil {
		fmt.Fprintln(out, err)
		return exitBroken
	}
	return exitOK
}

// show is the whole demonstration.
func show(ctx context.Context, out io.Writer) int {
	if _, err := exec.LookPath("haproxy"); err != nil {
		fmt.Fprintln(out, "haproxy is not installed; on Debian and Ubuntu: apt-get install haproxy")
		return exitUnable
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(out, err)
		return exitUnable
	}
	f, err := startFleet(ctx, self, out)
	if err != nil {
		fmt.Fprintln(out, err)
		return exitUnable
	}
	err = story(ctx, f, out)
	if err = errors.Join(err, f.close()); err != nil {
		fmt.Fprintln(out, err)
		return exitBroken
	}
	return exitOK
}

func story(ctx context.Context, f *fleet, out io.Writer) (err error) {
	if err := f.tool(ctx, "", "roll", f.dir, "v1"); err != nil { // nothing is in service yet
		return err
	}
	load := startClients(ctx, f.fronts())
	watch := startSampler(ctx, f.balancers)
	upload, err := startUpload(ctx, f.fronts()[0])
	good, bad := errors.New("not begun"), error(nil)
	if err == nil {
		fmt.Fprintln(out, "\nv2 is good, and an upload is under way:")
		rolled := make(chan error, 1)
		go func() { rolled <- f.tool(ctx, "", "roll", f.dir, "v2") }()
		for range 20 { // it takes its time: the node that has it is drained that long
			if err = upload.send(ctx); err != nil {
				break
			}
		}
		err = errors.Join(err, upload.finish())
		good = <-rolled
		fmt.Fprintln(out, "\nv3 is bad:")
		bad = f.tool(ctx, "", "roll", f.dir, "v3", "n1")
	}
	felt, seen := load.stop(), watch.stop()
	fmt.Fprintf(out, "\nclients: %d requests, %d lost; the doors: at least %d of %d members in service in %d looks\n",
		felt.sent, felt.lost, seen.least, len(f.nodes), seen.looks)
	states, serr := f.states(ctx)
	if err = errors.Join(err, serr); err != nil {
		return err
	}
	fmt.Fprintf(out, "in the end: %s\n", states)
	switch {
	case good != nil:
		return fmt.Errorf("the good release: %w", good)
	case bad == nil:
		return errors.New("the bad release went through")
	case felt.lost > 0:
		return fmt.Errorf("the promise was broken: %w", felt.first)
	case seen.err != nil:
		return fmt.Errorf("the doors could not be asked: %w", seen.err)
	case seen.least < floor:
		return fmt.Errorf("the promise was broken: only %d members were in service:\n%s", seen.least, seen.where)
	case states != "n1 v2, n2 v2, n3 v2, n4 v2": // the canary got v2 again
		return errors.New("that is not what was to be expected")
	}
	return nil
}
