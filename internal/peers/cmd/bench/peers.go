//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// env is what a peer's configuration is filled from.
type env struct {
	Dir, Bin, Templates string
	Listen, TLS, Admin  string
	A, B, Cert, Key     string
	Workers, Sites      int
	SiteList            []int
	Flag, Splice, State bool
}

// peer is one proxy under test.
type peer struct {
	name string
	// start writes the configuration and gives the command to run.
	start func(e *env) ([]string, error)
	// after runs once the process is up.
	after func(e *env) error
	// swap says how the load generator swaps it (cmd/loadgen/swap.go).
	swap func(e *env) string
}

func (e *env) file(tmpl, out string) error {
	t, err := template.ParseFiles(filepath.Join(e.Templates, tmpl))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, e); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.Dir, out), b.Bytes(), 0o644)
}

func (e *env) write(name, s string) string {
	p := filepath.Join(e.Dir, name)
	os.WriteFile(p, []byte(s), 0o755)
	return p
}

func (e *env) sitesFile() string {
	var b strings.Builder
	for _, i := range e.SiteList {
		fmt.Fprintf(&b, "site%d.test %s %s\n", i, e.A, e.B)
	}
	return e.write("sites.txt", b.String())
}

func nginx(name string, flag bool) *peer {
	return &peer{name: name,
		start: func(e *env) ([]string, error) {
			e.Flag = flag
			e.write("active.conf", "proxy_pass http://slot_a;\n")
			e.write("a.conf", "proxy_pass http://slot_a;\n")
			e.write("b.conf", "proxy_pass http://slot_b;\n")
			os.Remove(filepath.Join(e.Dir, "slot_b"))
			e.write("swap.sh", "#!/bin/sh\ncp "+e.Dir+"/$1.conf "+e.Dir+"/active.conf && kill -HUP $(cat "+e.Dir+"/nginx.pid)\n")
			e.write("flag.sh", "#!/bin/sh\nif [ $1 = b ]; then : > "+e.Dir+"/slot_b; else rm "+e.Dir+"/slot_b; fi\n")
			return []string{"nginx", "-p", e.Dir, "-e", e.Dir + "/error.log", "-c", e.Dir + "/nginx.conf"}, e.file("nginx.conf.tmpl", "nginx.conf")
		},
		swap: func(e *env) string {
			if flag {
				return "exec:" + e.Dir + "/flag.sh {l}"
			}
			return "exec:" + e.Dir + "/swap.sh {l}"
		},
	}
}

func haproxy(name string, state, splice bool) *peer {
	return &peer{name: name,
		start: func(e *env) ([]string, error) {
			e.State, e.Splice = state, splice
			c, _ := os.ReadFile(e.Cert)
			k, _ := os.ReadFile(e.Key)
			e.write("both.pem", string(c)+string(k))
			e.write("slot.map", "active be_a\n")
			var m strings.Builder
			for _, i := range e.SiteList {
				fmt.Fprintf(&m, "site%d.test site%d\n", i, i)
			}
			e.write("sites.map", m.String())
			return []string{"haproxy", "-db", "-f", e.Dir + "/haproxy.cfg"}, e.file("haproxy.cfg.tmpl", "haproxy.cfg")
		},
		swap: func(e *env) string {
			if state {
				return "unix:" + e.Dir + "/haproxy.sock|set server be_ab/a state ready; set server be_ab/b state drain|set server be_ab/b state ready; set server be_ab/a state drain"
			}
			m := "set map " + e.Dir + "/slot.map active "
			return "unix:" + e.Dir + "/haproxy.sock|" + m + "be_a|" + m + "be_b"
		},
	}
}

func caddy(bin string) *peer {
	return &peer{name: "caddy",
		start: func(e *env) ([]string, error) {
			return []string{bin, "run", "--config", e.Dir + "/caddy.json"}, e.file("caddy.json.tmpl", "caddy.json")
		},
		swap: func(e *env) string {
			up := func(a string) string { return `[{"dial":"` + a + `"}]` }
			return "http:PATCH http://" + e.Admin + "/id/rp/upstreams|" + up(e.A) + "|" + up(e.B)
		},
	}
}

