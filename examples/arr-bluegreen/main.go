// Command arr-bluegreen deploys a web application on one machine behind a server farm of Application Request Routing: one public site that feeds the
// farm, and two members on the same machine, each a site with a pool and a folder of its own. A deploy installs the new release into the idle
// member, starts and probes it, and then moves all new requests there by runtime state: no configuration changes at the switch, nothing
// restarts, and no request is without an owner for a moment. Old requests finish where they began, however long they take.
//
//	go run ./examples/arr-bluegreen -emulate
//	arr-bluegreen -farm MySite-Farm -pool ArrFront -host www.example.com -blue mysite-blue -green mysite-green -parent C:\inetpub C:\build\v1085
//	arr-bluegreen -keep -farm MySite-Farm -pool ArrFront -blue mysite-blue -green mysite-green
//
// With -emulate an IIS with ARR is emulated in this process, on any system, and three releases are made up. Without it the program works on the
// IIS of this machine, elevated. The members' names are in the hosts file and in the farm, with the ports of their sites MySite-blue and
// MySite-green: 127.0.0.1:8001 and 127.0.0.1:8002. Each release is a folder in which a file release.txt holds its ID.
//
// ARR forgets which member takes requests when its pool is recycled, and then sends requests to both. With -keep the program sets that right within a
// second, until it is ended: it is what a service does all the time, with the same -memory as the deploys. Emulated deploys bring such a service along.
//
// Clients come all the time, and an upload lives over each deploy; in the end the program tells what they felt of it. It ends with 0 if
// nothing was lost, late or cut, with 1 otherwise, with 2 if the command line is wrong.
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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
	"github.com/abswap/abswap/switcher/iistest"
)

func main() {
	iistest.Main() // with -emulate this program is the emulated appcmd and PowerShell too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// options are the command line, and what stands for the machine.
type options struct {
	host, front, blue, green, parent string
	releases                         []string
	quick                            bool // emulated: waits are short

	farm arr.Config // without its slots
	app  iis.App
}

// shared is a writer that goroutines share.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

func run(ctx context.Context, args []string, w io.Writer) int {
	var o options
	out := &shared{w: w} // the service prints too
	f := flag.NewFlagSet("arr-bluegreen", flag.ContinueOnError)
	f.SetOutput(out)
	keeps := f.Bool("keep", false, "deploy nothing: keep the states that deploys have set, until the program is ended")
	emulate := f.Bool("emulate", false, "work on an emulated IIS with ARR in this process, on any system")
	f.StringVar(&o.farm.Farm, "farm", "MySite-Farm", "`name` of the web farm")
	f.StringVar(&o.farm.Pool, "pool", "ArrFront", "application `pool` of the site that feeds the farm")
	f.StringVar(&o.host, "host", "www.example.test", "the `name` by which clients know the site")
	f.StringVar(&o.front, "front", "127.0.0.1:80", "`host:port` at which clients reach it")
	f.StringVar(&o.blue, "blue", "mysite-blue", "`address` of the first member in the farm")
	f.StringVar(&o.green, "green", "mysite-green", "`address` of the second")
	f.StringVar(&o.parent, "parent", `C:\inetpub`, "`folder` in which the releases' folders lie")
	f.StringVar(&o.farm.Memory, "memory", `C:\ProgramData\MySite-farm.json`, "`file` in which the wanted states are kept")
	if err := f.Parse(args); err != nil {
		return 2
	}
	o.releases = f.Args()
	what := deploy
	switch {
	case *keeps && !*emulate && len(o.releases) == 0:
		what = keep
	case *keeps, *emulate == (len(o.releases) > 0):
		fmt.Fprintln(out, "arr-bluegreen: name the folders of releases, or say -emulate, or -keep")
		return 2
	}
	if *emulate {
		m, err := newMachine(&o)
		if err != nil {
			fmt.Fprintln(out, "arr-bluegreen:", err)
			return 1
		}
		defer func() {
			if err := m.Close(); err != nil {
				fmt.Fprintln(out, "emulated machine:", err)
			}
		}()
		ctx, stop := context.WithCancel(ctx)
		var service sync.WaitGroup
		service.Go(func() { // in a real set-up a process of its own
			if err := keep(ctx, o, out); err != nil {
				fmt.Fprintln(out, "keeper:", err)
			}
		})
		defer service.Wait()
		defer stop()
	}
	if err := what(ctx, o, out); err != nil {
		fmt.Fprintln(out, "arr-bluegreen:", err)
		return 1
	}
	return 0
}

// members are those of the farm, by slot.
func (o options) members() map[string][]string {
	return map[string][]string{"blue": {o.blue}, "green": {o.green}}
}

// keep is the service: it sets the states again that ARR forgets when its pool is recycled, until ctx ends. What they have to be, the deploy tool has
// written into the file that both know, Config.Memory.
func keep(ctx context.Context, o options, out io.Writer) (err error) {
	o.farm.Slots = o.members()
	sw, err := arr.New(o.farm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sw.Close()) }()
	keeper := &arr.Keeper{Switcher: sw, OnKept: func(k arr.Kept) { fmt.Fprintln(out, "keeper: states set again:", k.Members, k.Err) }}
	if err := keeper.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil // it was asked to end
}

