// Command installer is a custom installer for a web application on IIS, of the kind that a vendor hands to customers: it brings the customer's
// site into the shape of two slots, deploys and upgrades without anybody's notice, goes back, and takes away again what it has set up.
//
//	installer -emulate DIR demo          # the whole story, in one process, on an emulated IIS on any system
//
//	installer -site MySite -host www.example.com plan
//	installer -site MySite -host www.example.com setup          # shows the plan and asks; -yes: does not ask
//	installer -site MySite -host www.example.com deploy C:\build\v1085
//	installer -site MySite -host www.example.com status
//	installer -site MySite -host www.example.com back           # at once: the old version is kept warm
//	installer -site MySite -host www.example.com remove
//
// A release is a folder in which a file release.txt holds its ID. With -emulate all verbs work on an emulated machine whose files are in DIR,
// which is made when it is not there, with releases to deploy in DIR/build; between two runs it is off, and each run finds it as after a reboot.
//
// -strategy toggle (the default) has two sites and a gap of less than a second at each switch. -strategy root has one site and no gap,
// and is refused until -accept-cut says that long uploads may be cut, since nobody has verified that they are not.
//
// With -quiet it prints nothing but errors, on stderr. The exit code tells how it went; a script needs no more:
//
//	 0  done
//	 1  failed: the text says what; if a deploy was under way the next one, or resume, finishes it
//	 2  wrong command line
//	 3  refused: nothing was touched
//	 4  the new version was never fit, and got no request: the old one serves
//	 5  rolled back: the new version got sick under work, the old one serves again
//	 6  the new version serves; the old one still has work, and is left to finish it: resume waits for that
//	 7  busy: another deploy is running
//	 8  suspended: a person has to look
//	 9  nothing to do
//	10  canceled: the old version serves
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/abswap/abswap/switcher/iis"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	emulate   string
	site      string
	host      string
	strategy  iis.Strategy
	staging   []string
	parent    string
	state     string
	acceptCut bool
	yes       bool
	quiet     bool
	wait      time.Duration

	verb string
	path string // of deploy
}

// verbs are what the installer can do.
func verbs() map[string]func(*installer, context.Context) error {
	return map[string]func(*installer, context.Context) error{
		"plan": (*installer).plan, "setup": (*installer).setup, "deploy": (*installer).deploy, "back": (*installer).back, "resume": (*installer).resume,
		"status": (*installer).status, "remove": (*installer).remove, "demo": (*installer).demo,
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{strategy: iis.StrategySiteToggle}
	f := flag.NewFlagSet("installer", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintln(stderr, "installer [FLAGS] plan | setup | deploy FOLDER | status | back | resume | remove | demo")
		f.PrintDefaults()
	}
	f.StringVar(&o.emulate, "emulate", "", "work on an emulated machine whose files are in this `folder`")
	f.StringVar(&o.site, "site", "", "the `site` that serves the application now")
	f.StringVar(&o.host, "host", "", "the `name` by which clients know it, without port")
	f.Func("strategy", "`toggle` or root", func(s string) error {
		strategy, ok := map[string]iis.Strategy{"toggle": iis.StrategySiteToggle, "root": iis.StrategyRootSwap}[s]
		if !ok {
			return errors.New("want toggle or root")
		}
		o.strategy = strategy
		return nil
	})
	staging := f.String("staging", "http/127.0.0.1:8001:,http/127.0.0.1:8002:", "`bindings` by which the two slots are reached past the public door")
	f.StringVar(&o.parent, "parent", `C:\inetpub`, "`folder` in which the releases' folders lie")
	f.StringVar(&o.state, "state", `C:\ProgramData\abswap\installer`, "`folder` of the journal")
	f.BoolVar(&o.acceptCut, "accept-cut", false, "go on although old work may be cut")
	f.DurationVar(&o.wait, "wait", time.Hour, "how long a deploy waits for the old version to finish; then it is left to it")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.quiet, "quiet", false, "print nothing but errors")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.staging, o.verb = strings.Split(*staging, ","), f.Arg(0)
	want := 1
	if o.verb == "deploy" {
		o.path, want = f.Arg(1), 2
	}
	var err error
	switch {
	case verbs()[o.verb] == nil:
		err = fmt.Errorf("%q is no verb: installer -h lists them", o.verb)
	case f.NArg() != want:
		err = fmt.Errorf("%s: %d arguments, not %d", o.verb, f.NArg()-1, want-1)
	case o.emulate == "" && (o.site == "" || o.host == ""):
		err = errors.New("say -site and -host; or -emulate DIR, to try it without an IIS")
	case o.verb == "demo" && o.emulate == "":
		err = errors.New("demo works with -emulate DIR alone")
	case o.verb == "setup" && o.quiet && !o.yes:
		err = errors.New("setup -quiet cannot ask: say -yes")
	case len(o.staging) != 2:
		err = fmt.Errorf("-staging names %d bindings, not 2", len(o.staging))
	}
	if err != nil {
		fmt.Fprintln(stderr, "installer:", err)
	}
	return o, err
}

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	} else if err != nil {
		return exitUsage
	}
	if o.quiet {
		stdout = io.Discard
	}
	in, err := newInstaller(o, bufio.NewReader(stdin), stdout)
	if err == nil {
		err = verbs()[o.verb](in, ctx)
		err = errors.Join(err, in.close())
	}
	if err != nil {
		fmt.Fprintln(stderr, "installer:", err)
	}
	return exitCode(err)
}
