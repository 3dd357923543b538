package proxy

import "net"

// bindSocket binds in place: who may open the socket is the folder's to say.
func bindSocket(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false)
	}
	return l, err
}
