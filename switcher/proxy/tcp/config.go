package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// Config says what is behind the front door. Only Slots is required.
type Config struct {
	// Slots are the slots by name, each with the host:port at which its application listens. "" means that the slot itself tells it:
	// the address that an abswap.InspectingSlot reports at Activate or SetWeights goes before the one named here.
	Slots map[string]string

	// Active is the slot that takes new connections at once; it needs an address in Slots. "": none: until the first Activate every
	// connection is closed at once.
	Active string

	DialTimeout time.Duration // of a connection to a slot; 0: 5s, negative: none

	// Dial connects to a slot. nil: TCP, through net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Logger *slog.Logger // nil: silent
}

// check returns all mistakes of c at once.
func (c Config) check() error {
	var errs []error
	if len(c.Slots) == 0 {
		errs = append(errs, errors.New("Config.Slots is empty: name at least one slot"))
	}
	at := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Slots)) {
		addr := c.Slots[name]
		if name == "" {
			errs = append(errs, errors.New("Config.Slots: a slot has an empty name"))
		}
		if addr == "" {
			continue
		}
		if err := checkAddress(addr); err != nil {
			errs = append(errs, fmt.Errorf("Config.Slots: slot %q: %w", name, err))
			continue
		}
		if other, ok := at[addr]; ok {
			errs = append(errs, fmt.Errorf("Config.Slots: slots %q and %q have the same address %q", other, name, addr))
		}
		at[addr] = name
	}
	if c.Active != "" {
		if addr, ok := c.Slots[c.Active]; !ok {
			errs = append(errs, fmt.Errorf("Config.Active: %q is not one of the slots", c.Active))
		} else if addr == "" {
			errs = append(errs, fmt.Errorf("Config.Active: slot %q has no address in Config.Slots: leave Active empty and call Activate", c.Active))
		}
	}
	return multi.Join(errs...)
}

// checkAddress accepts host:port with a host and a port from 1 to 65535.
func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q is not host:port: %w", addr, err)
	}
	if host == "" {
		return fmt.Errorf("address %q has no host", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("address %q: port %q is not within 1 to 65535", addr, port)
	}
	return nil
}

// withDefaults returns c with each zero value set to its documented default; a negative duration becomes 0, which means none from here on.
func (c Config) withDefaults() Config {
	switch {
	case c.DialTimeout == 0:
		c.DialTimeout = 5 * time.Second
	case c.DialTimeout < 0:
		c.DialTimeout = 0
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Slots = maps.Clone(c.Slots)
	return c
}
