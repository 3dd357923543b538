//go:build !linux

package nginx

import (
	"errors"
	"fmt"
	"runtime"
)

// supported tells whether the processes of this system can be looked at.
func supported() error {
	return fmt.Errorf("nginx: whether old worker processes have stopped accepting can be seen on Linux only, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func lookAt(int) (process, error) { return process{}, errors.ErrUnsupported }

func workersOf(int) ([]worker, error) { return nil, errors.ErrUnsupported }

func startedBefore(worker, string) (bool, error) { return false, errors.ErrUnsupported }

func socketsOf(int) (map[uint64]bool, error) { return nil, errors.ErrUnsupported }

func tableOf(int) ([]socket, error) { return nil, errors.ErrUnsupported }

func listenersOf(int) ([]socket, error) { return nil, errors.ErrUnsupported }

func userOf(int) (uint32, error) { return 0, errors.ErrUnsupported }

func hangUp(int) error { return errors.ErrUnsupported }

func mayHangUp(int) error { return errors.ErrUnsupported }

func mayWrite(string) error { return errors.ErrUnsupported }
