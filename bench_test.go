package abswap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// BenchmarkDeploy is what the engine itself costs: slots, backend and journal take no time.
func BenchmarkDeploy(b *testing.B) {
	r := newRig(b)
	r.Soak, r.OnEvent = -1, nil
	for b.Loop() {
		_, err := r.Deploy(b.Context(), abswap.Release{ID: "v2"})
		require.NoError(b, err)
	}
}
