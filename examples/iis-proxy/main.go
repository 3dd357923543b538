// Command iis-proxy deploys a web application on one machine with IIS in the way that loses nothing: two sites, each with a pool and a folder
// of its own, both on loopback; and in front of them the embedded proxy, in this very process. A switch is a matter of the proxy alone: no
// configuration of IIS is committed, nothing restarts, there is no gap, and its counts are exact. A deploy stops the idle slot, exchanges the files in
// its folder, and starts it again.
//
//	go run ./examples/iis-proxy -emulate
//	go run ./examples/iis-proxy -emulate -mode inprocess     # ASP.NET Core: a commit would restart it
//	iis-proxy -site Shop -host www.example.com -front 10.0.0.5:80 -parent C:\inetpub C:\build\v1085
//
// With -emulate an IIS is emulated in this process, on any system, and three releases are made up. Without it the program works on the IIS of
// this machine, elevated, which has sites Shop-blue and Shop-green for -site Shop, in pools of the same names, with these folders:
//
//	appcmd add apppool /name:Shop-blue
//	appcmd add site /name:Shop-blue /bindings:http/127.0.0.1:8001: /physicalPath:C:\inetpub\Shop-blue
//	appcmd set app /app.name:Shop-blue/ /applicationPool:Shop-blue
//	appcmd set apppool /apppool.name:Shop-blue /processModel.idleTimeout:00:00:00 /processModel.shutdownTimeLimit:01:00:00 /recycling.periodicRestart.time:00:00:00
//
// and the same for green at 127.0.0.1:8002. The proxy begins with blue, in whose folder a first release lies. Each release is a folder in
// which a file release.txt holds its ID. A real tool keeps the proxy in a service that lives on: see examples/deploytool.
//
// Clients come all the time, and an upload lives over each deploy; in the end the program tells what they felt of it. It ends with 0 if no
// request was lost, late or cut, with 1 if one was or something went wrong, with 2 if the command line is wrong.
package main

import (
	"context"
	"errors"
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
	code := example().Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// example is what the demo room needs to know.
func example() iisdemo.Example {
	return iisdemo.Example{
		Name:   "iis-proxy",
		Deploy: deploy,
		Sites: func(o iisdemo.Options) []iisdemo.Site {
			return []iisdemo.Site{
				{Name: o.Site + "-blue", Folder: o.Site + "-blue", Release: "v1", Bindings: o.Staging[:1], Tuned: true},
				{Name: o.Site + "-green", Folder: o.Site + "-green", Bindings: o.Staging[1:], Tuned: true},
			}
		},
	}
}

// deploy is the deploy tool, and the front door.
func deploy(ctx context.Context, demo *iisdemo.Demo) (err error) {
	app := &iis.App{
		Server: demo.Server,                      // nil: the IIS of this machine
		Host:   demo.Host,                        // what probes send, as clients do
		Mark:   iis.Mark{Path: iisdemo.MarkPath}, // how an answer tells which release gave it
		Mode:   demo.Mode,
	}

	// Two slots. Each keeps its folder, so that IIS has nothing to commit when a release is put into it. The installer looks through a release
	// for what IIS would stumble over, and keeps a copy of it that is complete, verified and never changed.
	installer, err := folder.New(folder.Config{Parent: demo.Parent, Name: demo.Site})
	if err != nil {
		return err
	}
	var slots []abswap.Slot
	for i, name := range []string{"blue", "green"} {
		place := demo.Site + "-" + name
		slot, err := iis.NewSlot(iis.SlotConfig{
			App: app, Name: name, Pool: place, Site: place, Staging: demo.Staging[i],
			Release: iisdemo.ReleaseOf, Warm: []string{"/"},
			Install: func(ctx context.Context, r abswap.Release) (string, error) {
				kept, err := installer.Install(ctx, r)
				dir := filepath.Join(demo.Parent, place)
				if err == nil {
					err = exchange(kept, dir)
				}
				return dir, err
			},
		})
		if err != nil {
			return err
		}
		slots = append(slots, slot)
	}

	// The front door. The slots tell it where they are reached; on the disk it remembers which of them has the work.
	front, err := proxy.New(proxy.Config{
		Slots:     map[string]string{"blue": "", "green": ""},
		StateFile: filepath.Join(demo.State, "proxy.json"),
		Dial:      demo.Dial,
	})
	if err != nil {
		return err
	}
	listen := demo.Front
	if demo.Emulate {
		listen = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, front.Close())
	}
	served := make(chan error, 1)
	go func() { served <- front.Serve(ln) }()
	defer func() { err = errors.Join(err, shut(front, served)) }()
	defer demo.Stop()                                                    // the clients, before the door is shut
	if _, err := front.Active(ctx); errors.Is(err, abswap.ErrNoActive) { // the first time
		err = front.Activate(ctx, slots[0])
		if err != nil {
			return err
		}
	}

	journal, err := abswap.OpenJournal(filepath.Join(demo.State, "journal"), abswap.JournalOptions{})
	if err != nil {
		return err
	}
	swapper := &abswap.Swapper{
		Switcher:  front, // which counts too
		Slots:     slots,
		Journal:   journal,
		FrontDoor: demo.WhoServes,
		Soak:      demo.Soak(),
		Retain:    -1, // the old slot stays warm until the next deploy needs it
		OnEvent:   demo.Event,
	}
	if err := demo.Begin(ctx, iisdemo.Door{Address: ln.Addr().String(), Dial: new(net.Dialer).DialContext}, nil); err != nil {
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

// exchange puts a release into a slot's folder, in the place of what was there. The slot is stopped then, so that nobody has the files open. A
// crash in the middle is cured by the next call, which makes the folder anew.
func exchange(from, dir string) error {
	next := dir + "~next"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.CopyFS(next, os.DirFS(from)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(next, dir)
}

// shut ends the proxy.
func shut(front *proxy.Switcher, served <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(front.Shutdown(ctx), front.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
