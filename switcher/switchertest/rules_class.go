package switchertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/abswap/abswap"
)

// classRules are D5.
func classRules() []Rule {
	return []Rule{
		{"D5/class-listed", "List tells an ID that no other piece has or had, and the class of what is open", classListed},
		{"D5/one-ends", "End with ForceCut ends the piece that it is told, and no other", oneEnds},
		{"D5/asked-breaks-nothing", "End with ForceHandOver breaks no request and no upload", askedBreaksNothing},
		{"D5/live-refused", "End in a slot that takes new work is refused with ErrSlotLive, and does nothing", liveRefused},
	}
}

// classesOf are the classes that work of the kind may be told to have.
func classesOf(kind Kind) []abswap.Class {
	switch kind {
	case KindUpload:
		return []abswap.Class{abswap.ClassUpload}
	case KindDownload:
		return []abswap.Class{abswap.ClassDownload, abswap.ClassStream}
	case KindUpgraded:
		return []abswap.Class{abswap.ClassTunnel}
	}
	return []abswap.Class{abswap.ClassRequest}
}

// beginListed begins work of every kind in the slot, which is active, and finds it in the list.
func (w *world) beginListed(ctx context.Context, d abswap.ClassDrainer, s abswap.Slot) (map[Kind]Work, map[Kind]uint64, error) {
	seen, err := listOf(ctx, d, s)
	if err != nil {
		return nil, nil, err
	}
	all, ids := map[Kind]Work{}, map[Kind]uint64{}
	for _, kind := range kinds() {
		work, err := w.begin(ctx, kind, s.Name())
		if _, ok := errors.AsType[*skip](err); ok && w.Begin != nil {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		all[kind] = work
		if err := w.until(ctx, func() error {
			now, err := listOf(ctx, d, s)
			if err != nil {
				return err
			}
			for id, x := range now {
				if _, old := seen[id]; !old && slices.Contains(classesOf(kind), x.Class) {
					ids[kind], seen = id, now
					return nil
				}
			}
			return fmt.Errorf("list of %q has no new piece of class %q after a %s was begun: %v", s.Name(), classesOf(kind), kind, now)
		}); err != nil {
			return nil, nil, err
		}
	}
	if len(all) == 0 {
		return nil, nil, skipf("the rig can begin no kind of work")
	}
	return all, ids, nil
}

// listOf is List by ID.
func listOf(ctx context.Context, d abswap.ClassDrainer, s abswap.Slot) (map[uint64]abswap.Work, error) {
	all, err := d.List(ctx, s, math.MaxInt32)
	if err != nil {
		return nil, refused(fmt.Errorf("list of %q: %w", s.Name(), err))
	}
	out := map[uint64]abswap.Work{}
	for _, x := range all {
		if _, twice := out[x.ID]; twice || x.ID == 0 {
			return nil, fmt.Errorf("list of %q: ID %d is zero, or stands twice", s.Name(), x.ID)
		}
		out[x.ID] = x
	}
	return out, nil
}

func endOf(ctx context.Context, d abswap.ClassDrainer, s abswap.Slot, how abswap.Force, ids ...uint64) error {
	if err := d.End(ctx, s, how, ids...); err != nil {
		return refused(fmt.Errorf("end in %q: %w", s.Name(), err))
	}
	return nil
}

// orNil is err, as text that says that there is none.
func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

func classListed(ctx context.Context, w *world) error {
	d, err := ability[abswap.ClassDrainer](w.Drainer)
	if err != nil {
		return err
	}
	had := map[uint64]bool{}
	for range 2 {
		if err := w.settled(ctx, w.Blue); err != nil {
			return err
		}
		all, ids, err := w.beginListed(ctx, d, w.Blue)
		if err != nil {
			return err
		}
		if err := w.settled(ctx, w.Green); err != nil {
			return err
		}
		for kind, id := range ids {
			if had[id] {
				return fmt.Errorf("a %s has ID %d, which another piece had before", kind, id)
			}
			had[id] = true
			if err := w.step(ctx, kind, all[kind]); err != nil {
				return err
			}
			now, err := listOf(ctx, d, w.Blue)
			if err != nil {
				return err
			}
			if x, ok := now[id]; !ok || !slices.Contains(classesOf(kind), x.Class) {
				return fmt.Errorf("a %s that has moved on is listed as %q, not as one of %q under its ID", kind, x.Class, classesOf(kind))
			}
		}
		for kind, work := range all {
			if err := w.end(ctx, kind, work); err != nil {
				return err
			}
		}
	}
	return nil
}

func oneEnds(ctx context.Context, w *world) error {
	d, err := ability[abswap.ClassDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	all, ids, err := w.beginListed(ctx, d, w.Blue)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	for _, kind := range kinds() {
		work, ok := all[kind]
		if !ok {
			continue
		}
		if err := endOf(ctx, d, w.Blue, abswap.ForceCut, ids[kind]); err != nil {
			return err
		}
		delete(all, kind)
		if err := w.until(ctx, func() error {
			now, err := listOf(ctx, d, w.Blue)
			if _, still := now[ids[kind]]; still && err == nil {
				err = fmt.Errorf("a %s that was cut is still listed", kind)
			}
			return err
		}); err != nil {
			return err
		}
		if err := w.end(ctx, kind, work); err == nil {
			return fmt.Errorf("a %s ended well after it had been cut", kind)
		}
		if err := pause(ctx, w.Settle); err != nil {
			return err
		}
		for k, other := range all {
			if err := w.step(ctx, k, other); err != nil {
				return fmt.Errorf("after one %s was cut: %w", kind, err)
			}
		}
	}
	return endOf(ctx, d, w.Blue, abswap.ForceCut, ids[KindRequest], math.MaxUint64) // what has ended is passed over
}

func askedBreaksNothing(ctx context.Context, w *world) error {
	d, err := ability[abswap.ClassDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	all, ids, err := w.beginListed(ctx, d, w.Blue)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	for _, id := range ids {
		if err := endOf(ctx, d, w.Blue, abswap.ForceHandOver, id); err != nil {
			return err
		}
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	for _, kind := range []Kind{KindRequest, KindUpload} {
		if work, ok := all[kind]; ok {
			if err := errors.Join(w.step(ctx, kind, work), w.end(ctx, kind, work)); err != nil {
				return fmt.Errorf("after it was asked to end: %w", err)
			}
		}
	}
	return nil
}

func liveRefused(ctx context.Context, w *world) error {
	d, err := ability[abswap.ClassDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	all, ids, err := w.beginListed(ctx, d, w.Blue)
	if err != nil {
		return err
	}
	for _, how := range []abswap.Force{abswap.ForceHandOver, abswap.ForceCut} {
		for kind, id := range ids {
			if err := d.End(ctx, w.Blue, how, id); !errors.Is(err, abswap.ErrSlotLive) {
				return refused(fmt.Errorf("end of a %s in the active slot is not refused with ErrSlotLive: %w", kind, orNil(err)))
			}
		}
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	for kind, work := range all {
		if err := errors.Join(w.step(ctx, kind, work), w.end(ctx, kind, work)); err != nil {
			return fmt.Errorf("after a refused End: %w", err)
		}
	}
	return nil
}
