//go:build !unix

package haproxy_test

import (
	"errors"
	"syscall"
)

// There is no HAProxy here, and no such signal: tests skip before they send one.
const reloadSignal = syscall.SIGHUP

func reserve() (address string, release func() error, err error) {
	return "", nil, errors.ErrUnsupported
}
