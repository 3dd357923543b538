package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/internal/retry"
)

// killedCode is the exit code of a tool that was ended.
const killedCode = 0xAB

// tree is a job: all that the tool starts belongs to it, and all ends when its last handle is closed, so also when this process dies.
type tree struct{ job windows.Handle }

// startTree starts cmd, with the command line given if there is one, and puts it into a job before it runs its first instruction.
func startTree(cmd *exec.Cmd, line string) (_ *tree, err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	t := &tree{job}
	defer func() {
		if err != nil {
			err = multi.Join(err, windows.CloseHandle(job))
		}
	}()
	limits := &windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	var pin runtime.Pinner // its address goes through a uintptr
	pin.Pin(limits)
	defer pin.Unpin()
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(limits)), uint32(unsafe.Sizeof(*limits)))
	if err != nil {
		return nil, os.NewSyscallError("SetInformationJobObject", err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: line, HideWindow: true, CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NO_WINDOW}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err = cmd.Process.WithHandle(func(h uintptr) {
		if err = windows.AssignProcessToJobObject(job, windows.Handle(h)); err != nil {
			err = os.NewSyscallError("AssignProcessToJobObject", err)
		}
	})
	if err == nil {
		err = resume(uint32(cmd.Process.Pid))
	}
	if err != nil {
		return nil, multi.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	return t, nil
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// resume lets the one thread of a process run that was started suspended.
func resume(pid uint32) error {
	snap, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return os.NewSyscallError("CreateToolhelp32Snapshot", err)
	}
	defer windows.CloseHandle(snap)
	entry := &windows.ThreadEntry32{}
	entry.Size = uint32(unsafe.Sizeof(*entry))
	for err = windows.Thread32First(snap, entry); err == nil; err = windows.Thread32Next(snap, entry) {
		if entry.OwnerProcessID != pid {
			continue
		}
		h, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, entry.ThreadID)
		if err != nil {
			return os.NewSyscallError("OpenThread", err)
		}
		_, err = windows.ResumeThread(h)
		return multi.Join(os.NewSyscallError("ResumeThread", err), windows.CloseHandle(h))
	}
	return os.NewSyscallError("Thread32Next", err)
}

// kill ends all of the tree.
func (t *tree) kill() error {
	return os.NewSyscallError("TerminateJobObject", windows.TerminateJobObject(t.job, killedCode))
}

// end ends what is left of the tree and waits until nothing is.
func (t *tree) end() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Second, errors.New("what the tool started does not end"))
	defer cancel()
	err := retry.Do(ctx, retry.Policy{First: time.Millisecond, Max: 50 * time.Millisecond}, func(context.Context) error {
		if err := t.kill(); err != nil {
			return retry.Stop(err)
		}
		switch n, err := t.running(); {
		case err != nil:
			return retry.Stop(err)
		case n > 0:
			return fmt.Errorf("%d processes are left", n)
		}
		return nil
	})
	return multi.Join(err, windows.CloseHandle(t.job))
}

// accounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type accounting struct {
	userTime, kernelTime, periodUser, periodKernel int64
	pageFaults, total, active, terminated          uint32
}

func (t *tree) running() (uint32, error) {
	const basicAccounting = 1
	info := &accounting{}
	var pin runtime.Pinner
	pin.Pin(info)
	defer pin.Unpin()
	err := windows.QueryInformationJobObject(t.job, basicAccounting, uintptr(unsafe.Pointer(info)), uint32(unsafe.Sizeof(*info)), nil)
	return info.active, os.NewSyscallError("QueryInformationJobObject", err)
}
