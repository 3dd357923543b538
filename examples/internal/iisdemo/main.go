package iisdemo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/abswap/abswap/switcher/iistest"
)

// Example is what is an example's own.
type Example struct {
	Name      string
	Sites     func(Options) []Site                     // what the emulated machine begins with
	Deploy    func(ctx context.Context, d *Demo) error // the deploy tool
	Flags     func(f *flag.FlagSet)                    // further flags; nil: none
	Processes bool                                     // the emulated appcmd is a program of its own unless the command line says otherwise
	Spoil     func(*iistest.Quirks)                    // makes the emulated machine another one than the facts say; only tests do
}

// Run runs an example with the command line args, and returns its exit code: 0 if every promise was kept, 1 if one was broken or something
// went wrong, 2 for a wrong command line.
func (e Example) Run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	fail := func(err error) { fmt.Fprintf(stderr, "%s: %v\n", e.Name, err) }
	o, err := e.parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	d, err := open(o, e.Sites(o), e.Spoil, stdout)
	if err != nil {
		fail(err)
		return 1
	}
	defer func() {
		if err := d.Close(); err != nil {
			fail(err)
			code = 1
		}
	}()
	return d.End(e.Deploy(ctx, d))
}
