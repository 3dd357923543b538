package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// configuration is that of each HAProxy. On a server it stands in /etc/haproxy; what the SDK needs of it is the backend, whose servers have the
// members' names, its state file, and the master's socket, which Debian's service has at /run/haproxy-master.sock. At first nobody is in service.
// With noreuseport two HAProxys that are given the same port by chance do not share it: the second one is given another.
const configuration = `
global
    noreuseport
    stats socket DIR/admin.sock mode 600 level admin
    stats timeout 10m
defaults
    mode http
    option abortonclose
    option http-no-delay
    option idle-close-on-response
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s
frontend fe
    bind FRONT
    default_backend be_shop
backend be_shop
    option httpchk GET /healthz
    load-server-state-from-file local
    server-state-file-name DIR/be_shop.state
`

// balancer is an HAProxy of our own, in a folder of its own.
type balancer struct {
	name, dir, front string
	program          *exec.Cmd
	ended            chan struct{}
	log              *os.File
}

func (b *balancer) path(name string) string { return filepath.Join(b.dir, name) }

func (b *balancer) door() door {
	return door{Name: b.name, Master: b.path("master.sock"), StateFile: b.path("be_shop.state")}
}

func startBalancer(ctx context.Context, name string, nodes []nodeAddress) (*balancer, error) {
	dir, err := os.MkdirTemp("", name) // a socket's path is short
	if err != nil {
		return nil, err
	}
	b := &balancer{name: name, dir: dir}
	for try := 0; ; try++ { // the port that was free may be taken by another program before HAProxy has it
		if err = b.start(ctx, nodes); err == nil {
			return b, nil
		}
		b.halt()
		if try == 3 || ctx.Err() != nil {
			return nil, errors.Join(err, b.stop())
		}
	}
}

func (b *balancer) start(ctx context.Context, nodes []nodeAddress) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.front = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(strings.NewReplacer("DIR", b.dir, "FRONT", b.front).Replace(configuration))
	for _, n := range nodes {
		fmt.Fprintf(&text, "    server %s %s check inter 500ms fall 20 rise 1 disabled\n", n.Name, n.App)
	}
	if err := os.WriteFile(b.path("haproxy.cfg"), []byte(text.String()), 0o600); err != nil {
		return err
	}
	if b.log, err = os.Create(b.path("log")); err != nil {
		return err
	}
	b.program = exec.Command("haproxy", "-W", "-S", b.path("master.sock")+",mode,600", "-f", b.path("haproxy.cfg"))
	b.program.Stdout, b.program.Stderr = b.log, b.log
	if err := b.program.Start(); err != nil {
		return err
	}
	b.ended = make(chan struct{})
	go func() { _ = b.program.Wait(); close(b.ended) }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !b.up() {
		select {
		case <-tick.C:
		case <-b.ended:
			text, _ := os.ReadFile(b.path("log"))
			return fmt.Errorf("haproxy has ended: %s", text)
		case <-ctx.Done():
			return fmt.Errorf("haproxy: %w", ctx.Err())
		}
	}
	return nil
}

// up tells whether the front door and the sockets are open.
func (b *balancer) up() bool {
	conn, err := net.Dial("tcp", b.front)
	if err != nil {
		return false
	}
	_ = conn.Close()
	text, err := say(b.path("master.sock"), "show proc")
	if err != nil || !strings.Contains(text, "worker") {
		return false
	}
	_, err = say(b.path("admin.sock"), "show info")
	return err == nil
}

// say sends a command to a socket of HAProxy, as an operator would.
func say(socket, command string) (string, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// halt ends HAProxy with all its workers.
func (b *balancer) halt() {
	if b.ended != nil {
		_ = b.program.Process.Signal(syscall.SIGTERM)
		select {
		case <-b.ended:
		case <-time.After(10 * time.Second):
			_ = b.program.Process.Kill()
			<-b.ended
		}
		b.ended = nil
	}
	if b.log != nil {
		_ = b.log.Close()
		b.log = nil
	}
}

func (b *balancer) stop() error {
	b.halt()
	return os.RemoveAll(b.dir)
}
