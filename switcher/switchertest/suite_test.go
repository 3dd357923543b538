package switchertest_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
	"github.com/abswap/abswap/switcher/switchertest"
)

func allBroken() []broken {
	return slices.Concat(brokenSwitches(), brokenCalls(), brokenWords(), brokenCounts(), brokenForces(), brokenClasses(), brokenSeals(), brokenHolds())
}

// Each rule has a broken fake that fails exactly it: a suite that nobody has seen fail proves nothing.
func TestBrokenFakesFailExactlyTheirRule(t *testing.T) {
	for _, b := range allBroken() {
		t.Run(b.rule, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) {
					d := newDoor()
					b.make(d)
					return d.rig, nil
				})
				var failed []string
				for _, r := range report {
					if r.Err != nil {
						failed = append(failed, r.Rule)
						t.Log(r)
					}
				}
				assert.ElementsMatch(t, append(slices.Collect(maps.Keys(b.also)), b.rule), failed, b.fault)
			})
		})
	}
}

// A rule about several methods finds the fault in each.
func TestFurtherFaultsFailTheirRule(t *testing.T) {
	force := func(ctx context.Context, s abswap.Slot, how abswap.Force, do func(context.Context, abswap.Slot, abswap.Force) error) error {
		return errors.Join(do(context.WithoutCancel(ctx), s, how), ctx.Err())
	}
	preview := func(ctx context.Context, s abswap.Slot, rules []abswap.PreviewRule, do func(context.Context, abswap.Slot, ...abswap.PreviewRule) error) error {
		return errors.Join(do(context.WithoutCancel(ctx), s, rules...), ctx.Err())
	}
	for _, b := range []broken{
		{rule: "S4/unknown-slot-abilities", fault: "to end work in an unknown slot is no error", make: func(d *door) {
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do endFunc) error {
				if err := do(ctx, s, how, ids...); !errors.Is(err, abswap.ErrUnknownSlot) {
					return err
				}
				return nil
			}
		}},
		{rule: "S4/ended-context-abilities", fault: "End does not look at its context", make: func(d *door) {
			d.sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do endFunc) error {
				return do(context.WithoutCancel(ctx), s, how, ids...)
			}
		}},
		{rule: "S4/ended-context-abilities", fault: "Force cuts, and returns its context's error then", make: func(d *door) { d.sw.ForceFunc = force }},
		{rule: "S4/ended-context-abilities", fault: "Preview previews, and returns its context's error then", make: func(d *door) { d.sw.PreviewFunc = preview }},
	} {
		t.Run(b.fault, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, r := range switchertest.Rules() {
					if r.Name == b.rule {
						assert.Error(t, r.Try(t.Context(), func(context.Context) (switchertest.Rig, error) {
							d := newDoor()
							b.make(d)
							return d.rig, nil
						}).Err)
					}
				}
			})
		})
	}
}

func TestEveryRuleHasABrokenFake(t *testing.T) {
	var rules, have []string
	for _, r := range switchertest.Rules() {
		rules = append(rules, r.Name)
		assert.NotEmpty(t, r.Says, r.Name)
	}
	for _, b := range allBroken() {
		have = append(have, b.rule)
		assert.NotEmpty(t, b.fault, b.rule)
	}
	assert.ElementsMatch(t, rules, have)
	slices.Sort(rules)
	assert.Equal(t, slices.Compact(slices.Clone(rules)), rules, "names are unique")
}

func TestWholeDoorPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) { return newDoor().rig, nil })
		assert.NoError(t, report.Err())
		assert.Equal(t, []string{"S5/unsupported-is-said"}, report.Skipped())
	})
}

func TestBadRigSaysAllMistakesAtOnce(t *testing.T) {
	err := switchertest.Check(t.Context(), func(context.Context) (switchertest.Rig, error) {
		return switchertest.Rig{Except: map[string]string{"S1/typo": "no such rule"}}, nil
	})
	for _, part := range []string{"no Switcher", "no Probe", "two slots", `"S1/typo"`} {
		assert.ErrorContains(t, err, part)
	}
	err = switchertest.Check(t.Context(), func(context.Context) (switchertest.Rig, error) {
		d := newDoor()
		d.rig.Green = fake.NewSlot("blue")
		return d.rig, nil
	})
	assert.ErrorContains(t, err, "one name")
}

func TestErrorsOfTheRigAreTold(t *testing.T) {
	err := switchertest.Check(t.Context(), func(context.Context) (switchertest.Rig, error) { return switchertest.Rig{}, io.ErrClosedPipe })
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	synctest.Test(t, func(t *testing.T) {
		err := switchertest.Check(t.Context(), func(context.Context) (switchertest.Rig, error) {
			d := newDoor()
			d.rig.Close = func() error { return io.ErrUnexpectedEOF }
			return d.rig, nil
		})
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

func TestExceptedRulesAreSkippedWithTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) {
			d := newDoor()
			d.sw.ActivateFunc = func(context.Context, abswap.Slot, activateFunc) error { return errors.New("broken") }
			d.rig.Except = map[string]string{}
			for _, r := range switchertest.Rules() {
				d.rig.Except[r.Name] = "documented"
			}
			return d.rig, nil
		})
		require.NoError(t, report.Err())
		assert.Len(t, report.Skipped(), len(switchertest.Rules()))
		var text strings.Builder
		_, err := report.WriteTo(&text)
		require.NoError(t, err)
		assert.Contains(t, text.String(), "skip S1/in-force-at-return: excepted: documented\n")
	})
}

func TestPerConnectionSkipsTheRuleOfKeptConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) {
			d := newDoor()
			d.sw.Declared.PerConnection = true
			return d.rig, nil
		})
		assert.NoError(t, report.Err())
		assert.Contains(t, report.Skipped(), "S1/in-force-kept-alive")
	})
}

func TestApproximateEvidenceSkipsWhatOnlyExactOnesPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) {
			d := newDoor()
			d.sw.Evidence = abswap.EvidenceApproximate
			return d.rig, nil
		})
		assert.NoError(t, report.Err())
		assert.Subset(t, report.Skipped(), []string{"D1/picked-not-counted", "D2/exact-under-load"})
	})
}

func TestADeadFrontDoorFailsInsteadOfHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := switchertest.Examine(t.Context(), func(context.Context) (switchertest.Rig, error) {
			d := newDoor()
			d.rig.Probe = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
			return d.rig, nil
		})
		failed := 0
		for _, r := range report {
			if r.Err != nil {
				failed++
			}
		}
		assert.Greater(t, failed, 30)
	})
}

func TestACallThatHangsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		for _, r := range switchertest.Rules() {
			if r.Name != "S5/active-is-true" {
				continue
			}
			res := r.Try(t.Context(), func(context.Context) (switchertest.Rig, error) {
				d := newDoor()
				d.sw.ActivateFunc = func(context.Context, abswap.Slot, activateFunc) error { <-free; return nil }
				d.rig.Close = func() error { return io.ErrClosedPipe }
				return d.rig, nil
			})
			assert.ErrorContains(t, res.Err, "a call hangs")
			assert.NotErrorIs(t, res.Err, io.ErrClosedPipe, "Close could hang too")
		}
		close(free)
	})
}

func TestAnEndedContextEndsTheExamination(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := switchertest.Check(ctx, func(context.Context) (switchertest.Rig, error) { return newDoor().rig, nil })
	assert.ErrorIs(t, err, context.Canceled)
}
