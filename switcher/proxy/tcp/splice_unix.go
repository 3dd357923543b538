//go:build unix && !linux

package tcp

import "net"

func canSplice(net.Conn, net.Conn) bool { return false }

func (*raw) splice() (end bool, rerr, werr error) { return false, nil, nil }
