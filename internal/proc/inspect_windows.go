package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// info is what the system tells of one process.
type info struct {
	id   ID
	dead bool
}

const stillActive = uint32(windows.WAIT_TIMEOUT)

// look tells of the process that has pid now; fs.ErrNotExist if there is none. A process that has ended keeps its pid as long as somebody
// has a handle to it.
func look(pid int) (in info, err error) {
	h, err := open(pid, windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) { // another user's: it may have got the pid of one that we look for
		in, err = lookInList(pid)
	}
	if err != nil {
		return info{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if h == 0 {
		return in, nil
	}
	defer windows.CloseHandle(h)
	return lookAt(pid, h)
}

// lookInList tells of a process by the list of all that run, which needs no right to the process.
func lookInList(pid int) (info, error) {
	size := uint32(256 << 10)
	for {
		buf := make([]uint64, (size+7)/8) // of 8 bytes, so that what is in it is aligned
		err := windows.NtQuerySystemInformation(windows.SystemProcessInformation, unsafe.Pointer(&buf[0]), size, &size)
		if errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) {
			size += 64 << 10 // it may grow meanwhile
			continue
		}
		if err != nil {
			return info{}, os.NewSyscallError("NtQuerySystemInformation", err)
		}
		for at := uintptr(0); ; {
			p := (*windows.SYSTEM_PROCESS_INFORMATION)(unsafe.Add(unsafe.Pointer(&buf[0]), at))
			if int(p.UniqueProcessID) == pid {
				return info{id: ID{PID: pid, Start: uint64(p.CreateTime)}}, nil
			}
			if p.NextEntryOffset == 0 {
				return info{}, fs.ErrNotExist
			}
			at += uintptr(p.NextEntryOffset)
		}
	}
}

// open opens a process. The handle holds on to one process, whatever becomes of its pid.
func open(pid int, access uint32) (windows.Handle, error) {
	if pid <= 0 {
		return 0, fs.ErrNotExist
	}
	h, err := windows.OpenProcess(access, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return 0, fs.ErrNotExist
	}
	return h, os.NewSyscallError("OpenProcess", err)
}

func lookAt(pid int, h windows.Handle) (info, error) {
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return info{}, os.NewSyscallError("GetProcessTimes", err)
	}
	state, err := windows.WaitForSingleObject(h, 0)
	if err != nil {
		return info{}, os.NewSyscallError("WaitForSingleObject", err)
	}
	start := uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime) // 100 ns since 1601
	return info{id: ID{PID: pid, Start: start}, dead: state != stillActive}, nil
}

// Running reports whether the very process that id names runs. One that has ended and was not yet waited for does not.
func Running(id ID) (bool, error) {
	if id.PID <= 0 {
		return false, nil
	}
	in, err := look(id.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && in.id == id && !in.dead, err
}

// withProcess calls f with a handle to the very process that id names, or returns os.ErrProcessDone.
func withProcess(id ID, access uint32, f func(windows.Handle) error) error {
	h, err := open(id.PID, access|windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE)
	if errors.Is(err, fs.ErrNotExist) {
		return os.ErrProcessDone
	}
	if err != nil {
		if ok, rerr := Running(id); !ok && rerr == nil { // it is another's, or has ended
			return os.ErrProcessDone
		}
		return err
	}
	defer windows.CloseHandle(h)
	in, err := lookAt(id.PID, h)
	if err != nil {
		return err
	}
	if in.id != id || in.dead {
		return os.ErrProcessDone
	}
	return f(h)
}

func kill(id ID) error {
	return withProcess(id, windows.PROCESS_TERMINATE, func(h windows.Handle) error {
		err := windows.TerminateProcess(h, killedCode)
		if errors.Is(err, windows.ERROR_ACCESS_DENIED) { // so it says of one that is ending
			if state, werr := windows.WaitForSingleObject(h, 0); werr == nil && state != stillActive {
				return os.ErrProcessDone
			}
		}
		return os.NewSyscallError("TerminateProcess", err)
	})
}

func terminate(ID) error { return errors.ErrUnsupported }

// nameOf returns the name of the process's executable; "" if it cannot be told.
func nameOf(pid int) string {
	h, err := open(pid, windows.PROCESS_QUERY_LIMITED_INFORMATION)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(h)
	if path := imageOf(h); path != "" {
		return filepath.Base(path)
	}
	return ""
}

// imageOf returns the path of the process's executable; "" if it cannot be told.
func imageOf(h windows.Handle) string {
	buf := make([]uint16, syscall.MAX_LONG_PATH)
	n := uint32(len(buf))
	if windows.QueryFullProcessImageName(h, 0, &buf[0], &n) != nil {
		return ""
	}
	return windows.UTF16ToString(buf[:n])
}
