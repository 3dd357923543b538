package tcp

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// How bytes are moved. A connection at rest holds none of this; see move.
const (
	smallBuffer = 8 << 10  // for what comes in small pieces
	largeBuffer = 64 << 10 // once a small buffer was full
	spliceFrom  = 256 << 10
)

// flowKit holds what connections share to move bytes.
type flowKit struct {
	small, large sync.Pool // of *[]byte
	pipes        pipes
}

func (k *flowKit) close() { k.pipes.close() }

func (k *flowKit) buffer(large bool) *[]byte {
	pool, size := &k.small, smallBuffer
	if large {
		pool, size = &k.large, largeBuffer
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (k *flowKit) release(b *[]byte) {
	if len(*b) == largeBuffer {
		k.large.Put(b)
	} else {
		k.small.Put(b)
	}
}

// move carries src to dst up to its end, counts the bytes, and says which side failed. It waits for the first byte of each piece without a
// buffer where the system can.
func (k *flowKit) move(dst, src net.Conn, count *atomic.Int64) (rerr, werr error) {
	if done, rerr, werr := k.moveRaw(dst, src, count); done {
		return rerr, werr
	}
	return k.copy(dst, src, count)
}

// copy moves what cannot be asked whether it is readable: TLS, pipes in memory, Windows. It waits with a small buffer.
func (k *flowKit) copy(dst io.Writer, src io.Reader, count *atomic.Int64) (rerr, werr error) {
	buf := k.buffer(false)
	defer func() { k.release(buf) }()
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, werr := dst.Write((*buf)[:n]); werr != nil {
				return nil, werr
			}
			count.Add(int64(n))
			if large := n == len(*buf); large != (len(*buf) == largeBuffer) {
				k.release(buf)
				buf = k.buffer(large)
			}
		}
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}
