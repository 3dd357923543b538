// Command nginx-reload deploys a small web application behind the nginx of this machine, which decides where requests go by a file that it
// includes and loads anew. It starts an nginx of its own, on loopback, with a configuration and a folder of its own; one that runs already is
// left alone.
//
//	go run ./examples/nginx-reload
//
// Each deploy gives the new release a fifth of the requests first, then all. Clients come all the time, each request on a connection of its
// own, and an upload is under way over each deploy. One of the releases gets sick when it has a fifth, and goes back by itself. In the end
// the program tells what the clients felt of it. It ends with 0 if nothing was lost, late or cut; with 1 if something was; with 2 if the command
// line is wrong; with 3 if there is no nginx, and then it says how to install it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/nginx"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errNoNginx says how to install it.
var errNoNginx = errors.New("there is no nginx here: apt-get install -y nginx-light (Debian, Ubuntu), dnf install nginx (Fedora)")

// options are the command line.
type options struct {
	program string
	deploys int
	clients int
	upload  time.Duration
	soak    time.Duration
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var o options
	f := flag.NewFlagSet("nginx-reload", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.StringVar(&o.program, "nginx", "", "path of the program nginx; empty: looked for")
	f.IntVar(&o.deploys, "deploys", 3, "how many releases are deployed, beside the one that gets sick")
	f.IntVar(&o.clients, "clients", 4, "how many clients ask at one time")
	f.DurationVar(&o.upload, "upload", 3*time.Second, "how long each upload lasts")
	f.DurationVar(&o.soak, "soak", time.Second, "how long a release is watched after each step")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if f.NArg() > 0 || o.deploys < 1 || o.clients < 1 || o.upload <= 0 || o.soak <= 0 {
		fmt.Fprintln(errOut, "nginx-reload: there is nothing beside the flags, and they are above 0")
		return 2
	}
	ok, err := story(ctx, o, out)
	switch {
	case errors.Is(err, errNoNginx):
		fmt.Fprintln(errOut, "nginx-reload:", err)
		return 3
	case err != nil:
		fmt.Fprintln(errOut, "nginx-reload:", err)
		return 1
	case !ok:
		return 1
	}
	return 0
}

// story is the whole of it. ok: the clients felt nothing.
func story(ctx context.Context, o options, out io.Writer) (ok bool, err error) {
	program, err := findNginx(o.program)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "nginx-reload-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ports, err := freePorts(3)
	if err != nil {
		return false, err
	}
	door := "http://" + ports[0]

	// Two slots. The application in a slot listens at the slot's address; here both run in this process, so that there is nothing to build.
	blue, green := newSlot("blue", ports[1]), newSlot("green", ports[2])
	defer func() {
		err = errors.Join(err, blue.Stop(context.WithoutCancel(ctx)), green.Stop(context.WithoutCancel(ctx)))
	}()
	if err := errors.Join(blue.Install(ctx, abswap.Release{ID: "v1"}), blue.Start(ctx)); err != nil {
		return false, err
	}

	// The switcher. Where nginx is the system's, Command is {"nginx"} and PIDFile /run/nginx.pid, which need not be said.
	engine := &engine{program: program, dir: dir, listen: ports[0]}
	sw, err := nginx.New(nginx.Config{
		Name:    "shop",
		Slots:   map[string]string{"blue": ports[1], "green": ports[2]},
		Include: filepath.Join(dir, "abswap-shop.conf"),
		Door:    door + "/.abswap-shop",
		PIDFile: engine.pidFile(),
		Command: engine.command(),
	})
	if err != nil {
		return false, err
	}
	if err := sw.Prepare(ctx, blue); err != nil { // once, before nginx.conf includes it
		return false, err
	}
	if err := engine.start(ctx, sw); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, engine.stop()) }()

	journal, err := abswap.OpenJournal(filepath.Join(dir, "journal"), abswap.JournalOptions{})
	if err != nil {
		return false, err
	}
	swapper := &abswap.Swapper{
		Switcher:  sw, // counts what is in flight, too
		Slots:     []abswap.Slot{blue, green},
		Journal:   journal,
		Steps:     []int{20},
		Soak:      o.soak,
		FrontDoor: func(ctx context.Context) (string, error) { return ask(ctx, door) },
		Drain:     abswap.DrainOptions{Quiet: 500 * time.Millisecond, Poll: 50 * time.Millisecond},
		Retain:    -1, // the old slot stays warm until the next deploy needs it
		OnEvent:   func(e abswap.Event) { tell(out, e) },
	}

	load := begin(ctx, door, o.clients)
	defer load.end()
	for i := range o.deploys + 1 {
		release := abswap.Release{ID: fmt.Sprintf("v%d", i+2)}
		if i == 1 {
			release.ID += sickSuffix
		}
		fmt.Fprintf(out, "deploy of %s\n", release.ID)
		upload := load.upload(ctx, o.upload)
		report, err := swapper.Deploy(ctx, release)
		if failed := upload(); failed != nil {
			load.cut(failed)
		}
		switch {
		case i == 1 && (err == nil || report.Outcome != abswap.OutcomeRolledBack):
			return false, fmt.Errorf("release %s got sick, and its deploy ended with %s: %w", release.ID, report.Outcome, err)
		case i == 1:
			fmt.Fprintf(out, "  it was sick, and is back where it was: %v\n", err)
		case err != nil:
			return false, err
		default:
			load.expect(release.ID)
		}
	}
	load.expect("") // one of two, for a while
	fmt.Fprintln(out, "and back to the release before")
	if _, err := swapper.Swap(ctx, other(swapper, ctx)); err != nil { // the way back to the one before, which is still warm
		return false, err
	}
	load.end()
	return load.verdict(out), nil
}

// other names the slot that is not active.
func other(s *abswap.Swapper, ctx context.Context) string {
	active, _ := s.Switcher.Active(ctx)
	for _, slot := range s.Slots {
		if slot.Name() != active {
			return slot.Name()
		}
	}
	return ""
}

// tell prints what is worth a line.
func tell(out io.Writer, e abswap.Event) {
	switch e.Kind {
	case abswap.EventDone:
		fmt.Fprintf(out, "  %-11s %s", e.Phase, e.Elapsed.Round(time.Millisecond))
		if e.Percent > 0 {
			fmt.Fprintf(out, ", %d %%", e.Percent)
		}
		if e.Err != nil {
			fmt.Fprintf(out, ": %v", e.Err)
		}
		fmt.Fprintln(out)
	case abswap.EventWarning:
		fmt.Fprintf(out, "  warning: %s\n", e.Message)
	case abswap.EventEnd:
		fmt.Fprintf(out, "  %s\n", e.Outcome)
	}
}
