package proxy_test

import (
	"context"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// TestRules runs the conformance suite on the proxy in front of two applications.
func TestRules(t *testing.T) {
	switchertest.Run(t, newRig)
}

func newRig(context.Context) (switchertest.Rig, error) {
	blue := httptest.NewServer(switchertest.NewApp("blue"))
	green := httptest.NewServer(switchertest.NewApp("green"))
	p, err := proxy.New(proxy.Config{Slots: map[string]string{"blue": address(blue), "green": address(green)}, Active: "blue"})
	if err != nil {
		return switchertest.Rig{}, err
	}
	stall := proxy.NewStaller(p)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return switchertest.Rig{}, err
	}
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(l) })

	site := &switchertest.Site{Front: "http://" + l.Addr().String(), Slots: map[string]string{"blue": blue.URL, "green": green.URL}}
	rig := site.Rig()
	rig.Switcher, rig.Blue, rig.Green, rig.Stall = p, plain("blue"), plain("green"), stall.Stall
	if err := p.Activate(context.Background(), plain("green")); err != nil { // so that both have a generation
		return rig, err
	}
	rig.Disturb = func(_ context.Context, slot string) error {
		proxy.Disturb(p, slot)
		return nil
	}
	rig.Close = func() error {
		err := multi.Join(site.Close(), p.Close())
		serving.Wait()
		blue.CloseClientConnections()
		green.CloseClientConnections()
		blue.Close()
		green.Close()
		return err
	}
	return rig, nil
}

func address(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

// plain is a slot of which nothing is known but its name.
type plain string

func (p plain) Name() string                { return string(p) }
func (p plain) Ready(context.Context) error { return nil }
