package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// Access rights to a job, from winnt.h.
const (
	jobQuery     = 0x0004
	jobTerminate = 0x0008

	basicProcessIDList = 3 // JobObjectBasicProcessIdList
)

var (
	kernel32        = windows.NewLazySystemDLL("kernel32.dll")
	procOpenJob     = kernel32.NewProc("OpenJobObjectW")
	procIsProcInJob = kernel32.NewProc("IsProcessInJob")
)

// jobName is seen by all sessions of the machine: a service and a person at a desk find each other's.
func jobName(token string) (*uint16, error) {
	return windows.UTF16PtrFromString(`Global\abswap-` + token)
}

func createJob(token string) (windows.Handle, error) {
	name, err := jobName(token)
	if err != nil {
		return 0, err
	}
	h, err := windows.CreateJobObject(nil, name)
	if err != nil {
		if h != 0 { // ERROR_ALREADY_EXISTS comes with a handle
			err = multi.Join(err, windows.CloseHandle(h))
		}
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	return h, nil
}

// openJob opens the job; fs.ErrNotExist if it has gone, or its name has.
func openJob(token string, access uint32) (windows.Handle, error) {
	if token == "" {
		return 0, fs.ErrNotExist
	}
	name, err := jobName(token)
	if err != nil {
		return 0, err
	}
	h, _, err := procOpenJob.Call(uintptr(access), 0, uintptr(unsafe.Pointer(name)))
	switch {
	case h != 0:
		return windows.Handle(h), nil
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return 0, fs.ErrNotExist
	default:
		return 0, os.NewSyscallError("OpenJobObject", err)
	}
}

// Find tells what runs of t, and of the processes in also, which were seen to belong to it before. If t.Main is zero and nothing is
// found, it looks again for a moment: the starter may have died just now.
func (t Tree) Find(ctx context.Context, also ...ID) (Members, error) {
	m, err := t.find(also)
	for give := time.Now().Add(settle); err == nil && t.Main == (ID{}) && len(m.All) == 0 && time.Now().Before(give); {
		if err := retry.Sleep(ctx, settle/8); err != nil {
			return m, err
		}
		m, err = t.find(also)
	}
	return m, err
}

func (t Tree) find(also []ID) (m Members, err error) {
	candidates := slices.Clone(also)
	if t.Main != (ID{}) {
		candidates = append(candidates, t.Main)
	}
	job, err := openJob(t.Token, jobQuery)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if err == nil {
		defer windows.CloseHandle(job)
		ids, err := processesOf(job)
		if err != nil {
			return m, err
		}
		candidates = append(candidates, ids...)
	}
	for _, id := range candidates {
		if slices.Contains(m.All, id) {
			continue
		}
		ok, err := Running(id)
		if err != nil {
			return m, fmt.Errorf("%s: %w", id, err)
		}
		if ok {
			m.All = append(m.All, id)
		}
	}
	slices.SortFunc(m.All, func(a, b ID) int { // the oldest first
		if a.Start != b.Start {
			if a.Start < b.Start {
				return -1
			}
			return 1
		}
		return a.PID - b.PID
	})
	switch {
	case slices.Contains(m.All, t.Main):
		m.Main = t.Main
	case t.Main == (ID{}) && len(m.All) > 0:
		m.Main = m.All[0]
	}
	return m, nil
}

// processesOf returns the processes of a job. One that ends while it is looked at is left out, and so is the host of the job's console,
// which the system adds and which ends when its last client has.
func processesOf(job windows.Handle) ([]ID, error) {
	pids, err := pidsOf(job)
	if err != nil {
		return nil, err
	}
	sys, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, os.NewSyscallError("GetSystemDirectory", err)
	}
	consoleHost := filepath.Join(sys, "conhost.exe")
	var ids []ID
	for _, pid := range pids {
		h, err := open(pid, windows.PROCESS_QUERY_INFORMATION|windows.SYNCHRONIZE)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		var in32 int32 // the pid may have gone to another process since
		r, _, cerr := procIsProcInJob.Call(uintptr(h), uintptr(job), uintptr(unsafe.Pointer(&in32)))
		in, lerr := lookAt(pid, h)
		isHost := strings.EqualFold(imageOf(h), consoleHost)
		_ = windows.CloseHandle(h)
		if r == 0 {
			return nil, os.NewSyscallError("IsProcessInJob", cerr)
		}
		if lerr != nil {
			return nil, lerr
		}
		if in32 != 0 && !in.dead && !isHost {
			ids = append(ids, in.id)
		}
	}
	return ids, nil
}

func pidsOf(job windows.Handle) ([]int, error) {
	for room := 64; ; room *= 4 {
		// JOBOBJECT_BASIC_PROCESS_ID_LIST: two 32-bit counts, assigned and listed, then the numbers in the size of a pointer.
		const word = unsafe.Sizeof(uintptr(0))
		buf := make([]uintptr, 8/word+uintptr(room))
		var pin runtime.Pinner // its address goes through a uintptr
		pin.Pin(&buf[0])
		err := windows.QueryInformationJobObject(job, basicProcessIDList, uintptr(unsafe.Pointer(&buf[0])), uint32(uintptr(len(buf))*word), nil)
		pin.Unpin()
		if errors.Is(err, windows.ERROR_MORE_DATA) && room < 1<<20 {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("QueryInformationJobObject", err)
		}
		counts := (*[2]uint32)(unsafe.Pointer(&buf[0]))
		if counts[1] < counts[0] && room < 1<<20 {
			continue
		}
		var pids []int
		for _, p := range buf[8/word:][:counts[1]] {
			pids = append(pids, int(p))
		}
		return pids, nil
	}
}

// KillAll ends what runs of t at once and for certain, and what of also still runs.
func (t Tree) KillAll(also ...ID) error {
	job, err := openJob(t.Token, jobTerminate)
	if err == nil {
		err = os.NewSyscallError("TerminateJobObject", windows.TerminateJobObject(job, killedCode))
		err = multi.Join(err, windows.CloseHandle(job))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if t.Main != (ID{}) {
		also = append(slices.Clone(also), t.Main)
	}
	return multi.Join(err, Kill(also))
}
