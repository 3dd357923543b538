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

// configuration is that of the HAProxy. On a server it stands in /etc/haproxy; what the SDK needs of it is the map with its line, the two
// backends, and the master's socket, which Debian's service has at /run/haproxy-master.sock.
const configuration = `
defaults
    mode http
    option abortonclose
    option http-no-delay
    option idle-close-on-response
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend fe
    bind FRONT
    use_backend %[str(mysite),map(DIR/slots.map)]
backend be_blue
    server blue BLUE check inter 100ms rise 1
backend be_green
    server green GREEN check inter 100ms rise 1
backend be_closed
    http-request return status 503 content-type text/plain string "nobody serves"
`

// balancer is an HAProxy of our own, in a folder of its own.
type balancer struct {
	dir, front string
	program    *exec.Cmd
	ended      chan struct{}
	log        *os.File
}

func (b *balancer) path(name string) string { return filepath.Join(b.dir, name) }

func startBalancer(ctx context.Context, blue, green string) (*balancer, error) {
	dir, err := os.MkdirTemp("", "bluegreen")
	if err != nil {
		return nil, err
	}
	b := &balancer{dir: dir}
	if err := b.start(ctx, blue, green); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

func (b *balancer) start(ctx context.Context, blue, green string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.front = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	text := strings.NewReplacer("DIR", b.dir, "FRONT", b.front, "BLUE", blue, "GREEN", green).Replace(configuration)
	if err := errors.Join(os.WriteFile(b.path("haproxy.cfg"), []byte(text), 0o600),
		os.WriteFile(b.path("slots.map"), []byte("mysite be_closed\n"), 0o600)); err != nil {
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
	return b.until(ctx, func() bool {
		conn, err := net.Dial("tcp", b.front)
		if err != nil {
			return false
		}
		_ = conn.Close()
		_, err = b.worker()
		return err == nil
	})
}

// until waits for something that HAProxy takes a moment for.
func (b *balancer) until(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
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

// worker asks the master for the process that takes new connections.
func (b *balancer) worker() (string, error) {
	text, err := b.say("show proc")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "worker" {
			return f[0], nil
		}
	}
	return "", fmt.Errorf("no worker in %q", text)
}

// say sends a command to the master, as an operator would.
func (b *balancer) say(command string) (string, error) {
	conn, err := net.Dial("unix", b.path("master.sock"))
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

// reload is what an operator does who has changed something else in the configuration. It knows nothing of slots.
func (b *balancer) reload(ctx context.Context) error {
	before, err := b.worker()
	if err != nil {
		return err
	}
	if _, err := b.say("reload"); err != nil {
		return err
	}
	return b.until(ctx, func() bool {
		now, err := b.worker()
		return err == nil && now != before
	})
}

// stop ends HAProxy with all its workers.
func (b *balancer) stop() error {
	if b.ended != nil {
		_ = b.program.Process.Signal(syscall.SIGTERM)
		select {
		case <-b.ended:
		case <-time.After(10 * time.Second):
			_ = b.program.Process.Kill()
			<-b.ended
		}
	}
	if b.log != nil {
		_ = b.log.Close()
	}
	return os.RemoveAll(b.dir)
}
