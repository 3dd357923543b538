package nginx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ticks a second, as /proc tells times; it is the same on every Linux.
const ticks = 100

// supported tells whether the processes of this system can be looked at.
func supported() error { return nil }

// lookAt returns the process of that number.
func lookAt(pid int) (process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	p, err := parseStat(string(stat))
	if err != nil {
		return process{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	title, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return process{}, err
	}
	p.title = strings.TrimSpace(string(bytes.ReplaceAll(title, []byte{0}, []byte{' '})))
	return p, nil
}

// workersOf lists the worker processes of a master process. None that runs is missing.
func workersOf(master int) ([]worker, error) {
	pids, err := childrenOf(master)
	if err != nil { // this kernel does not tell them, or the master has ended
		if pids, err = childrenAmongAll(master); err != nil {
			return nil, err
		}
	}
	var all []worker
	for _, pid := range pids {
		p, err := lookAt(pid)
		if err != nil {
			continue // it has ended, or is hidden: nginx's are looked at by name later
		}
		if w, ok := p.asWorker(master); ok {
			all = append(all, w)
		}
	}
	return all, nil
}

// childrenOf lists the processes that the main thread of a process has started, which are all where it is the only one, as in nginx. One that ends
// while the kernel makes the list can hide another; it is then in this list and not in the next, so that two that are equal hide none.
func childrenOf(pid int) ([]int, error) {
	path := fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)
	last, err := os.ReadFile(path)
	for range 20 {
		if err != nil {
			return nil, err
		}
		var now []byte
		if now, err = os.ReadFile(path); err == nil && bytes.Equal(now, last) {
			return parseChildren(string(now))
		}
		last = now
	}
	return nil, fmt.Errorf("%s changes all the time", path)
}

// childrenAmongAll finds the processes that a process has started by looking at all that there are.
func childrenAmongAll(parent int) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended, or is hidden
		}
		if p, err := parseStat(string(stat)); err == nil && p.parent == parent {
			all = append(all, pid)
		}
	}
	return all, nil
}

// startedBefore tells whether the worker was started before the file at path got its content or its place.
func startedBefore(w worker, path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false, errors.ErrUnsupported
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return false, os.NewSyscallError("clock_gettime", err)
	}
	changed := time.Duration(now.Nano()) - time.Since(time.Unix(st.Ctim.Unix()))
	started := time.Duration(w.start) * (time.Second / ticks)
	return started+2*time.Second/ticks < changed, nil
}

// socketsOf lists the sockets of a process by their inodes. fs.ErrPermission if we may not look.
func socketsOf(pid int) (map[uint64]bool, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[uint64]bool{}
	for _, name := range names {
		to, err := os.Readlink(filepath.Join(path, name))
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			if n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 64); err == nil {
				all[n] = true
			}
		}
	}
	return all, nil
}

// tableOf reads the TCP sockets of the network that the process lives in.
func tableOf(pid int) ([]socket, error) { return tableIn(pid, anyState) }

// listenersOf is tableOf for those that listen, and perhaps others.
func listenersOf(pid int) ([]socket, error) { return tableIn(pid, listenState) }

func tableIn(pid int, states uint32) ([]socket, error) {
	if sameNetwork(pid) {
		if all, err := diagnose(states); err == nil {
			return all, nil
		}
	}
	return tableFiles(pid)
}

// tableFiles is tableOf by files, which hold also what has ended a while ago, and are slow for that.
func tableFiles(pid int) ([]socket, error) {
	var all []socket
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net", name))
		if name == "tcp6" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseTable(string(b))...)
	}
	return all, nil
}

// userOf returns the user that a process runs as.
func userOf(pid int) (uint32, error) {
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return st.Uid, nil
}

// hangUp tells the master process to load its configuration.
func hangUp(master int) error { return os.NewSyscallError("kill", unix.Kill(master, unix.SIGHUP)) }

// mayHangUp tells whether hangUp would be let through.
func mayHangUp(master int) error { return os.NewSyscallError("kill", unix.Kill(master, 0)) }

// mayWrite tells whether files can be made and replaced in the folder.
func mayWrite(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}
