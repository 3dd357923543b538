package proxy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/abswap/abswap/internal/multi"
	"github.com/abswap/abswap/switcher/proxy/internal/h1"
	"github.com/abswap/abswap/switcher/proxy/internal/route"
)

// ErrStale is returned to a Client whose order rests on a state that is no longer in force: another one came first. Nothing has changed.
var ErrStale = errors.New("state has changed meanwhile")

// view is the state that an order rests on. A nil view rests on none.
type view struct {
	revision uint64
	hold     *hold  // that must be in force, too; nil: none
	made     uint64 // the revision that the order has made
}

// check returns ErrStale if the view is not the state in force. It is called by the one who has the turn.
func (v *view) check(s *Switcher) error {
	if v == nil {
		return nil
	}
	if now := s.known.Load().Revision; v.revision != now {
		return fmt.Errorf("revision %d is in force, not %d: %w", now, v.revision, ErrStale)
	}
	return nil
}

// placed is the generation that a slot is to have, and its part.
type placed struct {
	key  route.Key
	part int
}

// last returns the known generation of the slot; a key without address if there is none.
func (s *Switcher) last(name string) route.Key {
	if g := s.table.Generations(name); len(g) > 0 {
		return g[len(g)-1].Key
	}
	return route.Key{Slot: name}
}

// next returns the state in which the slots named have those parts, all others none, and seal, if it is not "", is sealed too.
func (s *Switcher) next(parts map[string]placed, seal string) *state {
	st := &state{Version: stateVersion, Revision: s.known.Load().Revision + 1}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Slots)) {
		p, live := parts[name]
		if !live {
			p = placed{key: s.last(name)}
		}
		x := slotStateOf(p.key)
		x.Part, x.Sealed = p.part, name == seal || !live && s.table.Sealed(name)
		if x.Address != "" || x.Sealed {
			st.Slots = append(st.Slots, x)
		}
	}
	return st
}

// settled notes that next is in force.
func (s *Switcher) settled(next *state, by *view) {
	s.known.Store(next)
	if by != nil {
		by.made = next.Revision
	}
}

// restore puts in force what the state file says; without one, Config.Active.
func (s *Switcher) restore(d disk) error {
	// Revisions of a proxy without a file, or with a new one, begin at a number that no earlier one has reached.
	st := &state{Revision: uint64(time.Now().UnixMicro())}
	if name := s.cfg.Active; name != "" {
		st.Slots = []slotState{{Name: name, Address: s.cfg.Slots[name], Part: 100}}
	}
	st.settle(s.cfg)
	if s.cfg.StateFile != "" {
		store, old, err := openStore(s.cfg.StateFile, d)
		if err != nil {
			return err
		}
		s.first = old == nil
		if old != nil {
			err = s.adopt(old, d)
			st = &state{Revision: old.Revision, Slots: old.Slots}
		}
		if err == nil {
			err = store.save(st, nil) // not clean any more; and a disk that cannot be written shows now
		}
		if err != nil {
			return multi.Join(fmt.Errorf("Config.StateFile: %w", err), store.lock.Close())
		}
		s.store = *store
	}
	s.known.Store(st)
	var parts []route.Part[*h1.Pool]
	for _, x := range st.Slots {
		if x.Address == "" {
			continue
		}
		g := s.generation(x.key())
		if x.Part > 0 {
			parts = append(parts, route.Part[*h1.Pool]{Gen: g, Part: x.Part})
		}
	}
	s.publish(parts...)
	for _, x := range st.Slots {
		if x.Sealed {
			s.table.Seal(x.Name)
		}
	}
	s.table.Each(func(g *generation, led bool) {
		g.Target.SetOpen(led) // sessions lead to slots without a part, too
	})
	return nil
}

// adopt checks that the state that was found can be gone on with.
func (s *Switcher) adopt(old *state, d disk) error {
	var errs []error
	for _, x := range old.Slots {
		if !s.table.Has(x.Name) {
			errs = append(errs, fmt.Errorf("%q tells of slot %q (part %d, address %q), which is not in Config.Slots: add it there, or, if it is gone "+
				"for good, move the file away and set Config.Active", s.cfg.StateFile, x.Name, x.Part, x.Address))
		}
	}
	if err := multi.Join(errs...); err != nil || old.Clean {
		return err
	}
	kind, err := d.remote(filepath.Dir(s.cfg.StateFile))
	if err != nil {
		return fmt.Errorf("%q: it cannot be told whether its lock binds: %w", s.cfg.StateFile, err)
	}
	if kind != "" {
		s.doubt = doubt{since: time.Now(), slots: map[string]bool{}}
		for _, x := range old.Slots {
			s.doubt.slots[x.Name] = x.Address != ""
		}
	}
	return nil
}

// doubt says of which slots an earlier proxy may still carry work, since nothing proves that it is dead.
type doubt struct {
	since time.Time
	slots map[string]bool
}

// about reports whether the slot is in doubt while k is its known generation. An application that was started later carries nothing that the
// earlier proxy had.
func (d doubt) about(k route.Key) bool { return d.slots[k.Slot] && !k.Started.After(d.since) }

// closeStore lets the state file go, once.
func (s *Switcher) closeStore() error {
	s.turn.TakeAnyway()
	defer s.turn.Give()
	clean := true
	for name := range s.cfg.Slots {
		clean = clean && !s.doubt.about(s.last(name))
	}
	err := s.store.close(s.known.Load(), clean)
	s.store = store{}
	return err
}
