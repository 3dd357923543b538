// Deploytool is an in-house deploy tool for one web application on one machine, to be copied and changed. It has two halves: "deploytool
// serve", a service that runs the front door and keeps the live version running, and the other commands, which are short-lived and may be
// run by a CI job. Either may be killed at any moment: what was begun is in the journal, and "deploytool resume" finishes it.
//
// Exit codes:
//
//	  0  it went well: the release serves, or what was asked for is done
//	  1  something else failed; the text says what. If a deploy was under way: resume
//	  2  wrong command line, or mistakes in the config file
//	  3  refused before anything was touched: a bad release, a finding of the checks, an occupied slot
//	  4  discarded: the release failed before it got any work; the old one never noticed
//	  5  rolled back: the release failed under work; the old one serves again
//	  6  the new release serves, but work is left in the old slot, which stays up: resume later
//	  7  busy: another deploy is running; the text says whose
//	  8  suspended: no automatic move is safe. Call somebody: status, then resume, adopt, cancel or abandon
//	  9  nothing to do: no deploy is unfinished, or none waits for approval
//	 10  canceled, by a signal or by "cancel": it went back to the old release
//	 11  the proxy does not answer: is "deploytool serve" running?
//	130  interrupted by a second signal: resume finishes what was begun
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/abswap/abswap"
)

// configEnv is the variable that names the config file where -config does not.
const configEnv = "DEPLOYTOOL_CONFIG"

func main() {
	os.Exit(start(openJournal))
}

// openJournal opens the journal that a deploy writes.
func openJournal(dir string, o abswap.JournalOptions) (abswap.Journal, error) {
	return abswap.OpenJournal(dir, o)
}

// start runs the tool as a process of its own, with its signals.
func start(open func(dir string, o abswap.JournalOptions) (abswap.Journal, error)) int {
	ctx, stop := interruptible()
	defer stop()
	t := &tool{out: os.Stdout, errOut: os.Stderr, open: open}
	return t.run(ctx, os.Args[1:])
}

// interruptible returns a context that the first SIGINT or SIGTERM ends, which asks for the safe end. The second one ends the process.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case s := <-signals:
				if n > 0 {
					fmt.Fprintf(os.Stderr, "\ndeploytool: %v again: ended as it stands; \"deploytool resume\" finishes it\n", s)
					os.Exit(exitInterrupted)
				}
				cancel(fmt.Errorf("%w by signal (%v)", abswap.ErrCanceled, s))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// tool is one run of the program.
type tool struct {
	out, errOut io.Writer
	open        func(dir string, o abswap.JournalOptions) (abswap.Journal, error)

	command command
	o       options
	args    []string // without flags
	cfg     *config
}

// options are the flags of all commands.
type options struct {
	config   string
	json     bool
	path     string
	watch    bool
	count    int
	stopApps bool
	rules    string
}

// command is what the tool can be asked to do.
type command struct {
	name, args, does string
	min, max         int // number of arguments
	flags            string
	run              func(*tool, context.Context) int
	patience         time.Duration // how long a proxy that does not answer is waited for
}

func commands() []command {
	const someTime = 3 * time.Second
	return []command{
		{"serve", "[-stop-apps]", "run the front door, and keep the live version running; SIGTERM ends it without losing anything", 0, 0, "stop-apps", (*tool).serve, 0},
		{"deploy", "RELEASE [-path DIR] [-json]", "put a release into the idle slot, prove it, send all new work there, let the old one finish", 1, 1, "path json", (*tool).deploy, someTime},
		{"plan", "RELEASE [-path DIR] [-json]", "tell what deploy would do now; changes nothing", 1, 1, "path json", (*tool).plan, someTime},
		{"status", "[-watch] [-json]", "who serves, what runs, what is unfinished", 0, 0, "watch json", (*tool).status, 0},
		{"history", "[-n COUNT] [-json] [SWAP]", "the deploys of the past, or the steps of one", 0, 1, "n json", (*tool).history, 0},
		{"approve", "[-json]", "say yes where a deploy waits for it", 0, 0, "json", (*tool).approve, someTime},
		{"cancel", "[-json]", "end the running deploy safely: back to the old release, if it is not committed yet", 0, 0, "json", (*tool).cancel, someTime},
		{"resume", "[-json]", "finish what an earlier run left unfinished", 0, 0, "json", (*tool).resume, someTime},
		{"swap-back", "[-json] [SLOT]", "send all new work to the slot that served before, as it is", 0, 1, "json", (*tool).swapBack, someTime},
		{"adopt", "[-json]", "end a suspension: take the world as it is", 0, 0, "json", (*tool).adopt, someTime},
		{"abandon", "[-json]", "end an unfinished deploy where it is, and touch nothing", 0, 0, "json", (*tool).abandon, someTime},
		{"doctor", "[-rules TEXT]", "check the config, and the proxy's promises on a scratch front door", 0, 0, "rules", (*tool).doctor, 0},
	}
}

