package nginx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/nginx"
	"github.com/abswap/abswap/switcher/switchertest"
)

// program returns the nginx of this machine. Without one the test is skipped, unless ABSWAP_ENGINES=required.
func program(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err == nil {
		return path
	}
	const how = "nginx is not in PATH: apt-get install -y nginx-light (Debian and Ubuntu put it into /usr/sbin)"
	if os.Getenv("ABSWAP_ENGINES") == "required" {
		t.Fatal(how)
	}
	t.Skip(how)
	return ""
}

// engine is a real nginx in a folder of its own, with two slots behind it.
type engine struct {
	dir, bin, front string // front is the URL of the front door
	cfg             nginx.Config
	sw              *nginx.Switcher
	site            *switchertest.Site
	blue, green     *fake.Slot
	cmd             *exec.Cmd
	output          bytes.Buffer
	ended           chan struct{}
	servers         []*httptest.Server
	ports           [2]int
}

// shape changes what the engine is made of before it starts.
type shape struct {
	config   func(*nginx.Config)
	main     string // further directives of the main context
	location string // of the location, in place of unbuffered
	server   string // further directives of the server
	http     string // further directives of http; PORT1 and PORT2 are free ports
}

// unbuffered passes everything on as it comes.
const unbuffered = "proxy_request_buffering off; proxy_buffering off;"

// start starts an engine. Blue is active.
func start(ctx context.Context, bin string, sh shape) (e *engine, err error) {
	dir, err := os.MkdirTemp("", "abswap-nginx-")
	if err != nil {
		return nil, err
	}
	e = &engine{dir: dir, bin: bin, blue: fake.NewRunningSlot("blue", "v1"), green: fake.NewRunningSlot("green", "v2")}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // workers may run as somebody else
		return e, err
	}
	e.site = &switchertest.Site{Slots: map[string]string{}}
	e.cfg = nginx.Config{Name: "site", Slots: map[string]string{}, Include: filepath.Join(dir, "conf", "site.conf"),
		PIDFile: filepath.Join(dir, "nginx.pid"), Command: []string{bin, "-p", dir, "-c", filepath.Join(dir, "conf", "nginx.conf")}}
	for _, name := range []string{"blue", "green"} {
		app := httptest.NewServer(switchertest.NewApp(name))
		e.servers = append(e.servers, app)
		e.site.Slots[name], e.cfg.Slots[name] = app.URL, app.Listener.Addr().String()
	}
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o755); err != nil {
		return e, err
	}
	for try := range 5 { // another program may take the port in between
		if err = e.launch(ctx, sh); err == nil || ctx.Err() != nil {
			return e, err
		}
		err = fmt.Errorf("try %d: %w; it said %q", try+1, err, e.output.String())
	}
	return e, err
}

// launch writes the configuration with a free port and starts nginx.
func (e *engine) launch(ctx context.Context, sh shape) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return err
	}
	for i := range e.ports {
		if e.ports[i], err = freePort(); err != nil {
			return err
		}
	}
	more := strings.NewReplacer("PORT1", strconv.Itoa(e.ports[0]), "PORT2", strconv.Itoa(e.ports[1])).Replace(sh.http)
	e.front = fmt.Sprintf("http://127.0.0.1:%d", port)
	e.site.Front, e.cfg.Door = e.front, e.front+"/.abswap-site"
	cfg := e.cfg
	if sh.config != nil {
		sh.config(&cfg)
	}
	if e.sw, err = nginx.New(cfg); err != nil {
		return err
	}
	if err := e.sw.Prepare(ctx, e.blue); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	location := sh.location
	if location == "" {
		location = unbuffered
	}
	conf := fmt.Sprintf(`daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log notice;
%[3]s
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    include site.conf;
    %[4]s
    server {
        listen 127.0.0.1:%[2]d;
        %[5]s
        location = /.abswap-site { default_type text/plain; return 200 $abswap_site_mark; }
        location / {
            proxy_pass http://$abswap_site;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_read_timeout 600s; proxy_send_timeout 600s; client_body_timeout 600s;
            %[6]s
        }
    }
}
`, e.dir, port, sh.main, more, sh.server, location)
	if err := os.WriteFile(e.conf(), []byte(conf), 0o644); err != nil {
		return err
	}
	e.output.Reset()
	e.cmd = exec.Command(e.cfg.Command[0], e.cfg.Command[1:]...)
	e.cmd.Stderr = &e.output
	e.ended = make(chan struct{})
	if err := e.cmd.Start(); err != nil {
		return err
	}
	go func() { _ = e.cmd.Wait(); close(e.ended) }()
	for ctx.Err() == nil {
		select {
		case <-e.ended:
			return errors.New("nginx has ended")
		case <-time.After(5 * time.Millisecond):
			if _, err := e.sw.Ask(ctx); err == nil {
				if taking, _, err := e.sw.Workers(); err == nil && len(taking) == 2 {
					return nil
				}
			}
		}
	}
	return ctx.Err()
}

