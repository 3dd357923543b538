//go:build unix

package appcmd

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// tree is the process of a command and what it begins: a process group.
type tree struct{ cmd *exec.Cmd }

func newTree(cmd *exec.Cmd) (*tree, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &tree{cmd}, nil
}

func (t *tree) started() {}

// kill is called before the process is waited for, so its number is still its own, and so is that of its group.
func (t *tree) kill() error {
	err := syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
	switch {
	case errors.Is(err, syscall.ESRCH):
		return os.ErrProcessDone
	case err != nil: // macOS says EPERM of a group in which all have ended
		return t.cmd.Process.Kill()
	}
	return nil
}

func (t *tree) wasKilled(s *os.ProcessState) bool {
	ws, ok := s.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

func (t *tree) close() {}
