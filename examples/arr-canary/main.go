// Command arr-canary deploys a web application step by step behind a server farm of Application Request Routing: the new release gets 5 % of the
// new clients, then 25 %, then all, and before each step it is held against the old one, by the errors and the latency that clients see. A
// release that does worse is taken back at once, and the report tells the errors of each side.
//
//	go run ./examples/arr-canary -emulate
//	arr-canary -host www.example.com -blue mysite-blue=C:\inetpub\blue -green mysite-green=C:\inetpub\green -no-restarts C:\build\v1085
//
// With -emulate an IIS with ARR is emulated in this process, on any system, and two releases are made up, of which one fails every fourth
// request. Without it the program works on the IIS of this machine, elevated. Each slot is a member of the farm with a folder of its own, into
// which a release is copied; its answers carry the release's ID, which stands in a file release.txt, in the field X-Release.
//
// Each step is a commit to the farm, since weights are configuration. It restarts ASP.NET Core members on this machine that have no
// disallowRotationOnConfigChange, so that the checks refuse steps until -no-restarts says that it is not so here.
//
// The program ends with 0 if each release ended where it belongs: a good one live, a bad one taken back. It ends with 1 if one was taken back
// (or, emulated, if the bad one was not), with 2 if the command line is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/examples/internal/arrdemo"
	"github.com/abswap/abswap/switcher/arr"
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
	host, blue, green string
	emulate           bool
	releases          []string
	rate              int
	farm              arr.Config
	soak              time.Duration
	machine           *arrdemo.Machine // emulated; nil: the real one
}

func run(ctx context.Context, args []string, out io.Writer) int {
	o := options{soak: time.Minute}
	f := flag.NewFlagSet("arr-canary", flag.ContinueOnError)
	f.SetOutput(out)
	f.BoolVar(&o.emulate, "emulate", false, "work on an emulated IIS with ARR in this process, on any system")
	f.StringVar(&o.farm.Farm, "farm", "MySite-Farm", "`name` of the web farm")
	f.StringVar(&o.farm.Pool, "pool", "ArrFront", "application `pool` of the site that feeds the farm")
	f.StringVar(&o.host, "host", "www.example.test", "the `name` by which clients know the site")
	f.StringVar(&o.blue, "blue", "", "`ADDRESS=FOLDER` of the first member, which listens on 127.0.0.1:8001")
	f.StringVar(&o.green, "green", "", "`ADDRESS=FOLDER` of the second, on 127.0.0.1:8002")
	f.StringVar(&o.farm.Memory, "memory", `C:\ProgramData\MySite-farm.json`, "`file` in which the wanted states are kept")
	f.IntVar(&o.rate, "rate", 250, "requests a `second` by which this program looks at both sides")
	noRestarts := f.Bool("no-restarts", false, "a commit to the farm does not restart the members' applications")
	if err := f.Parse(args); err != nil {
		return 2
	}
	o.releases = f.Args()
	if o.emulate == (len(o.releases) > 0) || o.rate < 1 || o.rate > 10_000 {
		fmt.Fprintln(out, "arr-canary: name the folders of releases, or say -emulate; -rate is within 1 to 10000")
		return 2
	}
	if *noRestarts {
		o.farm.Facts.CommitRestartsMembers = arr.No
	}
	if o.emulate {
		m, err := newMachine(&o)
		if err != nil {
			fmt.Fprintln(out, "arr-canary:", err)
			return 1
		}
		defer func() {
			if err := m.Close(); err != nil {
				fmt.Fprintln(out, "emulated machine:", err)
			}
		}()
	}
	if err := deploy(ctx, o, out); err != nil {
		fmt.Fprintln(out, "arr-canary:", err)
		return 1
	}
	return 0
}

// deploy is the deploy tool.
func deploy(ctx context.Context, o options, out io.Writer) (err error) {
	o.farm.Slots = map[string][]string{}
	var slots []abswap.Slot
	for i, text := range []string{o.blue, o.green} {
		name := []string{"blue", "green"}[i]
		address, dir, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("-%s %q: want ADDRESS=FOLDER", name, text)
		}
		o.farm.Slots[name] = []string{address}
		slots = append(slots, &member{name: name, dir: dir, probe: o.direct([]string{"8001", "8002"}[i])})
	}
	sw, err := arr.New(o.farm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sw.Close()) }()

	sides := watch(o)
	defer sides.stop()
	s := &abswap.Swapper{
		Switcher: sw,
		Slots:    slots,
		Steps:    []int{5, 25}, // and then all
		Soak:     o.soak,       // clients are looked at for so long before the next step
		Retain:   -1,
		Occupied: abswap.OccupiedWait,
		Gate:     func(ctx context.Context, g abswap.GateRequest) error { return sides.gate(ctx, g, out) },
	}
	if o.emulate {
		s.Drain = abswap.DrainOptions{Quiet: 100 * time.Millisecond, Poll: 20 * time.Millisecond}
	}
	if _, err := sw.Active(ctx); errors.Is(err, abswap.ErrMixed) { // a farm that was never switched
		if err := sw.Activate(ctx, slots[0]); err != nil {
			return err
		}
	}
	var errs []error
	for _, path := range o.releases {
		id, err := releaseOf(path)
		if err != nil {
			return err
		}
		sides.begin()
		report, err := s.Deploy(ctx, abswap.Release{ID: id, Path: path})
		fmt.Fprintf(out, "%s: %s; slot %q serves\n", id, report.Outcome, report.Serving)
		sides.report(out)
		bad := o.machine != nil && id == badRelease
		switch {
		case bad && (err == nil || report.Outcome != abswap.OutcomeRolledBack):
			errs = append(errs, fmt.Errorf("release %s is bad and was not taken back: %w", id, err))
		case bad:
			fmt.Fprintln(out, "  it was taken back:", err)
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// member is a slot: a member of the farm with a folder, into which releases are copied.
type member struct {
	name, dir string
	probe     func(ctx context.Context) (release string, err error) // asks it past the farm
}

var _ abswap.InstallingSlot = (*member)(nil)

// Name names the slot.
func (m *member) Name() string { return m.name }

// Ready wants the member to answer with the release that is in its folder.
func (m *member) Ready(ctx context.Context) error {
	want, err := releaseOf(m.dir)
	if err != nil {
		return fmt.Errorf("slot %q: %w: %w", m.name, abswap.ErrNotReady, err)
	}
	got, err := m.probe(ctx)
	if err == nil && got != want {
		err = fmt.Errorf("release %q answers, not %q", got, want)
	}
	if err != nil {
		return fmt.Errorf("slot %q: %w: %w", m.name, abswap.ErrNotReady, err)
	}
	return nil
}

// Install copies the release into the member's folder, in the place of what was there. Package iis installs better: a folder for each release.
func (m *member) Install(_ context.Context, r abswap.Release) error {
	old, err := os.ReadDir(m.dir)
	for _, e := range old {
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.dir, e.Name())))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.CopyFS(m.dir, os.DirFS(r.Path))
}

// releaseOf reads the ID of the release that is in a folder.
func releaseOf(dir string) (string, error) {
	id, err := os.ReadFile(filepath.Join(dir, "release.txt"))
	return strings.TrimSpace(string(id)), err
}
