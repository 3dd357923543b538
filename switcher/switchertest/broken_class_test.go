package switchertest_test

import (
	"context"
	"errors"
	"math"

	"github.com/abswap/abswap"
)

type endFunc = func(context.Context, abswap.Slot, abswap.Force, ...uint64) error

// brokenClasses break D5.
func brokenClasses() []broken {
	return []broken{
		{rule: "D5/class-listed", fault: "an ID is used again for the next piece", make: func(d *door) {
			d.sw.ListFunc = func(ctx context.Context, s abswap.Slot, limit int, do func(context.Context, abswap.Slot, int) ([]abswap.Work, error)) ([]abswap.Work, error) {
				all, err := do(ctx, s, limit)
				for i := range all {
					if all[i].Class == abswap.ClassUpload {
						all[i].ID = math.MaxUint64 - 1
					}
				}
				return all, err
			}
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do endFunc) error {
				all, err := d.sw.List(ctx, s, math.MaxInt)
				if err != nil {
					return err
				}
				for _, p := range d.open(s.Name(), func(*piece) bool { return true }) {
					for i, id := range ids {
						if id == math.MaxUint64-1 && len(all) > 0 && p.kind.String() == "upload" {
							ids[i] = uint64(p.Order())
						}
					}
				}
				return do(ctx, s, how, ids...)
			}
		}},
		{rule: "D5/one-ends", fault: "to cut one is to cut all in the slot", make: func(d *door) {
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do endFunc) error {
				if err := do(ctx, s, how, ids...); err != nil || how != abswap.ForceCut {
					return err
				}
				return d.sw.Force(ctx, s, how)
			}
		}},
		{rule: "D5/asked-breaks-nothing", fault: "to ask is to cut", make: func(d *door) {
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, _ abswap.Force, ids []uint64, do endFunc) error {
				return do(ctx, s, abswap.ForceCut, ids...)
			}
		}},
		{rule: "D5/live-refused", fault: "in an active slot nothing is done, and nil returned", make: func(d *door) {
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do endFunc) error {
				if err := do(ctx, s, how, ids...); err != nil && !errors.Is(err, abswap.ErrSlotLive) {
					return err
				}
				return nil
			}
		}},
	}
}
