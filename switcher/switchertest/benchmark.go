package switchertest

import (
	"context"
	"testing"
	"time"

	"github.com/abswap/abswap"
)

// Benchmark switches to and fro under load and reports what a user feels: requests lost and late for each switch, how long Activate took,
// and how many requests were answered in the meantime. Some requests of each client are let through between two switches.
func Benchmark(b *testing.B, newRig NewRig) {
	b.Helper()
	ctx := b.Context()
	rig, err := newRig(ctx)
	if err == nil && rig.Close != nil {
		defer func() {
			if err := rig.Close(); err != nil {
				b.Error(err)
			}
		}()
	}
	if err == nil {
		rig, err = rig.withDefaults()
	}
	if err != nil {
		b.Fatal(err)
	}
	w := &world{Rig: rig}
	ctx = w.setUp(ctx)
	defer w.tidy()
	if err := w.settled(ctx, w.Blue); err != nil {
		b.Fatal(err)
	}
	kept := 0
	if w.KeepAlive != nil {
		kept = clients / 2
	}
	n, took := 0, time.Duration(0)
	tr, err := w.underLoad(kept, func(tr *traffic) error {
		to := w.Green
		for b.Loop() {
			d, err := tr.timed(ctx, to)
			if err != nil {
				return err
			}
			n, took, to = n+1, took+d, w.other(to)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	per := float64(max(n, 1))
	b.ReportMetric(float64(tr.lost.Load())/per, "lost-reqs/op")
	b.ReportMetric(float64(tr.late.Load())/per, "late-reqs/op")
	b.ReportMetric(float64(took.Nanoseconds())/1000/per, "switch-µs/op")
	b.ReportMetric(float64(tr.answered.Load())/per, "reqs/op")
}

// timed switches once, tells how long that took, and lets requests be judged.
func (tr *traffic) timed(ctx context.Context, to abswap.Slot) (time.Duration, error) {
	tr.want.Store(nil)
	start := time.Now()
	err := tr.w.Switcher.Activate(ctx, to)
	took := time.Since(start)
	if err != nil {
		return took, err
	}
	tr.want.Store(&expectation{slot: to.Name()})
	return took, tr.await(3 * clients)
}
