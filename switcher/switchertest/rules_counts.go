package switchertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
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

// raceRules are D1 and D2 where requests race with the switch and with the reading.
func raceRules() []Rule {
	return []Rule{
		{"D1/picked-not-counted", "a drain that begins while a request is between picked and counted does not miss it", pickedNotCounted},
		{"D1/drain-races-requests", "no reading after a switch is below what turns out to be in the old slot", drainRaces},
		{"D1/zero-at-the-end", "when all has ended, also after many switches at one time with it, the counts are exactly zero", zeroAtTheEnd},
		{"D2/exact-under-load", "an exact count is never below what is open, however much comes and goes", exactUnderLoad},
	}
}

// waitRules are what a WaitingDrainer promises.
func waitRules() []Rule {
	return []Rule{
		{"D2/wait-idle-waits", "WaitIdle waits while work is open, and is told when the last has ended", waitIdleWaits},
		{"D2/wait-idle-all-told", "all who wait are told", waitIdleAllTold},
		{"D2/wait-idle-at-once", "WaitIdle of an idle slot returns at once", waitIdleAtOnce},
		{"D2/wait-idle-context", "WaitIdle ends with its context", waitIdleContext},
	}
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

func pickedNotCounted(ctx context.Context, w *world) error {
	if w.Stall == nil {
		return skipf("the rig has no Stall")
	}
	if exact, err := w.exact(ctx); err != nil || !exact {
		return errors.Join(err, skipf("the evidence is not exact"))
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.counts(ctx, w.Blue, 0, 0); err != nil {
		return err
	}
	reached, resume := w.Stall()
	w.later(resume)
	c := w.ask(ctx)
	select {
	case <-reached:
	case a := <-c:
		return fmt.Errorf("the rig's Stall stopped no request: it was answered by %q (%v)", a.slot, a.err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	activated := make(chan error, 1)
	w.asking.Go(func() { activated <- w.activate(ctx, w.Green) })
	t := time.NewTimer(w.Settle)
	defer t.Stop()
	zero := false
	select {
	case err := <-activated:
		if err != nil {
			return err
		}
		l, err := w.load(ctx, w.Blue)
		if err != nil {
			return err
		}
		zero = l.Requests+l.Upgraded == 0
		resume()
	case <-t.C: // it waits for the request: as good
		resume()
		if err := <-activated; err != nil {
			return err
		}
	}
	a, err := w.get(ctx, c)
	if err != nil {
		return err
	}
	if a.err != nil {
		return fmt.Errorf("the request that was stopped between picked and counted: %w", a.err)
	}
	if zero && a.slot == w.Blue.Name() {
		return fmt.Errorf("after the switch %q counted zero, and then it answered a request", a.slot)
	}
	return nil
}

func drainRaces(ctx context.Context, w *world) error {
	exact, err := w.exact(ctx)
	if err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	var can []Kind
	for _, kind := range []Kind{KindRequest, KindUpgraded} {
		first, err := w.begin(ctx, kind, w.Blue.Name())
		if _, ok := errors.AsType[*skip](err); ok && w.Begin != nil {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.end(ctx, kind, first); err != nil {
			return err
		}
		can = append(can, kind)
	}
	if len(can) == 0 {
		return skipf("the rig can begin neither requests nor upgraded connections")
	}
	from := w.Blue
	for round := range 12 {
		to := w.other(from)
		if err := errors.Join(w.counts(ctx, from, 0, 0), w.counts(ctx, to, 0, 0)); err != nil {
			return fmt.Errorf("before round %d: %w", round, err)
		}
		if err := w.race(ctx, can[round%len(can)], from, to, round, exact); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		from = to
	}
	return nil
}

// race begins work while it switches, and compares each reading with what turns out to be there.
func (w *world) race(ctx context.Context, kind Kind, from, to abswap.Slot, round int, exact bool) error {
	work, errs := make([]Work, clients), make([]error, clients)
	begun := make(chan int, clients)
	for i := range clients {
		w.asking.Go(func() {
			work[i], errs[i] = w.Begin(w.life, kind)
			if errs[i] == nil {
				w.later(work[i].Abort)
			}
			begun <- i
		})
	}
	requests, upgraded := tally(kind)
	n := 0
	for ; n < round%clients; n++ { // the switch comes at another moment in each round
		<-begun
	}
	if err := w.activate(ctx, to); err != nil {
		return err
	}
	lowest := math.MaxInt
	for {
		l, err := w.load(ctx, from)
		if err != nil {
			return err
		}
		lowest = min(lowest, l.Requests+l.Upgraded)
		for ; n < clients && len(begun) > 0; n++ {
			<-begun
		}
		if n == clients {
			break
		}
		if err := pause(ctx, w.Settle/50); err != nil {
			return err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("begin %s: %w", kind, err)
	}
	there := 0
	for _, x := range work {
		if x.Slot == from.Name() {
			there++
		}
	}
	if exact && lowest < there {
		return fmt.Errorf("after the switch %q counted %d, and then turned out to have %d (%s) that had been on their way", from.Name(), lowest, there, kind)
	}
	if err := errors.Join(w.counts(ctx, from, there*requests, there*upgraded), w.counts(ctx, to, (clients-there)*requests, (clients-there)*upgraded)); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i, x := range work {
		wg.Go(func() { errs[i] = w.end(ctx, kind, x) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func zeroAtTheEnd(ctx context.Context, w *world) error {
	if _, err := w.load(ctx, w.Blue); err != nil {
		return err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	_, err := w.underLoad(0, func(tr *traffic) error {
		errs := make([]error, 4)
		var wg sync.WaitGroup
		if w.Begin != nil {
			for i := range errs {
				wg.Go(func() { errs[i] = w.comeAndGo(ctx, i) })
			}
		}
		err := tr.flips(ctx, w.Switcher.Activate)
		wg.Wait()
		return errors.Join(append(errs, err)...)
	})
	if err != nil {
		return err
	}
	for range 3 { // and it stays so
		if err := errors.Join(w.counts(ctx, w.Blue, 0, 0), w.counts(ctx, w.Green, 0, 0)); err != nil {
			return err
		}
		if err := pause(ctx, w.Settle/3); err != nil {
			return err
		}
	}
	return nil
}

// comeAndGo begins and ends some work, every third by going away.
func (w *world) comeAndGo(ctx context.Context, n int) error {
	for i := range 6 {
		kind := kinds()[(n+i)%len(kinds())]
		work, err := w.Begin(w.life, kind)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return fmt.Errorf("begin %s: %w", kind, err)
		}
		w.later(work.Abort)
		if i%3 == 2 {
			work.Abort()
		} else if err := w.end(ctx, kind, work); err != nil {
			return err
		}
	}
	return nil
}

func exactUnderLoad(ctx context.Context, w *world) error {
	if exact, err := w.exact(ctx); err != nil || !exact {
		return errors.Join(err, skipf("the evidence is not exact"))
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	some, err := w.beginAll(ctx, w.Blue.Name())
	if err != nil {
		return err
	}
	requests, upgraded := 0, 0
	for kind := range some {
		r, u := tally(kind)
		requests, upgraded = requests+r, upgraded+u
	}
	_, err = w.underLoad(0, func(tr *traffic) error {
		tr.want.Store(&expectation{not: true}) // all answers are judged, and none is late
		for i := range max(20, w.Load/clients) {
			l, err := w.load(ctx, w.Blue)
			if err != nil {
				return err
			}
			if l.Requests < requests || l.Upgraded < upgraded {
				return fmt.Errorf("reading %d: %q counted %d requests and %d upgraded connections while at least %d and %d were open", i, w.Blue.Name(),
					l.Requests, l.Upgraded, requests, upgraded)
			}
			if err := tr.await(clients); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// waiting returns the ability, with one request open in blue and green active.
func (w *world) waiting(ctx context.Context) (abswap.WaitingDrainer, Work, error) {
	d, err := ability[abswap.WaitingDrainer](w.Drainer)
	if err != nil {
		return nil, Work{}, err
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return nil, Work{}, err
	}
	work, err := w.begin(ctx, KindRequest, w.Blue.Name())
	if err != nil {
		return nil, Work{}, err
	}
	return d, work, w.activate(ctx, w.Green)
}

// waitIdle calls WaitIdle beside the rule.
func (w *world) waitIdle(ctx context.Context, d abswap.WaitingDrainer, s abswap.Slot) <-chan answer {
	return w.askBy(ctx, func(ctx context.Context) (string, int64, error) { return "", 0, d.WaitIdle(ctx, s) })
}

// told waits until WaitIdle has returned nil.
func (w *world) told(ctx context.Context, c <-chan answer) error {
	a, err := w.get(ctx, c)
	if err != nil {
		return fmt.Errorf("the slot is idle and WaitIdle was not told: %w", err)
	}
	if a.err != nil {
		return refused(fmt.Errorf("wait idle: %w", a.err))
	}
	return nil
}

func waitIdleWaits(ctx context.Context, w *world) error {
	if err := w.settled(ctx, w.Blue); err != nil {
		return err
	}
	first, err := w.begin(ctx, KindRequest, w.Blue.Name())
	if err != nil {
		return err
	}
	d, second, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	c := w.waitIdle(ctx, d, w.Blue)
	waits := func() error {
		if err := pause(ctx, w.Settle); err != nil {
			return err
		}
		select {
		case a := <-c:
			if a.err != nil {
				return refused(fmt.Errorf("wait idle: %w", a.err))
			}
			return errors.New("wait idle: it returned nil while a request was open")
		default:
			return nil
		}
	}
	if err := waits(); err != nil {
		return err
	}
	if err := w.end(ctx, KindRequest, first); err != nil {
		return err
	}
	if err := waits(); err != nil {
		return err
	}
	if err := w.end(ctx, KindRequest, second); err != nil {
		return err
	}
	return w.told(ctx, c)
}

func waitIdleAllTold(ctx context.Context, w *world) error {
	d, work, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	all := make([]<-chan answer, 5)
	for i := range all {
		all[i] = w.waitIdle(ctx, d, w.Blue)
	}
	if err := pause(ctx, w.Settle); err != nil { // so that they wait indeed
		return err
	}
	if err := w.end(ctx, KindRequest, work); err != nil {
		return err
	}
	for i, c := range all {
		if err := w.told(ctx, c); err != nil {
			return fmt.Errorf("waiter %d of %d: %w", i+1, len(all), err)
		}
	}
	return nil
}

func waitIdleAtOnce(ctx context.Context, w *world) error {
	d, err := ability[abswap.WaitingDrainer](w.Drainer)
	if err != nil {
		return err
	}
	for _, s := range []abswap.Slot{w.Blue, w.Green} {
		if err := w.told(ctx, w.waitIdle(ctx, d, s)); err != nil {
			return fmt.Errorf("slot %q: %w", s.Name(), err)
		}
	}
	return nil
}

func waitIdleContext(ctx context.Context, w *world) error {
	d, _, err := w.waiting(ctx)
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	c := w.waitIdle(over, d, w.Blue)
	if err := pause(ctx, w.Settle); err != nil {
		return err
	}
	cancel()
	a, err := w.get(ctx, c)
	if err != nil {
		return fmt.Errorf("wait idle: its context has ended: %w", err)
	}
	if !errors.Is(a.err, context.Canceled) {
		return refused(fmt.Errorf("wait idle: its context ended and it returned %w, not its error", a.err))
	}
	return nil
}
