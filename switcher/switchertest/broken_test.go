package switchertest_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

// A broken door, and the rule that must find it. also names further rules that the same fault inevitably breaks, with the reason.
type broken struct {
	rule  string
	fault string
	also  map[string]string
	make  func(*door)
}

type (
	activateFunc = func(context.Context, abswap.Slot) error
	weightsFunc  = func(context.Context, ...abswap.Weight) error
	holdFunc     = func(context.Context, abswap.HoldOptions) (func(), error)
	loadFunc     = func(context.Context, abswap.Slot) (abswap.Load, error)
)

// brokenSwitches break S1 to S6 where Activate and its like are concerned.
func brokenSwitches() []broken {
	all := []broken{
		{rule: "S1/in-force-at-return", fault: "the next requests after Activate are answered by the old slot", make: func(d *door) {
			var lag lag
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				return lag.after(d, func() error { return do(ctx, to) })
			}
			d.fresh = lag.lying(d.fresh)
		}},
		{rule: "S1/in-force-kept-alive", fault: "kept-alive connections stay at the old slot for some requests", make: func(d *door) {
			var lag lag
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				return lag.after(d, func() error { return do(ctx, to) })
			}
			d.kept = lag.lying(d.kept)
		}},
		{rule: "S1/weights-in-force-at-return", fault: "the next requests after SetWeights are answered by the old slot", make: func(d *door) {
			var lag lag
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				return lag.after(d, func() error { return do(ctx, w...) })
			}
			d.fresh = lag.lying(d.fresh)
		}},
		{rule: "S2/nothing-lost", fault: "a switch closes an idle connection on which a request is on its way", make: func(d *door) {
			var lose atomic.Bool
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				old := d.active()
				err := do(ctx, to)
				lose.Store(old != d.active())
				return err
			}
			kept := d.kept
			d.kept = func(ctx context.Context, r fake.Request) (string, error) {
				if lose.Swap(false) {
					return "", errors.New("EOF")
				}
				return kept(ctx, r)
			}
		}},
		{rule: "S2/answered-once", fault: "after a switch a request is sent again to the other slot", make: func(d *door) {
			var again atomic.Bool
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				again.Store(true)
				return do(ctx, to)
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				if again.Swap(false) {
					_, _ = fresh(ctx, r)
				}
				return fresh(ctx, r)
			}
		}},
		{rule: "S6/rest-untouched", fault: "Activate writes a setting that is not its own", make: func(d *door) {
			var written atomic.Int64
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error { written.Add(1); return do(ctx, to) }
			d.rig.Rest = func(context.Context) (string, error) { return time.Duration(written.Load()).String(), nil }
		}},
	}
	for _, kind := range []switchertest.Kind{switchertest.KindRequest, switchertest.KindUpload, switchertest.KindDownload, switchertest.KindUpgraded} {
		all = append(all, broken{rule: "S3/" + kind.String() + "-survives", fault: "a while after the third switch the work is cut", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				old := d.active()
				err := do(ctx, to)
				if old == d.active() {
					return err
				}
				for _, p := range d.open("", func(p *piece) bool { p.shifts++; return p.kind == kind && p.shifts == 3 }) {
					time.AfterFunc(settle/2, func() { p.broken.Store(true) })
				}
				return err
			}
		}})
	}
	return all
}

// lag makes some requests after a switch lie about who answered.
type lag struct {
	mu   sync.Mutex
	left int
	old  string
}

func (l *lag) after(d *door, do func() error) error {
	old := d.active()
	err := do()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && old != "" && old != d.active() {
		l.left, l.old = 5, old
	}
	return err
}

func (l *lag) lying(ask func(context.Context, fake.Request) (string, error)) func(context.Context, fake.Request) (string, error) {
	return func(ctx context.Context, r fake.Request) (string, error) {
		l.mu.Lock()
		late, old := l.left > 0, l.old
		if late {
			l.left--
		}
		l.mu.Unlock()
		slot, err := ask(ctx, r)
		if late && err == nil {
			slot = old
		}
		return slot, err
	}
}

