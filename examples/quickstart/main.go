// Quickstart shows what abswap is for, on this machine alone: a small web application is deployed again and again, in two slots behind
// the embedded proxy, while clients work on it at a constant rate. One of the releases never gets healthy, one gets sick after the
// switch, and in the end the traffic goes back to the version before. Then it tells what the clients felt of it.
//
//	go run ./examples/quickstart
//
// It ends with 0 if every promise was kept, with 1 if one was broken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/process"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == appArg {
		os.Exit(appMain(os.Args[2:])) // started by a slot, as the application
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	rate    int
	seconds float64
	seed    uint64
	json    bool

	// Only tests set these.
	script []act                                         // nil: the story's
	spoil  func(*proxy.Switcher) abswap.WeightedSwitcher // makes a proxy that breaks its promises; nil: the proxy as it is
}

// usual is how long the story takes by default. A run of half of it has transfers of half the length.
const usual = 38

// pace is by how much everything that lasts is stretched.
func (o options) pace() float64 { return o.seconds / usual }

// scaled is a time that lasts seconds at the usual pace.
func (o options) scaled(seconds float64) time.Duration {
	return time.Duration(seconds * o.pace() * float64(time.Second))
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.IntVar(&o.rate, "rate", 1200, "short requests a `second`")
	f.Float64Var(&o.seconds, "seconds", usual, "length of the load; what lasts is scaled with it")
	f.Uint64Var(&o.seed, "seed", 1, "`number` that decides all that is random")
	f.BoolVar(&o.json, "json", false, "print one JSON object as the last line on stdout, and the progress on stderr")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("no arguments are taken, got %q", f.Args())
	case o.rate < 1 || o.rate > 100_000:
		err = fmt.Errorf("-rate %d is not within 1 to 100000", o.rate)
	case !(o.seconds >= 5 && o.seconds <= 3600):
		err = fmt.Errorf("-seconds %v is not within 5 to 3600", o.seconds)
	}
	if err != nil {
		fmt.Fprintln(errOut, "quickstart:", err)
	}
	return o, err
}

// run is the program. It returns the exit code: 0, 1 if a promise was broken, 2 for a bad command line, 130 if it was interrupted.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	out := stdout
	if o.json {
		out = stderr
	}
	say := newProgress(out, time.Now())
	v, err := quickstart(ctx, o, say)
	if ctx.Err() != nil {
		if err != nil {
			say.line("", "interrupted; not all could be stopped: %v", err)
		} else {
			say.line("", "interrupted; all that was started has been stopped")
		}
		return 130
	}
	if err != nil {
		v.fail(err.Error())
	}
	fmt.Fprintln(out)
	printTable(out, v)
	fmt.Fprintln(out)
	printVerdict(out, v)
	if o.json {
		if err := printJSON(stdout, v); err != nil {
			fmt.Fprintln(stderr, "quickstart:", err)
			return 1
		}
	}
	if !v.OK {
		return 1
	}
	return 0
}

// quickstart puts the parts together and tells the story. Whatever happens, nothing that it started is left running.
func quickstart(ctx context.Context, o options, say *progress) (v verdict, err error) {
	dir, err := os.MkdirTemp("", "abswap-quickstart-")
	if err != nil {
		return v, err
	}
	defer os.RemoveAll(dir)

	// The front door. It does not know yet where the applications listen: the slots tell it, each time one is activated.
	door, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": "", "green": ""}})
	if err != nil {
		return v, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return v, err
	}
	addr := ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- door.Serve(ln) }()
	defer func() { err = errors.Join(err, closeDoor(door, served)) }()

	// Two slots: each is a process of the application, started in the folder of the release that it holds.
	blue, err := newSlot(dir, "blue")
	if err != nil {
		return v, err
	}
	green, err := newSlot(dir, "green")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, stopSlots(blue, green)) }()

	// The Swapper joins them; each act of the story takes one of its own, with other steps or another patience. They share the journal, so
	// that one deploys at a time. The switcher is watched in order to know when exactly a promise begins to hold.
	s := &story{o: o, say: say, epoch: say.epoch, dir: dir, addr: addr, door: door, slots: []abswap.Slot{blue, green}}
	s.moves = &watched{WeightedSwitcher: door, epoch: s.epoch}
	if o.spoil != nil {
		s.moves.WeightedSwitcher = o.spoil(door)
	}
	journal := &abswap.MemoryJournal{}
	s.swapper = func() *abswap.Swapper {
		return &abswap.Swapper{
			Switcher:  s.moves,
			Slots:     s.slots,
			Journal:   journal,
			Soak:      o.scaled(1.5),
			Retain:    -1, // the old slot stays warm until the next deploy needs it: that makes the way back instant
			FrontDoor: s.whoServes,
			OnEvent:   s.event,
		}
	}
	return s.tell(ctx)
}

// newSlot makes a slot whose application is this very program, with another first argument.
func newSlot(dir, name string) (*process.Slot, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return process.New(process.Config{
		Name:    name,
		Dir:     filepath.Join(dir, name),
		Command: []string{self, appArg, "{slot}"},
		Grace:   10 * time.Second,
	})
}

// whoServes asks the front door, on a connection of its own, which version answers.
func (s *story) whoServes(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/", nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", req.URL, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.Header.Get(releaseHeader), err
}

func closeDoor(door *proxy.Switcher, served <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := door.Shutdown(ctx)
	return errors.Join(err, door.Close(), ignore(<-served, http.ErrServerClosed))
}

// stopSlots ends the application's processes, which would outlive this one otherwise.
func stopSlots(slots ...*process.Slot) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, slot := range slots {
		errs = append(errs, slot.Stop(ctx))
	}
	return errors.Join(errs...)
}

// ignore makes an expected error none.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
