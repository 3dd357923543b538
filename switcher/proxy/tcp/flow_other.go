//go:build !unix

package tcp

import (
	"net"
	"sync/atomic"
)

func (k *flowKit) moveRaw(net.Conn, net.Conn, *atomic.Int64) (done bool, rerr, werr error) {
	return false, nil, nil
}
