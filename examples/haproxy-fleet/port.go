package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// port is the application's address, which is the node's for its whole life, as with http.sys or a socket that systemd holds. Without an
// application it answers that there is none.
type port struct {
	l       net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	current *lent // nil: there is no application
}

const noApplication = "HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

func openPort() (*port, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &port{l: l}
	p.wg.Go(p.serve)
	return p, nil
}

// serve hands connections to the application.
func (p *port) serve() {
	for {
		conn, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.current
		p.mu.Unlock()
		if to == nil || !to.give(conn) {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(conn, noApplication)
			_ = conn.Close()
		}
	}
}

// lend returns a listener for an application; from then on connections go there, until it is closed.
func (p *port) lend() net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = &lent{addr: p.l.Addr(), conns: make(chan net.Conn), ended: make(chan struct{})}
	return p.current
}

func (p *port) close() error {
	err := p.l.Close()
	p.wg.Wait()
	return err
}

// lent is the listener of one run of the application.
type lent struct {
	addr  net.Addr
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func (l *lent) give(conn net.Conn) bool {
	select {
	case l.conns <- conn:
		return true
	case <-l.ended:
		return false
	}
}

// Accept implements net.Listener.
func (l *lent) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *lent) Addr() net.Addr { return l.addr }

// Close implements net.Listener.
func (l *lent) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}
