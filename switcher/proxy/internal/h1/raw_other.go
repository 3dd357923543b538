//go:build !linux || !(amd64 || arm64)

package h1

import (
	"net"
	"syscall"
)

// rawConn returns nil: here connections are read and written by their own methods.
func rawConn(net.Conn) syscall.RawConn { return nil }

// onReady is never called.
func (l *link) onReady(uintptr) bool { return true }

// onWritable is never called.
func (l *link) onWritable(uintptr) bool { return true }
