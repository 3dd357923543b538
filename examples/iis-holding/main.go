// Command iis-holding deploys a web application on one machine with IIS by a site toggle, and loses nothing in the gap that this has: the
// embedded proxy, in this very process, stands in front of the toggled sites, and keeps new requests waiting while nobody has the bindings.
//
//	go run ./examples/iis-holding -emulate
//	go run ./examples/iis-holding -emulate -direct     # clients come to the sites themselves: the gap shows
//	iis-holding -site MySite -host www.example.com -front 10.0.0.5:80 -inner 127.0.0.1:8080 -parent C:\inetpub C:\build\v1085
//
// With -emulate an IIS is emulated in this process, on any system, and three releases are made up. Without it the program works on the IIS of
// this machine, elevated, whose site has the binding http/127.0.0.1:8080: and no other one. Each release is a folder in which a file
// release.txt holds its ID; so does the folder that the site has now. In both cases it is the same code that deploys. A real tool keeps the
// proxy in a service that lives on: see examples/deploytool.
//
// Clients come all the time, and an upload lives over each deploy; after the deploys the sites are toggled -toggles times more. In the end the
// program tells what the clients felt of it. It ends with 0 if every promise was kept, with 1 if one was broken or something went wrong, with 2
// if the command line is wrong. With -direct the gap is known before, and what is lost in it breaks no promise.
//
// What a toggle cuts no proxy can save: ASP.NET Core applications are shut down with their site. For these see examples/iis-proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/iisdemo"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iis/folder"
	"github.com/abswap/abswap/switcher/iistest"
	"github.com/abswap/abswap/switcher/proxy"
)

func main() {
	iistest.Main() // with -processes: this program may be the emulated appcmd
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := (&story{}).example().Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// story is what this example has of its own.
type story struct {
	inner   string        // host:port of the front door behind the proxy
	toggles int           // how often the sites are toggled after the deploys
	direct  bool          // clients come to the sites, past the proxy
	settle  time.Duration // proxy.HoldingConfig.Settle
	appcmd  time.Duration // what an emulated appcmd takes to stop or start a site

	held    []proxy.HeldSwitch
	clients func(iisdemo.Door) (stop func()) // more of them; nil: none
}

// example is what the demo room needs to know.
func (s *story) example() iisdemo.Example {
	return iisdemo.Example{
		Name: "iis-holding",
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&s.inner, "inner", "127.0.0.1:8080", "`host:port` of the sites, behind the proxy")
			f.IntVar(&s.toggles, "toggles", 4, "how often the sites are toggled after the deploys")
			f.BoolVar(&s.direct, "direct", false, "clients come to the sites themselves, past the proxy")
			f.DurationVar(&s.settle, "settle", 2*time.Second, "how long a request may go without an answer before it is taken as begun")
			f.DurationVar(&s.appcmd, "appcmd", 60*time.Millisecond, "how long an emulated appcmd takes to stop or start a site; a real one is a program")
		},
		Deploy: s.deploy,
		Sites: func(o iisdemo.Options) []iisdemo.Site {
			return []iisdemo.Site{{Name: o.Site, Folder: o.Site + ".v1", Release: "v1", Bindings: []string{"http/" + s.inner + ":"}}}
		},
	}
}

