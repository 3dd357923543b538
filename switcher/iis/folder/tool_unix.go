//go:build unix

package folder

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"time"

	"github.com/abswap/abswap/internal/retry"
)

// tree is a process group: what the tool starts belongs to it, unless it makes a group of its own.
type tree struct{ group int }

// startTree starts cmd as the first of a group. The command line is for Windows.
func startTree(cmd *exec.Cmd, _ string) (*tree, error) {
	cmd.SysProcAttr = groupAttr()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &tree{cmd.Process.Pid}, nil
}

// kill ends all of the tree.
func (t *tree) kill() error {
	err := syscall.Kill(-t.group, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EPERM) { // macOS says EPERM where only zombies are left
		return nil
	}
	return err
}

// end ends what is left of the tree and waits until nothing is. A zombie counts as long as nobody waits for it, so that is bounded.
func (t *tree) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var failed error
	_ = retry.Do(ctx, retry.Policy{First: time.Millisecond, Max: 50 * time.Millisecond}, func(context.Context) error {
		if failed = t.kill(); failed != nil || syscall.Kill(-t.group, 0) != nil {
			return nil
		}
		return errLeft
	})
	return failed
}

var errLeft = errors.New("processes are left")
