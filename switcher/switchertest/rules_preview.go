package switchertest

import (
	"context"
	"fmt"

	"github.com/abswap/abswap"
)

// previewRules are what a PreviewingSwitcher promises.
func previewRules() []Rule {
	return []Rule{
		{"S4/preview-refused", "a preview rule with no field set, or without its value, is refused", previewRefused},
		{"S5/preview-reaches", "a request that matches goes to the previewed slot, all others to the active one", previewReaches},
		{"S5/preview-replaced", "Preview replaces the earlier rules of the slot; without rules it removes them", previewReplaced},
	}
}

// previewRule is a rule that no client matches by chance.
func previewRule(value string) abswap.PreviewRule {
	return abswap.PreviewRule{Header: "X-Switchertest-Preview", Value: value}
}

// previewing returns the ability with blue active and no preview.
func (w *world) previewing(ctx context.Context) (abswap.PreviewingSwitcher, error) {
	sw, err := ability[abswap.PreviewingSwitcher](w.Switcher)
	if err != nil {
		return nil, err
	}
	if w.ProbeMatching == nil {
		return nil, skipf("the rig has no ProbeMatching")
	}
	if err := w.settled(ctx, w.Blue); err != nil {
		return nil, err
	}
	if err := sw.Preview(ctx, w.Green); err != nil {
		return nil, refused(fmt.Errorf("preview of %q without rules: %w", w.Green.Name(), err))
	}
	return sw, nil
}

// matchingGoesTo waits until requests that match rule are answered by the slot.
func (w *world) matchingGoesTo(ctx context.Context, rule abswap.PreviewRule, slot string) error {
	return w.until(ctx, func() error {
		for range 4 {
			got, err := w.bounded(ctx, func(ctx context.Context) (string, error) { return w.ProbeMatching(ctx, rule) })
			if err != nil {
				return fmt.Errorf("probe that matches a preview rule: %w", err)
			}
			if got != slot {
				return fmt.Errorf("a request that carries %s: %s was answered by %q, not by %q", rule.Header, rule.Value, got, slot)
			}
		}
		return nil
	})
}

func previewRefused(ctx context.Context, w *world) error {
	sw, err := w.previewing(ctx)
	if err != nil {
		return err
	}
	for _, bad := range []abswap.PreviewRule{{}, {Value: "x"}, {Header: "X-Switchertest-Preview"}, {Cookie: "switchertest"}} {
		if err := sw.Preview(ctx, w.Green, bad); err == nil {
			return fmt.Errorf("preview took the rule %+v", bad)
		}
		if err := w.still(ctx, w.Blue.Name()); err != nil {
			return fmt.Errorf("after Preview refused the rule %+v: %w", bad, err)
		}
	}
	return nil
}

func previewReaches(ctx context.Context, w *world) error {
	sw, err := w.previewing(ctx)
	if err != nil {
		return err
	}
	rule := previewRule("one")
	if err := sw.Preview(ctx, w.Green, rule); err != nil {
		return fmt.Errorf("preview of %q: %w", w.Green.Name(), err)
	}
	if err := w.matchingGoesTo(ctx, rule, w.Green.Name()); err != nil {
		return err
	}
	if err := w.matchingGoesTo(ctx, previewRule("another"), w.Blue.Name()); err != nil {
		return err
	}
	return w.stays(ctx, w.Blue.Name())
}

func previewReplaced(ctx context.Context, w *world) error {
	sw, err := w.previewing(ctx)
	if err != nil {
		return err
	}
	one, two := previewRule("one"), previewRule("two")
	for _, rules := range [][]abswap.PreviewRule{{one}, {two}, {one, two}, {}} {
		if err := sw.Preview(ctx, w.Green, rules...); err != nil {
			return fmt.Errorf("preview of %q: %w", w.Green.Name(), err)
		}
		want := map[abswap.PreviewRule]string{one: w.Blue.Name(), two: w.Blue.Name()}
		for _, r := range rules {
			want[r] = w.Green.Name()
		}
		for _, r := range []abswap.PreviewRule{one, two} {
			if err := w.matchingGoesTo(ctx, r, want[r]); err != nil {
				return fmt.Errorf("with %d rules: %w", len(rules), err)
			}
		}
	}
	return nil
}
