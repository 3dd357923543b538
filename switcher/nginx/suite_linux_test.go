package nginx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/switchertest"
)

// parallel bounds how many engines run at one time.
var parallel = make(chan struct{}, 8)

// TestRules is the whole suite on a real nginx.
func TestRules(t *testing.T) {
	bin := program(t)
	for _, rule := range switchertest.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			t.Parallel()
			parallel <- struct{}{}
			defer func() { <-parallel }()
			res := rule.Try(t.Context(), func(ctx context.Context) (switchertest.Rig, error) { return rigFor(ctx, bin, rule.Name) })
			if res.Skipped != "" {
				t.Skip(res.Skipped)
			}
			assert.NoError(t, res.Err, rule.Says)
		})
	}
}

// rigFor is the rig for one rule. A connection tells nothing of what is sent over it, so that a websocket counts as a request: the rules about
// counts do without websockets, and TestWebsocketCountsAsRequest looks at those. Kept connections are closed by a reload, as Traits say: the
// rule about what is lost looks at new ones.
func rigFor(ctx context.Context, bin, rule string) (switchertest.Rig, error) {
	e, err := start(ctx, bin, shape{})
	if err != nil {
		return switchertest.Rig{}, err
	}
	r := e.rig()
	traits, _ := abswap.As[abswap.TraitsSwitcher](r.Switcher)
	if traits.Traits().ClosesIdle && rule == "S2/nothing-lost" {
		r.KeepAlive = nil
	}
	if begin := r.Begin; strings.HasPrefix(rule, "D1/") || rule == "W1/seal-keeps-old-work" {
		r.Begin = func(ctx context.Context, kind switchertest.Kind) (switchertest.Work, error) {
			if kind == switchertest.KindUpgraded {
				return switchertest.Work{}, fmt.Errorf("a connection tells nothing of what is sent over it: %w", errors.ErrUnsupported)
			}
			return begin(ctx, kind)
		}
	}
	return r, nil
}
