//go:build !unix

package haproxy_test

import "syscall"

// There is no HAProxy here, and no such signal: tests skip before they send one.
const reloadSignal = syscall.SIGHUP
