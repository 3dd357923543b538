// Package process makes a slot of a folder: the application runs as a process of its own on this machine, with its address in its
// environment, its output in a log file, a health page that tells when it is fit, and a polite stop. The process outlives the tool that
// started it; any later tool with the same Config finds it again by what is recorded in Config.Dir.
//
// A process is told by its pid, the time at which it began and the boot of the machine together; one that has only the pid of an old one
// is neither taken for the slot's nor ever signalled. What the process itself has begun belongs to it and ends with it. How much of
// that is found again after a crash depends on the system:
//
//   - Linux: everything that kept its session, its parent or its environment. A tool that is killed at any point of Start leaves at most
//     one application, which the next call of any method finds.
//   - macOS: the same, as far as the system shows the environment of other processes (those of the same user).
//   - Windows: everything in the application's job object, from the moment before it ran its first instruction. If the main process has
//     died by itself, what it left behind is found only if it inherited handles.
//
// On every system a fixed Address that somebody else holds makes Start fail and name him, instead of starting a second application.
package process

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
)

// Environment variables that the application gets besides its own and those of the tool that starts it.
const (
	EnvSlot    = "ABSWAP_SLOT"    // name of the slot
	EnvRelease = "ABSWAP_RELEASE" // ID of the release
	EnvAddress = "ABSWAP_ADDRESS" // host:port at which it shall listen
	EnvToken   = proc.TokenEnv    // a secret of this one start; a request to Config.StopPath carries it
)

// TokenHeader is the header field in which a request to Config.StopPath carries the value of EnvToken.
const TokenHeader = "Abswap-Token"

// Config says what runs in a slot and how it is treated. Zero values mean the default named.
type Config struct {
	// Name of the slot: "blue". Required: 1 to 64 of the characters A-Z a-z 0-9 . _ + -, beginning with none of . and -.
	Name string

	// Dir is the slot's own folder, an absolute path: its record and its logs. Required. It is made when needed, its parent is not.
	Dir string

	// Command is the program and its arguments. Required. It runs in the release's folder and stays in the foreground: the slot runs as
	// long as it does. A program with a slash in its name is found in the release's folder ("./server") or is absolute; one without
	// is found by PATH. In each of them {address}, {host}, {port}, {release}, {slot} and {dir} (the release's folder) are replaced.
	Command []string

	// Env is added to the environment of the tool that starts the application: "KEY=value".
	Env []string

	// PortEnv is the variable in which the application gets its port; "": "PORT".
	PortEnv string

	// Address is the fixed address at which the application listens: "127.0.0.1:5001". "": a free port of 127.0.0.1 from 20000 to 31999, picked at each Start.
	Address string

	// ForeignListener says that the port is not opened by the command or a child of it, but by somebody else on its behalf, as Docker's
	// proxy does. Then Ready does not check who has the port.
	ForeignListener bool

	Health       string        // path that answers 200 exactly when the application is fit; "": "/healthz"
	Host         string        // Host header of all requests to the application; "": its address
	ReadyTimeout time.Duration // of one probe; 0: 5s

	Warm        []string      // paths that Warm asks for, in this order; each answers below 400
	WarmRounds  int           // how often it asks for each; 0: 3
	WarmTimeout time.Duration // of one such request; 0: 1m

	// Grace is how long the application may take to end after it was asked to, before it is killed with all it has begun. 0: 30s,
	// negative: it is killed at once.
	Grace time.Duration

	// StopPath is asked by POST to end the application: "/stop". If it does not answer 2xx, and where it is "", the application gets
	// SIGTERM, and on Windows CTRL_BREAK (which a Go program gets as os.Interrupt). It is meant for Windows, where CTRL_BREAK needs a
	// console. The request carries TokenHeader: an application that can be reached by strangers must compare it.
	StopPath string

	LogSize int64 // bytes beyond which Start begins a new log file; 0: 10 MiB. While the application runs, its log only grows.
	LogKeep int   // number of old log files that are kept; 0: 5, negative: none
}

