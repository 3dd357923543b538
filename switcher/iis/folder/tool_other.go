//go:build !unix && !windows

package folder

import (
	"errors"
	"os/exec"
)

type tree struct{}

func startTree(*exec.Cmd, string) (*tree, error) { return nil, errors.ErrUnsupported }

func (*tree) kill() error { return nil }

func (*tree) end() error { return nil }
