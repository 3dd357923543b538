package iistest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// home is the address at which clients reach the machine unless they say another.
const home = "127.0.0.1"

// port is one emulated address, with its real listener on loopback. The listener stays when nothing is registered; it resets connections then.
type port struct {
	s      *Server
	at     endpoint
	ln     net.Listener
	server *http.Server
	done   chan struct{}
	conns  map[net.Conn]*conn // mu of the Server guards it
}

// conn is a client's connection.
type conn struct {
	raw    net.Conn
	secure bool
	busy   bool // a request was read whose answer is not wholly written; mu of the Server guards it
	// With ConnectionsStick: where the first request went. mu of the Server guards it.
	site int
	pool *pool
}

type connKey struct{}

// openPorts opens the ports of all sites, started or not. mu is held.
func (s *Server) openPorts() error {
	for _, t := range s.conf.sites {
		for _, b := range t.bindings {
			ip, number, _, ok := b.web()
			if !ok {
				continue
			}
			if ip == "*" {
				ip = home
			}
			if _, err := s.port(endpoint{ip, number}); err != nil {
				return err
			}
		}
	}
	return nil
}

// port returns the listener of an emulated address, which it opens if it is new. mu is held.
func (s *Server) port(at endpoint) (*port, error) {
	if p := s.ports[at]; p != nil {
		return p, nil
	}
	if s.closed {
		return nil, ErrClosed
	}
	real := 0
	if at.ip == home {
		real = s.cfg.Ports[at.port]
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(home, strconv.Itoa(real)))
	if err != nil {
		return nil, fmt.Errorf("emulated port %d: %w", at.port, err)
	}
	p := &port{s: s, at: at, ln: ln, done: make(chan struct{}), conns: map[net.Conn]*conn{}}
	p.server = &http.Server{
		Handler: p, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute, ConnState: p.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, p.add(c))
		},
	}
	s.ports[at] = p
	go func() {
		defer close(p.done)
		if err := p.server.Serve(acceptor{p}); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Debug("port ends", "port", at.port, "err", err)
		}
	}()
	return p, nil
}

// acceptor takes connections for a port: where nothing is registered it resets them.
type acceptor struct{ *port }

func (a acceptor) Close() error   { return a.ln.Close() }
func (a acceptor) Addr() net.Addr { return a.ln.Addr() }

func (a acceptor) Accept() (net.Conn, error) {
	for {
		c, err := a.ln.Accept()
		if err != nil {
			return nil, err
		}
		a.s.mu.Lock()
		open, secure := a.s.listening(a.at)
		a.s.mu.Unlock()
		switch {
		case !open:
			reset(c)
		case secure:
			return tls.Server(c, &tls.Config{GetCertificate: a.certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
		default:
			return c, nil
		}
	}
}

// reset closes a connection without the courtesy of finishing it.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // then it is closed in the ordinary way
	}
	_ = c.Close() // nothing is left to do about it
}

func (p *port) add(c net.Conn) *conn {
	state := &conn{raw: c}
	if t, ok := c.(*tls.Conn); ok {
		state.raw, state.secure = t.NetConn(), true
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.conns[c] = state
	if !p.s.up {
		reset(state.raw)
	}
	return state
}

func (p *port) connState(c net.Conn, to http.ConnState) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	switch to {
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	default:
		if state := p.conns[c]; state != nil {
			state.busy = to == http.StateActive
		}
	}
	if !p.s.up {
		p.s.wake() // StopService waits for the last answers
	}
}

// answering tells whether an answer is still on its way to a client. A worker process is done with a request a moment earlier than HTTP.sys
// is. mu is held.
func (s *Server) answering() bool {
	for _, p := range s.ports {
		for _, c := range p.conns {
			if c.busy {
				return true
			}
		}
	}
	return false
}

// dropAll resets all connections. mu is held.
func (p *port) dropAll() {
	for _, c := range p.conns {
		reset(c.raw)
	}
}

