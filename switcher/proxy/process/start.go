package process

import (
	"context"
	crand "crypto/rand"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/proc"
)

// Start starts the installed release, unless it runs. The address at which it shall listen is recorded before the process exists, the
// process right after; a tool that died between the two is made up for here. What an application that has died by itself left
// behind is ended first. One that was asked to stop is awaited, as Stop does, and started again. At return the process exists; whether
// it is fit, or has ended again, Ready tells. The error says what is wrong with the command, the folder, or who has the address.
func (s *Slot) Start(ctx context.Context) (err error) {
	if s.isAbsent() {
		return s.errorf("no release is installed: call Install first")
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = multi.Join(err, unlock()) }()
	rec, err := s.load()
	if err != nil {
		return err
	}
	if rec.Release.ID == "" {
		return s.errorf("no release is installed: call Install first")
	}
	if rec.Run != nil {
		running, err := s.settle(ctx, rec)
		if running || err != nil {
			return err
		}
	}
	return s.launch(ctx, rec)
}

// settle makes the record of an earlier start true: the application runs and is known, or nothing of it is left.
func (s *Slot) settle(ctx context.Context, rec *record) (running bool, err error) {
	m, err := s.find(ctx, rec.Run)
	if err != nil {
		return false, err
	}
	if m.Main != (proc.ID{}) && rec.Run.Asked.IsZero() {
		if rec.Run.Process == m.Main {
			return true, nil
		}
		rec.Run.Process = m.Main
		return true, s.save(rec)
	}
	return false, s.stop(ctx, rec)
}

func (s *Slot) launch(ctx context.Context, rec *record) error {
	if err := s.checkFolder(rec.Release); err != nil {
		return err
	}
	addr, err := s.pickAddress(ctx)
	if err != nil {
		return err
	}
	argv := s.command(rec.Release, addr)
	path, err := findProgram(argv[0], rec.Release.Path)
	if err != nil {
		return s.errorf("release %q: %w", rec.Release.ID, err)
	}
	begun := time.Now()
	log, offset, err := s.openLog(begun, rec.Release.ID, addr.String())
	if err != nil {
		return s.errorf("its log: %w", err)
	}
	defer log.Close() // the application has a handle of its own

	rec.Run = &run{Token: crand.Text(), Address: addr.String(), Begun: begun, LogOffset: offset}
	if err := s.save(rec); err != nil {
		return err
	}
	child, err := proc.Launch(proc.Spec{
		Path: path, Args: argv[1:], Dir: rec.Release.Path, Env: s.environ(rec.Release, addr), Output: log, Token: rec.Run.Token,
	})
	if err != nil {
		rec.Run = nil
		return multi.Join(s.errorf("start of release %q: %w", rec.Release.ID, err), s.save(rec))
	}
	s.mu.Lock()
	s.child, s.token = child, rec.Run.Token
	s.mu.Unlock()
	rec.Run.Process = child.ID()
	return s.save(rec) // if that fails the process is found by its token
}

// command returns Config.Command with its placeholders replaced.
func (s *Slot) command(r abswap.Release, addr netip.AddrPort) []string {
	rep := strings.NewReplacer("{address}", addr.String(), "{host}", addr.Addr().String(), "{port}", strconv.Itoa(int(addr.Port())),
		"{release}", r.ID, "{slot}", s.cfg.Name, "{dir}", r.Path)
	argv := make([]string, len(s.cfg.Command))
	for i, a := range s.cfg.Command {
		argv[i] = rep.Replace(a)
	}
	return argv
}

// findProgram returns the absolute path of the program: one with a slash is in dir or absolute, one without is found by PATH.
func findProgram(name, dir string) (string, error) {
	if filepath.Base(name) != name && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) && filepath.Base(name) != name { // so it says on Windows of a path, too
		return "", &fs.PathError{Op: "exec", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return "", err // it names the program
	}
	return filepath.Abs(path)
}

// environ returns the environment of the application: this process's own, without what is the slot's to set, then Config.Env, then that.
func (s *Slot) environ(r abswap.Release, addr netip.AddrPort) []string {
	var env []string
	for _, e := range os.Environ() {
		key, _, _ := strings.Cut(e, "=")
		if !ours(key, s.cfg.PortEnv) && !setIn(s.cfg.Env, key) {
			env = append(env, e)
		}
	}
	env = append(env, s.cfg.Env...)
	return append(env, s.cfg.PortEnv+"="+strconv.Itoa(int(addr.Port())), EnvSlot+"="+s.cfg.Name, EnvRelease+"="+r.ID, EnvAddress+"="+addr.String())
}

func setIn(env []string, key string) bool {
	for _, e := range env {
		if k, _, _ := strings.Cut(e, "="); k != "" && sameVariable(k, key) {
			return true
		}
	}
	return false
}

// pickAddress returns the fixed address if nobody has it, or else a free port of 127.0.0.1. Nobody keeps it free until the application
// listens: one that finds it taken has to say so and end.
func (s *Slot) pickAddress(ctx context.Context) (netip.AddrPort, error) {
	want := netip.MustParseAddrPort("127.0.0.1:0")
	if s.cfg.Address != "" {
		var err error
		if want, err = parseAddress(s.cfg.Address); err != nil {
			return want, s.errorf("%w", err)
		}
		if err := addressFree(ctx, want); err != nil {
			return want, s.errorf("%w", err)
		}
		return want, nil
	}
	for range portTries {
		port := portsFrom + rand.N(portsTo-portsFrom)
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", netip.AddrPortFrom(want.Addr(), uint16(port)).String())
		if ctx.Err() != nil {
			return want, s.errorf("a free port: %w", context.Cause(ctx))
		}
		if err == nil {
			return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", want.String())
	if err != nil {
		return want, s.errorf("no free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
}

// Ports for applications come from a range that no system takes ports of outgoing connections from (Linux: 32768 to 60999, Windows and macOS:
// from 49152 on, where nobody has changed that): between our look and the application's own bind, a connection to it would do.
const (
	portsFrom = 20000
	portsTo   = 32000
	portTries = 100 // then any free port will do
)

// addressFree returns nil if nobody listens at a, else who does.
func addressFree(ctx context.Context, a netip.AddrPort) error {
	owners, err := proc.Listeners(a)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if len(owners) > 0 {
		return &proc.ForeignError{Addr: a, Owners: owners}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.String())
	if err != nil {
		return err // "listen tcp 127.0.0.1:5001: bind: address already in use"
	}
	return l.Close()
}
