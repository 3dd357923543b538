package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// look tells of the process that has pid now; fs.ErrNotExist if there is none.
func look(pid int) (info, error) {
	boot, err := bootID()
	if err != nil {
		return info{}, err
	}
	return lookIn(pid, boot)
}

func lookIn(pid int, boot string) (info, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, syscall.ESRCH) { // it ended between open and read
		err = fs.ErrNotExist
	}
	if err != nil {
		return info{}, fmt.Errorf("process %d: %w", pid, err)
	}
	in, err := parseStat(data)
	if err != nil {
		return info{}, fmt.Errorf("process %d: %w", pid, err)
	}
	in.id.Boot = boot
	return in, nil
}

// parseStat reads a line of /proc/PID/stat: "pid (name) state ppid pgrp session ... threads 0 starttime ...". The name may hold spaces,
// parentheses and new lines, so the fields are counted from the last closing one.
func parseStat(data []byte) (info, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return info{}, fmt.Errorf("stat %q has no name", data)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data[:open])))
	if err != nil {
		return info{}, fmt.Errorf("stat %q: pid: %w", data, err)
	}
	f := strings.Fields(string(data[end+1:])) // f[0] is field 3, the state
	if len(f) < 20 {
		return info{}, fmt.Errorf("stat %q has only %d fields after the name", data, len(f))
	}
	in := info{name: string(data[open+1 : end])}
	in.id.PID = pid
	var errs [4]error
	in.parent, errs[0] = strconv.Atoi(f[1])
	in.session, errs[1] = strconv.Atoi(f[3])
	threads, err := strconv.Atoi(f[17])
	errs[2] = err
	in.id.Start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	// The state is that of the first thread: as long as there are others, the process runs without it, or is not yet quite gone.
	in.dead = f[0] == "X" || (f[0] == "Z" && threads <= 1)
	if err := errors.Join(errs[:]...); err != nil {
		return info{}, fmt.Errorf("stat %q: %w", data, err)
	}
	return in, nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// snapshot tells of all processes that this one can see. They are read one after the other, so it is no single moment.
func snapshot() ([]info, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []info
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		in, err := lookIn(pid, boot)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	return all, nil
}

// tokenOf returns the token in the environment with which the process began; "" if it has none, or does not show it.
func tokenOf(pid int) string {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	return tokenIn(env)
}

// signal sends sig to the process that id names, or returns os.ErrProcessDone. The pidfd holds on to one process: if that one is seen
// to be the right one after it was opened, no other can get the signal.
func signal(id ID, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL): // EINVAL: a thread has that number now
		return os.ErrProcessDone
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // before Linux 5.3, or forbidden by a sandbox
		return signalPID(id, sig)
	case err != nil:
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if ok, err := Running(id); err != nil {
		return err
	} else if !ok {
		return os.ErrProcessDone
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}
