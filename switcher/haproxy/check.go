package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// findings gathers what a preflight finds.
type findings []error

func (f *findings) add(err error)                    { *f = append(*f, err) }
func (f *findings) errorf(format string, a ...any)   { f.add(fmt.Errorf(format, a...)) }
func (f *findings) warningf(format string, a ...any) { f.add(abswap.Warnf(format, a...)) }

// result is all that was found as one error, each finding with the name of the form before it.
func (f findings) result(form string) error {
	for i, err := range f {
		switch w, ok := err.(*abswap.Warning); {
		case err == nil:
		case ok:
			f[i] = abswap.Warnf("haproxy %s: %w", form, w.Err)
		default:
			f[i] = fmt.Errorf("haproxy %s: %w", form, err)
		}
	}
	return multi.Join(f...)
}

// preflight asks what both forms need to know. f is called with the worker that takes new connections.
func (e *engine) preflight(ctx context.Context, r abswap.CheckRequest, found *findings, tcp bool, f func(context.Context, worker) error) {
	for _, s := range r.Slots {
		if _, err := e.slot(s); err != nil {
			found.errorf("the Swapper has a slot that the switcher has not: %w", err)
		}
	}
	e.checkSocket(found)
	p, err := e.present(ctx)
	if err != nil {
		found.add(err)
		return
	}
	if p.failed > 0 {
		found.warningf("the last %d reload(s) of HAProxy failed: its configuration file is not the one that runs", p.failed)
	}
	for _, w := range p.workers {
		if w.old {
			found.warningf("worker %d, which a reload made old %s ago, still works", w.pid, w.uptime)
		}
	}
	if r.Drain.AtDeadline == abswap.HandOver {
		found.warningf("HAProxy cannot ask clients to go elsewhere: HandOver leaves websockets as they are")
	}
	err = e.current(ctx, func(ctx context.Context, w worker) error {
		level, err := e.rt.read(ctx, w.pid, "show cli level")
		if err != nil {
			return err
		}
		if level = firstLine(level); level != "admin" {
			return fmt.Errorf("the socket has level %q: write \"level admin\" into its line in haproxy.cfg: %w: %w", level, ErrDenied, abswap.ErrPermanent)
		}
		if err := f(ctx, w); err != nil {
			return err
		}
		return e.checkMode(ctx, w, found, tcp)
	})
	if err != nil {
		found.add(err)
	}
}

// present lists the workers. While another hand reloads HAProxy its master process does not answer for a moment, which is not worth a finding; a
// socket that is not there at all, or not ours to use, is one at once.
func (e *engine) present(ctx context.Context) (p processes, err error) {
	limit := min(e.rt.Patience, reloading)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s: %w", limit, context.DeadlineExceeded))
	defer cancel()
	err = retry.Do(ctx, quick(), func(ctx context.Context) (err error) {
		p, err = e.processes(ctx)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, abswap.ErrPermanent) {
			return retry.Stop(err)
		}
		return err
	})
	return p, err
}

// reloading is how long a master process may take to answer again.
const reloading = 5 * time.Second

// checkMode compares the mode of the slots' backends with what the Config says.
func (e *engine) checkMode(ctx context.Context, w worker, found *findings, tcp bool) error {
	said := map[bool]string{true: "tcp", false: "http"}
	seen := map[string]bool{}
	for _, slot := range e.names() {
		backend := e.places[slot].backend
		if seen[backend] {
			continue
		}
		seen[backend] = true
		rows, err := e.stats(ctx, w, backend)
		if err != nil {
			continue // told elsewhere
		}
		for _, row := range rows {
			if row.name == backendRow && row.mode != "" && row.mode != said[tcp] {
				found.errorf("backend %q is in mode %s and Config.TCP says %s", backend, row.mode, said[tcp])
			}
		}
	}
	return nil
}

// checkSocket warns of a socket that gives others full control.
func (e *engine) checkSocket(found *findings) {
	address := e.rt.address()
	if network(address) == "tcp" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			found.errorf("the address %q is neither a path nor host:port: %w", address, err)
		} else if ip := net.ParseIP(host); ip == nil && host != "localhost" || ip != nil && !ip.IsLoopback() {
			found.warningf("the socket %s is reached over the network: whoever reaches it controls HAProxy", address)
		} else {
			found.warningf("the socket %s is open to everybody on this machine: use a Unix socket of mode 600", address)
		}
		return
	}
	if info, err := os.Stat(address); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 { // who may write may connect
		found.warningf("the socket %s has mode %o: everybody on this machine controls HAProxy", address, info.Mode().Perm())
	}
}

// checkFolder tells whether a file can be made beside path, without making one.
func checkFolder(what, path string, found *findings) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		found.errorf("folder of the %s: %w", what, err)
	case !info.IsDir():
		found.errorf("folder of the %s: %q is not a folder", what, dir)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o222 == 0:
		found.errorf("folder of the %s: %q cannot be written: its mode is %o", what, dir, info.Mode().Perm())
	}
}

