package tcp

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/slots"
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
	return multi.Join(slots.CheckConfig(c.Slots, c.Active)...)
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