// brokenCalls break S4.
func brokenCalls() []broken {
	return []broken{
		{rule: "S4/idempotent", fault: "Activate of the active slot restarts the front door: a request fails", make: func(d *door) {
			var lose atomic.Bool
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				again := to.Name() == d.active()
				err := do(ctx, to)
				lose.Store(again && err == nil)
				return err
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				if lose.Swap(false) {
					return "", errors.New("connection refused")
				}
				return fresh(ctx, r)
			}
		}},
		{rule: "S4/unknown-slot", fault: "the error for an unknown slot is not ErrUnknownSlot", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				if err := do(ctx, to); errors.Is(err, abswap.ErrUnknownSlot) {
					return errors.New("exit status 1")
				}
				return ctx.Err()
			}
		}},
		{rule: "S4/unknown-slot-abilities", fault: "an unknown slot counts zero", make: func(d *door) {
			d.sw.InFlightFunc = func(ctx context.Context, s abswap.Slot, do loadFunc) (abswap.Load, error) {
				l, err := do(ctx, s)
				if errors.Is(err, abswap.ErrUnknownSlot) {
					err = nil
				}
				return l, err
			}
		}},
		{rule: "S4/ended-context", fault: "Activate does not look at its context", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				return do(context.WithoutCancel(ctx), to)
			}
		}},
		{rule: "S4/ended-context-abilities", fault: "Seal does not look at its context", make: func(d *door) {
			d.sw.SealFunc = func(ctx context.Context, s abswap.Slot, do activateFunc) error {
				return do(context.WithoutCancel(ctx), s)
			}
		}},
		{rule: "S4/context-ends-during", fault: "the context's error is returned after the effect, without ErrUnknownOutcome", make: func(d *door) {
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				err := do(ctx, to)
				for range 1000 { // it reads the answer slowly
					if err != nil || ctx.Err() != nil {
						return errors.Join(err, ctx.Err())
					}
					runtime.Gosched()
				}
				return nil
			}
		}},
		{rule: "S4/concurrent-use", fault: "a second call at one time is refused", make: func(d *door) {
			var mu sync.Mutex
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				if !mu.TryLock() {
					return errors.New("configuration is locked")
				}
				defer mu.Unlock()
				for range 100 {
					runtime.Gosched()
				}
				return do(ctx, to)
			}
		}},
		{rule: "S4/weights-refused", fault: "a refused call has moved the first slot already", make: func(d *door) {
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				err := do(ctx, w...)
				if err != nil && ctx.Err() == nil && len(w) > 0 {
					_ = d.sw.Move(map[string]int{w[0].Slot.Name(): 100})
				}
				return err
			}
		}},
		{rule: "S4/preview-refused", fault: "a rule without a field is taken and ignored", make: func(d *door) {
			d.sw.PreviewFunc = func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
				err := do(ctx, s, rules...)
				if err != nil && ctx.Err() == nil && !errors.Is(err, abswap.ErrUnknownSlot) {
					err = nil
				}
				return err
			}
		}},
	}
}

