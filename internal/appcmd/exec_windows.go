package appcmd

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
)

// killedCode is the exit code of a process that was killed here: no exit code of appcmd.
const killedCode = 0xABCD0001

// tree is the process of a command and what it begins: a job, which ends with its last handle.
type tree struct {
	cmd *exec.Cmd

	mu      sync.Mutex
	job     windows.Handle
	entered bool // the process is in the job
	killed  bool
}

func newTree(cmd *exec.Cmd) (*tree, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		return nil, multi.Join(os.NewSyscallError("SetInformationJobObject", err), windows.CloseHandle(job))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
	return &tree{cmd: cmd, job: job}, nil
}

// started puts the process into the job. What it began before that is not in it: the real program begins nothing. One that has ended
// already cannot be put there, which is no error.
func (t *tree) started() {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.cmd.Process.WithHandle(func(h uintptr) {
		err := windows.AssignProcessToJobObject(t.job, windows.Handle(h))
		t.entered = err == nil
	})
	if t.killed { // before it was in the job
		_ = windows.TerminateJobObject(t.job, killedCode)
	}
}

func (t *tree) kill() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killed = true
	if t.entered {
		if err := windows.TerminateJobObject(t.job, killedCode); err == nil {
			return nil
		}
	}
	var err error
	if herr := t.cmd.Process.WithHandle(func(h uintptr) { err = windows.TerminateProcess(windows.Handle(h), killedCode) }); herr != nil {
		return herr
	}
	return os.NewSyscallError("TerminateProcess", err)
}

func (t *tree) wasKilled(s *os.ProcessState) bool {
	return uint32(s.ExitCode()) == killedCode
}

func (t *tree) close() { _ = windows.CloseHandle(t.job) }
