package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

const zombie = 5 // SZOMB of sys/proc.h

// look tells of the process that has pid now; fs.ErrNotExist if there is none.
func look(pid int) (info, error) {
	boot, err := bootID()
	if err != nil {
		return info{}, err
	}
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ESRCH) { // EIO: the answer is empty
		return info{}, fmt.Errorf("process %d: %w", pid, fs.ErrNotExist)
	}
	if err != nil {
		return info{}, fmt.Errorf("process %d: sysctl kern.proc.pid: %w", pid, err)
	}
	if int(k.Proc.P_pid) != pid {
		return info{}, fmt.Errorf("process %d: %w", pid, fs.ErrNotExist)
	}
	return infoOf(k, boot), nil
}

func infoOf(k *unix.KinfoProc, boot string) info {
	began := k.Proc.P_starttime
	in := info{
		id:     ID{PID: int(k.Proc.P_pid), Start: uint64(began.Sec)*1_000_000 + uint64(began.Usec), Boot: boot},
		name:   unix.ByteSliceToString(k.Proc.P_comm[:]),
		parent: int(k.Eproc.Ppid),
		dead:   k.Proc.P_stat == zombie,
	}
	if sid, err := unix.Getsid(in.id.PID); err == nil {
		in.session = sid
	}
	return in
}

// bootID is the session of the boot, not its time: that moves when the clock is set.
func bootID() (string, error) {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return "", fmt.Errorf("sysctl kern.bootsessionuuid: %w", err)
	}
	return id, nil
}

func snapshot() ([]info, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	ks, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("sysctl kern.proc.all: %w", err)
	}
	all := make([]info, 0, len(ks))
	for i := range ks {
		all = append(all, infoOf(&ks[i], boot))
	}
	return all, nil
}

// tokenOf returns the token in the environment with which the process began; "" if it has none, or does not show it.
func tokenOf(pid int) string {
	data, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(data) < 4 {
		return ""
	}
	argc := int(int32(binary.NativeEndian.Uint32(data)))
	data = data[4:]
	end := bytes.IndexByte(data, 0) // of the path of the executable, which is padded with more zeros
	if end < 0 {
		return ""
	}
	data = bytes.TrimLeft(data[end:], "\x00")
	for range argc {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return ""
		}
		data = data[end+1:]
	}
	return tokenIn(data)
}

func signal(id ID, sig syscall.Signal) error { return signalPID(id, sig) }
