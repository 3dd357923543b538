package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/internal/multi"
)

// killedCode is the exit code of processes that were killed.
const killedCode = 0xAB

// Child is a process that this one has begun. It needs no Close: its handle goes with the Child.
type Child struct {
	id ID

	mu     sync.Mutex
	handle windows.Handle // 0: it has ended
	undo   runtime.Cleanup
	exit   Exit
}

// Launch starts the process of s with a console of its own that has no window, as the first of a process group and of a job, with no
// input and its output going straight to s.Output, so that it lives on when this process and its console end. It is put into
// the job before it runs its first instruction. The error is that of the system if it cannot be started.
func Launch(s Spec) (*Child, error) {
	if s.Token == "" {
		return nil, errors.New("launch without a token")
	}
	job, err := createJob(s.Token)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(job)
	pi, err := createSuspended(s)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(pi.Thread)
	c := &Child{handle: pi.Process}
	err = func() error {
		if err := windows.AssignProcessToJobObject(job, pi.Process); err != nil {
			return os.NewSyscallError("AssignProcessToJobObject", err)
		}
		// The name of the job lives as long as somebody has a handle to it; the job itself does not need one.
		var theirs windows.Handle
		if err := windows.DuplicateHandle(windows.CurrentProcess(), job, pi.Process, &theirs, jobQuery, true, 0); err != nil {
			return os.NewSyscallError("DuplicateHandle", err)
		}
		in, err := lookAt(int(pi.ProcessId), pi.Process)
		if err != nil {
			return err
		}
		c.id = in.id
		if _, err := windows.ResumeThread(pi.Thread); err != nil {
			return os.NewSyscallError("ResumeThread", err)
		}
		return nil
	}()
	if err != nil {
		return nil, multi.Join(err, windows.TerminateProcess(pi.Process, killedCode), windows.CloseHandle(pi.Process))
	}
	c.undo = runtime.AddCleanup(c, func(h windows.Handle) { _ = windows.CloseHandle(h) }, c.handle)
	return c, nil
}

// createSuspended creates the process with its first thread waiting. It inherits s.Output and nothing else.
func createSuspended(s Spec) (*windows.ProcessInformation, error) {
	in, err := inheritable(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(in)
	var out windows.Handle
	self := windows.CurrentProcess()
	if err := windows.DuplicateHandle(self, windows.Handle(s.Output.Fd()), self, &out, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return nil, os.NewSyscallError("DuplicateHandle", err)
	}
	defer windows.CloseHandle(out)

	attrs, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return nil, os.NewSyscallError("InitializeProcThreadAttributeList", err)
	}
	defer attrs.Delete()
	handles := []windows.Handle{in, out}
	err = attrs.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&handles[0]), uintptr(len(handles))*unsafe.Sizeof(handles[0]))
	if err != nil {
		return nil, os.NewSyscallError("UpdateProcThreadAttribute", err)
	}
	si := &windows.StartupInfoEx{ProcThreadAttributeList: attrs.List()}
	si.Cb = uint32(unsafe.Sizeof(*si))
	si.Flags = windows.STARTF_USESTDHANDLES
	si.StdInput, si.StdOutput, si.StdErr = in, out, out

	path, err := windows.UTF16PtrFromString(s.Path)
	if err != nil {
		return nil, err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(append([]string{s.Path}, s.Args...)))
	if err != nil {
		return nil, err
	}
	dir, err := windows.UTF16PtrFromString(s.Dir)
	if err != nil {
		return nil, err
	}
	env, err := envBlock(append(s.Env[:len(s.Env):len(s.Env)], TokenEnv+"="+s.Token))
	if err != nil {
		return nil, err
	}
	const flags = windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW |
		windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT
	pi := &windows.ProcessInformation{}
	// Out of the job of this process, if it allows that: that job may end all its processes when this one has ended.
	err = windows.CreateProcess(path, line, nil, nil, true, flags|windows.CREATE_BREAKAWAY_FROM_JOB, &env[0], dir, &si.StartupInfo, pi)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		err = windows.CreateProcess(path, line, nil, nil, true, flags, &env[0], dir, &si.StartupInfo, pi)
	}
	runtime.KeepAlive(handles)
	runtime.KeepAlive(s.Output)
	if err != nil {
		return nil, &os.PathError{Op: "CreateProcess", Path: s.Path, Err: err}
	}
	return pi, nil
}

func inheritable(name string) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	sa := &windows.SecurityAttributes{InheritHandle: 1}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateFile(p, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, sa, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return h, nil
}

// envBlock returns the variables one after the other, each with a zero at its end, and one more zero. Of two with one name, which the
// system compares without regard to case, the later wins.
func envBlock(env []string) ([]uint16, error) {
	last := map[string]int{}
	for i, e := range env {
		last[envKey(e)] = i
	}
	var block []uint16
	for i, e := range env {
		if last[envKey(e)] != i || e == "" {
			continue
		}
		u, err := windows.UTF16FromString(e) // with its zero
		if err != nil {
			return nil, fmt.Errorf("environment %q: %w", e, err)
		}
		block = append(block, u...)
	}
	if len(block) == 0 {
		block = []uint16{0}
	}
	return append(block, 0), nil
}

// envKey returns the name in upper case. The names of drives' folders, "=C:", begin with the sign.
func envKey(e string) string {
	if i := strings.Index(e[min(1, len(e)):], "="); i >= 0 {
		return strings.ToUpper(e[:i+1])
	}
	return strings.ToUpper(e)
}

// ID names the process.
func (c *Child) ID() ID { return c.id }

// Exited reports whether the process has ended, and how. It does not wait.
func (c *Child) Exited() (Exit, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle == 0 {
		return c.exit, true
	}
	if state, err := windows.WaitForSingleObject(c.handle, 0); err != nil || state == stillActive {
		return Exit{}, false
	}
	var code uint32
	if err := windows.GetExitCodeProcess(c.handle, &code); err != nil {
		return Exit{}, false
	}
	c.exit = Exit{Code: int(code)}
	if code == killedCode {
		c.exit = Exit{Code: -1, Signal: "killed"}
	}
	c.undo.Stop()
	_ = windows.CloseHandle(c.handle)
	c.handle = 0
	return c.exit, true
}