// brokenWords break S5.
func brokenWords() []broken {
	return []broken{
		{rule: "S5/active-is-true", fault: "Active tells the old slot until the first request after a switch", make: func(d *door) {
			var mu sync.Mutex
			old := ""
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				mu.Lock()
				defer mu.Unlock()
				old = d.active()
				return do(ctx, to)
			}
			d.sw.ActiveFunc = func(ctx context.Context, do func(context.Context) (string, error)) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				name, err := do(ctx)
				if err == nil && old != "" {
					name = old
				}
				return name, err
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				mu.Lock()
				old = ""
				mu.Unlock()
				return fresh(ctx, r)
			}
		}},
		{rule: "S5/disturbed-active", fault: "Active tells what was last asked for", make: func(d *door) {
			asked := remember(d)
			d.sw.ActiveFunc = func(ctx context.Context, do func(context.Context) (string, error)) (string, error) {
				name, err := do(ctx)
				if a := asked(); err == nil && a != "" {
					name = a
				}
				return name, err
			}
		}},
		{rule: "S5/disturbed-weights", fault: "Weights tells what was last asked for", make: func(d *door) {
			asked := remember(d)
			d.sw.WeightsFunc = func(ctx context.Context, do func(context.Context) (map[string]int, error)) (map[string]int, error) {
				w, err := do(ctx)
				if a := asked(); err == nil && a != "" && len(w) == 1 {
					w = map[string]int{a: 100}
				}
				return w, err
			}
		}},
		{rule: "S5/disturbed-activate", fault: "Activate of what was last asked for does nothing", make: func(d *door) {
			var mu sync.Mutex
			asked := ""
			d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
				mu.Lock()
				defer mu.Unlock()
				if asked == to.Name() && d.active() != "" {
					return ctx.Err()
				}
				err := do(ctx, to)
				if err == nil {
					asked = to.Name()
				}
				return err
			}
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				mu.Lock()
				defer mu.Unlock()
				asked = ""
				return do(ctx, w...)
			}
		}},
		{rule: "S5/no-active", fault: "with no slot active Active returns an empty name and no error", make: func(d *door) {
			d.sw.ActiveFunc = func(ctx context.Context, do func(context.Context) (string, error)) (string, error) {
				name, err := do(ctx)
				if errors.Is(err, abswap.ErrNoActive) {
					err = nil
				}
				return name, err
			}
		}},
		{rule: "S5/unsupported-is-said", fault: "Force is refused when it is called, and Check had nothing to say", make: func(d *door) {
			d.sw.ForceFunc = func(context.Context, abswap.Slot, abswap.Force, func(context.Context, abswap.Slot, abswap.Force) error) error {
				return errors.ErrUnsupported
			}
		}},
		{rule: "S5/check-changes-nothing", fault: "Check tries the other slot", make: func(d *door) {
			d.sw.CheckFunc = func(ctx context.Context, r abswap.CheckRequest, do func(context.Context, abswap.CheckRequest) error) error {
				_ = d.sw.Move(map[string]int{"green": 100})
				return do(ctx, r)
			}
		}},
		{rule: "S5/mixed", fault: "with two slots above 0 Active returns one of them and no error", make: func(d *door) {
			d.sw.ActiveFunc = func(ctx context.Context, do func(context.Context) (string, error)) (string, error) {
				name, err := do(ctx)
				if errors.Is(err, abswap.ErrMixed) {
					err = nil
				}
				return name, err
			}
		}},
		{rule: "S5/weights-met", fault: "a part of 10 is rounded up to 45", make: func(d *door) {
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				if len(w) == 2 && w[0].Part == 10 && w[1].Part == 90 {
					w[0].Part, w[1].Part = 45, 55
				}
				return do(ctx, w...)
			}
		}},
		{rule: "S5/weight-zero", fault: "a part of 0 is taken as not given, and becomes the least", make: func(d *door) {
			d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
				if len(w) == 2 && w[0].Part == 100 && w[1].Slot != nil && w[1].Part == 0 {
					w[0].Part, w[1].Part = 99, 1
				}
				return do(ctx, w...)
			}
		}},
		{rule: "S5/preview-reaches", fault: "while a preview is set, some other requests go there too", make: func(d *door) {
			var set atomic.Bool
			d.sw.PreviewFunc = func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
				err := do(ctx, s, rules...)
				set.Store(err == nil && len(rules) > 0)
				return err
			}
			fresh := d.fresh
			d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
				slot, err := fresh(ctx, r)
				if err == nil && set.Load() && len(r.Header) == 0 {
					slot = "green"
				}
				return slot, err
			}
		}},
		{rule: "S5/preview-replaced", fault: "new preview rules are added to the earlier ones", make: func(d *door) {
			var mu sync.Mutex
			var all []abswap.PreviewRule
			d.sw.PreviewFunc = func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
				mu.Lock()
				defer mu.Unlock()
				err := do(ctx, s, append(rules, all...)...)
				if err == nil {
					all = append(all, rules...)
				}
				return err
			}
		}},
	}
}

// remember returns what Activate last moved to; SetWeights makes it forget.
func remember(d *door) func() string {
	var asked atomic.Pointer[string]
	d.sw.ActivateFunc = func(ctx context.Context, to abswap.Slot, do activateFunc) error {
		err := do(ctx, to)
		if err == nil {
			name := to.Name()
			asked.Store(&name)
		}
		return err
	}
	d.sw.SetWeightsFunc = func(ctx context.Context, w []abswap.Weight, do weightsFunc) error {
		asked.Store(nil)
		return do(ctx, w...)
	}
	return func() string {
		if p := asked.Load(); p != nil {
			return *p
		}
		return ""
	}
}