func (c Config) withDefaults() Config {
	c.PortEnv = or(c.PortEnv, "PORT")
	c.Health = or(c.Health, "/healthz")
	c.ReadyTimeout = or(c.ReadyTimeout, 5*time.Second)
	c.WarmRounds = or(c.WarmRounds, 3)
	c.WarmTimeout = or(c.WarmTimeout, time.Minute)
	c.Grace = max(or(c.Grace, 30*time.Second), 0)
	c.LogSize = or(c.LogSize, 10<<20)
	c.LogKeep = max(or(c.LogKeep, 5), 0)
	return c
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// check returns all mistakes of c. It touches nothing.
func (c Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if err := checkName(c.Name); err != nil {
		errs = append(errs, err)
	}
	switch {
	case c.Dir == "":
		bad("no Dir: name the folder that holds the slot's record and logs")
	case !filepath.IsAbs(c.Dir):
		bad("Dir %q is not absolute: another tool would look for the slot elsewhere", c.Dir)
	}
	if len(c.Command) == 0 || c.Command[0] == "" {
		bad(`no Command: name the program, as in {"./server"}`)
	}
	for _, a := range c.Command {
		if strings.ContainsRune(a, 0) {
			bad("Command: %q holds a zero byte", a)
		}
	}
	if c.PortEnv != "" && !goodEnvName(c.PortEnv) {
		bad("PortEnv %q is no name of a variable", c.PortEnv)
	}
	seen := map[string]bool{}
	for _, e := range c.Env {
		key, value, ok := strings.Cut(e, "=")
		switch {
		case !ok, !goodEnvName(key), strings.ContainsRune(value, 0):
			bad("Env: %q is not of the form KEY=value", e)
		case ours(key, or(c.PortEnv, "PORT")):
			bad("Env: %q is set by the slot itself", key)
		case seen[key]:
			bad("Env: %q is set twice", key)
		}
		seen[key] = true
	}
	if c.Address != "" {
		if _, err := parseAddress(c.Address); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range append([]string{c.Health, c.StopPath}, c.Warm...) {
		if p != "" && !goodPath(p) {
			bad("path %q does not begin with a slash, or holds a space, a control character or a '#'", p)
		}
	}
	for i, p := range c.Warm {
		if p == "" {
			bad("Warm: path %d is empty", i)
		}
	}
	if strings.ContainsFunc(c.Host, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
		bad("Host %q is no host", c.Host)
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"ReadyTimeout", int64(c.ReadyTimeout)}, {"WarmTimeout", int64(c.WarmTimeout)}, {"WarmRounds", int64(c.WarmRounds)}, {"LogSize", c.LogSize}} {
		if n.value < 0 {
			bad("%s is negative", n.name)
		}
	}
	return multi.Join(errs...)
}

// checkName refuses what cannot be part of a file's name on every system.
func checkName(name string) error {
	if name == "" {
		return errors.New(`no Name: name the slot, as in "blue"`)
	}
	if len(name) > 64 || name[0] == '.' || name[0] == '-' || name[len(name)-1] == '.' || strings.Trim(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") != "" {
		return fmt.Errorf("name %q: use 1 to 64 of A-Z a-z 0-9 . _ + -, no dot or dash first, no dot last", name)
	}
	return nil
}

func goodEnvName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "=\x00")
}

// ours reports whether the slot sets that variable itself. Windows knows no case here, so no system does.
func ours(key, portEnv string) bool {
	for _, k := range []string{EnvSlot, EnvRelease, EnvAddress, EnvToken, portEnv} {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func goodPath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' })
}

// parseAddress reads an IP address and a port at which a process can be reached. "localhost" is 127.0.0.1.
func parseAddress(s string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(s, "localhost:"); ok {
		s = "127.0.0.1:" + port
	}
	a, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return a, fmt.Errorf(`address %q is not an IP address and a port, as in "127.0.0.1:5001"`, s)
	case a.Port() == 0:
		return a, fmt.Errorf("address %q has port 0: leave Address empty to have a free port picked", s)
	case a.Addr().IsUnspecified():
		return a, fmt.Errorf("address %q is that of all networks: name the one at which the application is asked", s)
	}
	return a, nil
}
