package iisdemo

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// Options are the command line of an example. What stands for the machine's IIS has defaults only with Emulate.
type Options struct {
	Name string // of the example

	Emulate   bool
	Processes bool     // each emulated appcmd is a process
	Site      string   // the site that serves the application
	Host      string   // the name by which clients know it
	Front     string   // host:port at which they reach it
	Staging   []string // bindings by which the two slots are reached past the public door
	Parent    string   // folder in which the releases' folders lie
	State     string   // folder of the journal, and of what else is to outlive this process
	Paths     []string // releases to deploy, each a folder that holds the file release.txt with its ID

	Mode       iis.Mode
	NoRotation bool // disallowRotationOnConfigChange in the web.config of the releases
	Facts      iis.Facts
	AcceptCut  bool

	Upload string        // path that takes the long upload; "": none is made
	Rate   int           // requests a second
	Linger time.Duration // how long the upload goes on after the switch
}

// errUsage is a mistake in the command line, which was told already.
var errUsage = errors.New("usage")

// parse reads the command line. The error is errUsage or flag.ErrHelp.
func (e Example) parse(args []string, stderr io.Writer) (Options, error) {
	o, name := Options{Name: e.Name, Mode: iis.Classic}, e.Name
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "%s -emulate [FLAGS]\n%s -site NAME -host NAME [FLAGS] RELEASE-FOLDER...\n", name, name)
		f.PrintDefaults()
	}
	f.BoolVar(&o.Emulate, "emulate", false, "work on an emulated IIS in this process, on any system")
	f.BoolVar(&o.Processes, "processes", e.Processes, "each emulated appcmd is a process of its own, as on a real machine: slower by what starting them takes")
	f.StringVar(&o.Site, "site", "", "the `site` that serves the application")
	f.StringVar(&o.Host, "host", "", "the `name` by which clients know it, without port")
	f.StringVar(&o.Front, "front", "127.0.0.1:80", "`host:port` at which clients reach it")
	staging := f.String("staging", "http/127.0.0.1:8001:,http/127.0.0.1:8002:", "`bindings` by which the two slots are reached past the public door")
	f.StringVar(&o.Parent, "parent", `C:\inetpub`, "`folder` in which the releases' folders lie")
	f.StringVar(&o.State, "state", `C:\ProgramData\abswap\demo`, "`folder` of what outlives this process")
	f.Func("mode", "how the application runs: `classic`, inprocess or outofprocess", func(s string) error {
		mode, ok := map[string]iis.Mode{"classic": iis.Classic, "inprocess": iis.CoreInProcess, "outofprocess": iis.CoreOutOfProcess}[s]
		if !ok {
			return errors.New("want classic, inprocess or outofprocess")
		}
		o.Mode = mode
		return nil
	})
	f.BoolVar(&o.NoRotation, "no-rotation", false, "the releases have disallowRotationOnConfigChange in their web.config")
	f.Func("fact", "what is known of this IIS, `NAME=yes` or NAME=no, where NAME is a field of iis.Facts; the emulated one behaves so", o.fact)
	f.BoolVar(&o.AcceptCut, "accept-cut", false, "go on although old work may be cut")
	f.StringVar(&o.Upload, "upload", "", "`path` that takes POST; a long upload to it lives over each deploy")
	f.IntVar(&o.Rate, "rate", 50, "requests a `second`")
	f.DurationVar(&o.Linger, "linger", 0, "how long the upload goes on after the switch; 0: 100s, emulated: 1s")
	if e.Flags != nil {
		e.Flags(f)
	}
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, errUsage // f has told it
	}
	o.Staging, o.Paths = strings.Split(*staging, ","), f.Args()
	if err := o.check(); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return o, errUsage
	}
	o.defaults()
	return o, nil
}

// fact reads one NAME=yes.
func (o *Options) fact(s string) error {
	name, value, _ := strings.Cut(s, "=")
	field := reflect.ValueOf(&o.Facts).Elem().FieldByName(name)
	fact, ok := map[string]iis.Fact{"yes": iis.Yes, "no": iis.No}[value]
	if !field.IsValid() || !ok {
		return errors.New("want NAME=yes or NAME=no, where NAME is a field of iis.Facts")
	}
	field.Set(reflect.ValueOf(fact))
	return nil
}

func (o *Options) check() error {
	var errs []error
	if o.Rate < 1 || o.Rate > 10_000 {
		errs = append(errs, fmt.Errorf("-rate %d is not within 1 to 10000", o.Rate))
	}
	if len(o.Staging) != 2 {
		errs = append(errs, fmt.Errorf("-staging names %d bindings, not 2", len(o.Staging)))
	}
	if o.Linger < 0 {
		errs = append(errs, fmt.Errorf("-linger %s is negative", o.Linger))
	}
	switch {
	case o.Emulate && len(o.Paths) > 0:
		errs = append(errs, errors.New("-emulate makes its own releases: name none"))
	case !o.Emulate && (o.Site == "" || o.Host == "" || len(o.Paths) == 0):
		errs = append(errs, errors.New("say -site, -host and the folders of releases to deploy; or -emulate, to try it without an IIS"))
	}
	return errors.Join(errs...)
}

// defaults fills in what an emulated machine has. Of what the command line does not tell, its IIS does what the evidence is for, and that
// counts as known: the demo could have tried it out.
func (o *Options) defaults() {
	if !o.Emulate {
		if o.Linger == 0 {
			o.Linger = 100 * time.Second
		}
		return
	}
	if o.Site == "" {
		o.Site = "MySite"
	}
	if o.Host == "" {
		o.Host = "www.example.test"
	}
	if o.Upload == "" {
		o.Upload = "/upload"
	}
	if o.Linger == 0 {
		o.Linger = time.Second
	}
	facts := reflect.ValueOf(&o.Facts).Elem()
	for _, q := range iistest.Table() {
		if field := facts.FieldByName(q.Name); field.IsValid() && field.Int() == int64(iis.NotKnown) {
			fact := iis.No
			if q.Best {
				fact = iis.Yes
			}
			field.Set(reflect.ValueOf(fact))
		}
	}
}

// quirks puts the emulated machine into the positions of the facts.
func (o *Options) quirks() iistest.Quirks {
	q := iistest.Quirks{QueueDwell: 500 * time.Millisecond}
	facts := reflect.ValueOf(o.Facts)
	for _, x := range iistest.Table() {
		field := facts.FieldByName(x.Name)
		if !field.IsValid() {
			continue
		}
		*x.Field(&q) = iistest.Off
		if field.Int() == int64(iis.Yes) {
			*x.Field(&q) = iistest.On
		}
	}
	return q
}
