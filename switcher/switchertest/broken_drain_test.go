package switchertest_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

// brokenCounts break D1 and D2.
func brokenCounts() []broken {
	all := []broken{
		{rule: "D1/request-counts", fault: "Activate of the active slot resets the requests of the others", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				if to.Name() == d.active() {
					for _, p := range d.open("", func(p *piece) bool { return p.Slot() != to.Name() && p.kind == switchertest.KindRequest }) {
						p.steps.Store(math.MinInt32)
					}
				}
				return do(ctx, to)
			}
			d.miss(func(p *piece) bool { return p.steps.Load() < 0 })
		}},
		{rule: "D1/counts-equal-open", fault: "beside requests a second upgraded connection is not counted", make: func(d *door) {
			d.counted(func(_ abswap.Slot, l *abswap.Load) {
				if l.Requests > 0 {
					l.Upgraded = min(l.Upgraded, 1)
				}
			})
		}},
		{rule: "D1/aborted-leaves", fault: "a download whose client has gone counts for ever",
			also: map[string]string{"D1/zero-at-the-end": "some of the work that comes and goes there ends by going away, too"},
			make: func(d *door) {
				d.onAbort = func(p *piece) {
					if p.kind != switchertest.KindDownload {
						p.End()
					}
				}
			}},
		{rule: "D1/old-generations-count", fault: "work from two generations ago is forgotten", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				if to.Name() != d.active() {
					for _, p := range d.open(to.Name(), func(*piece) bool { return true }) {
						p.shifts++
					}
				}
				return do(ctx, to)
			}
			d.miss(func(p *piece) bool { return p.shifts > 1 })
		}},
		{rule: "D1/list", fault: "List is newest first", make: func(d *door) {
			d.sw.ListFunc = func(ctx context.Context, s abswap.Slot, limit int, do func(context.Context, abswap.Slot, int) ([]abswap.Work, error)) ([]abswap.Work, error) {
				all, err := do(ctx, s, math.MaxInt)
				slices.Reverse(all)
				return all[:min(len(all), limit)], err
			}
		}},
		{rule: "D2/evidence-stated", fault: "a Load does not say how good it is", make: func(d *door) {
			d.counted(func(_ abswap.Slot, l *abswap.Load) { l.Evidence = abswap.EvidenceUnknown })
		}},
		{rule: "D1/picked-not-counted", fault: "a request does not look again after it was counted", make: func(d *door) {
			d.rig.Probe = func(ctx context.Context) (string, error) {
				if stalled := d.stall.Swap(nil); stalled != nil {
					picked := d.active()
					(*stalled)()
					_, err := d.fresh(ctx, fake.Request{})
					return picked, err
				}
				return d.fresh(ctx, fake.Request{})
			}
		}},
		{rule: "D1/drain-races-requests", fault: "a long request is counted a while after its slot was picked", make: func(d *door) {
			for _, s := range []abswap.Slot{d.rig.Blue, d.rig.Green} { // a way to get into a slot that is not active
				_ = d.sw.Preview(context.Background(), s, abswap.PreviewRule{Header: "X-Picked", Value: s.Name()})
			}
			d.rig.Begin = func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
				if kind != switchertest.KindRequest {
					return d.begin(ctx, kind, fake.Request{})
				}
				picked := d.active()
				for range 200 {
					runtime.Gosched()
				}
				return d.begin(ctx, kind, fake.Request{Header: map[string]string{"X-Picked": picked}})
			}
		}},
		{rule: "D1/zero-at-the-end", fault: "an update of the counter is lost once in a hundred requests", make: func(d *door) {
			d.counted(func(_ abswap.Slot, l *abswap.Load) { l.Requests += int(d.probes.Load() / 100) })
		}},
		{rule: "D2/exact-under-load", fault: "a reading of several counters is torn when requests come and go meanwhile", make: func(d *door) {
			d.sw.InFlightFunc = func(ctx context.Context, s abswap.Slot, do loadFunc) (abswap.Load, error) {
				before := d.probes.Load()
				l, err := do(ctx, s)
				for range 20 {
					runtime.Gosched()
				}
				if d.probes.Load() != before {
					l.Requests = 0
				}
				return l, err
			}
		}},
		{rule: "D2/wait-idle-waits", fault: "WaitIdle is told when the first piece of work ends", make: func(d *door) {
			d.sw.WaitIdleFunc = func(ctx context.Context, s abswap.Slot, _ activateFunc) error {
				first := -1
				for {
					l, err := d.sw.InFlight(ctx, s)
					if err != nil || l.Total() == 0 || l.Total() < first {
						return err
					}
					first = l.Total()
					select {
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
		}},
		{rule: "D2/wait-idle-all-told", fault: "only the first who waits is told", make: func(d *door) {
			var waiting atomic.Bool
			d.sw.WaitIdleFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
				if !waiting.CompareAndSwap(false, true) {
					<-ctx.Done()
					return ctx.Err()
				}
				defer waiting.Store(false)
				return do(ctx, s)
			}
		}},
		{rule: "D2/wait-idle-at-once", fault: "WaitIdle of an idle slot waits for a change", make: func(d *door) {
			d.sw.WaitIdleFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
				if l, err := d.sw.InFlight(ctx, s); err == nil && l.Total() == 0 {
					<-ctx.Done()
					return ctx.Err()
				}
				return do(ctx, s)
			}
		}},
		{rule: "D2/wait-idle-context", fault: "WaitIdle does not look at its context", make: func(d *door) {
			d.sw.WaitIdleFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
				return do(context.WithoutCancel(ctx), s)
			}
		}},
	}
	for _, kind := range []switchertest.Kind{switchertest.KindUpload, switchertest.KindDownload, switchertest.KindUpgraded} {
		all = append(all, broken{rule: "D1/" + kind.String() + "-counts", fault: "the work counts only until its first part has passed", make: func(d *door) {
			d.miss(func(p *piece) bool { return p.kind == kind && p.steps.Load() > 0 })
		}})
	}
	return all
}

