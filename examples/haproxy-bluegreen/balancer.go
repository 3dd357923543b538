package main

import (
	"context"
	"strings"

	"github.com/abswap/abswap/examples/internal/haproxydemo"
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

func startBalancer(ctx context.Context, blue, green string) (*haproxydemo.Balancer, error) {
	text := strings.NewReplacer("BLUE", blue, "GREEN", green).Replace(configuration)
	return haproxydemo.Start(ctx, "bluegreen", map[string]string{haproxydemo.Config: text, "slots.map": "mysite be_closed\n"}, nil)
}

// reload is what an operator does who has changed something else in the configuration. It knows nothing of slots.
func reload(ctx context.Context, b *haproxydemo.Balancer) error {
	before, err := b.Worker()
	if err != nil {
		return err
	}
	if _, err := b.Say("master.sock", "reload"); err != nil {
		return err
	}
	return b.Until(ctx, func() bool {
		now, err := b.Worker()
		return err == nil && now != before
	})
}
