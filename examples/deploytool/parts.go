package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
	"github.com/abswap/abswap/switcher/proxy/process"
)

// This file puts the parts together: it is what to read first, and to change where another machine needs other parts.

// Files in config.State.
func (c *config) journalDir() string { return filepath.Join(c.State, "journal") }
func (c *config) proxyFile() string  { return filepath.Join(c.State, "proxy.json") }
func (c *config) tokenFile() string  { return filepath.Join(c.State, "control.token") }
func (c *config) superFile() string  { return filepath.Join(c.State, "supervisor.json") }

// door is the proxy's config.
func (c *config) door(stateFile string) proxy.Config {
	cfg := proxy.Config{Slots: map[string]string{}, StateFile: stateFile, ReleaseHeader: c.ReleaseHeader}
	for _, s := range c.Slots {
		cfg.Slots[s.Name] = s.Address
	}
	for _, p := range c.TrustedPeers {
		if network, err := netip.ParsePrefix(p); err == nil { // check has seen to it
			cfg.TrustedPeers = append(cfg.TrustedPeers, network)
		}
	}
	return cfg
}

// slot makes one slot. Every process that has the same config has the same slots.
func (c *config) slot(s slotConfig) (*process.Slot, error) {
	var env []string
	for k, v := range c.App.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	grace := time.Duration(c.App.Grace)
	if grace == 0 {
		grace = -1
	}
	return process.New(process.Config{
		Name: s.Name, Dir: filepath.Join(c.State, "slots", s.Name), Address: s.Address,
		Command: c.App.Command, Env: env, PortEnv: c.App.PortEnv,
		Health: c.App.Health, Host: c.App.Host, ReadyTimeout: time.Duration(c.App.ReadyTimeout),
		Warm: c.App.Warm, WarmRounds: c.App.WarmRounds, Grace: grace, StopPath: c.App.StopPath,
	})
}

func (c *config) slots() ([]*process.Slot, error) {
	var all []*process.Slot
	for _, s := range c.Slots {
		slot, err := c.slot(s)
		if err != nil {
			return nil, err
		}
		all = append(all, slot)
	}
	return all, nil
}

// client makes the Switcher and Drainer of a deploy: the proxy in the serve process, over its control plane.
func (c *config) client() (*proxy.Client, error) {
	cfg := proxy.ClientConfig{Address: c.Control}
	if !strings.HasPrefix(c.Control, "unix:") {
		token, err := proxy.ReadToken(c.tokenFile())
		if err != nil {
			return nil, err
		}
		cfg.Token = token
	}
	return proxy.NewClient(cfg)
}

// swapper puts all together.
func (c *config) swapper(client *proxy.Client, slots []*process.Slot, journal abswap.Journal, tell func(abswap.Event)) *abswap.Swapper {
	d := c.Deploy
	s := &abswap.Swapper{
		Switcher:  client,
		Journal:   journal,
		Steps:     d.Steps,
		Soak:      orNone(d.Soak),
		Exclusive: d.Alone,
		Hold:      abswap.HoldOptions{Total: time.Duration(d.Hold), Each: 2 * time.Duration(d.Hold)}, // so that no request is refused at the end of it
		Drain: abswap.DrainOptions{Timeout: time.Duration(d.Drain.Timeout), AtDeadline: abswap.AtDeadline(d.Drain.AtDeadline), Grace: orNone(d.Drain.Grace),
			Classes: d.Drain.rules()},
		Retain:   time.Duration(d.Retain),
		Occupied: abswap.Occupied(d.Occupied),
		Timeouts: abswap.Timeouts{Install: orNone(d.Timeouts.Install), Start: orNone(d.Timeouts.Start), Warm: orNone(d.Timeouts.Warm),
			Ready: orNone(c.App.ReadyTimeout), Shift: orNone(d.Timeouts.Shift), Stop: orNone(d.Timeouts.Stop), Revert: orNone(d.Timeouts.Revert)},
		OnEvent: tell,
	}
	for _, slot := range slots {
		s.Slots = append(s.Slots, slot)
	}
	if c.ReleaseHeader != "" && !d.Alone { // in an exclusive deploy that question would wait with all other requests
		s.FrontDoor = c.whoServes
	}
	if len(d.Approve) > 0 {
		s.Gate = c.gate
	}
	return s
}

// orNone turns the config's 0, which means none, into the library's.
func orNone(d duration) time.Duration {
	if d == 0 {
		return -1
	}
	return time.Duration(d)
}

// gate makes a deploy wait for "deploytool approve" where the config says so.
func (c *config) gate(_ context.Context, g abswap.GateRequest) error {
	if !slices.Contains(c.Deploy.Approve, g.Percent) {
		return nil
	}
	next := fmt.Sprintf("%d %% of the work go to slot %s", g.Next, g.To)
	if g.Next > 100 {
		next = "it is committed"
	}
	return fmt.Errorf(`run "deploytool approve" before %s, or "deploytool cancel": %w`, next, abswap.ErrApprovalNeeded)
}

// whoServes asks the front door, as a client would, which slot answers.
func (c *config) whoServes(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.dialable()+c.App.Health, nil)
	if err != nil {
		return "", err
	}
	req.Host = c.App.Host
	tr := &http.Transport{DisableKeepAlives: true} // not the default one, which would go by the environment's proxy
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	slot, _, _ := strings.Cut(resp.Header.Get(c.ReleaseHeader), "/")
	if slot == "" {
		return "", fmt.Errorf("GET %s: %s, without %s: no slot answered", req.URL, resp.Status, c.ReleaseHeader)
	}
	return slot, nil
}

// dialable is Listen as this machine reaches it.
func (c *config) dialable() string {
	host, port, _ := net.SplitHostPort(c.Listen)
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
		if err == nil && a.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
