package haproxydemo

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

// Config is the name of the file, of those that Start is given, by which HAProxy is started.
const Config = "haproxy.cfg"

// Balancer is an HAProxy that runs in a folder of its own, with a master, whose socket is master.sock there.
type Balancer struct {
	Front   string // host:port of its front door
	dir     string
	program *exec.Cmd
	ended   chan struct{}
	log     *os.File
}

// Start starts one with these files, by name, in its folder. In each of them DIR stands for the folder and FRONT for a port of loopback that is
// free; if another program takes that first, another one is tried. ready says what has to be so, beside an open front door, for it to be up; nil:
// nothing.
func Start(ctx context.Context, name string, files map[string]string, ready func(*Balancer) bool) (*Balancer, error) {
	dir, err := os.MkdirTemp("", name) // a socket's path is short
	if err != nil {
		return nil, err
	}
	b := &Balancer{dir: dir}
	for try := 0; ; try++ {
		if err = b.start(ctx, files, ready); err == nil {
			return b, nil
		}
		b.halt()
		if try == 3 || ctx.Err() != nil {
			return nil, errors.Join(err, b.Stop())
		}
	}
}

func (b *Balancer) start(ctx context.Context, files map[string]string, ready func(*Balancer) bool) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.Front = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	here := strings.NewReplacer("DIR", b.dir, "FRONT", b.Front)
	for name, text := range files {
		if err := os.WriteFile(b.Path(name), []byte(here.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	if b.log, err = os.Create(b.Path("log")); err != nil {
		return err
	}
	b.program = exec.Command("haproxy", "-W", "-S", b.Path("master.sock")+",mode,600", "-f", b.Path(Config))
	b.program.Stdout, b.program.Stderr = b.log, b.log
	if err := b.program.Start(); err != nil {
		return err
	}
	b.ended = make(chan struct{})
	go func() { _ = b.program.Wait(); close(b.ended) }()
	return b.Until(ctx, func() bool { return b.answers() && (ready == nil || ready(b)) })
}

// answers tells whether the front door is open and a worker serves it.
func (b *Balancer) answers() bool {
	conn, err := net.Dial("tcp", b.Front)
	if err != nil {
		return false
	}
	_ = conn.Close()
	_, err = b.Worker()
	return err == nil
}

// Path returns where a file of that name is in the folder.
func (b *Balancer) Path(name string) string { return filepath.Join(b.dir, name) }

// Until waits up to 30 s for something that HAProxy takes a moment for.
func (b *Balancer) Until(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-b.ended:
			text, _ := os.ReadFile(b.Path("log"))
			return fmt.Errorf("haproxy has ended: %s", text)
		case <-ctx.Done():
			return fmt.Errorf("haproxy: %w", ctx.Err())
		}
	}
	return nil
}

// Worker asks the master for the process that takes new connections.
func (b *Balancer) Worker() (string, error) {
	text, err := b.Say("master.sock", "show proc")
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

// Say sends a command to one of its sockets, as an operator would.
func (b *Balancer) Say(socket, command string) (string, error) {
	conn, err := net.Dial("unix", b.Path(socket))
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
func (b *Balancer) halt() {
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

// Stop ends HAProxy with all its workers, and removes the folder.
func (b *Balancer) Stop() error {
	b.halt()
	return os.RemoveAll(b.dir)
}
