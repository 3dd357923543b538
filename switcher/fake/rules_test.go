package fake_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

// newRig is the fake at work: its clients are goroutines.
func newRig(context.Context) (switchertest.Rig, error) {
	var delivered atomic.Int64
	var stall atomic.Pointer[func()]
	sw := fake.New("blue", "green")
	sw.CutAfter = time.Millisecond
	sw.Between = func(string) {
		if f := stall.Swap(nil); f != nil {
			(*f)()
		}
	}
	order := func(ctx context.Context, r fake.Request) (string, int64, error) {
		w, err := sw.Open(ctx, r)
		if err != nil {
			return "", 0, err
		}
		delivered.Add(1)
		defer w.End()
		return w.Slot(), w.Order(), nil
	}
	probe := func(ctx context.Context) (string, error) {
		slot, _, err := order(ctx, fake.Request{})
		return slot, err
	}
	return switchertest.Rig{
		Switcher:  sw,
		Blue:      fake.NewRunningSlot("blue", "v1"),
		Green:     fake.NewRunningSlot("green", "v2"),
		Probe:     probe,
		KeepAlive: func() (func(context.Context) (string, error), func()) { return probe, func() {} },
		ProbeMatching: func(ctx context.Context, rule abswap.PreviewRule) (string, error) {
			slot, _, err := order(ctx, fake.Request{Header: map[string]string{rule.Header: rule.Value}})
			return slot, err
		},
		ProbeOrder: func(ctx context.Context) (string, int64, error) { return order(ctx, fake.Request{}) },
		Begin: func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
			return begin(ctx, sw, kind)
		},
		Delivered: func(context.Context) (int64, error) { return delivered.Load(), nil },
		Disturb: func(_ context.Context, slot string) error {
			if slot == "" {
				return sw.Move(nil)
			}
			return sw.Move(map[string]int{slot: 100})
		},
		Rest: func(context.Context) (string, error) { return fmt.Sprint(sw.Slots, sw.Declared), nil },
		Stall: func() (<-chan struct{}, func()) {
			reached, resumed := make(chan struct{}), make(chan struct{})
			f := func() { close(reached); <-resumed }
			stall.Store(&f)
			return reached, sync.OnceFunc(func() { close(resumed) })
		},
		Held: sw.Held,
	}, nil
}

func begin(ctx context.Context, sw *fake.Switcher, kind switchertest.Kind) (switchertest.Work, error) {
	w, err := sw.Open(ctx, fake.Request{Kind: map[switchertest.Kind]fake.Kind{
		switchertest.KindUpload: fake.Upload, switchertest.KindDownload: fake.Download, switchertest.KindUpgraded: fake.Upgraded, switchertest.KindSession: fake.Session}[kind]})
	if err != nil {
		return switchertest.Work{}, err
	}
	work := switchertest.Work{
		Slot:  w.Slot(),
		Step:  func(context.Context) error { return w.Err() },
		End:   func(context.Context) error { defer w.End(); return w.Err() },
		Abort: w.End,
	}
	if kind == switchertest.KindSession {
		work.Step = func(ctx context.Context) error {
			r, err := sw.Open(ctx, fake.Request{Session: w.ID()})
			if err != nil {
				return err
			}
			defer r.End()
			if r.Slot() != w.Slot() {
				return fmt.Errorf("the session of %q was answered by %q", w.Slot(), r.Slot())
			}
			return nil
		}
	}
	return work, nil
}

func TestRules(t *testing.T) { switchertest.Run(t, newRig) }

func TestNoRuleIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), newRig)
		assert.NoError(t, report.Err())
		assert.Equal(t, []string{"S5/unsupported-is-said"}, report.Skipped(), "the fake refuses nothing, and has all abilities")
	})
}

// Rules that wait for seconds hold too, and take no time.
func TestRulesInABubble(t *testing.T) {
	for _, rule := range switchertest.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				res := rule.Try(t.Context(), func(ctx context.Context) (switchertest.Rig, error) {
					rig, err := newRig(ctx)
					rig.Settle, rig.Patience = 5*time.Second, 10*time.Minute
					return rig, err
				})
				assert.NoError(t, res.Err)
			})
		})
	}
}

func TestBareHasNoAbilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(ctx context.Context) (switchertest.Rig, error) {
			rig, err := newRig(ctx)
			rig.Switcher = fake.Bare(rig.Switcher)
			return rig, err
		})
		assert.NoError(t, report.Err())
		assert.Subset(t, report.Skipped(), []string{"S5/weights-met", "D1/request-counts", "W1/seal-shuts", "H1/hold-holds", "S5/preview-reaches", "D3/cut-ends"})
	})
}
