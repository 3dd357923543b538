// Command iis-rootswap deploys a web application on one machine with IIS: one site, two application pools, two folders. The new release is
// put into a folder of its own, started in the other pool, probed there; then the site's root is pointed at that pool and that folder in
// one commit. Old requests finish in the old pool, which stays warm for the way back.
//
//	go run ./examples/iis-rootswap -emulate
//	iis-rootswap -site MySite -host www.example.com -parent C:\inetpub C:\build\v1085
//
// With -emulate an IIS is emulated in this process, on any system, and three releases are made up. Without it the program works on the IIS of
// this machine, elevated. Each release is a folder in which a file release.txt holds its ID; so does the folder that the site has now. In
// both cases it is the same code that deploys.
//
// Clients come all the time, and an upload lives over each deploy; in the end the program tells what they felt of it. It ends with 0 if
// every promise of a root swap was kept, with 1 if one was broken or something went wrong, with 2 if the command line is wrong.
//
// What nobody has verified on a real IIS can be put into the other position, to see what it would do:
//
//	go run ./examples/iis-rootswap -emulate -fact OldWorkerSeesPathChange=yes               # refused by the checks
//	go run ./examples/iis-rootswap -emulate -fact OldWorkerSeesPathChange=yes -accept-cut   # the upload is cut
package main

import (
	"context"
	"errors"
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
	iistest.Main() // with -processes: this program may be the emulated appcmd
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := example().Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// example is what the demo room needs to know.
func example() iisdemo.Example {
	return iisdemo.Example{
		Name:   "iis-rootswap",
		Deploy: deploy,
		Sites: func(o iisdemo.Options) []iisdemo.Site { // the emulated machine begins as most real ones are: one site, one pool, one folder
			return []iisdemo.Site{
				{Name: o.Site, Folder: o.Site + ".v1", Release: "v1", Bindings: []string{"http/*:80:"}},
				{Name: "Intranet", Folder: "intranet", Release: "other", Bindings: []string{"http/*:8080:"}},
			}
		},
	}
}

// deploy is the deploy tool.
func deploy(ctx context.Context, demo *iisdemo.Demo) error {
	app := &iis.App{
		Server:   demo.Server,                            // nil: the IIS of this machine
		Host:     demo.Host,                              // what probes send, as clients do
		Mark:     iis.Mark{Path: iisdemo.MarkPath},       // how an answer tells which release gave it
		Facts:    demo.Facts,                             // what somebody has tried out on this very server
		Accept:   iis.Accept{CutOldWork: demo.AcceptCut}, // losses that would be refused otherwise
		OnSwitch: demo.Switched,
	}

	// The site is brought into the shape of two slots: a second pool, and for each slot a staging site on loopback.
	setup, err := iis.NewSetup(iis.SetupConfig{
		App: app, Strategy: iis.StrategyRootSwap, Site: demo.Site, Staging: demo.Staging,
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

	// The switcher moves the site's root, the drainer asks IIS which requests a pool still executes, the Swapper puts it all together.
	root, err := iis.NewRootSwap(iis.RootSwapConfig{App: app, Site: demo.Site, Slots: slots})
	if err != nil {
		return err
	}
	journal, err := abswap.OpenJournal(demo.State, abswap.JournalOptions{})
	if err != nil {
		return err
	}
	swapper := &abswap.Swapper{
		Switcher: root,
		Drainer:  &iis.Drainer{Slots: slots},
		Slots:    []abswap.Slot{slots[0], slots[1]},
		Journal:  journal,
		Drain:    demo.Drain(),
		Soak:     demo.Soak(),
		Retain:   -1, // the old slot stays warm until the next deploy needs it
		OnEvent:  demo.Event,
	}

	// What the package's table says of this strategy, this kind of application, and this server.
	circumstances := iis.Case{Strategy: iis.StrategyRootSwap, Mode: demo.Mode, NoRotation: demo.NoRotation, Facts: demo.Facts}
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
	return demo.Back(ctx, swapper)
}
