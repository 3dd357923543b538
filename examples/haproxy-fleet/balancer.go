package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/abswap/abswap/examples/internal/haproxydemo"
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

// balancer is one HAProxy.
type balancer struct {
	*haproxydemo.Balancer
	name string
}

func startBalancer(ctx context.Context, name string, nodes []nodeAddress) (*balancer, error) {
	var text strings.Builder
	text.WriteString(configuration)
	for _, n := range nodes {
		fmt.Fprintf(&text, "    server %s %s check inter 500ms fall 20 rise 1 disabled\n", n.Name, n.App)
	}
	b, err := haproxydemo.Start(ctx, name, map[string]string{haproxydemo.Config: text.String()}, func(b *haproxydemo.Balancer) bool {
		_, err := b.Say("admin.sock", "show info")
		return err == nil
	})
	return &balancer{b, name}, err
}

func (b *balancer) door() door {
	return door{Name: b.name, Master: b.Path("master.sock"), StateFile: b.Path("be_shop.state")}
}
