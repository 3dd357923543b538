// Command iis-toggle deploys a web application on one machine with IIS: two sites with the same bindings, of which one is started. The new
// release is put into a folder of its own, started in the other pool, probed at a staging site there; then the live site is stopped and the
// other one is started. Between the two nobody has the bindings: there is a gap, which is measured.
//
//	go run ./examples/iis-toggle -emulate
//	iis-toggle -site MySite -host www.example.com -parent C:\inetpub C:\build\v1085
//
// With -emulate an IIS is emulated in this process, on any system, and three releases are made up. Without it the program works on the IIS of
// this machine, elevated. Each release is a folder in which a file release.txt holds its ID; so does the folder that the site has now. In
// both cases it is the same code that deploys.
//
// Clients come all the time, and an upload lives over each deploy; after the deploys the sites are toggled -toggles times more, so that there
// is something to measure. In the end the program tells what the clients felt of it, and the median and the maximum of the gaps. It ends
// with 0 if every promise of a toggle was kept (requests that are lost within a gap are none), with 1 if one was broken or something went
// wrong, with 2 if the command line is wrong. The emulated appcmd is a program too, which takes some milliseconds to start; a real gap is as
// long as two runs of the real one take.
//
// ASP.NET Core applications are shut down with their site, and what they had begun is cut after a while:
//
//	go run ./examples/iis-toggle -emulate -mode inprocess               # refused by the checks
//	go run ./examples/iis-toggle -emulate -mode inprocess -accept-cut
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
	"github.com/abswap/abswap/switcher/iistest"
)

func main() {
	iistest.Main() // this program may be the emulated appcmd
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := example().Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// example is what the demo room needs to know.
func example() iisdemo.Example {
	var toggles int
	return iisdemo.Example{
		Name:      "iis-toggle",
		Processes: true, // what starting a program takes is most of the gap
		Flags: func(f *flag.FlagSet) {
			f.IntVar(&toggles, "toggles", 10, "how often the sites are toggled after the deploys")
		},
		Deploy: func(ctx context.Context, demo *iisdemo.Demo) error { return deploy(ctx, demo, toggles) },
		Sites: func(o iisdemo.Options) []iisdemo.Site { // the emulated machine begins as most real ones are: one site, one pool, one folder
			return []iisdemo.Site{
				{Name: o.Site, Folder: o.Site + ".v1", Release: "v1", Bindings: []string{"http/*:80:"}},
				{Name: "Intranet", Folder: "intranet", Release: "other", Bindings: []string{"http/*:8080:"}},
			}
		},
	}
}

// deploy is the deploy tool.
func deploy(ctx context.Context, demo *iisdemo.Demo, toggles int) error {
	app := &iis.App{
		Server:   demo.Server,                            // nil: the IIS of this machine
		Host:     demo.Host,                              // what probes send, as clients do
		Mark:     iis.Mark{Path: iisdemo.MarkPath},       // how an answer tells which release gave it
		Facts:    demo.Facts,                             // what somebody has tried out on this very server
		Accept:   iis.Accept{CutOldWork: demo.AcceptCut}, // losses that would be refused otherwise
		OnSwitch: demo.Switched,
	}

	// The site is brought into the shape of two slots: a second pool and a second site with the same bindings, stopped; and for each slot a
	// staging site on loopback.
	setup, err := iis.NewSetup(iis.SetupConfig{
		App: app, Strategy: iis.StrategySiteToggle, Site: demo.Site, Staging: demo.Staging,
		StagingApart: demo.Mode == iis.CoreInProcess, // a worker process has room for one of these
	})
	if err != nil {
		return err
	}
	plan, err := setup.Plan(ctx)
	if err != nil {
		return err
	}
	for _, action := range plan {
		demo.Say("set-up: %s", action.What)
	}
	if err := setup.Apply(ctx); err != nil {
		return err
	}

	// Two slots. Each release gets a folder of its own, MySite.v1085, which is complete or not there.
	installer, err := folder.New(folder.Config{Parent: demo.Parent, Name: demo.Site})
	if err != nil {
		return err
	}
	configs, err := setup.SlotConfigs(ctx)
	if err != nil {
		return err
	}
	var slots []*iis.Slot
	for _, c := range configs {
		c.Install, c.Release, c.Warm = installer.Install, iisdemo.ReleaseOf, []string{"/"}
		slot, err := iis.NewSlot(c)
		if err != nil {
			return err
		}
		slots = append(slots, slot)
	}

	// The switcher stops one site and starts the other, the drainer asks IIS which requests a pool still executes, the Swapper puts it all together.
	toggle, err := iis.NewSiteToggle(iis.SiteToggleConfig{App: app, Slots: slots})
	if err != nil {
		return err
	}
	journal, err := abswap.OpenJournal(demo.State, abswap.JournalOptions{})
	if err != nil {
		return err
	}
	swapper := &abswap.Swapper{
		Switcher: toggle,
		Drainer:  &iis.Drainer{Slots: slots},
		Slots:    []abswap.Slot{slots[0], slots[1]},
		Journal:  journal,
		Drain:    demo.Drain(),
		Soak:     demo.Soak(),
		Retain:   -1, // the old slot stays warm until the next deploy needs it
		OnEvent:  demo.Event,
	}

	// What the package's table says of this strategy, this kind of application, and this server.
	circumstances := iis.Case{Strategy: iis.StrategySiteToggle, Mode: demo.Mode, NoRotation: demo.NoRotation, Facts: demo.Facts}
	if err := demo.Begin(ctx, iisdemo.Door{Address: demo.Front, Dial: demo.Dial}, circumstances.Losses()); err != nil {
		return err
	}
	if _, err := swapper.Resume(ctx); err != nil && !errors.Is(err, abswap.ErrNothingToDo) { // what a run before this one has left
		return err
	}
	for _, release := range demo.Releases {
		if err := demo.Deploy(ctx, swapper, release); err != nil {
			return err
		}
	}
	for range toggles {
		if err := demo.Back(ctx, swapper); err != nil {
			return err
		}
	}
	return nil
}
