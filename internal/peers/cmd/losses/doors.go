package main

import (
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
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// door is a front door that is open.
type door struct {
	addr  string
	swap  func(to string) error // to slot "a" or "b"
	close func() error
}

// row is a front door, and how its clients speak.
type row struct {
	name  string // as on the command line
	title string
	ours  bool
	needs string // a program; "": none
	open  func(a, b, dir string) (*door, error)
	call  func(addr string) caller
}

func keeping(addr string) caller { return &plainCaller{addr: addr} }

var rows = []row{
	{"h1", "abswap proxy, HTTP/1.1", true, "", openProxy, keeping},
	{"h2", "abswap proxy, HTTP/2", true, "", openProxy, func(addr string) caller { return newStreamCaller(addr, false) }},
	{"grpc", "abswap proxy, HTTP/2 end to end, with gRPC's frames and trailers", true, "", openH2C, func(addr string) caller { return newStreamCaller(addr, true) }},
	{"tcp", "abswap proxy, TCP mode, a connection per POST", true, "", openTCP, func(addr string) caller { return &plainCaller{addr: addr, always: true} }},
	{"haproxy", "HAProxy runtime API ready/drain", false, "haproxy", openHAProxy, keeping},
	{"nginx", "nginx `-s reload`", false, "nginx", openNginx, keeping},
}

// slot is a slot of which the name is enough.
type slot string

func (s slot) Name() string                { return string(s) }
func (s slot) Ready(context.Context) error { return nil }

// serveDoor serves l until the door is closed.
func serveDoor(serve func(net.Listener) error, sw abswap.Switcher, end func() error) (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	over := make(chan error, 1)
	go func() { over <- serve(l) }()
	return &door{addr: l.Addr().String(), swap: func(to string) error { return sw.Activate(context.Background(), slot(to)) },
		close: func() error {
			err := end()
			if served := <-over; !errors.Is(served, http.ErrServerClosed) && !errors.Is(served, net.ErrClosed) {
				return served
			}
			return err
		}}, nil
}

func openProxy(a, b, _ string) (*door, error) { return openWith(a, b, nil) }

// openH2C opens a proxy that speaks HTTP/2 with the slots too.
func openH2C(a, b, _ string) (*door, error) {
	return openWith(a, b, map[string]proxy.Protocol{"a": proxy.H2C, "b": proxy.H2C})
}

func openWith(a, b string, speak map[string]proxy.Protocol) (*door, error) {
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"a": a, "b": b}, Active: "a", Protocols: speak})
	if err != nil {
		return nil, err
	}
	return serveDoor(p.Serve, p, p.Close)
}

func openTCP(a, b, _ string) (*door, error) {
	p, err := tcp.New(tcp.Config{Slots: map[string]string{"a": a, "b": b}, Active: "a"})
	if err != nil {
		return nil, err
	}
	return serveDoor(p.Serve, p, p.Close)
}

// start runs a program until the door is closed, and waits until addr is open.
func start(addr string, swap func(to string) error, name string, args ...string) (*door, error) {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	d := &door{addr: addr, swap: swap, close: func() error {
		c.Process.Kill()
		c.Wait()
		return nil
	}}
	for end := time.Now().Add(patience); ; {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return d, nil
		}
		if time.Now().After(end) {
			d.close()
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freeAddr returns an address that nobody listens at.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func openHAProxy(a, b, dir string) (*door, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	sock, conf := filepath.Join(dir, "haproxy.sock"), filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf("global\n  stats socket %s mode 600 level admin\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"+
		"  timeout tunnel 1h\nfrontend fe\n  bind %s\n  default_backend be\nbackend be\n  server a %s\n  server b %s disabled\n", sock, addr, a, b)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	tell := func(text string) error {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, text+"\n"); err != nil {
			return err
		}
		answer, err := io.ReadAll(c)
		if err == nil && strings.TrimSpace(string(answer)) != "" {
			err = fmt.Errorf("haproxy: %q", answer)
		}
		return err
	}
	return start(addr, func(to string) error {
		from := other(to)
		return tell("set server be/" + to + " state ready; set server be/" + from + " state drain")
	}, "haproxy", "-q", "-db", "-f", conf)
}

func openNginx(a, b, dir string) (*door, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf, pid := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "nginx.pid")
	write := func(to string) error {
		app := map[string]string{"a": a, "b": b}[to]
		text := fmt.Sprintf("daemon off;\nworker_processes 2;\npid %s;\nerror_log %s/error.log crit;\nevents { worker_connections 4096; }\nhttp {\n"+
			"  access_log off;\n  client_max_body_size 0;\n  proxy_request_buffering off;\n  proxy_buffering off;\n  keepalive_requests 1000000;\n  proxy_http_version 1.1;\n"+
			"  proxy_read_timeout 1h;\n  client_body_temp_path %[2]s/t1; proxy_temp_path %[2]s/t2; fastcgi_temp_path %[2]s/t3; uwsgi_temp_path %[2]s/t4; scgi_temp_path %[2]s/t5;\n"+
			"  map $http_upgrade $up { default upgrade; '' ''; }\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection $up;\n"+
			"  upstream app { server %s; keepalive 64; }\n  server { listen %s; location / { proxy_pass http://app; } }\n}\n", pid, dir, app, addr)
		return os.WriteFile(conf, []byte(text), 0o600)
	}
	if err := write("a"); err != nil {
		return nil, err
	}
	args := []string{"-p", dir, "-e", dir + "/error.log", "-c", conf}
	d, err := start(addr, func(to string) error {
		if err := write(to); err != nil {
			return err
		}
		out, err := exec.Command("nginx", append(args, "-s", "reload")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nginx: %w: %s", err, out)
		}
		return nil
	}, "nginx", args...)
	if err == nil {
		d.close = func() error { return exec.Command("nginx", append(args, "-s", "stop")...).Run() }
	}
	return d, err
}

// other is the other slot.
func other(slot string) string {
	if slot == "a" {
		return "b"
	}
	return "a"
}
