// Package slots is what the proxy and its TCP mode have in common as switchers: which slots there are, which generation of one is meant, and
// whose turn it is to change what is in force.
package slots

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// Set is the slots of a switcher.
type Set struct {
	Room  string            // what errors begin with: "proxy", "tcp"
	Addrs map[string]string // by name, host:port; "": the slot tells its own when it is put in force
}

// CheckConfig returns all that is wrong with slots and an active one that were given as Config.Slots and Config.Active.
func CheckConfig(addrs map[string]string, active string) []error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if len(addrs) == 0 {
		bad("Config.Slots is empty: name at least one slot")
	}
	at := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(addrs)) {
		addr := addrs[name]
		if name == "" {
			bad("Config.Slots: a slot has an empty name")
		}
		if addr == "" {
			continue
		}
		if err := CheckAddress(addr); err != nil {
			bad("Config.Slots: slot %q: %w", name, err)
			continue
		}
		if other, ok := at[addr]; ok {
			bad("Config.Slots: slots %q and %q have the same address %q", other, name, addr)
		}
		at[addr] = name
	}
	if active != "" {
		if addr, ok := addrs[active]; !ok {
			bad("Config.Active: %q is not one of the slots", active)
		} else if addr == "" {
			bad("Config.Active: slot %q has no address in Config.Slots: leave Active empty and call Activate", active)
		}
	}
	return errs
}

// CheckAddress accepts host:port with a host and a port from 1 to 65535.
func CheckAddress(addr string) error {
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

// Has returns an error if the context has ended or sl is none of the slots.
func (s Set) Has(ctx context.Context, sl abswap.Slot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if sl == nil {
		return fmt.Errorf("%s: the slot is nil", s.Room)
	}
	if err := s.known(sl); err != nil {
		return fmt.Errorf("%s: %w", s.Room, err)
	}
	return nil
}

func (s Set) known(sl abswap.Slot) error {
	if _, ok := s.Addrs[sl.Name()]; !ok {
		return fmt.Errorf("slot %q is not in Config.Slots: %w", sl.Name(), abswap.ErrUnknownSlot)
	}
	return nil
}

// CheckWeights returns an error if w cannot be in force, or not here.
func (s Set) CheckWeights(w []abswap.Weight) error {
	if err := abswap.CheckWeights(w); err != nil {
		return err
	}
	var errs []error
	for _, x := range w {
		errs = append(errs, s.known(x.Slot))
	}
	return multi.Join(errs...)
}

// Check returns what keeps any of these slots from being put in force.
func (s Set) Check(all []abswap.Slot) []error {
	var errs []error
	for _, sl := range all {
		if sl == nil {
			errs = append(errs, fmt.Errorf("%s: a slot is nil", s.Room))
		} else if err := s.known(sl); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Room, err))
		} else if s.Addrs[sl.Name()] == "" {
			if _, ok := abswap.As[abswap.InspectingSlot](sl); !ok {
				errs = append(errs, fmt.Errorf("%s: slot %q has no address in Config.Slots, and %T cannot tell one", s.Room, sl.Name(), sl))
			}
		}
	}
	return errs
}

// Key tells which generation of the slot is meant now.
func (s Set) Key(ctx context.Context, sl abswap.Slot) (route.Key, error) {
	k := route.Key{Slot: sl.Name(), Address: s.Addrs[sl.Name()]}
	if in, ok := abswap.As[abswap.InspectingSlot](sl); ok {
		st, err := in.Inspect(ctx)
		if err != nil {
			return k, fmt.Errorf("slot %q cannot be inspected: %w", k.Slot, err)
		}
		k.Release, k.Started = st.Release, st.Started.Round(0)
		if st.Address != "" {
			k.Address = st.Address
		}
	}
	if k.Address == "" {
		return k, fmt.Errorf("slot %q has no address: name one in Config.Slots, or let its Inspect tell it", k.Slot)
	}
	if err := CheckAddress(k.Address); err != nil {
		return k, fmt.Errorf("slot %q: %w", k.Slot, err)
	}
	return k, nil
}

// Active returns the slot with the largest part, of equal ones the first by name; ErrMixed beside it if others have parts, ErrNoActive if none
// has one.
func Active(weights map[string]int) (string, error) {
	name, most := "", 0
	for n, part := range weights {
		if part > most || part == most && n < name {
			name, most = n, part
		}
	}
	switch len(weights) {
	case 0:
		return "", abswap.ErrNoActive
	case 1:
		return name, nil
	}
	return name, abswap.ErrMixed
}

// Turn is held by the one who changes what is in force. It is a channel, since waiting for it ends with a context.
type Turn chan struct{}

// NewTurn returns a Turn that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take waits until nobody else has the turn.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		t.Give()
		return err
	}
	return nil
}

// TakeAnyway waits for it without an end.
func (t Turn) TakeAnyway() { t <- struct{}{} }

// Give ends the turn.
func (t Turn) Give() { <-t }
