package iis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/multi"
)

// App is what the slots, the switcher and the drainer of one application have in common. It is used by pointer, and its fields are not
// changed after the first call.
type App struct {
	Server *Server // nil: the IIS of this machine
	Host   string  // the name that clients use, without port: "www.example.test"; sent where a binding names no host of its own; required
	Mark   Mark    // how an answer tells which release gave it; required
	Mode   Mode    // how the application runs; 0: it is read from the web.config of each release

	Probes   int           // answers of the new release running, on every binding, that prove a switch; 0: 10
	Probe    time.Duration // of one probe, a cold start included; 0: 30s
	Patience time.Duration // how long a switch may take to be in force; 0: 60s

	Facts  Facts  // what was found out about this very server
	Accept Accept // losses that Check refuses otherwise

	OnSwitch func(Switched) // told at the end of each Activate that moved something, on the caller's goroutine; nil: nobody
}

// Mode is how IIS runs an application. It decides what a change of the configuration does to it.
type Mode int

// The modes. The zero Mode is none of them: not known, or to be found out.
const (
	Classic          Mode = iota + 1 // ASP.NET on the .NET Framework, static files, and all else without a module of its own
	CoreInProcess                    // ASP.NET Core within the worker process
	CoreOutOfProcess                 // ASP.NET Core in a process of its own behind the worker process
)

// String returns "classic", "Core in-process", "Core out-of-process" or "unknown".
func (m Mode) String() string {
	switch m {
	case Classic:
		return "classic"
	case CoreInProcess:
		return "Core in-process"
	case CoreOutOfProcess:
		return "Core out-of-process"
	}
	return "unknown"
}

// Mark is how an answer tells which release, or which slot, gave it: by a field of its head, or by the body of a small file.
//
// HTTP.sys keeps answers in a cache of its own, static files above all, and may go on giving that of the release before. Requests with a
// query are never answered from it (documented by Microsoft): ask for a file as "/release.txt?now".
type Mark struct {
	Path   string // what is asked; "": "/"
	Header string // field of the answer's head that holds the mark: "X-Release"; "": the body is the mark, without blanks around it
	// Want tells the mark of a release in a slot. nil: it is the release's ID.
	Want func(slot, release string) string
}

func (m Mark) want(slot, release string) string {
	if m.Want == nil {
		return release
	}
	return m.Want(slot, release)
}

// Accept names losses that the caller is ready to bear. Check names each of them where it would refuse.
type Accept struct {
	CutOldWork   bool // old work that outlives the application's shutdown time is cut
	Certificates bool // https bindings are moved, although their certificates may be lost
	TwoCommits   bool // where IIS refuses to change both sides in one commit, it is done in two, with a gap between them: see BindingSwap
}

// Switched tells what one Activate did, as probes through the front door saw it.
type Switched struct {
	From, To string        // slots; From is "" if none was active
	Took     time.Duration // from the first change until it was proven in force
	Gap      time.Duration // how long nobody served, at most: around failed probes, or from the command that took the bindings to the one that gave them
	Failed   int           // probes that failed
	Longest  time.Duration // the longest that an answered probe waited: the first requests of a cold application
	Probes   int           // probes sent in all
	Commits  int           // changes of the configuration; each may restart ASP.NET Core applications
}

// Runner runs appcmd once, or what stands for it. It returns when the command has ended: what was printed, and the exit code, whatever that
// is. If ctx ends first it ends the command for certain, waits until it has gone, and returns an error that wraps ctx's.
type Runner interface {
	Run(ctx context.Context, args []string, stdin []byte) (stdout []byte, exit uint32, err error)
}

// Server is an IIS. The zero value is that of this machine. It is used by pointer, and its fields are not changed after the first call.
type Server struct {
	Appcmd   string        // path of appcmd.exe; "": where Windows has it
	Runner   Runner        // nil: Appcmd is run
	LockFile string        // one command at a time per machine: all that steer one IIS use the same file; "": the machine's
	Timeout  time.Duration // of one command; 0: 60s
	RetryFor time.Duration // how long a command is tried again while another program writes the configuration; 0: 30s
	Pause    time.Duration // before the first new try; 0: 250ms

	// Dial connects a probe. nil: the network as it is. The address is the one of the binding, "127.0.0.1:80" for all addresses.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config // of https probes; the server's name is set to the host; nil: the system's

	// Folder tells where this process finds what IIS calls by a physical path. nil: environment variables such as %SystemDrive% are filled in.
	Folder func(physicalPath string) string

	// OnCommand is told of each command that was run, with secrets masked, and how it ended. It is called by one goroutine at a time. nil: nobody.
	OnCommand func(command string, took time.Duration, err error)

	once   sync.Once
	client *appcmd.Client
}

// appcmd returns the client, which is made at the first call.
func (s *Server) appcmd() *appcmd.Client {
	s.once.Do(func() {
		s.client = &appcmd.Client{Path: s.Appcmd, LockFile: s.LockFile, Timeout: s.Timeout, RetryFor: s.RetryFor, Pause: s.Pause}
		if s.Runner != nil {
			s.client.Runner = s.Runner
		}
		if s.OnCommand != nil {
			s.client.OnRun = func(c appcmd.Command, call *appcmd.Call) { s.OnCommand(c.String(), call.Elapsed, call.Err) }
		}
	})
	return s.client
}

// server is the IIS of the application.
func (a *App) server() *Server {
	if a.Server != nil {
		return a.Server
	}
	return &Server{}
}

func (a *App) probes() int             { return cmp.Or(a.Probes, 10) }
func (a *App) probe() time.Duration    { return cmp.Or(a.Probe, 30*time.Second) }
func (a *App) patience() time.Duration { return cmp.Or(a.Patience, time.Minute) }

// check returns all mistakes in a.
func (a *App) check() error {
	if a == nil {
		return errors.New("App is nil: it tells how the application is reached and recognised")
	}
	var errs []error
	if a.Host == "" || strings.ContainsAny(a.Host, "/:* ") {
		errs = append(errs, fmt.Errorf("App.Host %q: set the name that clients use, without port", a.Host))
	}
	if a.Mark.Header == "" && a.Mark.Path == "" {
		errs = append(errs, errors.New("App.Mark is empty: set the Header, or the Path of a small file, that tells which release answers; "+
			"without it nobody can see whether a switch has happened"))
	}
	if a.Mark.Path != "" && !strings.HasPrefix(a.Mark.Path, "/") {
		errs = append(errs, fmt.Errorf("App.Mark.Path %q does not begin with a slash", a.Mark.Path))
	}
	if a.Mark.Header != "" && http.CanonicalHeaderKey(a.Mark.Header) == "" {
		errs = append(errs, fmt.Errorf("App.Mark.Header %q is no name of a field", a.Mark.Header))
	}
	if a.Mode < 0 || a.Mode > CoreOutOfProcess {
		errs = append(errs, fmt.Errorf("App.Mode is %d: it is one of Classic, CoreInProcess, CoreOutOfProcess, or 0", int(a.Mode)))
	}
	if a.Probes < 0 || a.Probe < 0 || a.Patience < 0 {
		errs = append(errs, fmt.Errorf("App has a negative number: Probes %d, Probe %s, Patience %s", a.Probes, a.Probe, a.Patience))
	}
	return multi.Join(errs...)
}