// deploy is the deploy tool, and the front door.
func (s *story) deploy(ctx context.Context, demo *iisdemo.Demo) (err error) {
	if demo.Emulate {
		demo.Server.Runner = slow{demo.Server.Runner, s.appcmd}
	}
	app := &iis.App{
		Server:   demo.Server,                            // nil: the IIS of this machine
		Host:     demo.Host,                              // what probes send, as clients do
		Mark:     iis.Mark{Path: iisdemo.MarkPath},       // how an answer tells which release gave it
		Facts:    demo.Facts,                             // what somebody has tried out on this very server
		Accept:   iis.Accept{CutOldWork: demo.AcceptCut}, // losses that would be refused otherwise
		OnSwitch: demo.Switched,
	}
	slots, err := s.slots(ctx, demo, app)
	if err != nil {
		return err
	}
	toggle, err := iis.NewSiteToggle(iis.SiteToggleConfig{App: app, Slots: slots})
	if err != nil {
		return err
	}

	// What the package's table says of a toggle.
	losses := iis.Case{Strategy: iis.StrategySiteToggle, Mode: demo.Mode, NoRotation: demo.NoRotation, Facts: demo.Facts}.Losses()
	var switcher abswap.Switcher = toggle
	var drainer abswap.Drainer = &iis.Drainer{Slots: slots}
	door := iisdemo.Door{Address: s.inner, Dial: demo.Dial}
	if !s.direct {
		front, address, shut, err := s.front(demo)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, shut()) }()
		defer demo.Stop() // the clients, before the door is shut

		// The toggle behind the proxy has no gap any more. What it counts is what both see.
		holding, err := proxy.NewHolding(proxy.HoldingConfig{
			Front: front, Inner: toggle, Slots: []abswap.Slot{slots[0], slots[1]}, Address: s.inner, Drainer: drainer,
			Settle:   s.settle,
			Hold:     abswap.HoldOptions{Total: time.Minute},
			OnSwitch: func(h proxy.HeldSwitch) { s.told(demo, h) },
		})
		if err != nil {
			return err
		}
		if err := holding.Follow(ctx); err != nil { // nobody has come in yet
			return err
		}
		switcher, drainer = holding, nil
		door = iisdemo.Door{Address: address, Dial: new(net.Dialer).DialContext}
		losses = without(losses, "S2")
	}

	journal, err := abswap.OpenJournal(filepath.Join(demo.State, "journal"), abswap.JournalOptions{})
	if err != nil {
		return err
	}
	swapper := &abswap.Swapper{
		Switcher:  switcher,
		Drainer:   drainer, // nil: the Switcher counts too
		Slots:     []abswap.Slot{slots[0], slots[1]},
		Journal:   journal,
		FrontDoor: demo.WhoServes,
		Drain:     demo.Drain(),
		Soak:      demo.Soak(),
		Retain:    -1, // the old slot stays warm until the next deploy needs it
		OnEvent:   demo.Event,
	}
	if err := demo.Begin(ctx, door, losses); err != nil {
		return err
	}
	if s.clients != nil {
		defer s.clients(door)()
	}
	if _, err := swapper.Resume(ctx); err != nil && !errors.Is(err, abswap.ErrNothingToDo) { // what a run before this one has left
		return err
	}
	for _, release := range demo.Releases {
		if err := demo.Deploy(ctx, swapper, release); err != nil {
			return err
		}
	}
	for range s.toggles {
		if err := demo.Back(ctx, swapper); err != nil {
			return err
		}
	}
	return nil
}

// slots brings the site into the shape of two slots, as examples/iis-toggle tells.
func (s *story) slots(ctx context.Context, demo *iisdemo.Demo, app *iis.App) ([]*iis.Slot, error) {
	setup, err := iis.NewSetup(iis.SetupConfig{
		App: app, Strategy: iis.StrategySiteToggle, Site: demo.Site, Staging: demo.Staging,
		StagingApart: demo.Mode == iis.CoreInProcess, // a worker process has room for one of these
	})
	if err != nil {
		return nil, err
	}
	if err := setup.Apply(ctx); err != nil {
		return nil, err
	}
	installer, err := folder.New(folder.Config{Parent: demo.Parent, Name: demo.Site})
	if err != nil {
		return nil, err
	}
	configs, err := setup.SlotConfigs(ctx)
	if err != nil {
		return nil, err
	}
	var slots []*iis.Slot
	for _, c := range configs {
		c.Install, c.Release, c.Warm = installer.Install, iisdemo.ReleaseOf, []string{"/"}
		slot, err := iis.NewSlot(c)
		if err != nil {
			return nil, err
		}
		slots = append(slots, slot)
	}
	return slots, nil
}

// front opens the proxy. It has the slots of the toggle by name, and learns from the Holding where their front door is.
func (s *story) front(demo *iisdemo.Demo) (front *proxy.Switcher, address string, shut func() error, err error) {
	front, err = proxy.New(proxy.Config{
		Slots:     map[string]string{"blue": "", "green": ""},
		StateFile: filepath.Join(demo.State, "proxy.json"),
		Dial:      demo.Dial,
	})
	if err != nil {
		return nil, "", nil, err
	}
	listen := demo.Front
	if demo.Emulate {
		listen = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, "", nil, errors.Join(err, front.Close())
	}
	served := make(chan error, 1)
	go func() { served <- front.Serve(ln) }()
	return front, ln.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := errors.Join(front.Shutdown(ctx), front.Close())
		if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}, nil
}

// told prints how requests were held.
func (s *story) told(demo *iisdemo.Demo, h proxy.HeldSwitch) {
	s.held = append(s.held, h)
	demo.Say("    requests were held for %s, %s of it for those on their way; %d went on in slot %s meanwhile, %d of them without a byte of an answer",
		h.Held.Round(time.Millisecond), h.Settled.Round(time.Millisecond), h.Begun, h.From, h.Unproven)
	if h.Expired {
		demo.Say("    the hold ended before the switch was done")
	}
}

// without is the losses but those of one rule.
func without(losses []iis.Loss, rule string) (left []iis.Loss) {
	for _, l := range losses {
		if l.Rule != rule {
			left = append(left, l)
		}
	}
	return left
}

// slow stops and starts sites as a machine does on which that takes a program.
type slow struct {
	iis.Runner
	takes time.Duration
}

// Run runs a command, and waits before it if it stops or starts a site.
func (s slow) Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error) {
	if len(args) > 1 && args[1] == "site" && (args[0] == "stop" || args[0] == "start") {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done(): // the runner says what that means
		}
	}
	return s.Runner.Run(ctx, args, stdin)
}
