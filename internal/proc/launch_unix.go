//go:build linux || darwin

package proc

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/abswap/abswap/internal/multi"
)

// Child is a process that this one has begun. It needs no Close: it holds nothing but the right to know how the process ended.
type Child struct {
	id ID

	mu    sync.Mutex
	ended bool
	exit  Exit
}

// Launch starts the process of s in a session of its own, with no input and its output going straight to s.Output, so that it lives on
// when this process ends. The error is that of the system if it cannot be started.
func Launch(s Spec) (*Child, error) {
	if s.Token == "" {
		return nil, errors.New("launch without a token")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess(s.Path, append([]string{s.Path}, s.Args...), &os.ProcAttr{
		Dir:   s.Dir,
		Env:   append(s.Env[:len(s.Env):len(s.Env)], TokenEnv+"="+s.Token),
		Files: []*os.File{null, s.Output, s.Output},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	c := &Child{id: ID{PID: p.Pid}}
	in, err := look(p.Pid) // nobody else can wait for it, so the pid is its own, also if it has ended already
	if err != nil {
		return nil, multi.Join(err, p.Kill(), waited(p))
	}
	c.id = in.id
	_ = p.Release() // the process runs, whatever this says
	return c, nil
}

func waited(p *os.Process) error {
	_, err := p.Wait()
	return err
}

// ID names the process.
func (c *Child) ID() ID { return c.id }

// Exited reports whether the process has ended, and how. It does not wait. The first call after the end takes the process off the
// system's list, where it is a zombie until then.
func (c *Child) Exited() (Exit, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return c.exit, true
	}
	var ws unix.WaitStatus
	pid, err := unix.Wait4(c.id.PID, &ws, unix.WNOHANG, nil)
	for errors.Is(err, unix.EINTR) {
		pid, err = unix.Wait4(c.id.PID, &ws, unix.WNOHANG, nil)
	}
	switch {
	case err != nil: // ECHILD: someone in this process waits for all children
		if ok, rerr := Running(c.id); ok || rerr != nil {
			return Exit{}, false
		}
		c.ended, c.exit = true, Exit{Code: -1}
	case pid == c.id.PID && ws.Exited():
		c.ended, c.exit = true, Exit{Code: ws.ExitStatus()}
	case pid == c.id.PID && ws.Signaled():
		c.ended, c.exit = true, Exit{Code: -1, Signal: ws.Signal().String()}
	}
	return c.exit, c.ended
}