func (e *engine) conf() string { return filepath.Join(e.dir, "conf", "nginx.conf") }

// close ends nginx and all else.
func (e *engine) close() error {
	if e.cmd != nil && e.cmd.Process != nil {
		taking, quitting, _ := e.sw.Workers()
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.ended:
		case <-time.After(10 * time.Second):
			_ = e.cmd.Process.Kill()
			<-e.ended
			for _, pid := range append(taking, quitting...) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if e.site != nil {
		_ = e.site.Close()
	}
	for _, s := range e.servers {
		s.CloseClientConnections()
		s.Close()
	}
	return os.RemoveAll(e.dir)
}

// freePort finds a port that nobody has, outside of those that the system gives to clients.
func freePort() (int, error) {
	for range 100 {
		port := 12_000 + rand.IntN(19_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no port is free")
}

// newEngine starts an engine for one test.
func newEngine(t testing.TB, sh shape) *engine {
	t.Helper()
	e, err := start(t.Context(), program(t), sh)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.close()) })
	return e
}

// hup reloads nginx as an operator does, and waits until the old workers do not take connections any more.
func (e *engine) hup(ctx context.Context) error {
	before, _, err := e.sw.Workers()
	if err != nil {
		return err
	}
	if err := e.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	for ctx.Err() == nil {
		taking, _, err := e.sw.Workers()
		if err != nil {
			return err
		}
		fresh := len(taking) > 0 && !slices.Contains(before, taking[0])
		if accepting, err := e.sw.Accepting(before); err != nil || fresh && !accepting {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pause is the time between two looks.
func pause(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// edit changes the file by hand.
func (e *engine) edit(from, to string) error {
	text, err := os.ReadFile(e.cfg.Include)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), from) {
		return fmt.Errorf("%q is not in %q", from, text)
	}
	return os.WriteFile(e.cfg.Include, []byte(strings.ReplaceAll(string(text), from, to)), 0o644)
}

// rig is the suite's view of the engine.
func (e *engine) rig() switchertest.Rig {
	r := e.site.Rig()
	r.Switcher, r.Blue, r.Green = e.sw, e.blue, e.green
	r.Load, r.Patience, r.Settle = 100, 30*time.Second, 150*time.Millisecond
	if *full {
		r.Load = 600
	}
	var turn sync.Mutex
	r.Disturb = func(ctx context.Context, slot string) error {
		if slot == "" {
			return fmt.Errorf("nginx always leads somewhere: %w", errors.ErrUnsupported)
		}
		turn.Lock()
		defer turn.Unlock()
		other := map[string]string{"blue": "green", "green": "blue"}[slot]
		if err := e.edit("* abswap_site_"+other+";", "* abswap_site_"+slot+";"); err != nil {
			return err
		}
		return e.hup(ctx)
	}
	r.Rest = func(context.Context) (string, error) {
		var b strings.Builder
		err := filepath.WalkDir(filepath.Join(e.dir, "conf"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(d.Name(), "site.conf") {
				return err
			}
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s\n%s\n", path, text)
			return err
		})
		return b.String(), err
	}
	r.Close = e.close
	return r
}
