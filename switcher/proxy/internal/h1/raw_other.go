//go:build !linux

package h1

import (
	"net"
	"syscall"
)

// rawConn returns nil: here connections are read and written by their own methods.
func rawConn(net.Conn) syscall.RawConn { return nil }

// onReady is never called.
func (l *link) onReady(uintptr) bool { return true }
