package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/abswap/abswap"
)

// members tells where each member stands at this door.
func (d *fleetDoor) members(ctx context.Context) (map[string]abswap.Member, error) {
	states, err := d.still(ctx)
	if err != nil {
		return nil, err
	}
	open, err := d.openOld(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]abswap.Member{}
	for member, servers := range d.cfg.Slots {
		m := abswap.Member{In: true, Out: true, Up: true}
		var notes []string
		for _, name := range servers {
			s := states[name]
			m.In = m.In && s.on() && s.weight > 0
			m.Out = m.Out && s.maint()
			m.Up = m.Up && (s.up || s.maint()) // the checks of one in maintenance rest
			if text := stateText(s); text != "" {
				notes = append(notes, name+" "+text)
			}
		}
		if m.Out && open != "" {
			m.Out = false
			notes = append(notes, open)
		}
		m.Note = strings.Join(notes, ", ")
		all[member] = m
	}
	return all, nil
}

// stateText says what keeps a server from serving, as HAProxy's pages do; "" if nothing does.
func stateText(s serverState) string {
	switch {
	case s.maint():
		return "MAINT"
	case !s.on():
		return "DRAIN"
	case !s.up:
		return "DOWN"
	case s.weight == 0:
		return "weight 0"
	}
	return ""
}

// openOld tells of an old worker to which clients keep idle connections: by each of them one more request could reach a member that is out. Old
// workers refuse to change the states of servers. "": there is none.
func (d *fleetDoor) openOld(ctx context.Context) (text string, err error) {
	err = d.everywhere(ctx, func(ctx context.Context, w worker) error {
		if !w.old {
			return nil
		}
		idle, err := d.idleClients(ctx, w)
		if err == nil && idle > 0 {
			text = fmt.Sprintf("old worker %d with %d idle client connection(s)", w.pid, idle)
		}
		return err
	})
	return text, err
}

// spare makes sure that another member serves at this door.
func (d *fleetDoor) spare(ctx context.Context, member string) error {
	states, err := d.still(ctx)
	if err != nil {
		return err
	}
	serves := func(name string) bool { s := states[name]; return s.on() && s.weight > 0 && s.up }
	if !slices.ContainsFunc(d.cfg.Slots[member], serves) {
		return nil // it does not serve itself
	}
	for other, servers := range d.cfg.Slots {
		if other != member && slices.ContainsFunc(servers, serves) {
			return nil
		}
	}
	return fmt.Errorf("it is the last one that serves, and stays so: %w", abswap.ErrPermanent)
}

func (d *fleetDoor) takeOut(ctx context.Context, member string) error {
	return d.steer(ctx, func(map[string]serverState) []target {
		var targets []target
		for _, name := range d.cfg.Slots[member] {
			targets = append(targets, target{server: name, state: stateMaint})
		}
		return targets
	}, d.applyOld)
}

func (d *fleetDoor) putIn(ctx context.Context, member string) error {
	return d.steer(ctx, func(all map[string]serverState) []target {
		var targets []target
		for _, name := range d.cfg.Slots[member] {
			t := target{server: name, state: stateReady}
			if all[name].weight == 0 {
				t.weight = max(all[name].config, 1)
			}
			targets = append(targets, t)
		}
		return targets
	}, func(ctx context.Context, w worker, targets []target) error {
		if err := d.apply(ctx, w, targets); !refusedFor(err, ErrDisabled) {
			return err
		}
		return nil // an old worker finishes what it has, and gets nothing new to share out
	})
}

// steer puts the servers that choose picks into the states that it gives them.
func (d *fleetDoor) steer(ctx context.Context, choose func(map[string]serverState) []target, applyOld func(context.Context, worker, []target) error) error {
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	t, all, err := d.now(ctx)
	if err != nil {
		return err
	}
	return d.put(ctx, t, choose(all), applyOld)
}