// Check looks for what would keep a switch from going well: HAProxy out of reach or not of level admin, backends, map and key that are missing
// in the running configuration or in the file, file and running map that differ, backends that are down, old workers, failed reloads. Steps are
// refused with errors.ErrUnsupported.
func (m *MapSwitcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	var found findings
	if len(r.Steps) > 0 {
		found.errorf("steps %v: a key of a map leads to one backend, so that the slots cannot share the work; ServerSwitcher can weigh them: %w",
			r.Steps, errors.ErrUnsupported)
	}
	inFile, haveFile := "", false
	if content, _, err := readFile(m.cfg.File); err != nil {
		found.errorf("map file: %w", err)
	} else if inFile, haveFile = mapValue(content, m.cfg.Key); !haveFile {
		found.errorf("map file %s: %w: %q", m.cfg.File, ErrNoKey, m.cfg.Key)
	}
	checkFolder("map file", m.cfg.File, &found)
	m.preflight(ctx, r, &found, m.cfg.TCP, func(ctx context.Context, w worker) error {
		running, err := m.value(ctx, w)
		if err != nil {
			found.errorf("map %s: %w", m.cfg.Map, err)
		} else if haveFile && running != inFile {
			found.warningf("key %q leads to %q in the file %s and to %q in HAProxy: a reload would move the traffic until the next switch",
				m.cfg.Key, inFile, m.cfg.File, running)
		}
		if err == nil && !slices.Contains(m.backends(), running) {
			found.errorf("key %q leads to %q: %w", m.cfg.Key, running, ErrNotOurs)
		}
		for _, backend := range m.backends() {
			rows, err := m.stats(ctx, w, backend)
			if err != nil {
				found.add(err)
				continue
			}
			for _, row := range rows {
				if row.name == backendRow && row.status == "DOWN" && backend == running {
					found.warningf("backend %q, which takes the traffic, is DOWN", backend)
				}
			}
			if len(rows) < 2 && backend != m.cfg.Closed {
				found.errorf("backend %q has no server", backend)
			}
		}
		return nil
	})
	return found.result("map")
}

// Check looks for what would keep a switch from going well: HAProxy out of reach or not of level admin, a backend or servers that are missing,
// servers that belong to no slot, weights that the balance algorithm does not heed, agents that change states, states that a reload forgets,
// clients that are bound to servers, old workers, failed reloads.
func (x *ServerSwitcher) Check(ctx context.Context, r abswap.CheckRequest) error {
	var found findings
	if x.cfg.StateFile != "" {
		checkFolder("state file", x.cfg.StateFile, &found)
	}
	x.preflight(ctx, r, &found, x.cfg.TCP, func(ctx context.Context, w worker) error {
		rows, err := x.stats(ctx, w, x.cfg.Backend)
		if err != nil {
			found.add(err)
			return nil
		}
		_, all, err := x.look(ctx, w)
		found = append(found, multi.All(err)...)
		for _, row := range rows {
			switch {
			case row.name == backendRow:
				x.checkBalance(row, r, &found)
			case !row.backup && !x.ours(row.name):
				found.errorf("server %s/%s belongs to no slot: it would get traffic whatever slot is active", x.cfg.Backend, row.name)
			case all[row.name].agent:
				found.warningf("server %s/%s has an agent check, which may change its state and weight at any time", x.cfg.Backend, row.name)
			}
		}
		bound, err := x.bound(ctx, w)
		if err != nil {
			return err
		}
		switch {
		case bound != "" && x.cfg.KeepSessions:
			found.warningf("backend %q keeps clients on an old slot by its %s, and nobody counts them: when the slot stops they go to the new one, "+
				"if the configuration has option redispatch", x.cfg.Backend, bound)
		case bound != "":
			found.warningf("backend %q binds clients by its %s: an old slot is put into maintenance, so that they go to the new one at once",
				x.cfg.Backend, bound)
		}
		return nil
	})
	return found.result("servers")
}

func (x *ServerSwitcher) ours(server string) bool {
	for _, servers := range x.cfg.Slots {
		if slices.Contains(servers, server) {
			return true
		}
	}
	return false
}

// checkBalance judges the balance algorithm of the backend.
func (x *ServerSwitcher) checkBalance(row stat, r abswap.CheckRequest, found *findings) {
	if len(r.Steps) == 0 {
		return
	}
	switch row.algo {
	case "roundrobin", "leastconn", "random", "":
	case "static-rr":
		found.errorf("steps %v: backend %q has balance %s: %w: %w", r.Steps, x.cfg.Backend, row.algo, ErrStaticBalance, errors.ErrUnsupported)
	case "first":
		found.errorf("steps %v: backend %q has balance first, which heeds no weights: %w: %w", r.Steps, x.cfg.Backend, ErrStaticBalance,
			errors.ErrUnsupported)
	default:
		found.warningf("steps %v: backend %q has balance %s: weights are refused unless its hash-type is consistent, and then met by clients, not by requests",
			r.Steps, x.cfg.Backend, row.algo)
	}
}
