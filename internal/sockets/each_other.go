//go:build !linux && !windows

package sockets

import "errors"

func each(func(Conn)) error { return errors.ErrUnsupported }
