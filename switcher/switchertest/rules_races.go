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

// raceRules are D1 and D2 where requests race with the switch and with the reading.
func raceRules() []Rule {
	return []Rule{
		{"D1/picked-not-counted", "a drain that begins while a request is between picked and counted does not miss it", pickedNotCounted},
		{"D1/drain-races-requests", "no reading after a switch is below what turns out to be in the old slot", drainRaces},
		{"D1/zero-at-the-end", "when all has ended, also after many switches at one time with it, the counts are exactly zero", zeroAtTheEnd},
		{"D2/exact-under-load", "an exact count is never below what is open, however much comes and goes", exactUnderLoad},
	}
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
