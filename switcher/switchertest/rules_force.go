package switchertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/abswap/abswap"
)

// forceRules are what a ForcingDrainer promises.
func forceRules() []Rule {
	return []Rule{
		{"D3/cut-ends", "ForceCut ends what is in the slot, and nothing elsewhere", cutEnds},
		{"D3/hand-over-breaks-nothing", "ForceHandOver breaks no request", handOverBreaksNothing},
		{"D3/live-again-is-safe", "an order to cut does no harm to what begins after the slot has gone live again", liveAgainIsSafe},
	}
}

// sessionRules are D4.
func sessionRules() []Rule {
	return []Rule{
		{"D4/session-stays", "a session stays in the slot where it began, while new ones begin in the active one", sessionStays},
		{"D4/session-counts", "Sessions counts the sessions of a slot until they end, with evidence", sessionCounts},
	}
}

func force(ctx context.Context, d abswap.ForcingDrainer, s abswap.Slot, how abswap.Force) error {
	if err := d.Force(ctx, s, how); err != nil {
		return refused(fmt.Errorf("force of %q: %w", s.Name(), err))
	}
	return nil
}

func cutEnds(ctx context.Context, w *world) error {
	d, err := ability[abswap.ForcingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	old, err := w.beginAll(ctx, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	fresh, err := w.beginAll(ctx, w.Green.Name())
	if err != nil {
		return err
	}
	if err := force(ctx, d, w.Blue, abswap.ForceCut); err != nil {
		return err
	}
	if err := w.counts(ctx, w.Blue, 0, 0); err != nil {
		return fmt.Errorf("after ForceCut: %w", err)
	}
	for kind, work := range old {
		if err := w.end(ctx, kind, work); err == nil {
			return fmt.Errorf("a %s in %q ended well after ForceCut had ended it", kind, work.Slot)
		}
	}
	for kind, work := range fresh {
		if err := w.step(ctx, kind, work); err != nil {
			return fmt.Errorf("after ForceCut of the other slot: %w", err)
		}
		if err := w.end(ctx, kind, work); err != nil {
			return fmt.Errorf("after ForceCut of the other slot: %w", err)
		}
	}
	return nil
}

func handOverBreaksNothing(ctx context.Context, w *world) error {
	d, err := ability[abswap.ForcingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	old, err := w.beginAll(ctx, w.Blue.Name())
	if err != nil {
		return err
	}
	delete(old, KindUpgraded) // which may be asked to close
	kept := 0
	if w.KeepAlive != nil {
		kept = clients
	}
	before := int64(0) // requests that the switch itself has lost are S2's matter
	tr, err := w.underLoad(kept, func(tr *traffic) error {
		if err := w.activate(ctx, w.Green); err != nil {
			return err
		}
		tr.want.Store(&expectation{not: true}) // whoever answers
		if err := tr.await(4 * clients); err != nil {
			return err
		}
		before = tr.lost.Load()
		if err := force(ctx, d, w.Blue, abswap.ForceHandOver); err != nil {
			return err
		}
		return tr.await(8 * clients)
	})
	if err != nil {
		return err
	}
	if n := tr.lost.Load() - before; n > 0 {
		return fmt.Errorf("%d requests failed after ForceHandOver; of all that failed the first one: %w", n, tr.firstLost)
	}
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	for kind, work := range old {
		if err := w.step(ctx, kind, work); err != nil {
			return fmt.Errorf("after ForceHandOver: %w", err)
		}
		if err := w.end(ctx, kind, work); err != nil {
			return fmt.Errorf("after ForceHandOver: %w", err)
		}
	}
	return nil
}

func liveAgainIsSafe(ctx context.Context, w *world) error {
	d, err := ability[abswap.ForcingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	for _, how := range []abswap.Force{abswap.ForceHandOver, abswap.ForceCut} {
		if err := w.settled(ctx, w.Blue); err != nil {
			return err
		}
		if _, err := w.begin(ctx, KindRequest, w.Blue.Name()); err != nil {
			return err
		}
		if err := w.settled(ctx, w.Green); err != nil {
			return err
		}
		if err := force(ctx, d, w.Blue, how); err != nil {
			return err
		}
		if err := w.activate(ctx, w.Blue); err != nil {
			return err
		}
		fresh, err := w.beginAll(ctx, w.Blue.Name())
		if err != nil {
			return err
		}
		if err := pause(ctx, 4*w.Settle); err != nil {
			return err
		}
		for kind, work := range fresh {
			if err := w.step(ctx, kind, work); err != nil {
				return fmt.Errorf("begun after the slot had gone live again: %w", err)
			}
			if err := w.end(ctx, kind, work); err != nil {
				return fmt.Errorf("begun after the slot had gone live again: %w", err)
			}
		}
		if err := w.goesTo(ctx, w.Blue.Name()); err != nil {
			return fmt.Errorf("after the slot had gone live again: %w", err)
		}
	}
	return nil
}

func sessionStays(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	old, err := w.begin(ctx, KindSession, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.step(ctx, KindSession, old); err != nil {
		return fmt.Errorf("before any switch: %w", err)
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	fresh, err := w.begin(ctx, KindSession, w.Green.Name())
	if err != nil {
		return err
	}
	for range 3 {
		if err := errors.Join(w.step(ctx, KindSession, old), w.step(ctx, KindSession, fresh)); err != nil {
			return fmt.Errorf("after the switch: %w", err)
		}
	}
	if err := w.stays(ctx, w.Green.Name()); err != nil {
		return fmt.Errorf("while a session lives in %q: %w", old.Slot, err)
	}
	return errors.Join(w.end(ctx, KindSession, old), w.end(ctx, KindSession, fresh))
}

func sessionCounts(ctx context.Context, w *world) error {
	d, err := ability[abswap.SessionDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	sessions := func(s abswap.Slot, n int) error {
		return w.until(ctx, func() error {
			l, err := d.Sessions(ctx, s)
			if err != nil {
				return refused(fmt.Errorf("sessions of %q: %w", s.Name(), err))
			}
			if l.Sessions != n || l.Requests != 0 || l.Upgraded != 0 {
				return fmt.Errorf("slot %q counts %d sessions (and %d requests, %d upgraded connections) while %d live", s.Name(), l.Sessions, l.Requests, l.Upgraded, n)
			}
			if l.Evidence == abswap.EvidenceUnknown {
				return fmt.Errorf("the evidence of the sessions in slot %q is unknown", s.Name())
			}
			return nil
		})
	}
	var all []Work
	for range 2 {
		work, err := w.begin(ctx, KindSession, w.Blue.Name())
		if err != nil {
			return err
		}
		all = append(all, work)
	}
	if err := errors.Join(sessions(w.Blue, 2), sessions(w.Green, 0)); err != nil {
		return err
	}
	if err := w.settled(ctx, w.Green); err != nil {
		return err
	}
	for i, work := range all {
		if err := sessions(w.Blue, len(all)-i); err != nil {
			return fmt.Errorf("after the switch: %w", err)
		}
		if err := w.end(ctx, KindSession, work); err != nil {
			return err
		}
	}
	return errors.Join(sessions(w.Blue, 0), sessions(w.Green, 0))
}