func (p *port) close() error {
	err := p.server.Close()
	<-p.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// refused is what a client gets at an address where nothing listens.
func refused(network, addr string) error {
	return &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("emulated %s: %w", addr, os.NewSyscallError("connect", syscall.ECONNREFUSED))}
}

// emulatedEndpoint reads the address of the machine that a client means: a name or loopback is home, any other address is itself.
func emulatedEndpoint(addr string) (endpoint, error) {
	host, number, err := net.SplitHostPort(addr)
	if err != nil {
		return endpoint{}, err
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 65535 {
		return endpoint{}, fmt.Errorf("address %q: no port", addr)
	}
	at := endpoint{home, n}
	if ip := net.ParseIP(host); ip != nil && !ip.Equal(net.IPv6loopback) && !ip.IsUnspecified() {
		at.ip = ip.String()
	}
	return at, nil
}

// DialContext connects to an emulated address such as "www.example.test:80" or "10.0.0.5:443": names and loopback addresses mean this machine.
// It fits http.Transport. Where no started site has a binding the connection is refused.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	at, err := emulatedEndpoint(addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	p := s.ports[at]
	if p == nil { // an address that only bindings to any address cover
		if open, _ := s.listening(at); open {
			p, err = s.port(at)
		}
	}
	open, _ := s.listening(at)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if p == nil || !open {
		return nil, refused(network, addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", p.ln.Addr().String())
}

// Client is a new HTTP client of the machine: it dials by DialContext, trusts the machine's certificates and follows no redirects.
// The caller closes its idle connections.
func (s *Server) Client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: s.DialContext, TLSClientConfig: &tls.Config{RootCAs: s.RootCAs(), MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Addr is the real address of an emulated one, such as "127.0.0.1:80" or "10.0.0.5:443", for programs that cannot be given DialContext. It is
// the same for the life of the Server. While no started site has a binding there, a connection to it is reset.
func (s *Server) Addr(addr string) (string, error) {
	at, err := emulatedEndpoint(addr)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.port(at)
	if err != nil {
		return "", err
	}
	return p.ln.Addr().String(), nil
}

// URL is the real URL of a binding, such as "http/*:80:www.example.test" or "*:80:", without a path. The binding's host part goes
// into the request's Host header, which is up to the caller.
func (s *Server) URL(bindingText string) (string, error) {
	protocol, info, ok := strings.Cut(bindingText, "/")
	if !ok {
		protocol, info = "http", bindingText
	}
	ip, number, _, ok := binding{protocol: protocol, info: info}.web()
	if !ok {
		return "", fmt.Errorf("binding %q is not for http or https", bindingText)
	}
	if ip == "*" {
		ip = home
	}
	real, err := s.Addr(net.JoinHostPort(ip, strconv.Itoa(number)))
	if err != nil {
		return "", err
	}
	return strings.ToLower(protocol) + "://" + real, nil
}

// httpSys answers as HTTP.sys does by itself, and closes the connection after errors that it calls fatal.
func httpSys(w http.ResponseWriter, status int) {
	texts := map[int]string{
		http.StatusNotFound:           "<h2>Not Found</h2>\r\n<hr><p>HTTP Error 404. The requested resource is not found.</p>",
		http.StatusBadRequest:         "<h2>Bad Request - Invalid Hostname</h2>\r\n<hr><p>HTTP Error 400. The request hostname is invalid.</p>",
		http.StatusServiceUnavailable: "<h2>Service Unavailable</h2>\r\n<hr><p>HTTP Error 503. The service is unavailable.</p>",
	}
	w.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	w.Header().Set("Content-Type", "text/html; charset=us-ascii")
	if slices.Contains([]int{http.StatusBadRequest, http.StatusServiceUnavailable}, status) {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!DOCTYPE HTML>\r\n<BODY>"+texts[status]+"</BODY>\r\n") // the client may be gone
}