// deploy is the deploy tool.
func deploy(ctx context.Context, o options, out io.Writer) (err error) {
	app := &o.app
	app.Host, app.Mark = o.host, iis.Mark{Path: "/release.txt"} // how an answer tells which release gave it
	app.Facts.CommitRestartsCoreApps = iis.Yes

	// Two slots. Each release gets a folder of its own, MySite.v1085, which is complete or not there.
	installer, err := folder.New(folder.Config{Parent: o.parent, Name: "MySite"})
	if err != nil {
		return err
	}
	var slots []*iis.Slot
	for i, name := range []string{"blue", "green"} {
		slot, err := iis.NewSlot(iis.SlotConfig{App: app, Name: name, Pool: "MySite-" + name, Site: "MySite-" + name,
			Staging: fmt.Sprintf("http/127.0.0.1:%d:", 8001+i), Install: installer.Install, Release: releaseOf, Warm: []string{"/"}})
		if err != nil {
			return err
		}
		slots = append(slots, slot)
	}

	// The switcher moves new requests by the states that ARR has of the members. What is left in a member, ARR's counters tell, and IIS's list
	// of what the member's pool executes: of two numbers the larger one counts.
	o.farm.Slots, o.farm.Inside = o.members(), &iis.Drainer{Slots: slots}
	sw, err := arr.New(o.farm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sw.Close()) }()

	s := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{slots[0], slots[1]}, Soak: 5 * time.Second, Retain: -1,
		Occupied: abswap.OccupiedWait} // a health test of the farm is a request in an idle member, for a moment
	linger := 20 * time.Second // of the upload, after the switch
	if o.quick {
		s.Soak, s.Drain.Quiet, s.Drain.Poll, linger = 200*time.Millisecond, 200*time.Millisecond, 20*time.Millisecond, 300*time.Millisecond
	}
	if active, err := sw.Active(ctx); errors.Is(err, abswap.ErrMixed) { // a farm that was never switched has both members available
		if err := sw.Activate(ctx, slots[0]); err != nil {
			return err
		}
		fmt.Fprintf(out, "both members were available: %q takes all requests now\n", "blue")
	} else if err != nil {
		return err
	} else {
		fmt.Fprintf(out, "%q takes all requests\n", active)
	}
	felt := newClients(app, o)
	defer felt.stop()
	var long *upload
	s.OnEvent = func(e abswap.Event) { // on the goroutine of Deploy
		if e.Kind == abswap.EventPhase && e.Phase == abswap.PhaseDraining {
			time.AfterFunc(linger, long.finish) // it goes on in the old slot for so long
		}
	}
	for _, path := range o.releases {
		id, err := releaseOf(path)
		if err != nil {
			return err
		}
		long = felt.upload(ctx)
		report, err := s.Deploy(ctx, abswap.Release{ID: id, Path: path})
		if err != nil {
			long.finish()
			return errors.Join(err, long.wait())
		}
		fmt.Fprintf(out, "deploy of %s: %s in %s, from %q to %q", id, report.Outcome, report.Ended.Sub(report.Started).Round(time.Millisecond), report.From, report.To)
		for _, d := range report.Drains {
			fmt.Fprintf(out, "; %q drained in %s with %d requests at first", d.Slot, d.Waited.Round(time.Millisecond), d.First.Total())
		}
		fmt.Fprintln(out)
		if err := felt.answeredBy(ctx, id); err != nil {
			return err
		}
		if err := long.wait(); err != nil {
			return err
		}
	}
	return felt.verdict(out)
}

// releaseOf reads the ID of the release that is in a folder.
func releaseOf(dir string) (string, error) {
	id, err := os.ReadFile(filepath.Join(dir, "release.txt"))
	return strings.TrimSpace(string(id)), err
}
