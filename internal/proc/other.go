//go:build !linux && !darwin && !windows

package proc

import (
	"context"
	"errors"
)

type info struct{ id ID }

func look(int) (info, error) { return info{}, errors.ErrUnsupported }

func kill(ID) error { return errors.ErrUnsupported }

func terminate(ID) error { return errors.ErrUnsupported }

// Running reports whether the very process that id names runs. One that has ended and was not yet waited for does not.
func Running(ID) (bool, error) { return false, errors.ErrUnsupported }

// Find tells what runs of t, and of the processes in also, which were seen to belong to it before.
func (t Tree) Find(context.Context, ...ID) (Members, error) { return Members{}, errors.ErrUnsupported }

// Interrupt asks the main process to end.
func (t Tree) Interrupt(context.Context) error { return errors.ErrUnsupported }

// KillAll ends what runs of t at once and for certain, and what of also still runs.
func (t Tree) KillAll(...ID) error { return errors.ErrUnsupported }

// Child is a process that this one has begun.
type Child struct{}

// Launch starts the process of s.
func Launch(Spec) (*Child, error) { return nil, errors.ErrUnsupported }

// ID names the process.
func (c *Child) ID() ID { return ID{} }

// Exited reports whether the process has ended, and how. It does not wait.
func (c *Child) Exited() (Exit, bool) { return Exit{}, false }

// DiesWithUs says why what Launch starts would be ended together with this process; "": nothing speaks for it.
func DiesWithUs() (string, error) { return "", errors.ErrUnsupported }
