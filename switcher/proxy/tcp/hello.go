package tcp

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// errNoHello says that what a client sent first is not, or not yet, a TLS ClientHello. The connection is as good as any other.
var errNoHello = errors.New("no ClientHello")

// serverName reads the first message of a TLS client and returns the server name in it, which may be empty, and all bytes that were read. The
// error is errNoHello if it is none, or if the client let the read deadline pass; anything else means that the connection has ended.
func serverName(c net.Conn) (name string, read []byte, _ error) {
	h := &helloConn{Conn: c}
	seen := false
	tls.Server(h, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, seen = hello.ServerName, true
		return nil, errHeard
	}}).Handshake()
	switch {
	case seen:
		return name, h.read, nil
	case h.err == nil, isTimeout(h.err):
		return "", h.read, errNoHello
	}
	return "", h.read, h.err
}

var errHeard = errors.New("heard enough")

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// helloConn lets a TLS server listen, keeps what it reads, and says nothing. It gives up at the first byte that cannot begin a handshake.
type helloConn struct {
	net.Conn
	read []byte
	err  error // of the connection
}

const recordHandshake = 22

func (h *helloConn) Read(p []byte) (int, error) {
	if len(h.read) > 0 && h.read[0] != recordHandshake {
		return 0, errNoHello
	}
	n, err := h.Conn.Read(p)
	h.read = append(h.read, p[:n]...)
	if err != nil {
		h.err = err
	}
	return n, err
}

func (h *helloConn) Write(p []byte) (int, error)      { return len(p), nil }
func (h *helloConn) Close() error                     { return nil }
func (h *helloConn) SetDeadline(time.Time) error      { return nil }
func (h *helloConn) SetReadDeadline(time.Time) error  { return nil }
func (h *helloConn) SetWriteDeadline(time.Time) error { return nil }
