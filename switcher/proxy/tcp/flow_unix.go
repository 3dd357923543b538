//go:build unix

package tcp

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// raw is a direction between two sockets that the system can be asked about. Between pieces it holds neither buffer nor pipe.
type raw struct {
	k     *flowKit
	src   syscall.RawConn
	dst   net.Conn
	drain syscall.RawConn // of dst; nil: it cannot be spliced to
	count *atomic.Int64

	buf   *[]byte
	large bool // the last piece filled its buffer
	n     int
	err   error
}

// moveRaw is move for sockets; done is false for anything else.
func (k *flowKit) moveRaw(dst, src net.Conn, count *atomic.Int64) (done bool, rerr, werr error) {
	sc, ok := src.(syscall.Conn)
	if !ok {
		return false, nil, nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return true, err, nil
	}
	r := &raw{k: k, src: rc, dst: dst, count: count}
	if dc, ok := dst.(syscall.Conn); ok && canSplice(dst, src) {
		if r.drain, err = dc.SyscallConn(); err != nil {
			return true, nil, err
		}
	}
	rerr, werr = r.run()
	return true, rerr, werr
}

func (r *raw) run() (rerr, werr error) {
	receive := r.receive // made once: it is passed on for every piece
	streak := 0          // bytes in a row that came in large pieces
	for {
		err := r.src.Read(receive)
		if err == nil {
			err = r.err
		}
		if err != nil || r.n == 0 {
			if r.buf != nil {
				r.k.release(r.buf)
			}
			return err, nil
		}
		_, werr := r.dst.Write((*r.buf)[:r.n])
		r.large = r.n == len(*r.buf)
		r.k.release(r.buf)
		r.buf = nil
		if werr != nil {
			return nil, werr
		}
		r.count.Add(int64(r.n))
		if streak += r.n; r.n < smallBuffer {
			streak = 0
		}
		if streak >= spliceFrom && r.drain != nil {
			streak = 0
			if end, rerr, werr := r.splice(); end {
				return rerr, werr
			}
		}
	}
}

// receive takes a buffer and reads; if there is nothing yet it gives the buffer back and lets the poller wait.
func (r *raw) receive(fd uintptr) bool {
	r.buf = r.k.buffer(r.large)
	for {
		r.n, r.err = syscall.Read(int(fd), *r.buf)
		if r.err != syscall.EINTR {
			break
		}
	}
	if r.err == syscall.EAGAIN {
		r.k.release(r.buf)
		r.buf, r.err = nil, nil
		return false
	}
	if r.err != nil {
		r.n, r.err = 0, os.NewSyscallError("read", r.err)
	}
	return true
}
