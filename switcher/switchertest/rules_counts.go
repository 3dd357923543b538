package switchertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/abswap/abswap"
)

// countRules are D1 where nothing races, and D2.
func countRules() []Rule {
	var all []Rule
	for _, kind := range kinds() {
		all = append(all, Rule{"D1/" + kind.String() + "-counts", "work counts in its slot from before its first byte until both directions are finished: " + kind.String(),
			func(ctx context.Context, w *world) error { return kindCounts(ctx, w, kind) }})
	}
	return append(all, []Rule{
		{"D1/counts-equal-open", "each slot counts what is open in it, no more and no less", countsEqualOpen},
		{"D1/aborted-leaves", "work whose client went away leaves the count", abortedLeaves},
		{"D1/old-generations-count", "work that began before the slot was turned off and on again still counts", oldGenerations},
		{"D1/list", "List names what is open, oldest first, no more than asked for", lists},
		{"D2/evidence-stated", "a Load says how good its evidence is", evidenceStated},
	}...)
}

// tally says how work of the kind counts.
func tally(kind Kind) (requests, upgraded int) {
	if kind == KindUpgraded {
		return 0, 1
	}
	return 1, 0
}

func kindCounts(ctx context.Context, w *world, kind Kind) error {
	if _, err := w.load(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	work, err := w.begin(ctx, kind, w.Blue.Name())
	if err != nil {
		return err
	}
	requests, upgraded := tally(kind)
	if err := w.counts(ctx, w.Blue, requests, upgraded); err != nil {
		return err
	}
	for i, to := range []abswap.Slot{w.Blue, w.Green, w.Green} {
		if err := w.activate(ctx, to); err != nil {
			return err
		}
		if err := w.step(ctx, kind, work); err != nil {
			return err
		}
		if err := w.counts(ctx, w.Blue, requests, upgraded); err != nil {
			return fmt.Errorf("after %d parts: %w", i+1, err)
		}
	}
	if err := w.end(ctx, kind, work); err != nil {
		return err
	}
	return w.counts(ctx, w.Blue, 0, 0)
}

func countsEqualOpen(ctx context.Context, w *world) error {
	if _, err := w.load(ctx, w.Blue); err != nil {
		return err
	}
	type open struct {
		kind Kind
		Work
	}
	var all []open
	count := map[string][2]int{}
	check := func() error {
		return errors.Join(w.counts(ctx, w.Blue, count[w.Blue.Name()][0], count[w.Blue.Name()][1]),
			w.counts(ctx, w.Green, count[w.Green.Name()][0], count[w.Green.Name()][1]))
	}
	add := func(o open, n int) {
		requests, upgraded := tally(o.kind)
		c := count[o.Slot]
		count[o.Slot] = [2]int{c[0] + n*requests, c[1] + n*upgraded}
	}
	for i, s := range []abswap.Slot{w.Blue, w.Green, w.Blue} {
		if err := w.settled(ctx, s); err != nil {
			return err
		}
		some, err := w.beginAll(ctx, s.Name())
		if err != nil {
			return err
		}
		for kind, work := range some {
			all = append(all, open{kind, work})
			add(all[len(all)-1], 1)
		}
		if err := check(); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	for i, o := range all {
		if err := w.end(ctx, o.kind, o.Work); err != nil {
			return err
		}
		add(o, -1)
		if err := check(); err != nil {
			return fmt.Errorf("after %d of %d had ended: %w", i+1, len(all), err)
		}
	}
	return nil
}

func abortedLeaves(ctx context.Context, w *world) error {
	if _, err := w.load(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	some, err := w.beginAll(ctx, w.Blue.Name())
	if err != nil {
		return err
	}
	if err := w.activate(ctx, w.Green); err != nil {
		return err
	}
	for _, work := range some {
		work.Abort()
	}
	return w.counts(ctx, w.Blue, 0, 0)
}

func oldGenerations(ctx context.Context, w *world) error {
	if _, err := w.load(ctx, w.Blue); err != nil {
		return err
	}
	var all []Work
	for i := range 3 {
		if err := w.settled(ctx, w.Blue); err != nil {
			return err
		}
		work, err := w.begin(ctx, KindRequest, w.Blue.Name())
		if err != nil {
			return err
		}
		all = append(all, work)
		if err := w.counts(ctx, w.Blue, len(all), 0); err != nil {
			return fmt.Errorf("the slot was turned off and on %d times: %w", i, err)
		}
		if err := w.settled(ctx, w.Green); err != nil {
			return err
		}
		if err := w.counts(ctx, w.Blue, len(all), 0); err != nil {
			return fmt.Errorf("the slot was turned off %d times: %w", i+1, err)
		}
	}
	for i, work := range all {
		if err := w.end(ctx, KindRequest, work); err != nil {
			return err
		}
		if err := w.counts(ctx, w.Blue, len(all)-i-1, 0); err != nil {
			return err
		}
	}
	return nil
}

func lists(ctx context.Context, w *world) error {
	d, err := ability[abswap.ListingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	var want []string
	for _, kind := range []Kind{KindUpgraded, KindRequest, KindUpload, KindDownload, KindRequest} {
		_, err := w.begin(ctx, kind, w.Blue.Name())
		if _, ok := errors.AsType[*skip](err); ok && w.Begin != nil {
			continue
		}
		if err != nil {
			return err
		}
		name := "request"
		if kind == KindUpgraded {
			name = "upgraded"
		}
		want = append(want, name)
	}
	if len(want) == 0 {
		return skipf("the rig can begin no kind of work")
	}
	list := func(limit int) ([]abswap.Work, error) {
		l, err := d.List(ctx, w.Blue, limit)
		if err != nil {
			return nil, refused(fmt.Errorf("list of %q: %w", w.Blue.Name(), err))
		}
		if len(l) > limit {
			return nil, fmt.Errorf("list was asked for at most %d and gave %d", limit, len(l))
		}
		return l, nil
	}
	return w.until(ctx, func() error {
		all, err := list(100)
		if err != nil {
			return err
		}
		if len(all) != len(want) {
			return fmt.Errorf("list gave %d while %d are open", len(all), len(want))
		}
		age := time.Duration(math.MaxInt64)
		for i, x := range all {
			if x.Kind != want[i] {
				return fmt.Errorf("piece %d of List is of kind %q; oldest first it would be %q", i, x.Kind, want[i])
			}
			if x.Age > age {
				return fmt.Errorf("list is not oldest first: %s comes after %s", x.Age, age)
			}
			age = x.Age
		}
		first, err := list(1)
		if err != nil {
			return err
		}
		if len(first) != 1 || first[0].Kind != want[0] {
			return fmt.Errorf("list of at most 1 gave %+v, not the oldest", first)
		}
		return nil
	})
}

func evidenceStated(ctx context.Context, w *world) error {
	for _, s := range []abswap.Slot{w.Blue, w.Green} {
		l, err := w.load(ctx, s)
		if err != nil {
			return err
		}
		if l.Evidence != abswap.EvidenceApproximate && l.Evidence != abswap.EvidenceExact {
			return fmt.Errorf("the evidence of slot %q is %q: such a slot never counts as drained", s.Name(), l.Evidence)
		}
	}
	return nil
}