// counted lets f change what InFlight tells.
func (d *door) counted(f func(abswap.Slot, *abswap.Load)) {
	d.sw.InFlightFunc = func(ctx context.Context, s abswap.Slot, do loadFunc) (abswap.Load, error) {
		l, err := do(ctx, s)
		if err == nil {
			f(s, &l)
		}
		return l, err
	}
}

// miss lets InFlight miss the open work that f picks.
func (d *door) miss(f func(*piece) bool) {
	d.counted(func(s abswap.Slot, l *abswap.Load) {
		for _, p := range d.open(s.Name(), f) {
			if p.kind == switchertest.KindUpgraded {
				l.Upgraded--
			} else {
				l.Requests--
			}
		}
	})
}

// brokenForces break D3 and D4.
func brokenForces() []broken {
	type forceFunc = func(context.Context, abswap.Slot, abswap.Force) error
	return []broken{
		{rule: "D3/cut-ends", fault: "ForceCut does nothing", make: func(d *door) {
			d.sw.ForceFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, do forceFunc) error {
				if how == abswap.ForceCut {
					how = abswap.ForceHandOver
				}
				return do(ctx, s, how)
			}
		}},
		{rule: "D3/hand-over-breaks-nothing", fault: "ForceHandOver cuts", make: func(d *door) {
			d.sw.ForceFunc = func(ctx context.Context, s abswap.Slot, _ abswap.Force, do forceFunc) error {
				return do(ctx, s, abswap.ForceCut)
			}
		}},
		{rule: "D3/live-again-is-safe", fault: "an order to cut is carried out although the slot has gone live again", make: func(d *door) {
			d.sw.ForceFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, do forceFunc) error {
				err := do(ctx, s, how)
				if err == nil && how == abswap.ForceCut {
					time.AfterFunc(2*settle, func() { _ = do(context.Background(), s, how) })
				}
				return err
			}
		}},
		{rule: "D4/session-stays", fault: "requests of a session go to the active slot", make: func(d *door) {
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				r.Session = ""
				return fresh(ctx, r)
			}
		}},
		{rule: "D4/session-counts", fault: "Sessions is always zero", make: func(d *door) {
			d.sw.SessionsFunc = func(ctx context.Context, s abswap.Slot, do loadFunc) (abswap.Load, error) {
				l, err := do(ctx, s)
				l.Sessions = 0
				return l, err
			}
		}},
	}
}

// brokenSeals break W1.
func brokenSeals() []broken {
	// unless makes Seal do nothing to some slots.
	unless := func(d *door, f func(abswap.Slot) bool) {
		d.sw.SealFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
			if ctx.Err() == nil && f(s) {
				return nil
			}
			return do(ctx, s)
		}
	}
	return []broken{
		{rule: "W1/seal-shuts", fault: "Seal of the active slot does nothing", make: func(d *door) {
			unless(d, func(s abswap.Slot) bool { return s.Name() == d.active() })
		}},
		{rule: "W1/seal-undone", fault: "SetWeights does not open a sealed slot", make: func(d *door) {
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				if len(w) == 1 && d.sw.Sealed(w[0].Slot.Name()) {
					return nil
				}
				return do(ctx, w...)
			}
		}},
		{rule: "W1/seal-keeps-old-work", fault: "Seal cuts what is in the slot", make: func(d *door) {
			d.sw.SealFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
				err := do(ctx, s)
				if err == nil {
					err = d.sw.Force(ctx, s, abswap.ForceCut)
				}
				return err
			}
		}},
		{rule: "W1/seal-ends-preview", fault: "Seal forgets the preview", make: func(d *door) {
			var previewed atomic.Bool
			d.sw.PreviewFunc = func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
				err := do(ctx, s, rules...)
				previewed.Store(err == nil && len(rules) > 0)
				return err
			}
			unless(d, func(abswap.Slot) bool { return previewed.Load() })
		}},
		{rule: "W1/seal-ends-sessions", fault: "Seal forgets the sessions", make: func(d *door) {
			unless(d, func(s abswap.Slot) bool {
				l, err := d.sw.Sessions(context.Background(), s)
				return err == nil && l.Sessions > 0
			})
		}},
	}
}

