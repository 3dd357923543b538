package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/abswap/abswap/internal/filelock"
	"github.com/abswap/abswap/internal/multi"
)

// controlAddress reads "unix:PATH" or "HOST:PORT", where HOST is localhost or a loopback address.
func controlAddress(address string) (network, at string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return "", "", fmt.Errorf("address %q names no path", address)
		}
		return "unix", path, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("address %q is neither unix:PATH nor HOST:PORT: %w", address, err)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.Unmap().IsLoopback()) {
		return "", "", fmt.Errorf("address %q: %q is not localhost, nor a loopback address: other machines must not reach the control plane", address, host)
	}
	return "tcp", address, nil
}

// ListenControl listens for callers of the control plane: at a Unix socket ("unix:/run/site/control.sock"; Windows has them too), or on
// loopback ("127.0.0.1:7070"; port 0 takes a free one, and there ControlOptions.Token is required).
//
// A socket can be opened only by the user who runs the program (on Windows: by whoever may write to its folder), from its first moment on.
// Its folder must exist. Beside it lies a lock, PATH + ".lock": while another proxy listens there the error says so; what a dead one has
// left is removed. What is not a socket is left alone, and is an error. Closing the listener removes the socket.
func ListenControl(address string) (net.Listener, error) {
	network, at, err := controlAddress(address)
	if err != nil {
		return nil, fmt.Errorf("proxy: control: %w", err)
	}
	var l net.Listener
	if network == "unix" {
		l, err = listenUnix(at)
	} else {
		l, err = net.Listen(network, at)
	}
	if err != nil {
		return nil, fmt.Errorf("proxy: control: %w", err)
	}
	return l, nil
}

func listenUnix(path string) (l net.Listener, err error) {
	lock, err := filelock.Try(path+".lock", 0o600)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("another proxy listens at %q: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = multi.Join(err, lock.Close())
		}
	}()
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	u, err := bindSocket(path)
	if err != nil {
		return nil, err
	}
	return &socketListener{UnixListener: u, path: path, lock: lock}, nil
}

// clearSocket removes a socket at which nobody listens.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type()&fs.ModeSocket == 0 {
		return fmt.Errorf("%q is not a socket (%s): name another path, or move it away", path, info.Mode().Type())
	}
	if c, err := net.DialTimeout("unix", path, 2*time.Second); err == nil {
		c.Close()
		return fmt.Errorf("another program listens at %q", path)
	}
	return os.Remove(path)
}

// socketListener removes its socket when it is closed, and only then lets others listen there.
type socketListener struct {
	*net.UnixListener
	path string
	lock *filelock.File
	once sync.Once
	err  error
}

// Addr tells the path of the socket.
func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *socketListener) Close() error {
	l.once.Do(func() {
		rerr := os.Remove(l.path)
		if errors.Is(rerr, fs.ErrNotExist) {
			rerr = nil
		}
		l.err = multi.Join(l.UnixListener.Close(), rerr, l.lock.Close())
	})
	return l.err
}
