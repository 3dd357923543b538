package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	keptPipes   = 16
	pipeSize    = 1 << 20 // asked for; one of the usual size will do
	smallStep   = 64 << 10
)

// pipe is one that is empty while nobody uses it.
type pipe struct{ r, w int }

// pipes keeps some for the next transfers.
type pipes struct {
	mu     sync.Mutex
	closed bool
	idle   []pipe
}

func (ps *pipes) get() (pipe, error) {
	ps.mu.Lock()
	if n := len(ps.idle); n > 0 {
		p := ps.idle[n-1]
		ps.idle = ps.idle[:n-1]
		ps.mu.Unlock()
		return p, nil
	}
	ps.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return pipe{}, os.NewSyscallError("pipe2", err)
	}
	unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return pipe{fds[0], fds[1]}, nil
}

// put takes back a pipe, which is empty.
func (ps *pipes) put(p pipe) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed || len(ps.idle) == keptPipes {
		p.close()
		return
	}
	ps.idle = append(ps.idle, p)
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

func (ps *pipes) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closed = true
	for _, p := range ps.idle {
		p.close()
	}
	ps.idle = nil
}

// canSplice reports whether bytes can go from src to dst inside the kernel.
func canSplice(dst, src *link) bool {
	if dst.raw == nil || src.raw == nil {
		return false
	}
	return isTCP(dst.Conn) && isTCP(src.Conn)
}

func isTCP(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *loopConn:
		return true
	}
	return false
}

// splice carries n bytes from src, of which nothing is pending, to dst, and tells moved of each part. It says which side failed. The steps
// grow as long as dst takes them, and are small where it does not: what is left of one then has to wait in a buffer.
func (s *Server) splice(dst, src *link, n int64, moved func(int64)) (rerr, werr error) {
	src.release()
	step := int64(largeSize)
	for n > 0 {
		p, in, err := s.fillPipe(src, min(n, step))
		if err != nil {
			return err, nil
		}
		left, err := drainPipe(dst, p, in)
		switch {
		case err != nil:
			p.close()
		case left > 0:
			step = smallStep
			err = s.unload(dst, p, left) // dst has no room: wait for that without the pipe
		default:
			step = min(2*step, pipeSize)
			s.pipes.put(p)
		}
		moved(int64(in)) // src has given it, whatever has become of it
		n -= int64(in)
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// fillPipe waits until something of src can be read, and returns a pipe that holds it.
func (s *Server) fillPipe(src *link, n int64) (p pipe, in int, err error) {
	var serr error
	err = src.raw.Read(func(fd uintptr) bool {
		if p, serr = s.pipes.get(); serr != nil {
			serr = errNoPipe
			return true
		}
		for {
			k, err := unix.Splice(int(fd), nil, p.w, nil, int(n), spliceFlags)
			in, serr = int(k), err // an int on some architectures, an int64 on others
			if serr != unix.EINTR {
				break
			}
		}
		if serr == nil && in > 0 {
			return true
		}
		s.pipes.put(p)
		if serr == unix.EAGAIN {
			return false
		}
		if serr == nil {
			serr = io.EOF
		}
		return true
	})
	if err == nil {
		err = serr
	}
	return p, in, err
}

// drainPipe moves what dst takes at once of the n bytes in p, and returns how many are left.
func drainPipe(dst *link, p pipe, n int) (left int, err error) {
	var serr error
	left = n
	err = dst.raw.Write(func(fd uintptr) bool {
		for left > 0 {
			k, e := unix.Splice(p.r, nil, int(fd), nil, left, spliceFlags)
			switch {
			case e == unix.EINTR:
			case e == unix.EAGAIN:
				return true
			case e != nil:
				serr = os.NewSyscallError("splice", e)
				return true
			default:
				left -= int(k)
			}
		}
		return true
	})
	if err == nil {
		err = serr
	}
	return left, err
}

// unload takes the n bytes that are left in p out of it, gives p back, and writes them to dst as fast as that takes them.
func (s *Server) unload(dst *link, p pipe, n int) error {
	b := getBuffer(n)
	defer putBuffer(b)
	for b.w < n {
		k, err := unix.Read(p.r, b.data[b.w:n])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			p.close()
			return os.NewSyscallError("read", errors.Join(err, io.ErrUnexpectedEOF))
		}
		b.w += k
	}
	s.pipes.put(p)
	_, err := dst.Write(b.data[:n])
	return err
}
