package switchertest_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

// door is a fake at work that can be broken: rules are broken in the Func fields of sw, or in what stands between it and the clients.
type door struct {
	sw  *fake.Switcher
	rig switchertest.Rig

	delivered, probes atomic.Int64
	stall             atomic.Pointer[func()]

	mu   sync.Mutex
	live map[*piece]struct{} // work of Begin that is open

	// What broken doors replace.
	fresh, kept func(ctx context.Context, r fake.Request) (slot string, err error)
	onAbort     func(*piece) // nil: its end
}

// piece is work of Begin.
type piece struct {
	*fake.Work
	kind   switchertest.Kind
	steps  atomic.Int64
	shifts int // switches that it has seen; for those who count them
	broken atomic.Bool
}

const (
	settle   = 50 * time.Millisecond
	patience = 10 * time.Second
)

func newDoor() *door {
	d := &door{sw: fake.New("blue", "green"), live: map[*piece]struct{}{}}
	d.sw.CutAfter = time.Millisecond
	d.sw.Between = func(string) {
		if f := d.stall.Swap(nil); f != nil {
			(*f)()
		}
	}
	d.fresh = func(ctx context.Context, r fake.Request) (string, error) {
		slot, _, err := d.ask(ctx, r)
		return slot, err
	}
	d.kept = d.fresh
	d.rig = switchertest.Rig{
		Switcher: d.sw,
		Blue:     fake.NewRunningSlot("blue", "v1"),
		Green:    fake.NewRunningSlot("green", "v2"),
		Probe:    func(ctx context.Context) (string, error) { return d.fresh(ctx, fake.Request{}) },
		KeepAlive: func() (func(context.Context) (string, error), func()) {
			return func(ctx context.Context) (string, error) { return d.kept(ctx, fake.Request{}) }, func() {}
		},
		ProbeMatching: func(ctx context.Context, rule abswap.PreviewRule) (string, error) {
			return d.fresh(ctx, fake.Request{Header: map[string]string{rule.Header: rule.Value}})
		},
		ProbeOrder: func(ctx context.Context) (string, int64, error) { return d.ask(ctx, fake.Request{}) },
		Begin: func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
			return d.begin(ctx, kind, fake.Request{})
		},
		Delivered: func(context.Context) (int64, error) { return d.delivered.Load(), nil },
		Disturb: func(_ context.Context, slot string) error {
			if slot == "" {
				return d.sw.Move(nil)
			}
			return d.sw.Move(map[string]int{slot: 100})
		},
		Rest:     func(context.Context) (string, error) { return fmt.Sprint(d.sw.Slots), nil },
		Stall:    d.stallNext,
		Held:     d.sw.Held,
		Settle:   settle,
		Patience: patience,
		Load:     160,
	}
	return d
}

// ask is one whole request.
func (d *door) ask(ctx context.Context, r fake.Request) (string, int64, error) {
	w, err := d.sw.Open(ctx, r)
	if err != nil {
		return "", 0, err
	}
	d.delivered.Add(1)
	d.probes.Add(1)
	defer w.End()
	return w.Slot(), w.Order(), nil
}

func (d *door) stallNext() (<-chan struct{}, func()) {
	reached, resumed := make(chan struct{}), make(chan struct{})
	f := func() { close(reached); <-resumed }
	d.stall.Store(&f)
	return reached, sync.OnceFunc(func() { close(resumed) })
}

func (d *door) begin(ctx context.Context, kind switchertest.Kind, r fake.Request) (switchertest.Work, error) {
	r.Kind = map[switchertest.Kind]fake.Kind{switchertest.KindUpload: fake.Upload, switchertest.KindUpgraded: fake.Upgraded, switchertest.KindDownload: fake.Download,
		switchertest.KindSession: fake.Session}[kind]
	w, err := d.sw.Open(ctx, r)
	if err != nil {
		return switchertest.Work{}, err
	}
	p := &piece{Work: w, kind: kind}
	d.mu.Lock()
	d.live[p] = struct{}{}
	d.mu.Unlock()
	alive := func(context.Context) error {
		if p.broken.Load() {
			return fmt.Errorf("the %s was broken", kind)
		}
		return w.Err()
	}
	end := func() {
		d.mu.Lock()
		delete(d.live, p)
		d.mu.Unlock()
		w.End()
	}
	work := switchertest.Work{
		Slot: w.Slot(),
		Step: func(ctx context.Context) error { p.steps.Add(1); return alive(ctx) },
		End: func(ctx context.Context) error {
			defer end()
			return alive(ctx)
		},
		Abort: end,
	}
	if d.onAbort != nil {
		work.Abort = func() { d.onAbort(p) }
	}
	switch kind {
	case switchertest.KindRequest:
		work.Step = nil
	case switchertest.KindSession:
		work.Step = func(ctx context.Context) error {
			got, err := d.fresh(ctx, fake.Request{Session: w.ID()})
			if err == nil && got != w.Slot() {
				err = fmt.Errorf("the session of %q was answered by %q", w.Slot(), got)
			}
			return err
		}
	}
	return work, nil
}

// open returns the open work that f wants, of the slot named; "": of all.
func (d *door) open(slot string, f func(*piece) bool) []*piece {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*piece
	for p := range d.live {
		if (slot == "" || p.Slot() == slot) && f(p) {
			all = append(all, p)
		}
	}
	return all
}

// active is the slot that takes all new work, in truth; "": there is none.
func (d *door) active() string {
	for name, part := range d.sw.Shares() {
		if part == 100 {
			return name
		}
	}
	return ""
}
