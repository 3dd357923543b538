package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/abswap/abswap/switcher/nginx"
)

// engine is an nginx of our own.
type engine struct {
	program, dir, listen string

	cmd   *exec.Cmd
	said  bytes.Buffer
	ended chan error
}

// conf is nginx.conf. What Switcher.Snippet tells is in it: the include, the location of the mark, and the variable of proxy_pass.
const conf = `daemon off;
pid %[1]s;
error_log %[2]s/error.log notice;
worker_processes 2;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy;
    fastcgi_temp_path %[2]s/fastcgi; uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;

    include abswap-shop.conf;

    server {
        listen %[3]s;
        location = /.abswap-shop { default_type text/plain; return 200 $abswap_shop_mark; }
        location / {
            proxy_pass http://$abswap_shop;
            proxy_set_header Host $host;
            proxy_http_version 1.1;
            proxy_request_buffering off; # an upload goes to its slot as it comes
            client_max_body_size 0;
        }
    }
}
`

func (e *engine) pidFile() string { return filepath.Join(e.dir, "nginx.pid") }

func (e *engine) command() []string {
	return []string{e.program, "-p", e.dir, "-c", filepath.Join(e.dir, "nginx.conf")}
}

// start starts nginx and waits until it serves.
func (e *engine) start(ctx context.Context, sw *nginx.Switcher) error {
	if err := os.Chmod(e.dir, 0o755); err != nil { // its workers may run as another user
		return err
	}
	text := fmt.Sprintf(conf, e.pidFile(), e.dir, e.listen)
	if err := os.WriteFile(filepath.Join(e.dir, "nginx.conf"), []byte(text), 0o644); err != nil {
		return err
	}
	command := e.command()
	e.cmd, e.ended = exec.Command(command[0], command[1:]...), make(chan error, 1)
	e.cmd.Stderr = &e.said
	if err := e.cmd.Start(); err != nil {
		return err
	}
	go func() { e.ended <- e.cmd.Wait() }()
	limit := time.After(20 * time.Second)
	for {
		_, err := sw.Observe(ctx)
		if err == nil {
			return nil
		}
		select {
		case ended := <-e.ended:
			e.ended <- ended
			return fmt.Errorf("nginx ended (%w) and said %s", ended, e.said.String())
		case <-limit:
			_ = e.stop()
			return fmt.Errorf("nginx does not serve: %w", err)
		case <-ctx.Done():
			_ = e.stop()
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends nginx.
func (e *engine) stop() error {
	if err := e.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-e.ended:
		return err
	case <-time.After(10 * time.Second):
		_ = e.cmd.Process.Kill()
		return fmt.Errorf("nginx did not end by itself: %w", <-e.ended)
	}
}

// findNginx finds the program.
func findNginx(named string) (string, error) {
	if named != "" {
		return exec.LookPath(named)
	}
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoNginx
}

// freePorts finds addresses on loopback at which nobody listens.
func freePorts(n int) ([]string, error) {
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before all are found
		all = append(all, l.Addr().String())
	}
	return all, nil
}
