package tcp

import (
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	pipeSize  = 256 << 10 // asked for; the system may give less
	keptPipes = 32
	smallMove = 4 << 10 // a piece that was not worth a pipe
	maxSmall  = 16      // such pieces in a row
)

// pipes are pipes at rest, empty. A direction takes one while data flows and gives it back when none does.
type pipes struct {
	mu     sync.Mutex
	idle   []*pipe
	closed bool
}

type pipe struct{ r, w int }

// get returns an empty pipe; nil if the system has none to give.
func (p *pipes) get() *pipe {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		x := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return x
	}
	p.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // without it a pipe holds 64 KiB, which works too
	return &pipe{fds[0], fds[1]}
}

// put takes an empty pipe back.
func (p *pipes) put(x *pipe) {
	p.mu.Lock()
	if len(p.idle) < keptPipes && !p.closed {
		p.idle = append(p.idle, x)
		x = nil
	}
	p.mu.Unlock()
	if x != nil {
		x.close()
	}
}

func (x *pipe) close() {
	unix.Close(x.r)
	unix.Close(x.w)
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, x := range p.idle {
		x.close()
	}
	p.idle = nil
}

// canSplice reports whether both are plain stream sockets.
func canSplice(dst, src net.Conn) bool {
	stream := func(c net.Conn) bool {
		switch c.(type) {
		case *net.TCPConn, *net.UnixConn:
			return true
		}
		return false
	}
	return stream(dst) && stream(src)
}

// splice moves pieces inside the kernel while they are large. end tells that the direction has ended, or failed; otherwise the pieces have
// become small, or there is no pipe.
func (r *raw) splice() (end bool, rerr, werr error) {
	m := &splicing{r: r}
	fill, drain := m.fill, m.drain
	for small := 0; small < maxSmall; {
		m.n, m.err = 0, nil
		if err := r.src.Read(fill); err != nil {
			return true, err, nil
		}
		switch {
		case m.err == errNoPipe:
			return false, nil, nil
		case m.err != nil:
			return true, m.err, nil
		case m.n == 0:
			return true, nil, nil
		}
		n := m.n
		for m.n > 0 {
			err := r.drain.Write(drain)
			if err == nil {
				err = m.err
			}
			if err != nil {
				m.pipe.close() // what it holds is nobody's any more
				return true, nil, err
			}
		}
		r.k.pipes.put(m.pipe)
		r.count.Add(int64(n))
		if small++; n >= smallMove {
			small = 0
		}
	}
	return false, nil, nil
}

// splicing is one piece on its way through a pipe.
type splicing struct {
	r    *raw
	pipe *pipe
	n    int // bytes in the pipe
	err  error
}

// errNoPipe says that splicing is not to be had, and that nothing was moved.
const errNoPipe = unix.ENFILE

// fill moves what there is into a pipe; if there is nothing yet it gives the pipe back and lets the poller wait.
func (m *splicing) fill(fd uintptr) bool {
	if m.pipe = m.r.k.pipes.get(); m.pipe == nil {
		m.err = errNoPipe
		return true
	}
	n, err := splice(int(fd), m.pipe.w)
	switch {
	case err == unix.EAGAIN: // the pipe is empty, so it is the socket that has nothing
		m.r.k.pipes.put(m.pipe)
		return false
	case n > 0:
		m.n = n
		return true
	}
	m.r.k.pipes.put(m.pipe)
	switch err {
	case nil: // the end
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
		m.err = errNoPipe
	default:
		m.err = os.NewSyscallError("splice", err)
	}
	return true
}

// drain moves what the pipe holds to the other side, as far as that takes it.
func (m *splicing) drain(fd uintptr) bool {
	for m.n > 0 {
		n, err := splice(m.pipe.r, int(fd))
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			m.err = os.NewSyscallError("splice", err)
			return true
		}
		if n == 0 {
			m.err = os.NewSyscallError("splice", unix.EIO)
			return true
		}
		m.n -= n
	}
	return true
}

func splice(from, to int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return int(n), err
		}
	}
}
