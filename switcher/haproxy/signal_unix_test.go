//go:build unix

package haproxy_test

import "syscall"

const reloadSignal = syscall.SIGUSR2
