//go:build !unix && !windows

package appcmd

import (
	"os"
	"os/exec"
)

// tree is the process of a command.
type tree struct{ cmd *exec.Cmd }

func newTree(cmd *exec.Cmd) (*tree, error) { return &tree{cmd}, nil }

func (t *tree) started() {}

func (t *tree) kill() error { return t.cmd.Process.Kill() }

func (t *tree) wasKilled(s *os.ProcessState) bool { return !s.Success() }

func (t *tree) close() {}