// brokenHolds break what a HoldingSwitcher promises.
func brokenHolds() []broken {
	// options lets f change what is asked for.
	options := func(f func(*abswap.HoldOptions)) func(*door) {
		return func(d *door) {
			d.sw.HoldFunc = func(ctx context.Context, o abswap.HoldOptions, do holdFunc) (func(), error) {
				f(&o)
				return do(ctx, o)
			}
		}
	}
	return []broken{
		{rule: "H1/hold-holds", fault: "a hold of minutes ends after a moment", make: options(func(o *abswap.HoldOptions) {
			if o.Each > patience && o.Total > patience {
				o.Total = settle * 5 / 2
			}
		})},
		{rule: "H2/hold-order", fault: "who came last goes on first", make: func(d *door) {
			order := d.rig.ProbeOrder
			d.rig.ProbeOrder = func(ctx context.Context) (string, int64, error) {
				slot, n, err := order(ctx)
				return slot, -n, err
			}
		}},
		{rule: "H3/hold-each", fault: "Each is ignored", make: options(func(o *abswap.HoldOptions) {
			if o.Beyond == abswap.HoldRefuse && o.Each < patience {
				o.Each = patience * 2
			}
		})},
		{rule: "H4/hold-total", fault: "Total is ignored", make: options(func(o *abswap.HoldOptions) { o.Total = max(o.Total, patience*2) })},
		{rule: "H5/hold-max", fault: "Max is ignored", make: options(func(o *abswap.HoldOptions) {
			if o.Beyond == abswap.HoldRefuse {
				o.Max = 1000
			}
		})},
		{rule: "H6/hold-pass", fault: "Beyond is ignored", make: options(func(o *abswap.HoldOptions) { o.Beyond = abswap.HoldRefuse })},
		{rule: "H7/hold-release-twice", fault: "release ends whatever hold is in force", make: func(d *door) {
			var last atomic.Pointer[func()]
			d.sw.HoldFunc = func(ctx context.Context, o abswap.HoldOptions, do holdFunc) (func(), error) {
				release, err := do(ctx, o)
				if err == nil {
					last.Store(&release)
				}
				return func() { (*last.Load())() }, err
			}
		}},
		{rule: "H8/hold-busy", fault: "a second Hold says that it holds", make: func(d *door) {
			d.sw.HoldFunc = func(ctx context.Context, o abswap.HoldOptions, do holdFunc) (func(), error) {
				release, err := do(ctx, o)
				if errors.Is(err, abswap.ErrBusy) {
					return func() {}, nil
				}
				return release, err
			}
		}},
		{rule: "H9/hold-gone-client", fault: "a request is delivered although its client has gone", make: func(d *door) {
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				slot, err := fresh(ctx, r)
				if errors.Is(err, context.Canceled) {
					d.delivered.Add(1)
				}
				return slot, err
			}
		}},
		{rule: "H10/hold-switch", fault: "a held request goes where it would have gone when it came", make: func(d *door) {
			var holding atomic.Bool
			d.sw.HoldFunc = func(ctx context.Context, o abswap.HoldOptions, do holdFunc) (func(), error) {
				release, err := do(ctx, o)
				if err == nil {
					holding.Store(true)
				}
				return func() { holding.Store(false); release() }, err
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				held, picked := holding.Load(), d.active()
				slot, err := fresh(ctx, r)
				if err == nil && held {
					slot = picked
				}
				return slot, err
			}
		}},
		{rule: "H11/hold-nothing-lost", fault: "a release loses a request once in a while", make: func(d *door) {
			var holds atomic.Int64
			var lose atomic.Bool
			d.sw.HoldFunc = func(ctx context.Context, o abswap.HoldOptions, do holdFunc) (func(), error) {
				release, err := do(ctx, o)
				if err != nil {
					return release, err
				}
				n := holds.Add(1)
				return sync.OnceFunc(func() { lose.Store(n%3 == 0); release() }), nil
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				if lose.Swap(false) {
					return "", fake.ErrRefused
				}
				return fresh(ctx, r)
			}
		}},
	}
}
