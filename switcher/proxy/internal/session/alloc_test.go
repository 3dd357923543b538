//go:build !race

package session_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/session"
)

// TestPickAllocatesNothing is about the hot path, of a known session. The race detector makes it allocate.
func TestPickAllocatesNothing(t *testing.T) {
	for name, change := range map[string]func(*session.Config){"own cookie": own, "signed": nil} {
		tab := open(t, change)
		h := with("a=b; SID=one; c=d")
		if _, set := visit(tab, h, blue); set != "" {
			h = with("a=b; " + sent(set))
		}
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			s, _ := tab.Begin(tab.Pick(h), blue)
			s.Leave()
		}), name)
		require.NoError(t, tab.Close())
	}
}
