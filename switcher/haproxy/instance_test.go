package haproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/haproxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// needHAProxy skips a test where the program is not installed; with ABSWAP_ENGINES=required that is a failure.
func needHAProxy(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err == nil {
		return
	}
	const how = "haproxy is not in PATH: apt-get install -y haproxy (Debian and Ubuntu put it into /usr/sbin)"
	if os.Getenv("ABSWAP_ENGINES") == "required" {
		t.Fatal(how)
	}
	t.Skip(how)
}

// instance is a real HAProxy with its two applications behind it.
type instance struct {
	dir    string
	front  string // address of the front door
	site   *switchertest.Site
	runner *exec.Cmd
	master bool
	ended  chan struct{}
	log    *lockedBuffer
	apps   []*http.Server
	serve  sync.WaitGroup
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// global is the part that all configurations share. master starts HAProxy with -W.
const global = `global
    nbthread 2
    stats socket DIR/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 2m
    hard-stop-after 120s
defaults
    mode http
    option abortonclose
    option http-no-delay
    option idle-close-on-response
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
`

// mapConfig picks the backend by a key.
const mapConfig = global + `
frontend fe
    bind FRONT
    use_backend %[str(mysite),map(DIR/slots.map)]
backend be_blue
    server one BLUE
backend be_green
    server one GREEN
backend be_closed
    http-request return status 503 content-type text/plain string "nobody serves"
backend be_other
    server one BLUE weight 7
`

// serversConfig has both slots in one backend.
const serversConfig = global + `
frontend fe
    bind FRONT
    default_backend be_site
backend be_site
    load-server-state-from-file local
    server-state-file-name DIR/be_site.state
    server blue BLUE weight 50
    server green GREEN weight 50
backend be_other
    server one BLUE weight 7
`

// cookieConfig binds clients to servers.
const cookieConfig = global + `
frontend fe
    bind FRONT
    default_backend be_site
backend be_site
    load-server-state-from-file local
    server-state-file-name DIR/be_site.state
    cookie SLOT insert indirect nocache
    server blue BLUE cookie b
    server green GREEN cookie g
`

// start runs HAProxy on a configuration in which DIR, FRONT, BLUE and GREEN are filled in.
func start(ctx context.Context, config string, master bool) (in *instance, err error) {
	in = &instance{log: &lockedBuffer{}, site: &switchertest.Site{Slots: map[string]string{}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if in.dir, err = os.MkdirTemp("", "hap"); err != nil {
		return in, err
	}
	for _, slot := range []string{"blue", "green"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return in, err
		}
		srv := &http.Server{Handler: switchertest.NewApp(slot)}
		in.apps = append(in.apps, srv)
		in.serve.Go(func() { _ = srv.Serve(l) })
		in.site.Slots[slot] = "http://" + l.Addr().String()
		config = strings.ReplaceAll(config, strings.ToUpper(slot), l.Addr().String())
	}
	if err := os.WriteFile(in.path("slots.map"), []byte("# who serves\nother be_other\nmysite be_blue\n"), 0o640); err != nil {
		return in, err
	}
	for try := 0; ; try++ { // another program may ask for that very port before HAProxy has it
		front, release, err := reserve()
		if err != nil {
			return in, err
		}
		in.front, in.site.Front = front, "http://"+front
		text := strings.NewReplacer("DIR", in.dir, "FRONT", in.front).Replace(config)
		err = os.WriteFile(in.path("haproxy.cfg"), []byte(text), 0o600)
		if err == nil {
			err = in.run(ctx, master)
		}
		err = errors.Join(err, release())
		if err == nil || try == 3 {
			return in, err
		}
	}
}

func (in *instance) path(name string) string { return filepath.Join(in.dir, name) }

// run starts the program and waits until its front door and its socket are open.
func (in *instance) run(ctx context.Context, master bool) error {
	args := []string{"-db", "-f", in.path("haproxy.cfg")}
	in.master = master
	if master {
		args = []string{"-W", "-S", in.path("master.sock") + ",mode,600", "-f", in.path("haproxy.cfg")}
	}
	in.runner = exec.Command("haproxy", args...)
	in.runner.Stdout, in.runner.Stderr, in.runner.WaitDelay = in.log, in.log, 5*time.Second
	if err := in.runner.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	in.ended = ended
	go func() { _ = in.runner.Wait(); close(ended) }()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", in.front); err == nil {
			_ = conn.Close()
			_, err := in.say("show info")
			if err == nil && in.master {
				_, err = in.ask(in.path("master.sock"), "show proc")
			}
			if err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("haproxy ended: %s", in.log)
		case <-deadline.C:
			return fmt.Errorf("haproxy does not come up: %s", in.log)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stop ends the program with all its workers.
func (in *instance) stop() {
	if in.ended == nil {
		return
	}
	_ = in.runner.Process.Signal(syscall.SIGTERM)
	select {
	case <-in.ended:
	case <-time.After(10 * time.Second):
		_ = in.runner.Process.Kill()
		<-in.ended
	}
	in.ended = nil
}

func (in *instance) close() error {
	in.stop()
	err := in.site.Close()
	for _, srv := range in.apps {
		_ = srv.Close()
	}
	in.serve.Wait()
	return errors.Join(err, os.RemoveAll(in.dir))
}

// say sends a command to the stats socket, as an operator with socat would.
func (in *instance) say(command string) (string, error) {
	return in.ask(in.path("admin.sock"), command)
}

func (in *instance) ask(socket, command string) (string, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return strings.TrimSpace(string(b)), err
}

// silently is say for commands that have no words for success.
func (in *instance) silently(commands ...string) error {
	for _, c := range commands {
		if answer, err := in.say(c); err != nil || answer != "" {
			return fmt.Errorf("%s: %q: %w", c, answer, err)
		}
	}
	return nil
}

// reload makes the master read its configuration again. It does not wait for the end of that.
func (in *instance) reload() error { return in.runner.Process.Signal(reloadSignal) }

// runtime is how the switchers reach it. What must happen may take long on a busy machine.
func (in *instance) runtime(master bool) haproxy.Runtime {
	rt := haproxy.Runtime{Timeout: 30 * time.Second, Patience: 2 * time.Minute}
	if master {
		rt.Master = in.path("master.sock")
	} else {
		rt.Stats = in.path("admin.sock")
	}
	return rt
}

// worker returns the process that takes commands at the stats socket.
func (in *instance) worker() (string, error) {
	text, err := in.say("show info")
	for line := range strings.Lines(text) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strings.TrimSpace(pid), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("show info tells no pid: %.100q", text))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// reloaded reloads and waits until another worker has the sockets.
func (in *instance) reloaded(t *testing.T) {
	t.Helper()
	before, err := in.worker()
	require.NoError(t, err)
	require.NoError(t, in.reload())
	again := time.Now()
	require.Eventually(t, func() bool {
		if time.Since(again) > 3*time.Second { // a signal that comes while the master still makes ready is lost
			again = time.Now()
			_ = in.reload()
		}
		now, err := in.worker()
		return err == nil && now != before
	}, 20*time.Second, 5*time.Millisecond)
}
