package nginx

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func findingsOf(sw *Switcher, tree []directive) []error {
	return sw.findings(tree, abswap.CheckRequest{})
}

// whole is a configuration in which nothing is to be found; the names in capitals are replaced.
const whole = `
# configuration file /etc/nginx/nginx.conf:
MAIN
http {
    include INCLUDE;
    HTTP
    server {
        SERVER
        location / { proxy_pass http://$abswap_s; proxy_set_header Host $host; LOCATION }
    }
}
# configuration file INCLUDE:
map $abswap_s $abswap_s_mark { default x; }
`

func TestFindings(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths within a configuration are those of Unix")
	}
	for _, c := range []struct {
		name, from, to string
		cfg            func(*Config)
		req            abswap.CheckRequest
		want           string // "": nothing
		warns          bool
	}{
		{name: "nothing"},
		{name: "not used", from: "http://$abswap_s;", to: "http://127.0.0.1:9;", want: "no proxy_pass uses $abswap_s"},
		{name: "another's variable", from: "http://$abswap_s;", to: "http://$abswap_s2;", want: "no proxy_pass uses $abswap_s"},
		{name: "braces", from: "http://$abswap_s;", to: `"http://${abswap_s}";`},
		{name: "not included", from: "    include INCLUDE;", to: "", want: "is not included"},
		{name: "included twice", from: "    include INCLUDE;", to: "    include INCLUDE; include INCLUDE;", want: "included 2 times"},
		{name: "included too deep", from: "    include INCLUDE;\n    HTTP\n    server {", to: "server { include INCLUDE;", want: "within http, and not deeper"},
		{name: "another file", from: "    include INCLUDE;", to: "map $abswap_s $abswap_s_mark { default x; }", want: `steered by "/etc/nginx/nginx.conf"`},
		{name: "by pattern", from: "    include INCLUDE;", to: "    include DIR/*.conf;"},
		{name: "shutdown", from: "MAIN", to: "worker_shutdown_timeout 20s;", want: "/etc/nginx/nginx.conf:1: worker_shutdown_timeout 20s cuts"},
		{name: "shutdown after the drain", from: "MAIN", to: "worker_shutdown_timeout 20s;", req: abswap.CheckRequest{Drain: abswap.DrainOptions{Timeout: 10 * time.Second}}},
		{name: "shutdown accepted", from: "MAIN", to: "worker_shutdown_timeout 1m;", cfg: func(c *Config) { c.AcceptCut = true }, want: "cuts", warns: true},
		{name: "no shutdown", from: "MAIN", to: "worker_shutdown_timeout 0;"},
		{name: "no master", from: "MAIN", to: "master_process off;", want: "master_process off"},
		{name: "repeats", from: "SERVER", to: "proxy_next_upstream error non_idempotent;", want: "a POST that a slot has begun", warns: true},
		{name: "repeats elsewhere", from: "SERVER", to: "location /a { proxy_next_upstream non_idempotent; }"},
		{name: "overridden", from: "SERVER", to: "proxy_next_upstream non_idempotent; proxy_next_upstream_tries 1;", want: "a POST that", warns: true},
		{name: "no host", from: "proxy_set_header Host $host;", to: "", want: `the host "abswap_s_SLOT"`, warns: true},
		{name: "host of the server", from: "proxy_set_header Host $host; LOCATION }\n", to: "}\n proxy_set_header Host $host;"},
		{name: "host is lost", from: "proxy_set_header Host $host;", to: "proxy_set_header X-A b;", want: `the host "abswap_s_SLOT"`, warns: true},
		{name: "fixed address", from: "http://$abswap_s;", to: "http://$abswap_s/;", want: `after a variable "/" is the whole address`, warns: true},
		{name: "past it", from: "SERVER", to: "location /x { proxy_pass http://localhost:5001/y; }", want: `leads to slot "blue" whatever`, warns: true},
		{name: "past it by a group", from: "HTTP", to: "upstream g { server 127.0.0.1:5002; } server { location / { proxy_pass http://g; } }",
			want: `leads to slot "green" whatever`, warns: true},
		{name: "kept alive", from: "SERVER", to: "keepalive_min_timeout 5s;", want: "requests on kept-alive connections still go to the old slot", warns: true},
		{name: "keepalive by 1.0", cfg: func(c *Config) { c.Keepalive = 4 }, want: "Config.Keepalive needs", warns: true},
		{name: "keepalive", from: "LOCATION", to: `proxy_http_version 1.1; proxy_set_header Connection "";`, cfg: func(c *Config) { c.Keepalive = 4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Name: "s", Slots: map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"}, Include: includePath(t), Door: "http://h/"}
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			sw, err := New(cfg)
			require.NoError(t, err)
			text := whole
			if c.from != "" {
				require.Contains(t, text, c.from)
				text = strings.Replace(text, c.from, c.to, 1)
			}
			text = strings.NewReplacer("INCLUDE", cfg.Include, "DIR", strings.TrimSuffix(cfg.Include, "/s.conf"), "MAIN", "", "HTTP", "", "SERVER", "", "LOCATION", "").
				Replace(text)
			tree, err := expand(parseDump(text))
			require.NoError(t, err)
			var all []string
			for _, err := range sw.findings(tree, c.req) {
				if err == nil {
					continue
				}
				all = append(all, err.Error())
				_, warns := errors.AsType[*abswap.Warning](err)
				assert.Equal(t, c.warns, warns, err)
			}
			if c.want == "" {
				assert.Empty(t, all)
				return
			}
			require.Len(t, all, 1)
			assert.Contains(t, all[0], c.want)
		})
	}
}