func kamal(bin string) *peer {
	run := func(e *env, args ...string) error {
		c := exec.Command(bin, args...)
		c.Env = append(os.Environ(), "HOME="+e.Dir, "XDG_RUNTIME_DIR="+e.Dir, "KAMAL_PROXY_SOCKET="+e.Dir+"/kamal-proxy.sock")
		out, err := c.CombinedOutput()
		if err != nil {
			return fmt.Errorf("kamal-proxy %v: %w: %s", args, err, out)
		}
		return nil
	}
	port := func(a string) string { return a[strings.LastIndexByte(a, ':')+1:] }
	return &peer{name: "kamal-proxy",
		start: func(e *env) ([]string, error) {
			os.RemoveAll(e.Dir + "/.config")
			if e.Sites > 0 {
				if err := kamalState(e, bin, run); err != nil {
					return nil, err
				}
			}
			e.write("swap.sh", "#!/bin/sh\nexport HOME="+e.Dir+" XDG_RUNTIME_DIR="+e.Dir+" KAMAL_PROXY_SOCKET="+e.Dir+"/kamal-proxy.sock\nT="+e.A+"\n[ $1 = b ] && T="+e.B+"\nexec "+bin+" deploy bench --target $T\n")
			return []string{bin, "run", "--http-port", port(e.Listen), "--https-port", port(e.TLS)}, nil
		},
		after: func(e *env) error {
			if e.Sites > 0 {
				return nil
			}
			if err := run(e, "deploy", "bench", "--target", e.A); err != nil {
				return err
			}
			return run(e, "deploy", "tls", "--target", e.A, "--host", "127.0.0.1", "--tls", "--tls-redirect=false", "--tls-certificate-path", e.Cert, "--tls-private-key-path", e.Key, "--forward-headers")
		},
		swap: func(e *env) string { return "exec:" + e.Dir + "/swap.sh {l}" },
	}
}

// kamalState writes a saved state of many services: one deploy each would take
// quadratic time.
func kamalState(e *env, bin string, run func(*env, ...string) error) error {
	port := func(a string) string { return a[strings.LastIndexByte(a, ':')+1:] }
	c := exec.Command(bin, "run", "--http-port", port(e.Listen), "--https-port", port(e.TLS))
	c.Env = append(os.Environ(), "HOME="+e.Dir, "XDG_RUNTIME_DIR="+e.Dir, "KAMAL_PROXY_SOCKET="+e.Dir+"/kamal-proxy.sock")
	if err := c.Start(); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	err := run(e, "deploy", "siteX", "--target", e.A, "--host", "siteX.test", "--force")
	c.Process.Signal(os.Interrupt)
	c.Wait()
	if err != nil {
		return err
	}
	p := e.Dir + "/.config/kamal-proxy/kamal-proxy.state"
	b, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	var one []json.RawMessage
	if err := json.Unmarshal(b, &one); err != nil || len(one) != 1 {
		return fmt.Errorf("state: %v (%d services)", err, len(one))
	}
	var out bytes.Buffer
	out.WriteByte('[')
	for k, i := range e.SiteList {
		if k > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strings.ReplaceAll(string(one[0]), "siteX", fmt.Sprintf("site%d", i)))
	}
	out.WriteByte(']')
	return os.WriteFile(p, out.Bytes(), 0o644)
}

// binary is any proxy that follows the interface in README.md; more are further flags.
func binary(name, bin string, more ...string) *peer {
	return &peer{name: name,
		start: func(e *env) ([]string, error) {
			a := []string{bin, "-listen", e.Listen, "-admin", e.Admin, "-a", e.A, "-b", e.B, "-tls-listen", e.TLS, "-cert", e.Cert, "-key", e.Key}
			if e.Sites > 0 {
				a = append(a, "-sites", e.sitesFile())
			}
			return append(a, more...), nil
		},
		swap: func(e *env) string { return "http:POST http://" + e.Admin + "/swap?to={v}" },
	}
}
