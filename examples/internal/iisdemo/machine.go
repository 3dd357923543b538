package iisdemo

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// Demo is a machine with IIS, emulated or not, and clients that use it. It is used by one goroutine, but for Event and Switched.
type Demo struct {
	Options
	spoil    func(*iistest.Quirks) // Example.Spoil
	Server   *iis.Server           // steers the machine's IIS
	Releases []abswap.Release

	out   *printer
	emu   *iistest.Server
	dir   string // temporary
	load  *load
	judge judge
	moves []*move

	mu       sync.Mutex
	warned   map[string]bool
	switches []iis.Switched
}

// open opens the machine. The emulated one has these sites.
func open(o Options, sites []Site, spoil func(*iistest.Quirks), out io.Writer) (_ *Demo, err error) {
	d := &Demo{Options: o, spoil: spoil, out: &printer{out: out, start: time.Now()}, warned: map[string]bool{}, Server: &iis.Server{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if o.Emulate {
		err = d.emulate(sites)
	} else {
		err = os.MkdirAll(d.State, 0o700)
	}
	if err != nil {
		return nil, err
	}
	for _, path := range d.Paths {
		id, err := ReleaseOf(path)
		if err != nil {
			return nil, fmt.Errorf("release in %q: %w", path, err)
		}
		d.Releases = append(d.Releases, abswap.Release{ID: id, Path: path})
	}
	d.Server.OnCommand = d.command
	return d, nil
}

// Site is a site of the emulated machine, in a pool of the same name, that is served from Folder and begins with Release in it; "": with nothing.
type Site struct {
	Name, Folder, Release string
	Bindings              []string
	Tuned                 bool // its pool does not end by itself, and has time to finish old requests
}

// scale is how much faster the emulated machine is than a real one: a shutdown time of 30 s takes 300 ms.
const scale = 0.01

// emulate builds the machine in a temporary folder, and three releases: the first is what the sites begin with, the others are to be deployed.
func (d *Demo) emulate(sites []Site) (err error) {
	if d.dir, err = os.MkdirTemp("", "abswap-"+d.Name+"-"); err != nil {
		return err
	}
	d.Parent, d.State = filepath.Join(d.dir, "inetpub"), filepath.Join(d.dir, "state")
	if err := os.MkdirAll(d.State, 0o700); err != nil {
		return err
	}
	for i, s := range sites {
		sites[i].Folder = filepath.Join(d.Parent, s.Folder)
		if s.Release == "" {
			continue
		}
		if err := WriteRelease(sites[i].Folder, s.Release, d.Mode, d.NoRotation); err != nil {
			return err
		}
	}
	for _, id := range []string{"v2", "v3"} {
		path := filepath.Join(d.dir, "build", id)
		if err := WriteRelease(path, id, d.Mode, d.NoRotation); err != nil {
			return err
		}
		d.Paths = append(d.Paths, path)
	}
	quirks := d.quirks()
	if d.spoil != nil {
		d.spoil(&quirks)
	}
	d.emu, err = iistest.New(iistest.Config{Dir: filepath.Join(d.dir, "iis"), ApplicationHost: HostConfig(sites), Host: OpenRelease, Scale: scale, Quirks: quirks})
	if err != nil {
		return err
	}
	var runner iis.Runner = d.emu
	if d.Processes {
		runner = d.emu.Process()
	}
	d.Server = &iis.Server{Runner: runner, LockFile: filepath.Join(d.dir, "appcmd.lock"), Pause: 10 * time.Millisecond, Dial: d.emu.DialContext}
	return nil
}

// HostConfig is an applicationHost.config with these sites, each in a pool of its own.
func HostConfig(sites []Site) string {
	var pools, all strings.Builder
	for i, s := range sites {
		tuned := ""
		if s.Tuned {
			tuned = `<processModel idleTimeout="00:00:00" shutdownTimeLimit="01:00:00" /><recycling><periodicRestart time="00:00:00" /></recycling>`
		}
		fmt.Fprintf(&pools, "      <add name=\"%s\" managedRuntimeVersion=\"v4.0\">%s</add>\n", html.EscapeString(s.Name), tuned)
		fmt.Fprintf(&all, "      <site name=\"%s\" id=\"%d\">\n        <application path=\"/\" applicationPool=\"%s\">\n"+
			"          <virtualDirectory path=\"/\" physicalPath=\"%s\" />\n        </application>\n        <bindings>\n",
			html.EscapeString(s.Name), i+1, html.EscapeString(s.Name), html.EscapeString(s.Folder))
		for _, b := range s.Bindings {
			protocol, information, _ := strings.Cut(b, "/")
			fmt.Fprintf(&all, "          <binding protocol=\"%s\" bindingInformation=\"%s\" />\n", protocol, html.EscapeString(information))
		}
		all.WriteString("        </bindings>\n      </site>\n")
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <system.applicationHost>
    <applicationPools>
` + pools.String() + `    </applicationPools>
    <sites>
` + all.String() + `    </sites>
  </system.applicationHost>
</configuration>
`
}

// Stop ends the clients, and returns when all that they had begun has ended.
func (d *Demo) Stop() {
	if d.load != nil {
		d.load.stop()
	}
}

// Close ends the clients and the emulated machine, and removes what it was made of.
func (d *Demo) Close() error {
	var errs []error
	d.Stop()
	if d.emu != nil {
		errs = append(errs, d.emu.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// Dial connects to the machine.
func (d *Demo) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Server.Dial != nil {
		return d.Server.Dial(ctx, network, address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// Drain bounds drains: real counts are watched for as long as they may lie, emulated ones for a time as much shorter as all is.
func (d *Demo) Drain() abswap.DrainOptions {
	if d.Emulate {
		return abswap.DrainOptions{Timeout: time.Minute, Quiet: 300 * time.Millisecond, Poll: 50 * time.Millisecond}
	}
	return abswap.DrainOptions{Timeout: time.Hour}
}

// Soak is how long a release is watched under work.
func (d *Demo) Soak() time.Duration {
	if d.Emulate {
		return 300 * time.Millisecond
	}
	return 0
}

// command prints what changes the machine's IIS.
func (d *Demo) command(command string, _ time.Duration, err error) {
	if _, args, _ := strings.Cut(command, " "); strings.HasPrefix(args, "list ") || strings.HasPrefix(command, "list ") {
		return
	}
	if err != nil {
		d.Say("    %s: %v", command, err)
		return
	}
	d.Say("    %s", command)
}

// Say prints a line.
func (d *Demo) Say(format string, args ...any) { d.out.line(format, args...) }

// printer prints lines with the time since the start.
type printer struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%6.2fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