// run carries out one command line and returns the exit code.
func (t *tool) run(ctx context.Context, args []string) int {
	err := t.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(t.errOut, "deploytool: %v\n", err)
		return exitUsage
	}
	if t.cfg, err = loadConfig(t.o.config); err != nil {
		if _, ok := errors.AsType[*configError](err); ok {
			fmt.Fprintf(t.errOut, "deploytool: mistakes in the config file:\n%v\n", err)
		} else {
			fmt.Fprintf(t.errOut, "deploytool: %v\n", err)
		}
		return exitUsage
	}
	return t.command.run(t, ctx)
}

// parse reads the command line. Flags may stand before and behind the arguments.
func (t *tool) parse(args []string) error {
	t.o.config = os.Getenv(configEnv)
	if t.o.config == "" {
		t.o.config = "deploytool.yaml"
	}
	top := flag.NewFlagSet("deploytool", flag.ContinueOnError)
	top.SetOutput(io.Discard)
	top.StringVar(&t.o.config, "config", t.o.config, "")
	if err := top.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			t.help(t.out)
		}
		return err
	}
	if top.NArg() == 0 {
		t.help(t.errOut)
		return errors.New("no command")
	}
	name := top.Arg(0)
	if name == "help" {
		t.help(t.out)
		return flag.ErrHelp
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("unknown command %q; deploytool -h lists them", name)
	}
	t.command = all[i]
	f := t.flags()
	for rest := top.Args()[1:]; ; rest = f.Args()[1:] {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintf(t.out, "deploytool [-config FILE] %s %s\n  %s\n", t.command.name, t.command.args, t.command.does)
			}
			return err
		}
		if f.NArg() == 0 {
			break
		}
		t.args = append(t.args, f.Arg(0))
	}
	if n := len(t.args); n < t.command.min || n > t.command.max {
		return fmt.Errorf("%s takes other arguments than %q: deploytool %[1]s %[3]s", t.command.name, t.args, t.command.args)
	}
	return nil
}

func (t *tool) flags() *flag.FlagSet {
	f := flag.NewFlagSet(t.command.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&t.o.config, "config", t.o.config, "the config file")
	for _, name := range strings.Fields(t.command.flags) {
		switch name {
		case "json":
			f.BoolVar(&t.o.json, "json", false, "JSON on stdout")
		case "path":
			f.StringVar(&t.o.path, "path", "", "the release's folder")
		case "watch":
			f.BoolVar(&t.o.watch, "watch", false, "again and again")
		case "n":
			f.IntVar(&t.o.count, "n", 20, "how many")
		case "stop-apps":
			f.BoolVar(&t.o.stopApps, "stop-apps", false, "end the applications too")
		case "rules":
			f.StringVar(&t.o.rules, "rules", "", "only rules whose name holds this text")
		}
	}
	return f
}

func (t *tool) help(w io.Writer) {
	fmt.Fprint(w, "deploytool deploys one web application on this machine, without anybody noticing.\n\n")
	fmt.Fprintf(w, "Usage: deploytool [-config FILE] COMMAND\n\nFILE is deploytool.yaml, or what %s says.\n\nCommands:\n", configEnv)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(tw, "  %s %s\t%s\n", c.name, c.args, c.does)
	}
	tw.Flush()
	fmt.Fprintf(w, "\n%s", exitTable)
}

// fail prints an error and returns the code.
func (t *tool) fail(code int, err error) int {
	fmt.Fprintf(t.errOut, "deploytool: %v\n", err)
	return code
}
