package proxy_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/switchertest"
)

// TestRules runs the conformance suite on the proxy in front of two applications.
func TestRules(t *testing.T) {
	t.Parallel()
	switchertest.Run(t, newRig)
}

// TestRulesOverH2 runs it with clients that speak HTTP/2.
func TestRulesOverH2(t *testing.T) {
	t.Parallel()
	switchertest.Run(t, func(context.Context) (switchertest.Rig, error) {
		rig, err := newRigBy(proxy.Config{}, "", h2Protocols())
		rig.Load = 60 // the data path's load is that of TestRules
		return rig, err
	})
}

// TestClientRules runs it on a Client, over a Unix socket and over TCP.
func TestClientRules(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			dir := socketDir(t, network)
			switchertest.Run(t, func(ctx context.Context) (switchertest.Rig, error) { return newClientRig(ctx, network, dir) })
		})
	}
}

// newClientRig is newRig, steered through the control plane.
func newClientRig(ctx context.Context, network, dir string) (switchertest.Rig, error) {
	rig, err := newRig(ctx)
	if err != nil {
		return rig, err
	}
	p := rig.Switcher.(*proxy.Switcher)
	address, token := "127.0.0.1:0", ""
	if network == "unix" {
		address = "unix:" + filepath.Join(dir, rand.Text()[:8])
	} else {
		token = rand.Text()
	}
	l, err := proxy.ListenControl(address)
	if err != nil {
		return rig, err
	}
	if network == "tcp" {
		address = l.Addr().String()
	}
	h, err := proxy.ControlHandler(p, proxy.ControlOptions{Token: token, Lease: time.Minute})
	if err != nil {
		return rig, err
	}
	server := proxy.ControlServer(h)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	c, err := proxy.NewClient(proxy.ClientConfig{Address: address, Token: token})
	if err != nil {
		return rig, err
	}
	rig.Switcher, rig.Load = c, 60 // the data path is that of TestRules
	rig.Disturb = func(ctx context.Context, slot string) error {
		if slot != "" {
			return p.Activate(ctx, plain(slot))
		}
		return multi.Join(p.Seal(ctx, plain("blue")), p.Seal(ctx, plain("green")))
	}
	closeRig := rig.Close
	rig.Close = func() error {
		err := multi.Join(c.Close(), server.Close(), closeRig())
		serving.Wait()
		return err
	}
	return rig, nil
}

// socketDir is a folder whose path leaves room for a socket's name. It skips the test where the system has no Unix sockets.
func socketDir(t testing.TB, network string) string {
	if network != "unix" {
		return ""
	}
	dir, err := os.MkdirTemp("", "px")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "probe"))
	if err != nil {
		t.Skipf("no Unix sockets here: %v", err)
	}
	l.Close()
	return dir
}

func newRig(ctx context.Context) (switchertest.Rig, error) {
	return newRigWith(ctx, proxy.Config{}, "")
}

// newRigWith is newRig with more in the configuration, and the application's session cookie.
func newRigWith(_ context.Context, cfg proxy.Config, sessionCookie string) (switchertest.Rig, error) {
	return newRigBy(cfg, sessionCookie, nil)
}

// newRigBy is newRigWith, whose clients speak what protocols say; nil: HTTP/1.1.
func newRigBy(cfg proxy.Config, sessionCookie string, protocols *http.Protocols) (switchertest.Rig, error) {
	blue := httptest.NewServer(switchertest.NewApp("blue"))
	green := httptest.NewServer(switchertest.NewApp("green"))
	cfg.Slots, cfg.Active = map[string]string{"blue": address(blue), "green": address(green)}, "blue"
	p, err := proxy.New(cfg)
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

	return frontRig(p, stall, l, blue, green, sessionCookie, protocols, func() error {
		err := p.Close()
		serving.Wait()
		return err
	})
}

// frontRig is the rig of p, which serves on l, with the applications blue and green behind it; end ends it.
func frontRig(p *proxy.Switcher, stall *proxy.Staller, l net.Listener, blue, green *httptest.Server, sessionCookie string, protocols *http.Protocols, end func() error) (switchertest.Rig, error) {
	site := &switchertest.Site{Front: "http://" + l.Addr().String(), Slots: map[string]string{"blue": blue.URL, "green": green.URL}, SessionCookie: sessionCookie, Protocols: protocols}
	rig := site.Rig()
	rig.Switcher, rig.Blue, rig.Green, rig.Stall = p, plain("blue"), plain("green"), stall.Stall
	if err := p.Activate(context.Background(), plain("green")); err != nil { // so that both have a generation
		return rig, err
	}
	rig.Disturb = func(_ context.Context, slot string) error {
		proxy.Disturb(p, slot)
		return nil
	}
	rig.Held = p.Held
	rig.ProbeOrder = func(ctx context.Context) (string, int64, error) {
		var peer string
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				peer = nc.LocalAddr().String()
			}
			return nc, err
		}}}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, site.Front+"/switchertest/probe", strings.NewReader("which is first?"))
		if err != nil {
			return "", 0, err
		}
		resp, err := c.Do(r)
		if err != nil {
			return "", 0, err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return "", 0, fmt.Errorf("status %s, %w", resp.Status, err)
		}
		return resp.Header.Get("X-Switchertest-Slot"), stall.Order(peer), nil
	}
	rig.Close = func() error {
		err := multi.Join(site.Close(), end())
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
